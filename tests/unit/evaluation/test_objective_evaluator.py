"""The evaluator of objectives that train by themselves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import objectives
import pytest

from hpo.core.objective import Objective
from hpo.core.params import ParamValue
from hpo.core.space import Parameter
from hpo.core.states import Decision, StopReason
from hpo.core.trial import FoldResult
from hpo.errors import StudyFailed
from hpo.evaluation.objective_evaluator import ObjectiveEvaluator
from hpo.evaluation.tasks import FoldTask
from hpo.models.base import WithoutStrategy
from hpo.models.objectives.optuna import OptunaObjective


class Low(WithoutStrategy):
    """Gives every param its lowest value."""

    def suggest(self, parameter: Parameter) -> ParamValue:
        return parameter.low  # type: ignore[attr-defined]


def evaluator(function: Any, objective: Objective | None = None) -> ObjectiveEvaluator:
    objective = objective or Objective("value", "maximize")
    return ObjectiveEvaluator(OptunaObjective(function), objective, seed=0)


def run(function: Any, objective: Objective | None = None) -> FoldResult:
    return evaluator(function, objective).run(FoldTask({}, 0, 10, number=3), Low())


def test_objective_is_one_fold_without_rows() -> None:
    made = evaluator(objectives.layered)
    assert (made.n_folds, made.has_model, made.refits_winner) == (1, False, False)
    assert (made.n_samples, made.row_splits) == ({}, ())
    assert made.metric_names == ("value", "at_step")
    assert made.folds_digest == evaluator(objectives.slow).folds_digest


def test_returned_value_is_the_score_and_reports_are_the_history() -> None:
    result = run(objectives.layered)
    assert (result.score, result.error) == (-1.0, None)
    assert result.history == {"value": (0.0, -0.5, -1 + 1 / 3), "at_step": (0.0, 1.0, 2.0)}
    outcome = result.outcome
    assert (outcome.monitor, outcome.best_epoch, outcome.best_value) == ("value", 0, 0.0)
    assert (outcome.epochs_run, outcome.epochs_saved, outcome.stop_reason) == (3, 0, StopReason.MAX_EPOCHS)
    assert result.seconds["train"] > 0


def test_several_values_have_the_study_s_names() -> None:
    result = run(objectives.two_values, Objective("value", "minimize", others={"rest": "maximize"}))
    assert (result.score, result.others) == (0.0, {"rest": 1.0})


def test_exception_fails_the_fold_and_keeps_its_reports() -> None:
    def fails(trial: Any) -> float:
        trial.report(0.5, 0)
        raise KeyError("asked for")

    result = run(fails)
    assert result.outcome.stop_reason is StopReason.ERROR
    assert result.history["value"] == (0.5,)
    assert result.score is None
    assert "asked for" in str(result.error)
    assert "raise KeyError" in str(result.traceback)


def test_driver_errors_are_not_attributed_to_the_objective() -> None:
    class Broken(Low):
        def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
            raise StudyFailed("disk")

        def suggest(self, parameter: Parameter) -> ParamValue:
            raise StudyFailed("disk")

        def note(self, name: str, text: str) -> None:
            raise StudyFailed("disk")

    for function in (
        lambda trial: trial.suggest_float("x", 0, 1),
        lambda trial: trial.report(1, 0),
        lambda trial: trial.set_user_attr("x", 0),
    ):
        with pytest.raises(StudyFailed):
            evaluator(function).run(FoldTask({}, 0, 10), Broken())


def test_lost_process_keeps_its_reports(tmp_path: Path) -> None:
    epochs = [{"value": 1.0, "at_step": 0.0}, {"value": 3.0, "at_step": 5.0}, {"value": 2.0, "at_step": 9.0}]
    made = evaluator(objectives.layered)
    result = made.unfinished(FoldTask({"x": 1}, 0, 10), epochs, 1.0, StopReason.CRASHED, "killed")
    assert (result.outcome.best_epoch, result.outcome.best_value, result.outcome.epochs_run) == (1, 3.0, 3)
    assert result.history["at_step"] == (0.0, 5.0, 9.0)
