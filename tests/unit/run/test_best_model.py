"""The model of the best trial, with an executor that loses workers."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
from toy_study import Listed, study

from hpo.core.limits import Limits
from hpo.core.params import Params
from hpo.core.states import StopReason
from hpo.core.trial import FoldResult, Trial
from hpo.datasets.base import DataSpec
from hpo.errors import StudyFailed
from hpo.evaluation.evaluator import Evaluator
from hpo.evaluation.resampling import Holdout, Resampling, StratifiedKFoldResampling
from hpo.evaluation.tasks import FoldTask, RefitTask, Task
from hpo.executors.inline import InlineExecutor
from hpo.models.base import FittedModel, ObjectiveControl
from hpo.run.best_model import load_best_model, refit_epochs, run_with_retries
from hpo.run.trials import MAX_LOST_NODES
from hpo.study.study import Study

from .trials import fold, trial

FOLDS = StratifiedKFoldResampling(2)


class LosingExecutor(InlineExecutor):
    """Loses a worker after each of its first tasks, one for each reason."""

    retries = 2

    def __init__(self, *reasons: StopReason) -> None:
        super().__init__(1)
        self.reasons, self.tasks = list(reasons), []

    def run(self, task: Task, control: ObjectiveControl) -> FoldResult:
        self.tasks.append(task)
        if self.reasons:
            return fold(None, self.reasons.pop(0), error="the worker was lost")
        return super().run(task, control)


def started(executor: LosingExecutor, **options: Any) -> Study:
    built = study(Listed([]), Limits(1), executor=executor, **options)
    executor.start(built.evaluator, Path())
    return built


CRASHED, NODE_LOST = StopReason.CRASHED, StopReason.NODE_LOST


@pytest.mark.parametrize(
    ("lost", "n_runs"),
    [
        ([], 1),
        ([CRASHED], 2),
        ([CRASHED] * 2, 3),
        ([NODE_LOST] * MAX_LOST_NODES, MAX_LOST_NODES + 1),
        ([CRASHED, NODE_LOST] * 2, 5),
    ],
)
def test_lost_refit_is_run_again(lost: list[StopReason], n_runs: int, tmp_path: Path) -> None:
    executor = LosingExecutor(*lost)
    started(executor, resampling=FOLDS)
    task = RefitTask({"x": 0.5}, 2, tmp_path / "winner")
    result = run_with_retries(executor, task)
    assert result.outcome.stop_reason is StopReason.MAX_EPOCHS
    assert executor.tasks == [task] * n_runs


@pytest.mark.parametrize(("reason", "n_runs"), [(CRASHED, 3), (NODE_LOST, MAX_LOST_NODES + 1)])
def test_retries_of_a_refit_are_bounded(reason: StopReason, n_runs: int, tmp_path: Path) -> None:
    executor = LosingExecutor(*[reason] * 100)
    result = run_with_retries(executor, RefitTask({"x": 0.5}, 2, tmp_path / "winner"))
    assert result.outcome.stop_reason is reason
    assert len(executor.tasks) == n_runs


@pytest.mark.parametrize("reason", [StopReason.ERROR, StopReason.TIMEOUT, StopReason.OUT_OF_MEMORY])
def test_refit_that_failed_by_itself_is_not_run_again(reason: StopReason, tmp_path: Path) -> None:
    executor = LosingExecutor(reason)
    assert run_with_retries(executor, RefitTask({}, 2, tmp_path / "winner")).outcome.stop_reason is reason
    assert len(executor.tasks) == 1


def test_refit_trains_for_the_median_of_the_best_epochs() -> None:
    folds = [fold(best_epoch=epoch, losses=(0.5,) * n) for epoch, n in ((0, 3), (4, 8), (2, 6))]
    assert refit_epochs(Trial(0, {}, tuple(folds)), "best") == 3
    assert refit_epochs(Trial(0, {}, tuple(folds)), "last") == 6
    assert refit_epochs(Trial(0, {}, tuple(folds[1:])), "best") == 4
    assert refit_epochs(trial(0, best_epoch=None), "best") == 3  # a model without a best epoch


def best_of_folds() -> Trial:
    return Trial(3, {"x": 0.5}, (fold(best_epoch=1), fold(index=1, best_epoch=1)))


def test_model_of_cross_validation_is_refitted_on_all_training_data(tmp_path: Path) -> None:
    executor, shown, began = LosingExecutor(CRASHED), [], time.monotonic()
    loaded = load_best_model(started(executor, resampling=FOLDS), best_of_folds(), tmp_path, True, shown.append)
    assert loaded is not None
    assert isinstance(loaded.fitted, toy.FittedCurve)
    assert loaded.fitted.weights == pytest.approx([0.5])
    assert (loaded.metrics["refit_epochs"], loaded.problem) == (2, None)
    assert 0 <= loaded.metrics["refit_seconds"] <= time.monotonic() - began
    assert executor.tasks == [RefitTask({"x": 0.5}, 2, tmp_path / "winner", 2 / 3)] * 2
    assert shown == ["training the best model again, on all training data, 2 epochs"]


class WholeModel(toy.CurveModel):
    """Trains in one go, and keeps the params that it is restored with."""

    has_epochs = False

    def __init__(self) -> None:
        super().__init__()
        self.restored: list[Params] = []

    def restore(self, params: Params, spec: DataSpec, path: Path) -> FittedModel:
        self.restored.append(params)
        return super().restore(params, spec, path)


def with_model(model: WholeModel, resampling: Resampling) -> tuple[Study, LosingExecutor]:
    executor = LosingExecutor()
    built = study(Listed([]), Limits(1), executor=executor)
    objective, stopping = built.definition.objective, built.definition.early_stopping
    evaluator = Evaluator(model, toy.dataset(), resampling, objective, stopping, 0)
    executor.start(evaluator, Path())
    return replace(built, model=model, evaluator=evaluator), executor


def test_model_without_epochs_is_refitted_once_with_the_full_budget(tmp_path: Path) -> None:
    model, shown = WholeModel(), []
    built, executor = with_model(model, FOLDS)
    loaded = load_best_model(built, best_of_folds(), tmp_path, True, shown.append)
    assert loaded is not None
    assert list(loaded.metrics) == ["refit_seconds"]
    assert executor.tasks == [RefitTask({"x": 0.5}, 3, tmp_path / "winner", 1.0)]
    assert shown == ["training the best model again, on all training data, once"]
    assert model.restored == [{"x": 0.5}]


def test_saved_weights_are_restored_with_the_params_of_the_trial(tmp_path: Path) -> None:
    np.savez(tmp_path / "trial-0003.npz", np.array([0.25]))
    model = WholeModel()
    built, _ = with_model(model, Holdout(0.2))
    best = trial(3, weights_path=str(tmp_path / "trial-0003.npz"))
    assert load_best_model(built, best, tmp_path, False, lambda text: None) is not None
    assert model.restored == [{"x": 0.5}]


def test_refit_waits_for_the_end_of_the_study(tmp_path: Path) -> None:
    executor, shown = LosingExecutor(), []
    built = started(executor, resampling=FOLDS)
    assert load_best_model(built, best_of_folds(), tmp_path, False, shown.append) is None
    assert (executor.tasks, shown) == ([], [])


def test_refit_without_weights_fails_with_its_reason(tmp_path: Path) -> None:
    built = started(LosingExecutor(*[CRASHED] * 100), resampling=FOLDS)
    with pytest.raises(StudyFailed, match="on all training data: the worker was lost"):
        load_best_model(built, best_of_folds(), tmp_path, True, lambda text: None)


def test_saved_weights_are_loaded_without_training(tmp_path: Path) -> None:
    np.savez(tmp_path / "trial-0003.npz", np.array([0.25]))
    executor, shown = LosingExecutor(), []
    best = trial(3, weights_path=str(tmp_path / "trial-0003.npz"))
    loaded = load_best_model(started(executor), best, tmp_path, False, shown.append)
    assert loaded is not None
    assert isinstance(loaded.fitted, toy.FittedCurve)
    assert loaded.fitted.weights == pytest.approx([0.25])
    assert (loaded.metrics, loaded.problem, executor.tasks, shown) == ({}, None, [], [])


@pytest.mark.parametrize(("budget", "epochs"), [(2, 2), (None, 3)])
def test_missing_weights_are_retrained_with_trial_budget(budget: int | None, epochs: int, tmp_path: Path) -> None:
    executor, shown = LosingExecutor(NODE_LOST), []
    score = (0.9 - 0.3) ** 2 + 0.1 / epochs
    best = trial(3, score, params={"x": 0.9}, budget=budget)
    loaded = load_best_model(started(executor), best, tmp_path, False, shown.append)
    assert loaded is not None
    assert loaded.problem is None
    task = FoldTask({"x": 0.9}, 0, epochs, tmp_path / "trial-0003", budget_fraction=epochs / 3)
    assert executor.tasks == [task] * 2
    assert (tmp_path / "trial-0003.npz").exists()
    assert shown == ["training the best model again, since its weights are missing"]


def test_another_score_of_the_retrained_model_is_a_problem(tmp_path: Path) -> None:
    loaded = load_best_model(started(LosingExecutor()), trial(3, 0.125), tmp_path, False, lambda text: None)
    assert loaded is not None
    assert loaded.problem is not None
    assert "the weights of the best model were lost; trained again, it scored 0.07" in loaded.problem
    assert loaded.problem.endswith("not 0.125")


def test_missing_weights_that_training_does_not_replace_fail(tmp_path: Path) -> None:
    built = started(LosingExecutor(*[CRASHED] * 100))
    with pytest.raises(StudyFailed, match="the weights of the best model were lost; trained again, it scored None"):
        load_best_model(built, trial(3), tmp_path, False, lambda text: None)
