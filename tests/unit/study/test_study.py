"""What a study derives from its parts."""

from dataclasses import replace

import objectives
import toy_study

from hpo.core.limits import Limits
from hpo.core.space import Float, SearchSpace
from hpo.executors.inline import InlineExecutor
from hpo.models.objectives.optuna import OptunaObjective
from hpo.study.study import ChosenOptions, Study, default_name


def made() -> Study:
    return toy_study.study(toy_study.Listed([]), Limits(n_trials=7), executor=InlineExecutor(1))


def test_search_problem_has_the_limits_and_rows_of_the_study() -> None:
    study = made()
    search = study.search
    assert (search.n_trials, search.max_epochs, search.defined_by_run) == (7, 3, False)
    assert search.space == study.definition.space
    assert len(search.row_splits) == 1


def test_only_define_by_run_study_accepts_declared_space() -> None:
    found = SearchSpace([Float("y", low=0, high=1)])
    study = made()
    assert study.with_found(found) is study
    by_run = replace(study, model=OptunaObjective(objectives.layered))
    assert by_run.is_defined_by_run
    assert list(by_run.with_found(found).definition.space) == ["y"]


def test_default_name_has_the_options_and_the_seed() -> None:
    assert default_name(ChosenOptions("svm", "iris", "random", "holdout"), 3).startswith("svm-iris-random-s3-")
