"""Evaluates an objective that loads its own data and trains by itself."""

from __future__ import annotations

from hpo.core.early_stopping import EarlyStopping, EarlyStoppingOutcome
from hpo.core.measurement import STEP
from hpo.core.objective import Objective
from hpo.core.seeds import fit_seed
from hpo.core.trial import FoldResult
from hpo.datasets.base import Array
from hpo.evaluation.evaluator import Evaluator, Outputs
from hpo.evaluation.guard import Guard
from hpo.evaluation.resampling import digest
from hpo.evaluation.tasks import FoldTask
from hpo.models.base import FitLog, ObjectiveControl
from hpo.models.objectives.base import WholeObjective


class ObjectiveEvaluator(Evaluator):
    """Calls an objective once a trial, as its only fold; no model is kept.

    Args:
        whole: the objective that is called.
        objective: the names and directions of the values that it returns.
        seed: the study seed; recorded, since an objective seeds itself.
    """

    has_model = False

    def __init__(self, whole: WholeObjective, objective: Objective, seed: int) -> None:
        self._whole, self.objective, self.seed = whole, objective, seed
        self.early_stopping = EarlyStopping(patience=None, restore_best_weights=False)

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

    def _evaluate_fold(self, task: FoldTask, control: ObjectiveControl) -> FoldResult:
        log, outputs = FitLog(), Outputs()

        def train(guard: Guard) -> None:
            values = self._whole.call(task.number, self.objective, log, guard)
            guard.check_process()
            if values is not None:
                outputs.score = values[0]
                outputs.others = dict(zip(self.objective.others, values[1:], strict=True))

        return self._carry_out(train, task, fit_seed(self.seed, {}, task.fold), log, outputs, control)

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
            max_epochs=log.epochs_run,  # only the objective knows how many it would have run
            stopped_epoch=None,
            best_epoch=best,
            best_value=None if best is None else curve[best],
            restored_best_weights=False,
            stop_reason=log.stop_reason,
        )
