"""Evaluates params on a fold: trains the model, scores it and saves its weights; returns a :class:`FoldResult`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hpo.core.early_stopping import EarlyStopping, EarlyStoppingOutcome
from hpo.core.objective import Objective
from hpo.core.params import Params, canonical
from hpo.core.seeds import derive_seed, fit_seed
from hpo.core.states import State, StopReason
from hpo.core.trial import FoldResult
from hpo.datasets.base import Array, Dataset, DataSpec
from hpo.evaluation.final_test import score_test_split
from hpo.evaluation.guard import Guard, run_guarded
from hpo.evaluation.metric_checks import check_metrics
from hpo.evaluation.resampling import Resampling
from hpo.evaluation.scoring import Scorer
from hpo.evaluation.split_data import SplitData
from hpo.evaluation.tasks import FoldTask, RefitTask, Task, TestPredictions, TestScore
from hpo.models.base import Fit, FitLog, FitPlan, FittedModel, Model, ObjectiveControl
from hpo.models.fitting import EpochRecorder


@dataclass
class Outputs:
    """What is left of a training besides its log.

    Args:
        score: the objective; None without a score.
        others: the objective's other metrics, by name.
        train: metrics of training rows, by name.
        weights_path: file of the weights, if they were saved.
    """

    score: float | None = None
    others: Mapping[str, float] = field(default_factory=dict)
    train: Mapping[str, float] = field(default_factory=dict)
    weights_path: str | None = None


class Evaluator:
    """Trains and scores params on the folds of one dataset.

    Args:
        seed: the study seed; folds are derived from it, and training seeds from it and the params.

    Attributes:
        has_model: whether the best trial has a model that is tested and logged.

    Raises:
        DatasetError: if the data do not fit the model.
        ConfigError: if the resampling cannot split the data, or the model lacks a metric.
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
        self._data = SplitData.for_model(model, dataset, resampling, seed)
        self._metrics = check_metrics(model, self.spec, objective, early_stopping)
        self._scorer = Scorer(objective, self._data, self._metrics.extra)

    @property
    def spec(self) -> DataSpec:
        """Shape and target of the data, which a model is built for."""
        return self._data.spec

    @property
    def n_folds(self) -> int:
        """Number of folds of each trial."""
        return self._data.n_folds

    @property
    def refits_winner(self) -> bool:
        """Whether the best trial is trained again on all training rows, since no fold's model has seen all of them."""
        return self._data.has_scored_rows

    @property
    def n_samples(self) -> dict[str, int]:
        """Rows by part: see :attr:`hpo.evaluation.split_data.SplitData.n_samples`."""
        return self._data.n_samples

    @property
    def row_splits(self) -> tuple[tuple[Array, Array], ...]:
        """For each fold, the rows that training sees, early stopping included, and the rows that are scored."""
        return self._data.row_splits

    @property
    def folds_digest(self) -> str:
        """A digest that is equal for studies with equal folds."""
        return self._data.digest

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics that are reported after each epoch."""
        return self._metrics.names

    def run(self, task: Task, control: ObjectiveControl) -> FoldResult:
        """Carry out a task; an exception of the model becomes a result with its stop reason and traceback.

        Raises:
            StudyFailed: if the disk is full.
            Exception: whatever ``control`` raises.
        """
        return self._refit(task, control) if isinstance(task, RefitTask) else self._evaluate_fold(task, control)

    def _evaluate_fold(self, task: FoldTask, control: ObjectiveControl) -> FoldResult:
        seed = fit_seed(self.seed, task.params, task.fold)
        plan = FitPlan(task.max_epochs, seed, self.early_stopping, task.budget_fraction, self._metrics.extra)
        log, outputs = FitLog(max_epochs=task.max_epochs), Outputs()

        def train(guard: Guard) -> None:
            fitted = self.model.fit(Fit(task.params, self.spec, self._data.training(task.fold), plan, log, guard))
            guard.check_process()
            with log.phase("score"):
                score = self._scorer.score(log, fitted, task.fold)
                if score is None:
                    return
                outputs.score, outputs.others = score.value, score.others
                if task.weights_path is not None and self.objective.better(score.value, task.save_above):
                    outputs.weights_path = self._save(fitted, task.weights_path)
            with log.phase("train_score"):
                outputs.train = self._scorer.score_training_rows(fitted, task.fold, seed)

        return self._carry_out(train, task, seed, log, outputs, control)

    def _refit(self, task: RefitTask, control: ObjectiveControl) -> FoldResult:
        stopping = replace(self.early_stopping, patience=None, restore_best_weights=False)
        seed = derive_seed("refit", self.seed, canonical(task.params))
        plan = FitPlan(task.n_epochs, seed, stopping, task.budget_fraction)
        log, outputs = FitLog(max_epochs=task.n_epochs), Outputs()

        def train(guard: Guard) -> None:
            fitted = self.model.fit(Fit(task.params, self.spec, self._data.all_training(), plan, log, guard))
            guard.check_process()
            if log.stop_reason.state is State.COMPLETE:
                outputs.weights_path = self._save(fitted, task.weights_path)

        return self._carry_out(train, task, seed, log, outputs, control)

    def _save(self, fitted: FittedModel, stem: Path) -> str:
        path = stem.with_name(stem.name + self.model.weights_suffix)
        fitted.save_weights(path)
        return str(path)

    def _carry_out(
        self,
        train: Callable[[Guard], None],
        task: Task,
        seed: int,
        log: FitLog,
        outputs: Outputs,
        control: ObjectiveControl,
    ) -> FoldResult:
        """Call ``train``, and return the result from the ``log`` and the ``outputs`` that it fills."""
        failure = run_guarded(train, control)
        if failure is not None:
            log.stop_reason, outputs = failure.reason, Outputs()
        return FoldResult(
            fold=task.fold if isinstance(task, FoldTask) else 0,
            seed=seed,
            score=outputs.score,
            outcome=self._outcome(log),
            history={name: tuple(values) for name, values in log.history.items()},
            seconds=dict(log.seconds),
            shared_by=dict(log.shared_by),
            n_weights=log.n_weights,
            error=failure.error if failure else log.problem,
            traceback=failure.traceback if failure else None,
            weights_path=outputs.weights_path,
            others=outputs.others,
            budget=task.max_epochs if isinstance(task, FoldTask) else task.n_epochs,
            train=outputs.train,
        )

    def unfinished(
        self, task: Task, epochs: Sequence[Mapping[str, float]], seconds: float, reason: StopReason, error: str | None
    ) -> FoldResult:
        """Return the result of a task without an answer, for example because its process was lost.

        Args:
            epochs: metrics of the epochs that were reported.
            seconds: wall seconds since the task began.
            reason: the stop reason.
            error: one line that says what happened.
        """
        is_refit = isinstance(task, RefitTask)
        budget = task.n_epochs if isinstance(task, RefitTask) else task.max_epochs
        log = FitLog(max_epochs=budget, epochs_run=len(epochs), stop_reason=reason, seconds={"train": seconds})
        recorder = EpochRecorder(self.early_stopping, log)
        for epoch, logs in enumerate(epochs):
            recorder.record(epoch, logs)
        fold, seed = (0, 0) if isinstance(task, RefitTask) else (task.fold, fit_seed(self.seed, task.params, task.fold))
        history = {} if is_refit else {name: tuple(values) for name, values in log.history.items()}
        return FoldResult(fold, seed, None, self._outcome(log), history, dict(log.seconds), error=error, budget=budget)

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
        """Return the model that was trained with ``params`` and saved to ``weights_path``."""
        return self.model.restore(params, self.spec, weights_path)

    def test(self, fitted: FittedModel) -> tuple[TestScore, TestPredictions]:
        """Score the best model of a finished study on the test split."""
        return score_test_split(fitted, self._data.dataset)

    def example(self) -> Array:
        """Return two training samples, for the signature of the logged model."""
        rows: Array = self._data.dataset.x[:2]
        return rows
