"""How the training data are split into folds. Splits follow from the study seed alone, so strategies share them."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import train_test_split

from hpo.datasets.base import Array
from hpo.errors import ConfigError
from hpo.trial import derive_seed


@dataclass(frozen=True)
class Split:
    """Row indices of one fold.

    Args:
        train: rows to train on.
        watch: rows that early stopping watches after every epoch.
        score: rows that the fold is scored on, never seen in training; None where ``watch`` is scored (hold-out).
    """

    train: Array
    watch: Array
    score: Array | None = None


class Resampling(ABC):
    """Splits a study's training data into folds."""

    @abstractmethod
    def splits(self, y: Array, study_seed: int) -> Sequence[Split]:
        """One :class:`Split` a fold, the same for equal ``y`` and ``study_seed``.

        Raises:
            ConfigError: when ``y`` has too few rows for it.
        """


class Holdout(Resampling):
    """One stratified split into training and validation rows.

    Args:
        validation_fraction: share of the rows to validate on, between 0 and 1.
    """

    def __init__(self, validation_fraction: float) -> None:
        if (
            isinstance(validation_fraction, bool)
            or not isinstance(validation_fraction, int | float)
            or not (0 < validation_fraction < 1)
        ):
            raise ConfigError(
                "resampling.validation_fraction",
                validation_fraction,
                "a number between 0 and 1",
                "resampling.validation_fraction=0.2",
            )
        self.validation_fraction = validation_fraction

    def splits(self, y: Array, study_seed: int) -> Sequence[Split]:
        try:
            train, watch = train_test_split(
                np.arange(len(y)),
                test_size=self.validation_fraction,
                stratify=y,
                random_state=derive_seed("splits", study_seed),
            )
        except ValueError as error:
            raise ConfigError(
                "resampling.validation_fraction",
                self.validation_fraction,
                f"a share that leaves every class on both sides ({error})",
                "resampling.validation_fraction=0.2",
            ) from error
        return [Split(np.sort(train), np.sort(watch))]


def digest(splits: Sequence[Split]) -> str:
    """32 hexadecimal characters that are equal only for equal splits."""
    sums = hashlib.blake2b(digest_size=16)
    for split in splits:
        for rows in (split.train, split.watch, split.score):
            sums.update(b"-" if rows is None else np.ascontiguousarray(rows, dtype="int64").tobytes() + b"|")
    return sums.hexdigest()
