"""The rows of a dataset by fold: rows to train on, rows that early stopping watches, and rows to score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpo.datasets.base import Array, Dataset, DataSpec
from hpo.evaluation.resampling import Resampling, Split, digest
from hpo.models.base import FoldData, Model


class SplitData:
    """The training rows of a dataset, split into folds, and its test rows.

    Args:
        dataset: as the model takes it: see :meth:`for_model`.
        splits: row numbers for each fold. In hold-out, the watched rows are also the scored rows.
    """

    def __init__(self, dataset: Dataset, splits: Sequence[Split]) -> None:
        self.dataset, self._splits = dataset, tuple(splits)

    @classmethod
    def for_model(cls, model: Model, dataset: Dataset, resampling: Resampling, seed: int) -> SplitData:
        """Give the samples the shape that ``model`` takes, and split them.

        Args:
            seed: the study seed, which alone determines the folds.

        Raises:
            DatasetError: if the data do not fit the model.
            ConfigError: if the resampling cannot split them.
        """
        shaped = dataset.with_images_of(model.image_shape) if model.image_shape else dataset
        shaped = shaped.flat() if model.takes_rows else shaped
        return cls(shaped, resampling.splits(shaped.y, seed, shaped.groups, shaped.gap))

    @property
    def spec(self) -> DataSpec:
        """Shape and target of the samples."""
        return self.dataset.spec

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return len(self._splits)

    @property
    def has_scored_rows(self) -> bool:
        """Whether folds are scored on rows that training never sees, not even for early stopping."""
        return any(split.score is not None for split in self._splits)

    @property
    def n_samples(self) -> dict[str, int]:
        """Rows by part: ``train``, ``validation`` (scored) and ``stop`` (watched only) of the first fold; ``test``."""
        split = self._splits[0]
        parts = {"train": len(split.train), "validation": len(_scored_rows(split))}
        if split.score is not None:
            parts["stop"] = len(split.watch)
        return parts | {"test": len(self.dataset.x_test)}

    @property
    def row_splits(self) -> tuple[tuple[Array, Array], ...]:
        """For each fold, the rows that training sees, early stopping included, and the rows that are scored."""
        return tuple(
            (split.train, split.watch)
            if split.score is None
            else (np.sort(np.concatenate([split.train, split.watch])), split.score)
            for split in self._splits
        )

    @property
    def digest(self) -> str:
        """A digest that is equal for studies with equal folds."""
        return digest(self._splits)

    def training(self, fold: int) -> FoldData:
        """Return the rows to train on and to watch."""
        split, x, y = self._splits[fold], self.dataset.x, self.dataset.y
        return FoldData(x[split.train], y[split.train], x[split.watch], y[split.watch])

    def all_training(self) -> FoldData:
        """Return all training rows, with nothing to watch, for the refit of the best trial."""
        return FoldData(self.dataset.x, self.dataset.y, None, None)

    def scored(self, fold: int) -> tuple[Array, Array] | None:
        """Return the samples and targets to score; None if the watched rows are the scored ones."""
        rows = self._splits[fold].score
        return None if rows is None else (self.dataset.x[rows], self.dataset.y[rows])

    def training_sample(self, fold: int, seed: int) -> tuple[Array, Array]:
        """Return as many random training rows as the fold has scored rows, in the order of the dataset.

        Equal sizes give the training score and the fold's score the same precision.
        """
        split = self._splits[fold]
        n_rows = min(len(split.train), len(_scored_rows(split)))
        rows = np.sort(np.random.default_rng(seed).choice(split.train, n_rows, replace=False))
        return self.dataset.x[rows], self.dataset.y[rows]


def _scored_rows(split: Split) -> Array:
    return split.watch if split.score is None else split.score
