"""Provides the model of the best trial: from its saved weights, trained again, or refitted on all training data."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hpo.core.states import StopReason
from hpo.core.trial import FoldResult, Trial
from hpo.errors import StudyFailed
from hpo.evaluation.tasks import FoldTask, RefitTask, Task
from hpo.executors.base import Executor
from hpo.models.base import FittedModel, WithoutStrategy
from hpo.run.trials import MAX_LOST_NODES
from hpo.study.study import Study
from hpo.tracking.schema import Metric


@dataclass(frozen=True)
class BestModel:
    """The model of the best trial.

    Args:
        fitted: ready to predict.
        metrics: seconds and epochs of a refit, for the study's run.
        problem: what the user should know about the model; None for nothing.
    """

    fitted: FittedModel
    metrics: Mapping[str, float] = field(default_factory=dict)
    problem: str | None = None


def load_best_model(
    study: Study, best: Trial, folder: Path, may_refit: bool, show: Callable[[str], None]
) -> BestModel | None:
    """Load or train the model of the best trial.

    Args:
        folder: of the study, for weights.
        may_refit: whether a model of cross-validation may be refitted on all training data, which waits until the
            study is finished.
        show: receives what is done, for the screen.

    Returns:
        None if the model needs a refit that has to wait.

    Raises:
        StudyFailed: when training gave no weights.
    """
    if not study.evaluator.refits_winner:
        return _load_weights(study, best, folder, show)
    return _refit(study, best, folder, show) if may_refit else None


def _load_weights(study: Study, best: Trial, folder: Path, show: Callable[[str], None]) -> BestModel:
    weights, problem = best.folds[0].weights_path, None
    if weights is None:  # the study was resumed without the files of its folder
        show("training the best model again, since its weights are missing")
        budget = best.folds[0].budget or study.max_epochs
        path = folder / f"trial-{best.number:04d}"
        task = FoldTask(best.params, 0, budget, path, budget_fraction=budget / study.max_epochs)
        again = run_with_retries(study.executor, task)
        weights = again.weights_path
        if again.score != best.value:
            problem = (
                f"the weights of the best model were lost; trained again, it scored {again.score}, not {best.value}"
            )
    if weights is None:
        raise StudyFailed(problem or "the weights of the best model are lost, and training it again gave none")
    return BestModel(study.evaluator.restore(best.params, Path(weights)), problem=problem)


def _refit(study: Study, best: Trial, folder: Path, show: Callable[[str], None]) -> BestModel:
    has_epochs = study.model.has_epochs
    n_epochs = refit_epochs(best, study.definition.objective.epoch) if has_epochs else study.max_epochs
    unit = study.model.describe_budget(n_epochs, 1.0) if has_epochs else "once"
    show(f"training the best model again, on all training data, {unit}")
    started = time.monotonic()
    task = RefitTask(best.params, n_epochs, folder / "winner", n_epochs / study.max_epochs)
    refitted = run_with_retries(study.executor, task)
    if refitted.weights_path is None:
        reason = refitted.error or refitted.outcome.stop_reason
        raise StudyFailed(f"the best model could not be trained on all training data: {reason}")
    metrics: dict[str, float] = {Metric.REFIT_SECONDS: time.monotonic() - started}
    if has_epochs:
        metrics[Metric.REFIT_EPOCHS] = n_epochs
    return BestModel(study.evaluator.restore(best.params, Path(refitted.weights_path)), metrics)


def refit_epochs(best: Trial, counted: str) -> int:
    """Epochs to train the best model on all training data: the median over the folds.

    Args:
        counted: ``best`` if a fold keeps its best epoch, ``last`` if it keeps the last one.
    """
    kept = [epoch + 1 for epoch in best.best_epochs]
    trained = [fold.outcome.epochs_run for fold in best.folds]
    return round(statistics.median(kept if counted == "best" and kept else trained))


def run_with_retries(executor: Executor, task: Task) -> FoldResult:
    """Run a task outside of any trial; if its worker or node is lost, run it again as often as a trial would be."""
    n_left = {StopReason.CRASHED: executor.retries, StopReason.NODE_LOST: MAX_LOST_NODES}
    while True:
        result = executor.run(task, WithoutStrategy())
        reason = result.outcome.stop_reason
        if not n_left.get(reason):
            return result
        n_left[reason] -= 1
