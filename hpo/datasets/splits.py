"""Test splits and samples that never depend on a study's seed: the same rows every time."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from hpo.datasets.base import Array
from hpo.errors import DatasetError

# Share of the rows in the test split of data sets without one of their own.
TEST_FRACTION = 0.2


def check_test_fraction(given: Any) -> None:
    """Refuse a share of test rows that is not between 0 and 1.

    Raises:
        DatasetError: naming ``dataset.test_fraction``.
    """
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < 1:
        raise DatasetError("dataset.test_fraction", given, "a share between 0 and 1", "dataset.test_fraction=0.2")


def split_off_test(x: Array, y: Array, is_stratified: bool = True) -> tuple[Array, Array, Array, Array]:
    """Split off :data:`TEST_FRACTION` of the samples at random.

    Args:
        x, y: samples of shape ``(n, …)`` and their targets of shape ``(n,)``.
        is_stratified: whether both parts have the classes in their proportions.

    Returns:
        ``x``, ``y``, ``x_test``, ``y_test``.
    """
    stratify = y if is_stratified else None
    x, x_test, y, y_test = train_test_split(x, y, test_size=TEST_FRACTION, stratify=stratify, random_state=0)
    return x, y, x_test, y_test


def split_rows(y: Array, fraction: float, groups: Array | None, is_ordered: bool) -> tuple[Array, Array]:
    """Choose training rows and test rows; both parts have at least one row.

    Args:
        y: targets of shape ``(n,)``; integers are classes, which are stratified if there are enough rows.
        fraction: share of the test rows.
        groups: the group of every row, which stays in one part; None without groups.
        is_ordered: whether the last rows are the test rows.

    Returns:
        Indices of the training rows and of the test rows.

    Raises:
        DatasetError: if ``fraction`` leaves no group in one of the parts.
    """
    rows, n_test = np.arange(len(y)), min(len(y) - 1, max(1, round(len(y) * fraction)))
    if is_ordered:
        return rows[:-n_test], rows[-n_test:]
    if groups is not None:
        try:
            train, test = next(GroupShuffleSplit(1, test_size=fraction, random_state=0).split(rows, groups=groups))
        except ValueError as error:
            expected = f"a share that leaves a group on both sides ({error})"
            raise DatasetError("dataset.test_fraction", fraction, expected, "dataset.test_fraction=0.3") from error
        return train, test
    single = np.zeros(len(y), dtype=bool)
    if y.dtype.kind == "i":
        # The only row of a class is a training row: no model could predict a class that it has never seen.
        single = np.bincount(y)[y] == 1
    n_classes = len(np.unique(y[~single]))
    n_rest = int((~single).sum())
    can_stratify = y.dtype.kind == "i" and n_classes <= n_test and n_rest - n_test >= n_classes
    if n_rest - n_test < 1:
        single[:], n_rest = False, len(y)
    train, test = train_test_split(
        rows[~single], test_size=n_test, stratify=y[~single] if can_stratify else None, random_state=0
    )
    return np.concatenate([train, rows[single]]), test


def stratified_sample(y: Array, n: int) -> Array:
    """Choose ``n`` rows at random, with the classes in their proportions.

    Args:
        y: classes of shape ``(n_rows,)``.

    Returns:
        Indices of the rows.
    """
    order = np.random.default_rng(0).permutation(len(y))
    share = np.empty(len(y))
    for label in np.unique(y):
        members = order[y[order] == label]
        share[members] = (np.arange(len(members)) + 0.5) / len(members)
    chosen: Array = order[np.argsort(share[order], kind="stable")][:n]
    return chosen
