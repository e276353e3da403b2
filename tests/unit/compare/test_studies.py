"""Which studies are alike in everything but the factor and the seed."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from hpo.compare.studies import (
    ComparedStudy,
    Group,
    LeftOut,
    Planned,
    check_finished,
    check_levels,
    each_test_split,
    flat,
    from_tables,
    group,
    unfinished,
)
from hpo.core.objective import Objective
from hpo.errors import ConfigError
from hpo.reporting.tables import epoch_rows, fold_rows, trial_rows, write_table
from unit.compare.toy_comparison import IDENTITY, record, study, trial


def four() -> list[ComparedStudy]:
    return [study(level, seed) for level in ("random", "optuna") for seed in (0, 1)]


def shape(made: Group) -> dict[str, list[int]]:
    """Level → seeds."""
    return {level: list(by_seed) for level, by_seed in made.studies.items()}


def reasons(made: Group) -> dict[str, str]:
    return {left.name: left.reason for left in made.left_out}


def refusal(studies: list[ComparedStudy], by: str = "strategy", left_out: list[LeftOut] | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        group(studies, by, left_out or [])
    return refused.value


# A study


def test_nested_settings_are_flat_by_dotted_keys() -> None:
    assert flat({"a": {"b": {"c": 1}, "d": [1, {"e": 2}]}, "f": None, "g": {}}) == {
        "a.b.c": 1,
        "a.d": [1, {"e": 2}],
        "f": None,
        "g": {},
    }
    assert flat({}) == {}


def test_a_study_says_what_it_optimises_and_what_it_came_to() -> None:
    one = study("random", 3, 0.75, objective__n_weights="minimize")
    assert (one.name, one.seed, one.test_score) == ("random-3", 3, 0.75)
    assert one.objective == Objective("val_accuracy", "maximize", "best", {"n_weights": "minimize"})


def test_only_the_test_score_of_the_objective_counts() -> None:
    one = study("random", 0, objective="minimize val_loss", identity={"objective": {"epoch": "last"}}, test_loss=0.25)
    assert one.test_score == 0.25
    assert one.objective.epoch == "last"
    assert math.isnan(study("random", 0, objective="minimize val_mae").test_score)


def test_a_level_is_an_option_a_choice_or_a_value() -> None:
    choices = json.dumps({"strategy/pruner": "median"})
    one = study("optuna", 0, choices=choices, identity={"model": {"dropout": 0.5, "units": None}})
    levels = {by: one.level(by) for by in ("strategy", "model", "strategy/pruner", "model.dropout", "model.units")}
    assert levels == {
        "strategy": "optuna",
        "model": "mlp",
        "strategy/pruner": "median",
        "model.dropout": "0.5",
        "model.units": "null",
    }
    assert one.level("model._target_") == "hpo.models.toy"
    assert one.level("model.nothing") == "absent"


def test_tables_are_those_of_the_trials() -> None:
    one = study("random", 0, scores=(0.7, None, 0.9))
    assert one.trials["state"].tolist() == ["COMPLETE", "FAIL", "COMPLETE"]
    assert one.trials["objective"].dropna().tolist() == [0.7, 0.9]
    assert len(one.folds) == 3
    assert len(one.epochs) == 12


def test_tables_that_were_recorded_say_the_same(tmp_path: Path) -> None:
    trials = [trial(0, 0.7), trial(1, None), trial(2, 0.9)]
    objective = Objective("val_accuracy", "maximize")
    for name, rows in (
        ("trials", trial_rows(trials, objective, {0: "well-fitted"})),
        ("folds", fold_rows(trials)),
        ("epochs", epoch_rows(trials)),
    ):
        write_table(rows, tmp_path / f"{name}.parquet")
    one = study("random", 0, scores=(0.7, None, 0.9))
    read = from_tables(one.record, dict(IDENTITY), tmp_path)
    for column in ("trial", "state", "stop_reason", "epochs_run", "ended_order", "params"):
        assert read.trials[column].tolist() == one.trials[column].tolist()
    assert read.trials["fit"].dropna().to_dict() == {0: "well-fitted"}
    assert read.epochs["val_loss"].tolist() == one.epochs["val_loss"].tolist()
    assert read.level("max_epochs") == "8"


# What belongs together


def test_studies_are_grouped_by_the_factor_and_the_seed() -> None:
    made = group(four(), "strategy")
    assert shape(made) == {"optuna": [0, 1], "random": [0, 1]}
    assert (made.seeds, made.left_out, len(made.all)) == ([0, 1], (), 4)
    assert made.studies["optuna"][1].name == "optuna-1"
    assert made.any in made.all


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
    made = group(studies, by)
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
def test_a_factor_brings_what_follows_from_it(by: str, implied: dict[str, Any]) -> None:
    others = [
        study("random", seed, name=f"other-{seed}", identity=implied, folds_digest="f0", **{by: "another"})
        for seed in (0, 1)
    ]
    mine = [study("random", seed, folds_digest="f0") for seed in (0, 1)]
    made = group([*mine, *others], by)
    assert sorted(shape(made).values()) == [[0, 1], [0, 1]]
    assert "another" in made.studies
    # By another factor the same studies are not alike.
    assert by in refusal([*mine, *others]).expected


def test_libraries_of_one_strategy_may_differ_and_shared_ones_not() -> None:
    studies = four()
    studies[0] = study("random", 0, identity={"versions": {"optuna": "4"}})
    assert group(studies, "strategy").left_out == ()
    more = study("random", 2, identity={"versions": {"numpy": "1"}})
    assert reasons(group([*studies, more], "strategy")) == {"random-2": "it differs in versions.numpy (1, not 2)"}


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
def test_what_differs_in_something_else_is_left_out_by_its_name(
    changed: dict[str, Any], tags: dict[str, str], reason: str
) -> None:
    odd = study("random", 2, name="odd", identity=changed, **tags)
    made = group([odd, *four()], "strategy")
    assert shape(made) == {"optuna": [0, 1], "random": [0, 1]}
    assert reasons(made) == {"odd": reason}


def test_many_differences_are_cut_short() -> None:
    odd = study("random", 2, name="odd", identity={"model": dict.fromkeys("abcde", 1)})
    (reason,) = reasons(group([odd, *four()], "strategy")).values()
    named = "model.a (1, not None), model.b (1, not None), model.c (1, not None)"
    assert reason == f"it differs in {named} and 2 more"


def test_a_number_that_is_written_otherwise_is_the_same() -> None:
    studies = [study("random", seed, identity={"model": {"dropout": 0}}) for seed in (0, 1)]
    studies += [study("optuna", seed, identity={"model": {"dropout": 0.0}}) for seed in (0, 1)]
    assert shape(group(studies, "strategy")) == {"optuna": [0, 1], "random": [0, 1]}


def test_of_two_with_the_same_level_and_seed_the_newest_counts() -> None:
    newer = study("random", 0, 0.99, name="newer")
    made = group([newer, *four()], "strategy")
    assert made.studies["random"][0].test_score == 0.99
    assert reasons(made) == {"random-0": "newer is newer and has the same strategy and seed"}


def test_folds_that_are_others_with_the_same_seed_are_no_pair() -> None:
    studies = [study(level, seed) for level in ("grid", "random", "optuna") for seed in (0, 1, 2)]
    studies[0] = study("grid", 0, folds_digest="others")
    made = group(studies, "strategy")
    assert shape(made) == {"grid": [1, 2], "optuna": [1, 2], "random": [1, 2]}
    alone = "not every level has a study of seed 0"
    assert reasons(made) == {
        "grid-0": "its folds are others, with the same seed",
        "optuna-0": alone,
        "random-0": alone,
    }


def test_the_largest_set_with_two_levels_is_compared() -> None:
    alone = [study("random", seed, name=f"alone-{seed}", identity={"max_epochs": 50}) for seed in range(6)]
    made = group([*alone, *four()], "strategy")
    assert shape(made) == {"optuna": [0, 1], "random": [0, 1]}
    assert set(reasons(made).values()) == {"it differs in max_epochs (50, not 8)"}
    both = [study("optuna", seed, name=f"both-{seed}", identity={"max_epochs": 50}) for seed in range(6)]
    assert shape(group([*alone, *both, *four()], "strategy")) == {"optuna": [*range(6)], "random": [*range(6)]}


def test_a_larger_set_without_pairs_is_no_reason_to_compare_nothing() -> None:
    unpaired = [study("random", seed, name=f"u-{seed}", identity={"max_epochs": 50}) for seed in range(4)]
    unpaired += [study("optuna", 9, name="u-9", identity={"max_epochs": 50})]
    assert shape(group([*unpaired, *four()], "strategy")) == {"optuna": [0, 1], "random": [0, 1]}


def test_seeds_are_those_that_every_level_has() -> None:
    made = group([*four(), study("random", 7), study("grid", 1), study("grid", 0), study("grid", 5)], "strategy")
    assert made.seeds == [0, 1]
    assert shape(made)["grid"] == [0, 1]
    assert reasons(made)["grid-5"] == "not every level has a study of seed 5"


def test_a_level_that_is_hardly_there_does_not_stop_the_others() -> None:
    made = group([*four(), study("grid", 42)], "strategy")
    assert shape(made) == {"optuna": [0, 1], "random": [0, 1]}
    assert reasons(made) == {"grid-42": "strategy=grid has too few seeds in common with the other levels"}


# Before anything trains


def planned(level: str, **changed: Any) -> Planned:
    identity = {"strategy._target_": level, "max_epochs": 8, "model.dropout": 0.2, "search_space.lr.low": 0.1}
    return Planned({**identity, **changed}, {"hpo.limits.n_trials": "4"}, {"strategy": level})


def refused_levels(by: str, **levels: Planned) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        check_levels(by, levels)
    return refused.value


def test_levels_that_differ_in_the_factor_alone_may_be_run() -> None:
    check_levels("strategy", {level: planned(level) for level in ("random", "optuna")})
    check_levels("model.dropout", {str(p): planned("random", **{"model.dropout": p}) for p in (0.0, 0.5)})


def test_levels_that_differ_in_more_are_refused_before_anything_trains() -> None:
    refused = refused_levels("strategy", random=planned("random"), optuna=planned("optuna", max_epochs=9))
    assert "random and optuna differ in max_epochs (8, not 9)" in refused.expected


def test_a_factor_that_is_searched_is_refused() -> None:
    refused = refused_levels("model.lr", a=planned("random", **{"model.lr": 0.1}), b=planned("random"))
    assert refused.fix == "'~search_space.lr'"


def test_a_factor_that_defines_no_study_and_levels_that_are_the_same_are_refused() -> None:
    assert refused_levels("executor.workers", a=planned("random"), b=planned("random")).key == "by"
    assert refused_levels("max_epochs", a=planned("random"), b=planned("random")).key == "levels"


def test_a_finished_study_of_the_name_has_to_be_the_one_that_is_asked_for() -> None:
    one = planned("random", seed=0, folds_digest="f0")
    done = record("mine", limits__n_trials="4")
    check_finished(done, {**one.identity, "seed": 3, "folds_digest": "f3"}, one)
    for other in ({**one.identity, "max_epochs": 9}, {k: v for k, v in one.identity.items() if k != "model.dropout"}):
        with pytest.raises(ConfigError) as refused:
            check_finished(done, other, one)
        assert refused.value.fix.startswith("name=another")
    with pytest.raises(ConfigError):
        check_finished(record("mine", limits__n_trials="8"), one.identity, one)


# What is missing


def test_without_studies_it_says_how_to_make_some() -> None:
    left_out = [LeftOut("mine", "it is interrupted", "python -m hpo resume mine")]
    error = refusal([], left_out=left_out)
    assert (error.key, error.value) == ("compare", "no finished study")
    assert "differ in strategy" in error.expected
    assert "left out: mine: it is interrupted" in error.expected
    assert "python -m hpo compare" in error.fix


def test_one_level_is_named_with_the_command_that_adds_another() -> None:
    error = refusal([study("random", seed) for seed in (0, 1, 2)])
    assert "at least two levels of strategy; all comparable studies have random" in error.expected
    assert error.value == "3 studies"
    assert "python -m hpo compare by=strategy" in error.fix
    assert "model=mlp" in error.fix
    assert "seed=" not in error.fix.replace("seeds=", "")


def test_studies_that_keep_a_level_away_are_named_with_their_reason() -> None:
    odd = [study("optuna", seed, identity={"max_epochs": 9}) for seed in (0, 1)]
    error = refusal([study("random", 0), study("random", 1), study("random", 2), *odd])
    assert "left out: optuna-0: it differs in max_epochs (9, not 8)" in error.expected


def test_too_few_seeds_are_named_with_the_commands_that_add_some() -> None:
    error = refusal([study("random", 4), study("optuna", 4)])
    assert "at least two seeds that every level has (seeds there are: optuna: 4; random: 4)" in error.expected
    assert error.fix.split("; ") == [
        "python -m hpo strategy=optuna model=mlp seed=5",
        "python -m hpo strategy=random model=mlp seed=5",
    ]


def test_seeds_without_a_partner_are_named_with_the_commands_of_the_partners() -> None:
    error = refusal([study("random", 0), study("random", 1), study("optuna", 1), study("optuna", 2)])
    assert "optuna: 1, 2; random: 0, 1" in error.expected
    assert error.fix.split("; ") == [
        "python -m hpo strategy=optuna model=mlp seed=0",
        "python -m hpo strategy=random model=mlp seed=2",
    ]


def test_a_winner_without_the_objective_on_the_test_split_is_left_out() -> None:
    odd = study("random", 2, math.nan, name="odd")
    assert reasons(group([odd, *four()], "strategy")) == {
        "odd": "val_accuracy of its winner on the test split is not recorded"
    }


def test_what_is_left_out_before_stays_left_out() -> None:
    before = LeftOut("mine", "it is running", "python -m hpo resume mine")
    assert group(four(), "strategy", [before]).left_out == (before,)


# Records


def test_a_study_that_has_not_finished_is_left_out_with_the_command_that_finishes_it() -> None:
    assert unfinished(record("mine", "interrupted", test_accuracy=0.9)) == LeftOut(
        "mine", "it is interrupted", "python -m hpo resume mine"
    )
    assert unfinished(record("mine", val_accuracy=0.9)) == LeftOut(
        "mine", "its winner was not tested", "python -m hpo resume mine"
    )
    assert unfinished(record("mine", test_accuracy=0.9)) is None


def test_scorings_of_a_test_split_are_counted_over_all_studies() -> None:
    records = [
        record("a", data_digest="d2", n_tests="1"),
        record("b", "running", data_digest="d1", n_tests="2"),
        record("c", data_digest="d2", n_tests="3"),
        record("d", data_digest="d3"),
    ]
    assert dict(each_test_split(records)) == {"d1": 2, "d2": 4, "d3": 0}
