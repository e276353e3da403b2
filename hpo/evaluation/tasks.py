"""Tasks for an executor, and the results of the final test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpo.core.params import Params
from hpo.datasets.base import Array
from hpo.models.base import FeatureMaps


@dataclass(frozen=True)
class FoldTask:
    """Train and score one fold of one trial.

    Args:
        params: the trial's params.
        fold: index of the fold.
        max_epochs: most epochs to train.
        weights_path: where to save the weights if the score is better than ``save_above``, without the suffix of the
            model. None saves none, since the best trial will be refitted.
        save_above: the best score so far; None saves the weights of any score.
        budget_fraction: ``max_epochs`` divided by the study's ``max_epochs``.
        spent_seconds: wall seconds of other folds and budgets of the trial.
        number: the trial's number.
    """

    params: Params
    fold: int
    max_epochs: int
    weights_path: Path | None = None
    save_above: float | None = None
    budget_fraction: float = 1.0
    spent_seconds: float = 0.0
    number: int = 0


@dataclass(frozen=True)
class RefitTask:
    """Train the params of the best trial on all training rows, with nothing to watch or to score.

    Args:
        params: the best trial's params.
        n_epochs: epochs to train.
        weights_path: where to save the weights, without the suffix of the model.
        budget_fraction: ``n_epochs`` divided by the study's ``max_epochs``.
    """

    params: Params
    n_epochs: int
    weights_path: Path
    budget_fraction: float = 1.0


Task = FoldTask | RefitTask


@dataclass(frozen=True)
class TestScore:
    """Metrics of the best model on the test split.

    Args:
        metrics: values by the names of training, without ``val_``.
        n_samples: number of test samples.
    """

    __test__ = False  # not a test class, despite its name

    metrics: Mapping[str, float]
    n_samples: int


@dataclass(frozen=True)
class TestPredictions:
    """The predictions of the best model for every sample of the test split.

    Args:
        targets, predicted: labels or real values, ``(n_test,)``.
        class_names: names of labels 0, 1, …; empty for real targets.
        feature_maps: activations for some training images; None for models without a convolution.
    """

    __test__ = False  # not a test class, despite its name

    targets: Array
    predicted: Array
    class_names: tuple[str, ...]
    feature_maps: FeatureMaps | None = None
