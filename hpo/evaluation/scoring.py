"""Scores a trained fold: the objective, its other metrics, costs, and the metrics of training rows."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass

from hpo.core.objective import Objective
from hpo.core.states import State, StopReason
from hpo.evaluation.metric_checks import COSTS
from hpo.evaluation.split_data import SplitData
from hpo.models.base import FitLog, FittedModel

# Predictions that are timed for `predict_seconds`; the first one is left out, since it may compile.
N_PREDICTIONS = 6


@dataclass(frozen=True)
class Score:
    """The score of a fold.

    Args:
        value: the objective.
        others: the objective's other metrics and costs, by name.
    """

    value: float
    others: dict[str, float]


@dataclass(frozen=True)
class Scorer:
    """Scores the folds of one study.

    Args:
        objective: the metric to score, its other metrics, and the epoch that counts.
        data: the rows of all folds.
        extra: metrics that are computed in addition to the model's own.
    """

    objective: Objective
    data: SplitData
    extra: tuple[str, ...] = ()

    def score(self, log: FitLog, fitted: FittedModel, fold: int) -> Score | None:
        """Return the score of a fold, or None if training did not complete or a metric is not finite.

        In hold-out, metrics are those of the epoch that counts; with folds, ``fitted`` is evaluated on the scored rows.
        A metric that is not finite makes ``log`` end as diverged.
        """
        if log.stop_reason.state is not State.COMPLETE:
            return None
        wanted = [self.objective.metric, *(name for name in self.objective.others if name not in COSTS)]
        epoch = log.best_epoch if self.objective.epoch == "best" else None
        values = {name: log.history[name][-1 if epoch is None else epoch] for name in wanted}
        scored = self.data.scored(fold)
        if scored is not None:
            found = fitted.evaluate(*scored, self.extra)
            values |= {name: found[name.removeprefix("val_")] for name in wanted if name.startswith("val_")}
        bad = next((name for name, value in values.items() if not math.isfinite(value)), None)
        if bad is not None:
            log.stop_reason, log.problem = StopReason.DIVERGED, f"{bad} is not finite"
            return None
        values |= self._costs(log, fitted)
        return Score(values[self.objective.metric], {name: values[name] for name in self.objective.others})

    def score_training_rows(self, fitted: FittedModel, fold: int, seed: int) -> dict[str, float]:
        """Return metrics of a random sample of the training rows."""
        return fitted.evaluate(*self.data.training_sample(fold, seed), self.extra)

    def _costs(self, log: FitLog, fitted: FittedModel) -> dict[str, float]:
        costs: dict[str, float] = {"train_seconds": log.seconds.get("train", 0.0), "n_weights": log.n_weights or 0}
        if "predict_seconds" in self.objective.others:
            sample, timed = self.data.dataset.x[:1], []
            for _ in range(N_PREDICTIONS):
                started = time.perf_counter()
                fitted.predict(sample)
                timed.append(time.perf_counter() - started)
            costs["predict_seconds"] = statistics.median(timed[1:])
        return costs
