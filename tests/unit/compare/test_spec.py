"""Parsing the words of ``python -m hpo compare``."""

import pytest

from hpo.compare.spec import parse
from hpo.errors import ConfigError

TWO = "strategies=[random,optuna]"


def refusal(*arguments: str) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        parse(arguments)
    return refused.value


def names(*arguments: str) -> list[str]:
    """Of all studies of a comparison."""
    wanted = parse(arguments)
    return [wanted.study(level, seed) for level in wanted.levels for seed in wanted.seeds]


def test_strategies_is_short_for_factor_and_levels() -> None:
    wanted = parse([TWO, "model=svm", "limits.n_trials=4"])
    assert (wanted.by, list(wanted.levels), wanted.seeds) == ("strategy", ["random", "optuna"], (0, 1, 2, 3, 4))
    assert wanted.overrides == ("model=svm", "limits.n_trials=4")
    assert (wanted.max_seeds, wanted.min_effect, wanted.alpha, wanted.experiment) == (None, None, 0.05, None)
    assert parse(["by=strategy", "levels=[random,optuna]", "model=svm", "limits.n_trials=4"]) == wanted


def test_words_are_parsed_by_type() -> None:
    wanted = parse([TWO, "seeds=[3,7,11]", "max_seeds=9", "min_effect=0.02", "alpha=0.1", "name=mine"])
    assert (wanted.seeds, wanted.max_seeds, wanted.min_effect, wanted.alpha) == ((3, 7, 11), 9, 0.02, 0.1)
    assert wanted.title == "mine"


def test_levels_are_spelt_like_overrides() -> None:
    assert list(parse(["by=early_stopping.patience", "levels=[null,3,5]"]).levels) == ["null", "3", "5"]
    assert list(parse(["by=model.dropout", "levels=[0.0,0.25]"]).levels) == ["0.0", "0.25"]
    assert list(parse(["by=early_stopping.restore_best_weights", "levels=[true,false]"]).levels) == ["true", "false"]


def test_study_command_sets_level_seed_and_name_last() -> None:
    wanted = parse(["by=model.dropout", "levels=[0.0,0.5]", "name=mine", "model=mnist_cnn"])
    assert wanted.command("0.5", 3) == ["model=mnist_cnn", "model.dropout=0.5", "seed=3", "study=mine-0.5-s3"]


def test_only_grids_get_an_oversize_option() -> None:
    wanted = parse(["strategies=[grid,random,halving_grid,keras_grid]"])
    assert dict(wanted.levels) == {
        "grid": ("strategy.oversize=shuffle",),
        "random": (),
        "halving_grid": ("strategy.oversize=shuffle",),
        "keras_grid": ("strategy.oversize=coarsen",),
    }
    assert wanted.command("grid", 0)[:2] == ["strategy=grid", "strategy.oversize=shuffle"]
    assert parse(["by=model", "levels=[grid,svm]"]).levels["grid"] == ()


def test_given_oversize_option_is_kept() -> None:
    wanted = parse(["levels={grid: [strategy.oversize=coarsen], random: }"])
    assert dict(wanted.levels) == {"grid": ("strategy.oversize=coarsen",), "random": ()}


def test_named_comparison_is_read_from_its_file() -> None:
    wanted = parse(["comparison=does_pruning_pay"])
    assert (wanted.by, list(wanted.levels)) == ("strategy/pruner", ["none", "median", "hyperband"])
    assert wanted.overrides[-1] == "limits.max_epochs_total=80"
    assert wanted.command("median", 0)[-3:-1] == ["strategy/pruner=median", "seed=0"]


def test_command_line_overrides_named_comparison() -> None:
    named = parse(["comparison=which_search"])
    assert (list(named.levels), len(named.seeds)) == (["grid", "random", "optuna"], 5)
    wanted = parse(["limits.n_trials=3", "comparison=which_search", "seeds=2", "strategies=[optuna,grid]"])
    assert (list(wanted.levels), wanted.seeds) == (["optuna", "grid"], (0, 1))
    assert wanted.overrides == (*named.overrides, "limits.n_trials=3")  # the later one is Hydra's choice
    assert list(parse(["comparison=does_dropout_help", "levels=[0.1,0.2]"]).levels) == ["0.1", "0.2"]


def test_unknown_named_comparison_lists_known_ones() -> None:
    error = refusal("comparison=which_serach")
    assert (error.key, error.value) == ("comparison", "which_serach")
    assert "which_search" in error.expected
    assert error.fix.startswith("comparison=")
    assert refusal("comparison=../config").key == "comparison"


@pytest.mark.parametrize(
    ("arguments", "key", "expected", "fix"),
    [
        ([TWO, "seeds=1"], "seeds", "at least 2", "seeds=5"),
        ([TWO, "seeds=0"], "seeds", "at least 2", "seeds=5"),
        ([TWO, "seeds=true"], "seeds", "at least 2", "seeds=5"),
        ([TWO, "seeds=many"], "seeds", "at least 2", "seeds=5"),
        ([TWO, "seeds=[1,1]"], "seeds", "at least 2", "seeds=5"),
        ([TWO, "seeds=[1,-1]"], "seeds", "at least 2", "seeds=5"),
        ([TWO, "seeds=[1,2.5]"], "seeds", "at least 2", "seeds=5"),
        ([TWO, "seeds=5", "max_seeds=4"], "max_seeds", "at least 5, the number of seeds", "max_seeds=10"),
        ([TWO, "max_seeds=7.5"], "max_seeds", "an integer", "max_seeds=10"),
        ([TWO, "min_effect=0"], "min_effect", "above 0", "min_effect=0.01"),
        ([TWO, "min_effect=-0.1"], "min_effect", "above 0", "min_effect=0.01"),
        ([TWO, "min_effect=small"], "min_effect", "above 0", "min_effect=0.01"),
        ([TWO, "min_effect=true"], "min_effect", "above 0", "min_effect=0.01"),
        ([TWO, "alpha=0"], "alpha", "above 0", "alpha=0.0"),
        ([TWO, "name=a b"], "name", "letters", "name=mine"),
        ([TWO, "name=-x"], "name", "letters", "name=mine"),
        ([TWO, f"name={'x' * 62}"], "name", "at most 61", "name=mine"),
        (["by=+model", "levels=[a,b]"], "by", "a config group or key", "by=strategy"),
        (["levels=random"], "levels", "a list of levels", "'strategies=[random, optuna]'"),
        (["strategies=[random]"], "levels", "at least two levels", "'strategies=[random, optuna]'"),
        (["strategies=[random,random]"], "levels", "at least two levels", "'strategies=[random, optuna]'"),
        ([], "levels", "experiment=…", "'strategies=[random, optuna]'"),
        (["strategies=[random"], "strategies", "a list such as", "'strategies=[grid, random]'"),
        ([TWO, "by=strategy"], "strategies", "without by and levels", "leave one of them out"),
        ([TWO, "levels=[a,b]"], "strategies", "without by and levels", "leave one of them out"),
        ([TWO, "experiment=mine"], "experiment", "no levels", "leave one of them out"),
        ([TWO, "seed=3"], "seed", "the comparison sets it", "leave seed out"),
        ([TWO, "study=mine"], "study", "the comparison sets it", "leave study out"),
        ([TWO, "strategy=grid"], "strategy", "the comparison sets it", "leave strategy out"),
        ([TWO, "++seed=3"], "seed", "the comparison sets it", "leave seed out"),
        (["by=model.dropout", "levels=[0,1]", "+model.dropout=0"], "model.dropout", "the comparison sets it", "leave"),
    ],
)
def test_refusal_names_word_and_fix(arguments: list[str], key: str, expected: str, fix: str) -> None:
    error = refusal(*arguments)
    assert error.key == key
    assert expected in error.expected
    assert fix in error.fix


@pytest.mark.parametrize(
    ("word", "key"),
    [("alpha=1", "alpha"), ("alpha=5", "alpha"), ("min_effect=.inf", "min_effect"), ("min_effect=.nan", "min_effect")],
)
def test_out_of_range_plan_is_refused_by_parser(word: str, key: str) -> None:
    assert refusal(TWO, word).key == key


@pytest.mark.parametrize("by", ["seed", "study"])
def test_seed_and_study_cannot_be_the_factor(by: str) -> None:
    assert refusal(f"by={by}", "levels=[1,2]").key == "by"


def test_limits_cannot_be_the_factor() -> None:
    assert refusal("by=limits.n_trials", "levels=[4,8]").key == "by"


def test_overrides_of_level_must_be_a_list() -> None:
    assert refusal("levels={random: max_epochs=2, optuna: }").key == "levels"


def test_nested_level_is_refused() -> None:
    assert refusal("by=model.units", "levels=[[1,2],[3,4]]").key == "levels"


def test_exponent_notation_is_a_number() -> None:
    assert parse([TWO, "min_effect=1e-3"]).min_effect == 0.001


def test_experiment_needs_no_levels() -> None:
    wanted = parse(["experiment=mine", "by=model.dropout"])
    assert (wanted.experiment, wanted.by, dict(wanted.levels)) == ("mine", "model.dropout", {})


def test_numeric_name_stays_text() -> None:
    assert parse([TWO, "name=2024"]).title == "2024"
    assert parse([TWO, "name=1.10"]).title == "1.10"


def test_equal_comparisons_have_equal_study_names() -> None:
    once = names(TWO, "model=svm", "limits.n_trials=4", "seeds=2")
    assert once == names("limits.n_trials=4", "seeds=2", TWO, "model=svm")
    assert len(set(once)) == 4
    # Commands with more seeds, other levels or other thresholds reuse the same studies.
    assert set(once) < set(names(TWO, "model=svm", "limits.n_trials=4", "seeds=3", "max_seeds=9", "alpha=0.01"))
    assert set(once) < set(names("strategies=[grid,optuna,random]", "model=svm", "limits.n_trials=4", "seeds=2"))


def test_different_comparisons_have_different_study_names() -> None:
    asked = [
        names(TWO),
        names(TWO, "model=svm"),
        names(TWO, "model=svm", "limits.n_trials=4"),
        names(TWO, "name=mine"),
        names("by=model", "levels=[random,optuna]"),
    ]
    every = [name for one in asked for name in one]
    assert len(set(every)) == len(every)


def test_overrides_of_level_change_study_names() -> None:
    assert names("levels={random: [max_epochs=2], optuna: }") != names("levels={random: [max_epochs=4], optuna: }")


@pytest.mark.parametrize("levels", ["[-1,1]", "[0.5,-0.5]", "[a/b,a-b]", "['1',2,10,0.1]"])
def test_every_level_and_seed_has_its_own_study_name(levels: str) -> None:
    every = names("by=model.x", f"levels={levels}", "seeds=2")
    assert len(set(every)) == len(every)


def test_study_names_are_valid_file_names() -> None:
    for name in names("by=model._target_", "levels=['my.models:f', ../x, '…']", "seeds=2"):
        assert not {"/", ":", "…", " "} & set(name)


def test_each_task_is_its_own_comparison() -> None:
    wanted = parse([TWO, "tasks=[iris,wine]", "model=svm", "name=mine"])
    assert [part.overrides for part in wanted.by_task] == [("model=svm", "dataset=iris"), ("model=svm", "dataset=wine")]
    assert [part.title for part in wanted.by_task] == ["mine-iris", "mine-wine"]
    assert wanted.by_task[0].command("random", 0)[-1] == "study=mine-iris-random-s0"
    # The studies are those of a comparison on that task alone.
    alone = parse([TWO, "model=svm", "dataset=iris"])
    assert alone.title == parse([TWO, "tasks=[iris,wine]", "model=svm"]).by_task[0].title
    assert [part.overrides for part in parse([TWO, "over=model", "tasks=[svm,knn]"]).by_task] == [
        ("model=svm",),
        ("model=knn",),
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("tasks=[iris]",),
        ("tasks=iris",),
        ("tasks=[iris,iris]",),
        ("tasks=[iris,wine]", "dataset=digits"),
        ("tasks=[iris,wine]", "over=strategy"),
        ("tasks=[iris,wine]", "over=seed"),
    ],
)
def test_invalid_tasks_are_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError):
        parse([TWO, *words])
    with pytest.raises(ConfigError, match="no tasks"):
        parse(["experiment=mine", "tasks=[iris,wine]"])
