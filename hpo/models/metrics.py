"""Metrics that are computed from predictions, with the same names for every model.

A model reports some metrics after each epoch, such as accuracy and loss. Those of this module are computed if a study
names them, and for the best model on the test split.
All are from scikit-learn: https://scikit-learn.org/stable/modules/model_evaluation.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from sklearn import metrics

from hpo.datasets.base import Array, DataSpec

# The number of highest scores among which `top_3_accuracy` looks for the true class.
TOP = 3


def names(spec: DataSpec) -> tuple[str, ...]:
    """Return the names of the metrics that are defined for the target.

    With two classes, precision, recall, F1 and ROC-AUC are those of class 1; with more, they are unweighted means over
    the classes (ROC-AUC: one class against the rest).
    """
    if spec.is_regression:
        return tuple(_OF_VALUES)
    top = (f"top_{TOP}_accuracy",) if spec.n_classes > TOP else ()
    return (*_OF_LABELS, "roc_auc", "log_loss", *top)


def measure(
    wanted: Sequence[str], y: Array, predicted: Array, spec: DataSpec, scores: Array | None = None
) -> dict[str, float]:
    """Return metrics by name; one that is not defined is NaN, such as the ROC-AUC of a single class.

    Args:
        wanted: names of :func:`names`.
        y: labels or real values, ``(n,)``.
        predicted: predicted labels or real values, ``(n,)``.
        scores: probabilities ``(n, n_classes)``, or numbers that rank the classes, whose ``log_loss`` is NaN.
    """
    return {name: _value(name, y, predicted, spec, scores) for name in wanted}


def _value(name: str, y: Array, predicted: Array, spec: DataSpec, scores: Array | None) -> float:
    if spec.is_regression:
        return float(_OF_VALUES[name](y, predicted))
    if name in _OF_LABELS:
        return float(_OF_LABELS[name](y, predicted, "binary" if spec.n_classes == 2 else "macro"))
    if scores is None:
        return float("nan")
    labels = np.arange(spec.n_classes)
    if name == "log_loss":
        are_probabilities = scores.min() >= 0 and np.allclose(scores.sum(axis=1), 1, atol=1e-3)
        return float(metrics.log_loss(y, _normalised(scores), labels=labels)) if are_probabilities else float("nan")
    if name == "roc_auc":
        return _roc_auc(y, scores)
    return float(metrics.top_k_accuracy_score(y, scores, k=TOP, labels=labels))


def _normalised(scores: Array) -> Array:
    # The single-precision probabilities of a network do not sum to exactly 1, and scikit-learn would warn.
    scores = scores.astype("float64")
    normalised: Array = scores / scores.sum(axis=1, keepdims=True)
    return normalised


def _roc_auc(y: Array, scores: Array) -> float:
    found = [int(label) for label in np.unique(y)]
    if len(found) < 2:
        return float("nan")
    if scores.shape[1] == 2:
        return float(metrics.roc_auc_score(y, scores[:, 1]))
    return float(np.mean([metrics.roc_auc_score(y == label, scores[:, label]) for label in found]))


_OF_LABELS: dict[str, Callable[[Array, Array, str], float]] = {
    "precision": lambda y, found, average: metrics.precision_score(y, found, average=average, zero_division=0),
    "recall": lambda y, found, average: metrics.recall_score(y, found, average=average, zero_division=0),
    "f1": lambda y, found, average: metrics.f1_score(y, found, average=average, zero_division=0),
}
_OF_VALUES: dict[str, Callable[[Array, Array], float]] = {
    "mse": metrics.mean_squared_error,
    "rmse": metrics.root_mean_squared_error,
    "mae": metrics.mean_absolute_error,
    "r2": lambda y, found: metrics.r2_score(y, found) if len(y) > 1 else float("nan"),
    "mape": metrics.mean_absolute_percentage_error,
}
