"""Trains a scikit-learn estimator: all at once, or some of its trees in each epoch."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from hpo.datasets.base import Array
from hpo.models.base import Fit, FitPlan
from hpo.models.fitting import EpochMonitor
from hpo.models.sklearn import scores


@dataclass(frozen=True)
class TrainingRows:
    """Prepared training rows.

    Args:
        x, y: rows that training metrics are computed on.
        x_learned, y_learned: rows that the estimator learns, which may be balanced.
    """

    x: Array
    y: Array
    x_learned: Array
    y_learned: Array


@dataclass(frozen=True)
class EstimatorTraining:
    """One training of an estimator.

    Args:
        estimator: not fitted yet.
        prepare: the fitted transformer of the columns; None if there is nothing to transform.
        fit: the training, with raw rows.
    """

    estimator: Any
    prepare: Any
    fit: Fit

    def train_at_once(self, rows: TrainingRows) -> Any:
        """Fit the estimator in one epoch, and return it."""
        plan = self.fit.plan
        # Early stopping has no meaning here; its metric is recorded all the same.
        stopping = replace(plan.early_stopping, patience=None, start_from_epoch=0)
        monitor = EpochMonitor(replace(self.fit, plan=replace(plan, max_epochs=1, early_stopping=stopping)))
        for epoch in monitor.epochs():
            self.estimator.fit(rows.x_learned, rows.y_learned)
            monitor.end_epoch(epoch, self._measure(rows))
        return self.estimator

    def grow(self, rows: TrainingRows, parameter: str, step: int) -> Any:
        """Fit ``step`` more parts in each epoch, and return the estimator of the epoch to keep.

        Args:
            parameter: the name of the estimator's number of parts, such as ``n_estimators``.
        """
        estimator, log = self.estimator, self.fit.log
        monitor = EpochMonitor(self.fit, snapshot=lambda: copy.deepcopy(estimator))
        began = time.perf_counter()
        for epoch in monitor.epochs():
            estimator.set_params(**{parameter: step * (epoch + 1)})
            estimator.fit(rows.x_learned, rows.y_learned)
            log.seconds.setdefault("first_step", time.perf_counter() - began)
            monitor.end_epoch(epoch, self._measure(rows))
        best = monitor.finish()
        return estimator if best is None else best

    def _measure(self, rows: TrainingRows) -> dict[str, float]:
        """Return metrics of the training rows and, prefixed with ``val_``, of the watched rows."""
        data, spec = self.fit.data, self.fit.spec
        logs = scores.measure(self.estimator, rows.x, rows.y, spec)
        if data.x_watch is not None and data.y_watch is not None:
            watched = data.x_watch if self.prepare is None else self.prepare.transform(data.x_watch)
            found = scores.measure(self.estimator, watched, data.y_watch, spec, self.fit.plan.extra)
            logs |= {f"val_{name}": value for name, value in found.items()}
        return logs


def rows_in_budget(x: Array, y: Array, plan: FitPlan) -> tuple[Array, Array]:
    """Return the share of the rows that the budget allows, stratified by class if each class has enough rows."""
    are_classes = y.dtype.kind != "f"
    n = max(len(np.unique(y)) if are_classes else 2, round(len(y) * plan.budget_fraction))
    if n >= len(y):
        return x, y
    counts = np.unique(y, return_counts=True)[1] if are_classes else np.zeros(1)
    can_stratify = counts.min() > 1 and len(counts) <= min(n, len(y) - n)
    rows, _ = train_test_split(
        np.arange(len(y)), train_size=n, stratify=y if can_stratify else None, random_state=plan.seed
    )
    return x[np.sort(rows)], y[np.sort(rows)]
