"""Scores the best model of a finished study on the test split."""

from __future__ import annotations

import math

from hpo.datasets.base import Dataset
from hpo.evaluation.tasks import TestPredictions, TestScore
from hpo.models import metrics
from hpo.models.base import FittedModel

# Training images that feature maps are drawn of.
N_IMAGES = 4


def score_test_split(fitted: FittedModel, dataset: Dataset) -> tuple[TestScore, TestPredictions]:
    """Return all metrics of the test split that are finite, and the predictions for its samples.

    Call it once, for the best model of a finished study: nothing may be chosen by its result.

    Args:
        dataset: as the model takes it.
    """
    spec = dataset.spec
    own = fitted.evaluate(dataset.x_test, dataset.y_test)
    predicted, scores = fitted.predict_targets(dataset.x_test)
    missing = [name for name in metrics.names(spec) if name not in own]
    found = own | metrics.measure(missing, dataset.y_test, predicted, spec, scores)
    names = dataset.class_names or tuple(str(label) for label in range(spec.n_classes))
    maps = fitted.feature_maps(dataset.x[:N_IMAGES]) if len(spec.input_shape) == 3 else None
    score = TestScore({name: value for name, value in found.items() if math.isfinite(value)}, len(dataset.x_test))
    return score, TestPredictions(dataset.y_test, predicted, names, maps)
