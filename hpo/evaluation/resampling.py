"""How the training data are split into folds. Splits follow from the seed alone, so strategies share them.

In hold-out, early stopping watches the rows that are scored. With folds it watches a *stop split* of the training part,
and the scored rows are used once, at the end; otherwise the epoch would be chosen on the rows that it is scored on.
"""

from __future__ import annotations

import hashlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    LeaveOneOut,
    RepeatedKFold,
    RepeatedStratifiedKFold,
    StratifiedKFold,
    TimeSeriesSplit,
    train_test_split,
)

from hpo.core.identity import PartIdentity
from hpo.core.seeds import derive_seed
from hpo.datasets.base import Array
from hpo.errors import ConfigError


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
    """Splits a study's training data into folds.

    Attributes:
        allows_pruning: whether the score of one fold is informative enough to prune a trial.
        is_placeholder: whether it makes no folds, for a trainable that splits its data itself.
    """

    allows_pruning: bool = True
    is_placeholder: bool = False

    @property
    def identity(self) -> PartIdentity:
        """What defines it besides its options; the folds themselves are recorded by their digest."""
        return PartIdentity(code=(type(self),))

    @abstractmethod
    def splits(self, y: Array, study_seed: int, groups: Array | None = None, gap: int | None = None) -> Sequence[Split]:
        """One :class:`Split` a fold, the same for equal arguments.

        Args:
            y: integer labels or real targets of shape ``(n,)``; only labels are stratified.
            groups: of shape ``(n,)``, for resamplings that keep groups together.
            gap: of rows in the order of time, see :class:`hpo.datasets.base.Dataset`; None for rows without an order.

        Raises:
            ConfigError: when ``y`` has too few rows.
        """


class Holdout(Resampling):
    """One split into training and validation rows: stratified by class, or the latest rows if they are in time order.

    Args:
        validation_fraction: share of the rows to validate on, between 0 and 1.
        seed: of the split; None takes the study's.
    """

    def __init__(self, validation_fraction: float, seed: int | None = None) -> None:
        self.validation_fraction = _fraction("validation_fraction", validation_fraction)
        self.seed = _seed(seed)

    def splits(self, y: Array, study_seed: int, groups: Array | None = None, gap: int | None = None) -> Sequence[Split]:
        if gap is not None:
            train, watch = _past_and_future(np.arange(len(y)), self.validation_fraction, gap, "validation_fraction")
            return [Split(train, watch)]
        seed = study_seed if self.seed is None else self.seed
        try:
            train, watch = train_test_split(
                np.arange(len(y)),
                test_size=self.validation_fraction,
                stratify=y if _are_classes(y) else None,
                random_state=derive_seed("splits", seed),
            )
        except ValueError as error:
            raise ConfigError(
                "resampling.validation_fraction",
                self.validation_fraction,
                f"a share that leaves every class on both sides ({error})",
                "resampling.validation_fraction=0.2",
            ) from error
        return [Split(np.sort(train), np.sort(watch))]


class CrossValidation(Resampling):
    """Folds of a scikit-learn splitter, each with a stop split carved from its training part.

    Args:
        stop_fraction: share of the training part that early stopping watches, between 0 and 1.
        seed: of folds and stop splits; None takes the study's.
    """

    keeps_groups = False
    keeps_order = False

    def __init__(self, stop_fraction: float = 0.15, seed: int | None = None) -> None:
        self.stop_fraction = _fraction("stop_fraction", stop_fraction)
        self.seed = _seed(seed)

    def splits(self, y: Array, study_seed: int, groups: Array | None = None, gap: int | None = None) -> Sequence[Split]:
        seed = study_seed if self.seed is None else self.seed
        if gap is not None and not self.keeps_order:
            expected = "time_series or holdout, since the rows are in the order of time and these folds shuffle them"
            raise ConfigError("resampling", type(self).__name__, expected, "resampling=time_series")
        self.check(y, groups)
        rows = np.arange(len(y))
        splitter = self.splitter(derive_seed("splits", seed), y, gap or 0)
        with warnings.catch_warnings():
            # Too few members of a class; `check` refuses them where it matters.
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            pairs = list(splitter.split(rows, y, groups if self.keeps_groups else None))
        made = []
        for fold, (part, score) in enumerate(pairs):
            train, watch = self.carve(part, y, groups, derive_seed("stop", seed, fold), gap or 0)
            made.append(Split(np.sort(train), np.sort(watch), np.sort(score)))
        return made

    @abstractmethod
    def splitter(self, seed: int, y: Array, gap: int) -> Any:
        """A scikit-learn splitter for ``y``."""

    def check(self, y: Array, groups: Array | None) -> None:
        """Refuse labels that cannot be split.

        Raises:
            ConfigError: naming the key that asks for too much.
        """

    def carve(self, part: Array, y: Array, groups: Array | None, seed: int, gap: int) -> tuple[Array, Array]:
        """``part``, the training rows of a fold, in those to train on and those to watch; stratified where possible."""
        least = np.unique(y[part], return_counts=True)[1].min() if _are_classes(y) else 0
        n_watched = int(np.ceil(len(part) * self.stop_fraction))
        can_stratify = least > 1 and n_watched >= len(np.unique(y[part])) <= len(part) - n_watched
        if not 0 < n_watched < len(part):
            key = "resampling.stop_fraction"
            raise ConfigError(key, self.stop_fraction, f"a share that splits {len(part)} rows in two", f"{key}=0.15")
        train, watch = train_test_split(
            part, test_size=n_watched, stratify=y[part] if can_stratify else None, random_state=seed
        )
        return train, watch


class KFoldResampling(CrossValidation):
    """Shuffled folds of equal size.

    Args:
        n_splits: number of folds, at least 2.
    """

    def __init__(self, n_splits: int, stop_fraction: float = 0.15, seed: int | None = None) -> None:
        super().__init__(stop_fraction, seed)
        self.n_splits = _at_least("n_splits", n_splits, 2)

    def splitter(self, seed: int, y: Array, gap: int) -> Any:
        return KFold(self.n_splits, shuffle=True, random_state=seed)

    def check(self, y: Array, groups: Array | None) -> None:
        _require(self.n_splits, len(y), f"the number of rows, {len(y)}")


class StratifiedKFoldResampling(KFoldResampling):
    """Shuffled folds, each with the classes in their shares."""

    def splitter(self, seed: int, y: Array, gap: int) -> Any:
        return StratifiedKFold(self.n_splits, shuffle=True, random_state=seed)

    def check(self, y: Array, groups: Array | None) -> None:
        if not _are_classes(y):
            expected = "folds without classes, since the target is a real number"
            raise ConfigError("resampling", "stratified_kfold", expected, "resampling=kfold")
        smallest = int(np.unique(y, return_counts=True)[1].min())
        _require(self.n_splits, smallest, f"the size of the smallest class, {smallest}")


class RepeatedKFoldResampling(StratifiedKFoldResampling):
    """Folds, stratified where there are classes, ``n_repeats`` times, each time split in another way.

    Args:
        n_repeats: number of repetitions, at least 1.
    """

    def __init__(self, n_splits: int, n_repeats: int, stop_fraction: float = 0.15, seed: int | None = None) -> None:
        super().__init__(n_splits, stop_fraction, seed)
        self.n_repeats = _at_least("n_repeats", n_repeats, 1)

    def splitter(self, seed: int, y: Array, gap: int) -> Any:
        kind = RepeatedStratifiedKFold if _are_classes(y) else RepeatedKFold
        return kind(n_splits=self.n_splits, n_repeats=self.n_repeats, random_state=seed)

    def check(self, y: Array, groups: Array | None) -> None:
        if _are_classes(y):
            super().check(y, groups)
        else:
            KFoldResampling.check(self, y, groups)


class GroupKFoldResampling(KFoldResampling):
    """Folds and stop splits that keep groups together."""

    keeps_groups = True

    def splitter(self, seed: int, y: Array, gap: int) -> Any:
        return GroupKFold(self.n_splits, shuffle=True, random_state=seed)

    def check(self, y: Array, groups: Array | None) -> None:
        if groups is None:
            expected = "another resampling, since the dataset has no groups"
            raise ConfigError("resampling", "group_kfold", expected, "resampling=stratified_kfold")
        n_groups = len(np.unique(groups))
        # One more than folds, so that the training part can give a group to its stop split.
        _require(self.n_splits, n_groups - 1, f"one less than the number of groups, {n_groups}")

    def carve(self, part: Array, y: Array, groups: Array | None, seed: int, gap: int) -> tuple[Array, Array]:
        assert groups is not None, "checked above"
        splitter = GroupShuffleSplit(1, test_size=self.stop_fraction, random_state=seed)
        train, watch = next(splitter.split(part, groups=groups[part]))
        return part[train], part[watch]


class TimeSeriesResampling(KFoldResampling):
    """Folds in time order: a fold trains on the past, watches its latest part, and scores the rows that follow."""

    keeps_order = True

    def splitter(self, seed: int, y: Array, gap: int) -> Any:
        return TimeSeriesSplit(self.n_splits, gap=gap)

    def check(self, y: Array, groups: Array | None) -> None:
        _require(self.n_splits, len(y) // 2 - 1, f"half the number of rows, {len(y) // 2 - 1}")

    def carve(self, part: Array, y: Array, groups: Array | None, seed: int, gap: int) -> tuple[Array, Array]:
        return _past_and_future(part, self.stop_fraction, gap, "stop_fraction")


class LeaveOneOutResampling(CrossValidation):
    """One fold for each row; for very small data."""

    allows_pruning = False  # the score of one row is not informative

    def splitter(self, seed: int, y: Array, gap: int) -> Any:
        return LeaveOneOut()

    def check(self, y: Array, groups: Array | None) -> None:
        if len(y) < 3:
            raise ConfigError("resampling", "leave_one_out", f"at least 3 rows, not {len(y)}", "resampling=holdout")


class OwnResampling(Resampling):
    """Placeholder for an objective that splits its data itself."""

    is_placeholder = True

    def splits(self, y: Array, study_seed: int, groups: Array | None = None, gap: int | None = None) -> Sequence[Split]:
        return []


def digest(splits: Sequence[Split]) -> str:
    """32 hexadecimal characters that are equal only for equal splits."""
    sums = hashlib.blake2b(digest_size=16)
    for split in splits:
        for rows in (split.train, split.watch, split.score):
            sums.update(b"-" if rows is None else np.ascontiguousarray(rows, dtype="int64").tobytes() + b"|")
    return sums.hexdigest()


def _are_classes(y: Array) -> bool:
    return bool(y.dtype.kind in "iub")


def _past_and_future(rows: Array, fraction: float, gap: int, name: str) -> tuple[Array, Array]:
    """The earlier rows and, ``gap`` rows later, the latest ``fraction`` of them."""
    n_late = max(1, round(len(rows) * fraction))
    early, late = rows[: max(0, len(rows) - n_late - gap)], rows[-n_late:]
    if not len(early):
        expected = f"a share that leaves rows on both sides, with {gap} left out between them, of {len(rows)}"
        raise ConfigError(f"resampling.{name}", fraction, expected, f"resampling.{name}=0.1")
    return early, late


def _fraction(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise ConfigError(f"resampling.{name}", value, "a number between 0 and 1", f"resampling.{name}=0.2")
    return float(value)


def _at_least(name: str, value: Any, least: int) -> int:
    if type(value) is not int or value < least:
        raise ConfigError(
            f"resampling.{name}", value, f"a whole number of at least {least}", f"resampling.{name}={max(least, 3)}"
        )
    return value


def _seed(value: Any) -> int | None:
    if value is not None and (type(value) is not int or value < 0):
        raise ConfigError("resampling.seed", value, "a whole number of at least 0, or null", "resampling.seed=null")
    return value


def _require(n_splits: int, most: int, what: str) -> None:
    if n_splits > most:
        fix = f"resampling.n_splits={most}" if most > 1 else "resampling=holdout"
        raise ConfigError("resampling.n_splits", n_splits, f"at most {what}", fix)
