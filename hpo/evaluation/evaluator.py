"""Params on one fold → :class:`FoldResult`. The only code that sees training, validation and test data.

Every failure of a trial is caught here, once: whatever the model or its library raises becomes a stop reason with its
traceback, and the search goes on.
"""

from __future__ import annotations

import math
import statistics
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hpo.core.early_stopping import EarlyStopping, EarlyStoppingOutcome
from hpo.core.objective import Objective
from hpo.core.params import Params, canonical
from hpo.core.seeds import derive_seed, fit_seed
from hpo.core.states import State, StopReason
from hpo.core.trial import FoldResult
from hpo.datasets.base import Array, Dataset, DataSpec
from hpo.errors import DISK_FULL, ConfigError, InputError, StudyFailed, redact
from hpo.evaluation.guard import _Guard
from hpo.evaluation.resampling import Resampling, digest
from hpo.evaluation.tasks import FoldTask, RefitTask, Task, TestPredictions, TestScore
from hpo.models import metrics
from hpo.models.base import Fit, FitLog, FitPlan, FittedModel, FoldData, Model, ObjectiveControl
from hpo.models.fitting import EpochRecorder

# What `objective.others` may name besides the model's metrics: weights, and wall seconds of training a fold and of
# predicting one sample.
COSTS = ("n_weights", "train_seconds", "predict_seconds")


N_PREDICTIONS = 6


# Images whose feature maps are drawn.
N_IMAGES = 4


class Evaluator:
    """Trains and scores params on the folds of one dataset.

    Args:
        seed: the study seed; folds follow from it, and training seeds from it and the params.

    Attributes:
        has_model: whether the winner is a model, to be tested and logged.

    Raises:
        DatasetError: when the data do not fit the model.
        ConfigError: when the resampling cannot split them, or the model lacks a metric.
    """

    has_model = True

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
        if model.takes_rows:
            self._dataset = self._dataset.flat()
        self._splits = resampling.splits(self._dataset.y, seed, self._dataset.groups, self._dataset.gap)
        self._check_metrics()

    def _check_metrics(self) -> None:
        self.model.check_fits(self.spec)
        try:
            own = self.model.metrics(self.spec)
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
        extra = [name for name in metrics.names(self.spec) if f"val_{name}" not in own]
        allowed = (*own, *(f"val_{name}" for name in extra))
        scored = [name for name in allowed if name.startswith("val_")]
        others = [("objective.others", name) for name in self.objective.others if name not in COSTS]
        for key, metric in (
            ("objective.metric", self.objective.metric),
            ("early_stopping.monitor", self.early_stopping.monitor),
            *others,
        ):
            if metric in own and not metric.startswith("val_") and key != "early_stopping.monitor":
                expected = "a metric of rows that are not trained on, since a search would over-fit"
                fix = f"'~{key}.{metric}'" if key == "objective.others" else f"{key}=val_{metric}"
                raise ConfigError(key, metric, expected, fix)
            if metric not in allowed and key == "objective.others":
                known = ", ".join([*scored, *COSTS])
                raise ConfigError(
                    key, metric, f"a metric of this model and data, or a cost: {known}", f"'~{key}.{metric}'"
                )
            if metric not in allowed:
                known = ", ".join(scored if key == "objective.metric" else allowed)
                expected = f"a metric of this model and data: {known}"
                raise ConfigError(key, metric, expected, f"{key}={own[-1]}")
        wanted = {self.objective.metric, self.early_stopping.monitor, *self.objective.others}
        self._extra = tuple(name for name in extra if f"val_{name}" in wanted)
        self._metrics = (*own, *(f"val_{name}" for name in self._extra))

    @property
    def spec(self) -> DataSpec:
        """What a model is built for."""
        return self._dataset.spec

    @property
    def n_folds(self) -> int:
        """Folds of every trial."""
        return len(self._splits)

    @property
    def refits_winner(self) -> bool:
        """Whether the winner is trained again on all training data, since no fold's model is the one to keep."""
        return any(split.score is not None for split in self._splits)

    @property
    def n_samples(self) -> dict[str, int]:
        """Rows by part: ``train``, ``validation`` (scored) and ``stop`` of the first fold; ``test``; or none."""
        split = self._splits[0]
        parts = {"train": len(split.train), "validation": len(split.watch if split.score is None else split.score)}
        if split.score is not None:
            parts["stop"] = len(split.watch)
        return parts | {"test": len(self._dataset.x_test)}

    @property
    def row_splits(self) -> tuple[tuple[Array, Array], ...]:
        """The rows that each fold sees in training, early stopping included, and the rows that it is scored on."""
        return tuple(
            (split.train, split.watch)
            if split.score is None
            else (np.sort(np.concatenate([split.train, split.watch])), split.score)
            for split in self._splits
        )

    @property
    def folds_digest(self) -> str:
        """Equal for studies that share their folds."""
        return digest(self._splits)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """What the model reports after an epoch."""
        return self._metrics

    def run(self, task: Task, control: ObjectiveControl) -> FoldResult:
        """Carry out a task; never raises for anything that the model or its training does.

        Raises:
            StudyFailed: when the disk is full: no fault of the trial's.
        """
        return self._refit(task, control) if isinstance(task, RefitTask) else self._evaluate_fold(task, control)

    def _evaluate_fold(self, task: FoldTask, control: ObjectiveControl) -> FoldResult:
        """Train ``task`` and score it."""
        seed = fit_seed(self.seed, task.params, task.fold)
        plan = FitPlan(task.max_epochs, seed, self.early_stopping, task.share, self._extra)
        log = FitLog(max_epochs=task.max_epochs)
        kept: dict[str, Any] = {}

        def train(guarded: _Guard) -> None:
            data = self._fold_data(task.fold)
            fitted = self.model.fit(Fit(task.params, self.spec, data, plan, log, guarded))
            guarded.check_process()
            with log.phase("score"):
                kept["score"], kept["others"] = self._score(log, fitted, task.fold)
                score = kept["score"]
                is_kept = score is not None and self.objective.better(score, task.save_above)
                if is_kept and task.weights_path is not None:
                    kept["weights_path"] = self._save(fitted, task.weights_path)
            if score is not None:
                with log.phase("train_score"):
                    kept["train"] = self._on_training_rows(fitted, task.fold, seed)

        return self._guarded(train, task.fold, seed, task.max_epochs, log, kept, control)

    def _refit(self, task: RefitTask, control: ObjectiveControl) -> FoldResult:
        """Train ``task`` on all training data and save its weights."""
        stopping = replace(self.early_stopping, patience=None, restore_best_weights=False)
        seed = derive_seed("refit", self.seed, canonical(task.params))
        plan, log = FitPlan(task.n_epochs, seed, stopping, task.share), FitLog(max_epochs=task.n_epochs)
        kept: dict[str, Any] = {}

        def train(guarded: _Guard) -> None:
            data = FoldData(self._dataset.x, self._dataset.y, None, None)
            fitted = self.model.fit(Fit(task.params, self.spec, data, plan, log, guarded))
            guarded.check_process()
            if log.stop_reason.state is State.COMPLETE:
                kept["weights_path"] = self._save(fitted, task.weights_path)

        return self._guarded(train, 0, seed, task.n_epochs, log, kept, control)

    def _save(self, fitted: FittedModel, stem: Path) -> str:
        path = stem.with_name(stem.name + self.model.weights_suffix)
        fitted.save_weights(path)
        return str(path)

    def _guarded(
        self,
        train: Callable[[_Guard], None],
        fold: int,
        seed: int,
        budget: int,
        log: FitLog,
        kept: dict[str, Any],
        control: ObjectiveControl,
    ) -> FoldResult:
        """What ``train`` left in ``log`` and ``kept``, whatever it raised."""
        error = trace = None
        guarded = _Guard(control)
        try:
            train(guarded)
        except Exception as caught:
            if guarded.raised is caught:
                raise  # the driver's own failure is not the model's
            if guarded.raised is not None:
                raise guarded.raised from caught
            if isinstance(caught, OSError) and caught.errno in DISK_FULL:
                raise StudyFailed(f"the disk is full ({caught}); what was recorded is safe") from caught
            log.stop_reason = _classify(caught)
            error, trace = redact(_one_line(caught)), redact(traceback.format_exc())
            kept.clear()
        if guarded.raised is not None:  # and code of a user's may have swallowed it
            raise guarded.raised
        return FoldResult(
            fold=fold,
            seed=seed,
            score=kept.get("score"),
            outcome=self._outcome(log),
            history={name: tuple(values) for name, values in log.history.items()},
            seconds=dict(log.seconds),
            shared_by=dict(log.shared_by),
            n_weights=log.n_weights,
            error=error or log.problem,
            traceback=trace,
            weights_path=kept.get("weights_path"),
            others=kept.get("others") or {},
            budget=budget,
            train=kept.get("train") or {},
        )

    def unfinished(
        self, task: Task, epochs: Sequence[Mapping[str, float]], seconds: float, reason: StopReason, error: str | None
    ) -> FoldResult:
        """The result of a task whose process did not live to give one, from the epochs that it had reported."""
        is_refit = isinstance(task, RefitTask)
        budget = task.n_epochs if isinstance(task, RefitTask) else task.max_epochs
        log = FitLog(max_epochs=budget, epochs_run=len(epochs), stop_reason=reason, seconds={"train": seconds})
        recorder = EpochRecorder(self.early_stopping, log)
        for epoch, logs in enumerate(epochs):
            recorder.record(epoch, logs)
        fold, seed = (0, 0) if isinstance(task, RefitTask) else (task.fold, fit_seed(self.seed, task.params, task.fold))
        history = {} if is_refit else {name: tuple(values) for name, values in log.history.items()}
        return FoldResult(fold, seed, None, self._outcome(log), history, dict(log.seconds), error=error, budget=budget)

    def _fold_data(self, fold: int) -> FoldData:
        split, x, y = self._splits[fold], self._dataset.x, self._dataset.y
        return FoldData(x[split.train], y[split.train], x[split.watch], y[split.watch])

    def _score(self, log: FitLog, fitted: FittedModel, fold: int) -> tuple[float | None, dict[str, float]]:
        """The objective at the epoch that counts and its other metrics; None where training did not end by itself."""
        if log.stop_reason.state is not State.COMPLETE:
            return None, {}
        wanted = [self.objective.metric, *(name for name in self.objective.others if name not in COSTS)]
        kept = log.best_epoch if self.objective.epoch == "best" else None
        values = {name: log.history[name][-1 if kept is None else kept] for name in wanted}
        rows = self._splits[fold].score
        if rows is not None:
            reached = fitted.evaluate(self._dataset.x[rows], self._dataset.y[rows], self._extra)
            # `val_` becomes the scored rows; a metric of training stays one.
            values |= {name: reached[name.removeprefix("val_")] for name in wanted if name.startswith("val_")}
        bad = next((name for name, value in values.items() if not math.isfinite(value)), None)
        if bad is not None:
            log.stop_reason = StopReason.DIVERGED
            log.problem = f"{bad} is not finite"
            return None, {}
        costs = self._costs(log, fitted)
        return values[self.objective.metric], {name: (values | costs)[name] for name in self.objective.others}

    def _on_training_rows(self, fitted: FittedModel, fold: int, seed: int) -> dict[str, float]:
        """Metrics on as many training rows as are scored, so that the two are known equally well."""
        split = self._splits[fold]
        n_rows = min(len(split.train), len(split.watch if split.score is None else split.score))
        rows = np.sort(np.random.default_rng(seed).choice(split.train, n_rows, replace=False))
        return fitted.evaluate(self._dataset.x[rows], self._dataset.y[rows], self._extra)

    def _costs(self, log: FitLog, fitted: FittedModel) -> dict[str, float]:
        costs: dict[str, float] = {"train_seconds": log.seconds.get("train", 0.0), "n_weights": log.n_weights or 0}
        if "predict_seconds" in self.objective.others:
            sample, timed = self._dataset.x[:1], []
            for _ in range(N_PREDICTIONS):
                started = time.perf_counter()
                fitted.predict(sample)
                timed.append(time.perf_counter() - started)
            costs["predict_seconds"] = statistics.median(timed[1:])  # the first one compiles
        return costs

    def _outcome(self, log: FitLog) -> EarlyStoppingOutcome:
        return EarlyStoppingOutcome(
            monitor=self.early_stopping.monitor,
            patience=self.early_stopping.patience,
            min_delta=self.early_stopping.min_delta,
            epochs_run=log.epochs_run,
            max_epochs=log.max_epochs,
            stopped_epoch=log.stopped_epoch,
            best_epoch=log.best_epoch,
            best_value=log.best_value,
            restored_best_weights=log.restored_best_weights,
            stop_reason=log.stop_reason,
        )

    def restore(self, params: Params, weights_path: Path) -> FittedModel:
        """The model that was trained with ``params`` and saved to ``weights_path``."""
        return self.model.restore(params, self.spec, weights_path)

    def test(self, fitted: FittedModel) -> tuple[TestScore, TestPredictions]:
        """Score on the test split, by all metrics that are defined, and what it says there.

        For the winner of a finished study, once; it chooses nothing.
        """
        data = self._dataset
        own = fitted.evaluate(data.x_test, data.y_test)
        predicted, scores = fitted.answers(data.x_test)
        missing = [name for name in metrics.names(self.spec) if name not in own]
        found = own | metrics.measure(missing, data.y_test, predicted, self.spec, scores)
        names = data.class_names or tuple(str(label) for label in range(self.spec.n_classes))
        maps = fitted.feature_maps(data.x[:N_IMAGES]) if len(self.spec.input_shape) == 3 else None
        score = TestScore({k: v for k, v in found.items() if math.isfinite(v)}, len(data.x_test))
        return score, TestPredictions(data.y_test, predicted, names, maps)

    def example(self) -> Array:
        """Two training samples, for the logged model's signature."""
        rows: Array = self._dataset.x[:2]
        return rows


def _classify(error: Exception) -> StopReason:
    exhausted = isinstance(error, MemoryError) or type(error).__name__ in ("ResourceExhaustedError", "OutOfMemoryError")
    return StopReason.OUT_OF_MEMORY if exhausted else StopReason.ERROR


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:300]
