"""An objective that loads its own data and trains by itself → :class:`FoldResult`: what stands in for an evaluator."""

from __future__ import annotations

from typing import Any

from hpo.core.early_stopping import EarlyStopping, EarlyStoppingOutcome
from hpo.core.measurement import STEP
from hpo.core.objective import Objective
from hpo.core.seeds import fit_seed
from hpo.core.trial import FoldResult
from hpo.datasets.base import Array, Dataset
from hpo.evaluation.evaluator import Evaluator
from hpo.evaluation.resampling import digest
from hpo.evaluation.tasks import FoldTask
from hpo.models.base import Control, FitLog, WholeObjective


class ObjectiveEvaluator(Evaluator):
    """Runs an objective once a trial, as its one fold; there is no model to keep.

    Args:
        dataset: stands for the objective's own data.
        seed: the study seed. An objective seeds itself.
    """

    has_model = False

    def __init__(self, model: WholeObjective, dataset: Dataset, objective: Objective, seed: int) -> None:
        self.model: WholeObjective = model
        self.objective, self.seed = objective, seed
        self.early_stopping = EarlyStopping(patience=None, restore_best_weights=False)
        self._dataset = dataset

    @property
    def n_folds(self) -> int:
        return 1

    @property
    def refits_winner(self) -> bool:
        return False

    @property
    def n_samples(self) -> dict[str, int]:
        return {}

    @property
    def row_splits(self) -> tuple[tuple[Array, Array], ...]:
        return ()

    @property
    def folds_digest(self) -> str:
        return digest(())

    @property
    def metric_names(self) -> tuple[str, ...]:
        return (self.objective.metric, STEP)

    def _evaluate_fold(self, task: FoldTask, control: Control) -> FoldResult:
        log, kept = FitLog(), dict[str, Any]()

        def train(guarded: Control) -> None:
            values = self.model.call(task.number, self.objective, log, guarded)
            if values is not None:
                kept["score"] = values[0]
                kept["others"] = dict(zip(self.objective.others, values[1:], strict=True))

        seed = fit_seed(self.seed, {}, task.fold)
        return self._guarded(train, task.fold, seed, task.max_epochs, log, kept, control)

    def _outcome(self, log: FitLog) -> EarlyStoppingOutcome:
        curve = log.history.get(self.objective.metric, [])
        best: int | None = None
        for epoch, value in enumerate(curve):
            if self.objective.better(value, None if best is None else curve[best]):
                best = epoch
        return EarlyStoppingOutcome(
            monitor=self.objective.metric,
            patience=None,
            min_delta=0.0,
            epochs_run=log.epochs_run,
            max_epochs=log.epochs_run,  # how many there would have been only the objective knows
            stopped_epoch=None,
            best_epoch=best,
            best_value=None if best is None else curve[best],
            restored_best_weights=False,
            stop_reason=log.stop_reason,
        )
