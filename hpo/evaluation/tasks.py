"""What an executor is asked to train, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpo.core.params import Params
from hpo.datasets.base import Array
from hpo.models.base import FeatureMaps


@dataclass(frozen=True)
class FoldTask:
    """One fold of one trial, to be trained.

    Args:
        params: the trial's params.
        fold: index of the fold.
        max_epochs: most epochs to train.
        weights_path: where to save the weights, if the score deserves it; without the model's own ending. None where
            the winner will be refitted, so that no fold's weights are of use.
        save_above: the score to beat; None saves any finite one.
        share: ``max_epochs`` over the study's own.
        spent_seconds: wall seconds that other folds and budgets of the trial have taken.
        number: of the trial.
    """

    params: Params
    fold: int
    max_epochs: int
    weights_path: Path | None = None
    save_above: float | None = None
    share: float = 1.0
    spent_seconds: float = 0.0
    number: int = 0


@dataclass(frozen=True)
class RefitTask:
    """The winner's params, to be trained on all training data: nothing is left to be watched or scored.

    Args:
        n_epochs: epochs to train.
        weights_path: where to save the weights, without the model's own ending.
        share: ``n_epochs`` over the study's own.
    """

    params: Params
    n_epochs: int
    weights_path: Path
    share: float = 1.0


Task = FoldTask | RefitTask


@dataclass(frozen=True)
class TestScore:
    """The winner on the test split: metric → value, under the names of training without ``val_``."""

    __test__ = False  # not a test class, despite its name

    metrics: Mapping[str, float]
    n_samples: int


@dataclass(frozen=True)
class TestPredictions:
    """What a model says of every sample of the test split.

    Args:
        targets, predicted: labels or real values, ``(n_test,)``.
        class_names: of labels 0, 1, …; empty for real targets.
        feature_maps: for some training images, of a network with a convolution.
    """

    __test__ = False  # not a test class, despite its name

    targets: Array
    predicted: Array
    class_names: tuple[str, ...]
    feature_maps: FeatureMaps | None = None
