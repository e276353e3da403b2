"""Metrics, class scores and sizes of fitted scikit-learn estimators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, hinge_loss, log_loss

from hpo.datasets.base import Array, DataSpec
from hpo.models import metrics

CLASSIFIER_METRICS = ("loss", "accuracy")
REGRESSOR_METRICS = ("loss", "mae", "rmse")


def measure(estimator: Any, x: Array, y: Array, spec: DataSpec, extra: Sequence[str] = ()) -> dict[str, float]:
    """Return the metrics that are reported after an epoch, and the ``extra`` ones.

    The loss of a classifier is the log loss, or the hinge loss if it has no probabilities; that of a regressor is the
    mean squared error.

    Args:
        extra: names of :func:`hpo.models.metrics.names`.
    """
    predicted = estimator.predict(x)
    if spec.is_regression:
        own = metrics.measure(("mse", "mae", "rmse"), y, predicted, spec)
        own = {"loss": own["mse"], "mae": own["mae"], "rmse": own["rmse"]}
        return own | metrics.measure([name for name in extra if name not in own], y, predicted, spec)
    scores = class_scores(estimator, x, spec)
    labels = np.arange(spec.n_classes)
    if hasattr(estimator, "predict_proba"):
        loss = log_loss(y, scores, labels=labels)
    else:
        margins = scores[:, 1] if spec.n_classes == 2 else scores
        loss = hinge_loss(y, margins, labels=labels)
    own = {"loss": float(loss), "accuracy": float(accuracy_score(y, predicted))}
    return own | metrics.measure([name for name in extra if name not in own], y, predicted, spec, scores)


def class_scores(estimator: Any, x: Array, spec: DataSpec) -> Array:
    """Return probabilities of shape ``(n, n_classes)``, or the margins of a classifier without probabilities."""
    if hasattr(estimator, "predict_proba"):
        probabilities: Array = estimator.predict_proba(x)
        sums = probabilities.sum(axis=1, keepdims=True)
        # The probabilities of naive Bayes do not sum to exactly 1 if likelihoods are extreme.
        probabilities = probabilities if np.allclose(sums, 1, rtol=1e-9) else probabilities / sums
        return _with_all_classes(probabilities, estimator.classes_, spec, 0.0)
    margins: Array = estimator.decision_function(x)
    if margins.ndim == 1:
        return np.column_stack([-margins, margins])
    return _with_all_classes(margins, estimator.classes_, spec, float(margins.min()))


def _with_all_classes(scores: Array, classes: Array, spec: DataSpec, missing: float) -> Array:
    """Return ``scores`` with a column for every class, ``missing`` for classes without a training row."""
    if len(classes) == spec.n_classes:
        return scores
    whole = np.full((len(scores), spec.n_classes), missing)
    whole[:, classes.astype(int)] = scores
    return whole


def count_weights(estimator: Any) -> int | None:
    """Return the number of coefficients, of values in stored rows, or of tree nodes; None if there are none."""
    estimator = getattr(estimator, "regressor_", estimator)  # inside a TransformedTargetRegressor
    for names in (("support_vectors_",), ("_fit_X",), ("coef_", "intercept_"), ("theta_", "var_")):
        if hasattr(estimator, names[0]):
            return int(sum(np.size(getattr(estimator, name)) for name in names))
    if hasattr(estimator, "coefs_"):
        return int(sum(layer.size for layer in (*estimator.coefs_, *estimator.intercepts_)))
    if hasattr(estimator, "_predictors"):  # histogram boosting, which has its trees in no public attribute
        return int(sum(tree.get_n_leaf_nodes() * 2 - 1 for stage in estimator._predictors for tree in stage))
    if hasattr(estimator, "get_booster"):  # XGBoost
        return sum(tree.count("\n") for tree in estimator.get_booster().get_dump())
    if hasattr(estimator, "booster_"):  # LightGBM
        return sum(tree["num_leaves"] * 2 - 1 for tree in estimator.booster_.dump_model()["tree_info"])
    trees = [tree for tree in (estimator, *np.ravel(getattr(estimator, "estimators_", []))) if hasattr(tree, "tree_")]
    return int(sum(tree.tree_.node_count for tree in trees)) if trees else None
