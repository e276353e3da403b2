"""Params on one fold → :class:`FoldResult`. The only code that sees training, validation and test data.

Every failure of a trial is caught here, once: whatever the model or its library raises becomes a stop reason with its
traceback, and the search goes on.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpo.datasets.base import Array, Dataset, DataSpec
from hpo.errors import ConfigError, InputError
from hpo.models.base import Control, FitLog, FittedModel, FoldData, Model
from hpo.resampling import Resampling, digest
from hpo.trial import (
    Decision,
    EarlyStopping,
    EarlyStoppingOutcome,
    FitPlan,
    FoldResult,
    Objective,
    Params,
    ParamValue,
    State,
    StopReason,
    seed_for,
)


@dataclass(frozen=True)
class FoldTask:
    """One fold of one trial, to be trained.

    Args:
        params: the trial's params.
        fold: index of the fold.
        max_epochs: most epochs to train.
        weights_path: where to save the weights, if the score deserves it; without the model's own ending.
        save_above: the score to beat; None saves any finite one.
    """

    params: Params
    fold: int
    max_epochs: int
    weights_path: Path
    save_above: float | None = None


@dataclass(frozen=True)
class TestScore:
    """The winner on the test split: metric → value, under the names of training without ``val_``."""

    __test__ = False  # not a test class, whatever pytest makes of the name

    metrics: Mapping[str, float]
    n_samples: int


class Evaluator:
    """Trains and scores params on the folds of one dataset.

    Args:
        seed: the study seed; folds follow from it, and training seeds from it and the params.

    Raises:
        DatasetError: when the data do not fit the model.
        ConfigError: when the resampling cannot split them, or the model lacks a metric.
    """

    def __init__(
        self,
        model: Model,
        dataset: Dataset,
        resampling: Resampling,
        objective: Objective,
        early_stopping: EarlyStopping,
        seed: int,
    ) -> None:
        self.model = model
        self.objective = objective
        self.early_stopping = early_stopping
        self.seed = seed
        self._dataset = dataset.with_images_of(model.image_shape) if model.image_shape else dataset
        self._splits = resampling.splits(self._dataset.y, seed)
        self._check_metrics()

    def _check_metrics(self) -> None:
        try:
            metrics = self.model.metrics(self.spec)
        except InputError:
            raise
        except Exception as error:  # a user's own code may raise anything
            raise ConfigError(
                "model",
                type(self.model).__name__,
                f"a model that can be built with its own defaults and sees a sample ({_one_line(error)})",
                "HYDRA_FULL_ERROR=1 in front of the command shows where it failed",
            ) from error
        if self.objective.epoch == "best" and not self.early_stopping.restore_best_weights:
            raise ConfigError(
                "objective.epoch",
                "best",
                "last, since early_stopping.restore_best_weights is false and the best weights would be lost",
                "objective.epoch=last or early_stopping.restore_best_weights=true",
            )
        if self.objective.epoch == "last" and self.early_stopping.restore_best_weights:
            raise ConfigError(
                "objective.epoch",
                "last",
                "best, since early_stopping.restore_best_weights keeps another model than the one scored",
                "objective.epoch=best or early_stopping.restore_best_weights=false",
            )
        for key, metric in (
            ("objective.metric", self.objective.metric),
            ("early_stopping.monitor", self.early_stopping.monitor),
        ):
            if metric not in metrics:
                raise ConfigError(
                    key, metric, f"a metric that the model reports: {', '.join(metrics)}", f"{key}={metrics[-1]}"
                )

    @property
    def spec(self) -> DataSpec:
        """What a model is built for."""
        return self._dataset.spec

    @property
    def n_folds(self) -> int:
        """Folds of every trial."""
        return len(self._splits)

    @property
    def n_samples(self) -> dict[str, int]:
        """Rows by part of the data: ``train``, ``validation`` (of the first fold) and ``test``."""
        split = self._splits[0]
        return {"train": len(split.train), "validation": len(split.watch), "test": len(self._dataset.x_test)}

    @property
    def folds_digest(self) -> str:
        """Equal for studies that share their folds."""
        return digest(self._splits)

    def evaluate_fold(self, task: FoldTask, control: Control) -> FoldResult:
        """Train ``task`` and score it; never raises for anything that the model or its training does."""
        seed = seed_for(self.seed, task.params, task.fold)
        plan = FitPlan(task.max_epochs, seed, self.early_stopping)
        log = FitLog()
        error = trace = weights_path = None
        score: float | None = None
        guarded = _Guard(control)
        try:
            fitted = self.model.fit(task.params, self.spec, self._fold_data(task.fold), plan, log, guarded)
            with log.phase("score"):
                score = self._score(log, fitted, task.fold)
                if score is not None and self.objective.better(score, task.save_above):
                    path = task.weights_path.with_name(task.weights_path.name + self.model.weights_suffix)
                    fitted.save_weights(path)
                    weights_path = str(path)
        except Exception as caught:
            if guarded.raised is caught:
                raise  # the driver's own failure is not the model's
            score, log.stop_reason = None, _classify(caught)
            error, trace = _one_line(caught), traceback.format_exc()
        error = error or log.problem
        return FoldResult(
            fold=task.fold,
            seed=seed,
            score=score,
            outcome=self._outcome(log, task.max_epochs),
            history={name: tuple(values) for name, values in log.history.items()},
            seconds=dict(log.seconds),
            n_weights=log.n_weights,
            error=error,
            traceback=trace,
            weights_path=weights_path,
        )

    def _fold_data(self, fold: int) -> FoldData:
        split, x, y = self._splits[fold], self._dataset.x, self._dataset.y
        return FoldData(x[split.train], y[split.train], x[split.watch], y[split.watch])

    def _score(self, log: FitLog, fitted: FittedModel, fold: int) -> float | None:
        """The objective at the epoch that counts, or None where training did not end by itself."""
        if log.stop_reason.state is not State.COMPLETE:
            return None
        rows = self._splits[fold].score
        if rows is not None:
            metrics = fitted.evaluate(self._dataset.x[rows], self._dataset.y[rows])
            score = metrics[self.objective.metric.removeprefix("val_")]
        else:
            curve = log.history[self.objective.metric]
            kept = log.best_epoch if self.objective.epoch == "best" else None
            score = curve[-1 if kept is None else kept]
        if math.isfinite(score):
            return score
        log.stop_reason = StopReason.DIVERGED
        log.problem = f"{self.objective.metric} is not finite"
        return None

    def _outcome(self, log: FitLog, max_epochs: int) -> EarlyStoppingOutcome:
        return EarlyStoppingOutcome(
            monitor=self.early_stopping.monitor,
            patience=self.early_stopping.patience,
            min_delta=self.early_stopping.min_delta,
            epochs_run=log.epochs_run,
            max_epochs=max_epochs,
            stopped_epoch=log.stopped_epoch,
            best_epoch=log.best_epoch,
            best_value=log.best_value,
            restored_best_weights=log.restored_best_weights,
            stop_reason=log.stop_reason,
        )

    def restore(self, params: Params, weights_path: Path) -> FittedModel:
        """The model that was trained with ``params`` and saved to ``weights_path``."""
        return self.model.restore(params, self.spec, weights_path)

    def test(self, fitted: FittedModel) -> TestScore:
        """Score on the test split; for the winner of a finished study, once."""
        return TestScore(fitted.evaluate(self._dataset.x_test, self._dataset.y_test), len(self._dataset.x_test))

    def example(self) -> Array:
        """Two training samples, for the logged model's signature."""
        rows: Array = self._dataset.x[:2]
        return rows


class _Guard:
    """Passes calls on to the driver's control, and remembers what those raised."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self.raised: Exception | None = None

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        try:
            return self._control.on_epoch(epoch, logs)
        except Exception as error:
            self.raised = error
            raise

    def poll(self) -> Decision:
        try:
            return self._control.poll()
        except Exception as error:
            self.raised = error
            raise


def _classify(error: Exception) -> StopReason:
    exhausted = isinstance(error, MemoryError) or type(error).__name__ in ("ResourceExhaustedError", "OutOfMemoryError")
    return StopReason.OUT_OF_MEMORY if exhausted else StopReason.ERROR


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:300]


def check_space_fits(names: list[str], tunables: Mapping[str, ParamValue]) -> None:
    """Refuse a search space that names what the model does not have.

    Raises:
        ConfigError: naming the parameter and those that the model has.
    """
    for name in names:
        if name not in tunables:
            raise ConfigError(
                f"search_space.{name}",
                "named in the space",
                f"a parameter of the model: {', '.join(tunables)}",
                f"'~search_space.{name}', or rename it",
            )
