"""Grouping studies that are equal in everything but the factor and the seed."""

import json
import math
from typing import Any

import pytest

from hpo.compare.eligibility import LeftOut
from hpo.compare.groups import Group, group_studies
from hpo.compare.studies import ComparedStudy
from hpo.errors import ConfigError
from unit.compare.toy_comparison import CURRENT, study


def four() -> list[ComparedStudy]:
    return [study(level, seed) for level in ("random", "optuna") for seed in (0, 1)]


def shape(made: Group) -> dict[str, list[int]]:
    """Level → seeds."""
    return {level: list(by_seed) for level, by_seed in made.studies.items()}


def reasons(made: Group) -> dict[str, str]:
    return {left.name: left.reason for left in made.left_out}


def refusal(studies: list[ComparedStudy], by: str = "strategy", left_out: list[LeftOut] | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        group_studies(studies, by, left_out or [])
    return refused.value


def test_studies_are_grouped_by_factor_and_seed() -> None:
    made = group_studies(four(), "strategy")
    assert shape(made) == {"optuna": [0, 1], "random": [0, 1]}
    assert (made.seeds, made.left_out, len(made.members)) == ([0, 1], (), 4)
    assert made.studies["optuna"][1].name == "optuna-1"
    assert made.example in made.members


@pytest.mark.parametrize(
    ("by", "changes"),
    [
        ("model.dropout", [{"model": {"dropout": value}} for value in (0.0, 0.5)]),
        ("max_epochs", [{"max_epochs": value} for value in (8, 16)]),
        ("dataset.noise", [{"dataset": {"noise": value}, "data_digest": f"d{value}"} for value in (1, 2)]),
        ("model.base", [{"model": {"base": value}, "base_digest": f"b{value}"} for value in (1, 2)]),
    ],
)
def test_any_key_may_be_the_factor(by: str, changes: list[dict[str, Any]]) -> None:
    studies = [
        study("random", seed, name=f"{place}-{seed}", identity=change)
        for place, change in enumerate(changes)
        for seed in (0, 1)
    ]
    made = group_studies(studies, by)
    head, _, rest = by.partition(".")
    values = [change[head][rest] if rest else change[head] for change in changes]
    assert shape(made) == {json.dumps(value): [0, 1] for value in values}
    assert made.left_out == ()


@pytest.mark.parametrize(
    ("by", "implied"),
    [
        ("model", {"model": {"_target_": "another"}, "search_space": {"C": {"type": "float"}}}),
        ("model", {"model": {"_target_": "another"}, "base_digest": "b1"}),
        ("dataset", {"dataset": {"_target_": "another"}, "data_digest": "d2"}),
        ("resampling", {"resampling": {"_target_": "another", "n_splits": 5}}),
    ],
)
def test_implied_keys_may_differ_with_their_factor(by: str, implied: dict[str, Any]) -> None:
    others = [
        study("random", seed, name=f"other-{seed}", identity=implied, folds_digest="f0", **{by: "another"})
        for seed in (0, 1)
    ]
    mine = [study("random", seed, folds_digest="f0") for seed in (0, 1)]
    made = group_studies([*mine, *others], by)
    assert sorted(shape(made).values()) == [[0, 1], [0, 1]]
    assert "another" in made.studies
    # By another factor the same studies are not alike.
    assert by in refusal([*mine, *others]).expected


def test_only_versions_of_shared_libraries_must_be_equal() -> None:
    studies = four()
    studies[0] = study("random", 0, identity={"versions": {"optuna": "4"}})
    assert group_studies(studies, "strategy").left_out == ()
    more = study("random", 2, identity={"versions": {"numpy": "1"}})
    assert reasons(group_studies([*studies, more], "strategy")) == {
        "random-2": "it differs in versions.common.numpy (1, not 2)"
    }


@pytest.mark.parametrize(
    ("changed", "tags", "reason"),
    [
        ({"max_epochs": 9}, {}, "it differs in max_epochs (9, not 8)"),
        ({"model": {"dropout": 0.5}}, {}, "it differs in model.dropout (0.5, not 0.2)"),
        ({"model": {"units": 3}}, {}, "it differs in model.units (3, not None)"),
        ({"data_digest": "d2"}, {}, "it differs in data_digest (d2, not d1)"),
        ({"early_stopping": {"patience": 5}}, {}, "it differs in early_stopping.patience (5, not 2)"),
        ({}, {"limits__n_trials": "50"}, "it differs in limits.n_trials (50, not 2)"),
        ({}, {"limits__max_epochs_total": "9"}, "it differs in limits.max_epochs_total (9, not None)"),
    ],
)
def test_study_with_other_settings_is_left_out_with_reason(
    changed: dict[str, Any], tags: dict[str, str], reason: str
) -> None:
    odd = study("random", 2, name="odd", identity=changed, **tags)
    made = group_studies([odd, *four()], "strategy")
    assert shape(made) == {"optuna": [0, 1], "random": [0, 1]}
    assert reasons(made) == {"odd": reason}


def test_long_list_of_differences_is_shortened() -> None:
    odd = study("random", 2, name="odd", identity={"model": dict.fromkeys("abcde", 1)})
    (reason,) = reasons(group_studies([odd, *four()], "strategy")).values()
    named = "model.a (1, not None), model.b (1, not None), model.c (1, not None)"
    assert reason == f"it differs in {named} and 2 more"


def test_integer_and_float_of_equal_value_are_equal() -> None:
    studies = [study("random", seed, identity={"model": {"dropout": 0}}) for seed in (0, 1)]
    studies += [study("optuna", seed, identity={"model": {"dropout": 0.0}}) for seed in (0, 1)]
    assert shape(group_studies(studies, "strategy")) == {"optuna": [0, 1], "random": [0, 1]}


def test_newest_study_of_level_and_seed_is_used() -> None:
    newer = study("random", 0, 0.99, name="newer")
    made = group_studies([newer, *four()], "strategy")
    assert made.studies["random"][0].test_score == 0.99
    assert reasons(made) == {"random-0": "newer is newer and has the same strategy and seed"}


def test_study_with_other_folds_is_left_out() -> None:
    studies = [study(level, seed) for level in ("grid", "random", "optuna") for seed in (0, 1, 2)]
    studies[0] = study("grid", 0, folds_digest="others")
    made = group_studies(studies, "strategy")
    assert shape(made) == {"grid": [1, 2], "optuna": [1, 2], "random": [1, 2]}
    alone = "not every level has a study with seed 0"
    assert reasons(made) == {
        "grid-0": "its folds differ from those of the other studies with seed 0",
        "optuna-0": alone,
        "random-0": alone,
    }


def test_largest_set_with_two_levels_is_compared() -> None:
    alone = [study("random", seed, name=f"alone-{seed}", identity={"max_epochs": 50}) for seed in range(6)]
    made = group_studies([*alone, *four()], "strategy")
    assert shape(made) == {"optuna": [0, 1], "random": [0, 1]}
    assert set(reasons(made).values()) == {"it differs in max_epochs (50, not 8)"}
    both = [study("optuna", seed, name=f"both-{seed}", identity={"max_epochs": 50}) for seed in range(6)]
    assert shape(group_studies([*alone, *both, *four()], "strategy")) == {"optuna": [*range(6)], "random": [*range(6)]}


def test_larger_set_without_pairs_is_not_chosen() -> None:
    unpaired = [study("random", seed, name=f"u-{seed}", identity={"max_epochs": 50}) for seed in range(4)]
    unpaired += [study("optuna", 9, name="u-9", identity={"max_epochs": 50})]
    assert shape(group_studies([*unpaired, *four()], "strategy")) == {"optuna": [0, 1], "random": [0, 1]}


def test_only_seeds_of_every_level_are_compared() -> None:
    made = group_studies(
        [*four(), study("random", 7), study("grid", 1), study("grid", 0), study("grid", 5)], "strategy"
    )
    assert made.seeds == [0, 1]
    assert shape(made)["grid"] == [0, 1]
    assert reasons(made)["grid-5"] == "not every level has a study with seed 5"


def test_level_with_too_few_seeds_is_left_out() -> None:
    made = group_studies([*four(), study("grid", 42)], "strategy")
    assert shape(made) == {"optuna": [0, 1], "random": [0, 1]}
    assert reasons(made) == {"grid-42": "strategy=grid has too few seeds in common with the other levels"}


def test_error_without_studies_names_a_command() -> None:
    left_out = [LeftOut("mine", "it is interrupted", "python -m hpo resume mine")]
    error = refusal([], left_out=left_out)
    assert (error.key, error.value) == ("compare", "no finished study")
    assert "differ in strategy" in error.expected
    assert "left out: mine: it is interrupted" in error.expected
    assert "python -m hpo compare" in error.fix


def test_error_with_one_level_names_command_for_another() -> None:
    error = refusal([study("random", seed) for seed in (0, 1, 2)])
    assert "at least two levels of strategy; all comparable studies have random" in error.expected
    assert error.value == "3 studies"
    assert "python -m hpo compare by=strategy" in error.fix
    assert "model=mlp" in error.fix
    assert "seed=" not in error.fix.replace("seeds=", "")


def test_error_with_one_level_lists_studies_left_out() -> None:
    odd = [study("optuna", seed, identity={"max_epochs": 9}) for seed in (0, 1)]
    error = refusal([study("random", 0), study("random", 1), study("random", 2), *odd])
    assert "left out: optuna-0: it differs in max_epochs (9, not 8)" in error.expected


def test_error_with_one_seed_names_commands_for_another() -> None:
    error = refusal([study("random", 4), study("optuna", 4)])
    assert "at least two seeds that every level has (present: optuna: 4; random: 4)" in error.expected
    assert error.fix.split("; ") == [
        "python -m hpo strategy=optuna model=mlp seed=5",
        "python -m hpo strategy=random model=mlp seed=5",
    ]


def test_error_with_unpaired_seeds_names_missing_commands() -> None:
    error = refusal([study("random", 0), study("random", 1), study("optuna", 1), study("optuna", 2)])
    assert "optuna: 1, 2; random: 0, 1" in error.expected
    assert error.fix.split("; ") == [
        "python -m hpo strategy=optuna model=mlp seed=0",
        "python -m hpo strategy=random model=mlp seed=2",
    ]


def test_study_without_test_score_is_left_out() -> None:
    odd = study("random", 2, math.nan, name="odd")
    assert reasons(group_studies([odd, *four()], "strategy")) == {
        "odd": "the test score (val_accuracy) of its winner is not recorded"
    }


def test_studies_left_out_before_stay_left_out() -> None:
    before = LeftOut("mine", "it is running", "python -m hpo resume mine")
    assert group_studies(four(), "strategy", [before]).left_out == (before,)


def test_studies_of_both_formats_are_compared() -> None:
    code = {"model": {"mine": "digest"}}
    new = [study(level, 2, base=CURRENT, identity={"code": code}) for level in ("random", "optuna")]
    made = group_studies([*new, *four()], "strategy")
    assert shape(made) == {"optuna": [0, 1, 2], "random": [0, 1, 2]}


def test_earlier_study_with_other_settings_is_excluded() -> None:
    new = [study(level, seed, base=CURRENT) for level in ("random", "optuna") for seed in (2, 3, 4)]
    old = study("random", 0, name="old", identity={"max_epochs": 9})
    other_version = study("random", 1, name="other", identity={"versions": {"numpy": "1"}})
    made = group_studies([*new, old, other_version], "strategy")
    assert shape(made) == {"optuna": [2, 3, 4], "random": [2, 3, 4]}
    assert "max_epochs (9, not 8)" in reasons(made)["old"]
    assert "versions.common.numpy (1, not 2)" in reasons(made)["other"]


def test_factor_requires_equal_shared_library_versions() -> None:
    def of_model(model: str, seed: int, version: str, name: str | None = None) -> ComparedStudy:
        identity = {"model": {"_target_": model}, "versions": {"model": {"scikit-learn": version}}}
        tags = {"model": model, "choices": json.dumps({"model": model})}
        return study("random", seed, base=CURRENT, identity=identity, name=name or f"{model}-{seed}", **tags)

    studies = [of_model(model, seed, "1") for model in ("svm", "tree", "knn") for seed in (0, 1)]
    made = group_studies([*studies, of_model("svm", 2, "2", "odd")], "model")
    assert shape(made) == {"knn": [0, 1], "svm": [0, 1], "tree": [0, 1]}
    assert reasons(made) == {"odd": "it differs in versions: scikit-learn (2, not 1)"}


def test_models_are_compared_if_those_with_keras_have_one_backend() -> None:
    def mlp(seed: int, backend: str) -> ComparedStudy:
        return study("random", seed, name=f"{backend}-{seed}", base={**CURRENT, "keras_backend": backend})

    forests = [study("random", seed, name=f"forest-{seed}", model="forest", base=CURRENT) for seed in range(3)]
    made = group_studies([*forests, *(mlp(seed, "tensorflow") for seed in range(2)), mlp(2, "jax")], "model")
    assert shape(made) == {"forest": [0, 1], "mlp": [0, 1]}
    assert "keras_backend (jax, not tensorflow)" in reasons(made)["jax-2"]
