"""A table of your own: a CSV or Parquet file with one column as the target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from hpo.datasets.base import Array, Dataset
from hpo.datasets.readers import roles
from hpo.datasets.readers.columns import key_of
from hpo.datasets.readers.tables import as_names, read_table, require_columns
from hpo.datasets.splits import check_test_fraction, split_rows
from hpo.errors import DatasetError

TASKS = ("classification", "regression")
LEAST_ROWS = 3


def load(
    path: str,
    target: str,
    task: str | None = None,
    categorical: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    groups: str | None = None,
    time: str | None = None,
    test_fraction: float = 0.2,
    missing_values: Sequence[Any] | None = None,
    separator: str = ",",
    encoding: str = "utf-8",
    column_names: Sequence[str] | None = None,
) -> Dataset:
    """Load rows of ``float64`` of shape ``(n, columns)``, NaN for missing values; rows without a target are left out.

    Text and truth values become categories, dates (year-month-day) become days since 1970-01-01. The names of
    categories and classes are the only information taken from all rows.

    Args:
        path: a local file, relative to the working directory; Parquet if it ends in ``.parquet`` or ``.pq``, else CSV.
        target: name of the target column.
        task: ``classification`` or ``regression``; None treats text, truth values and few integers as classes.
        categorical: columns of numbers or dates to treat as categories, besides those of text and truth values.
        drop: columns to ignore.
        groups: column with the group of every row, such as a patient; not a feature. The test split and
            ``resampling=group_kfold`` keep groups together.
        time: column of dates or numbers to sort the rows by; not a feature. The latest rows are the test split.
        test_fraction: share of the rows in the test split, the same rows every time.
        missing_values: entries that mean a missing value, besides empty ones, NA, NaN, null and similar ones.
        separator: of a CSV file, one character; ``tab`` for a tab.
        encoding: of a CSV file.
        column_names: of a CSV file without a header line.

    Raises:
        DatasetError: if the file or an option cannot be used; it names the column, and the row if there is one.
    """
    _check_options(task, test_fraction, groups, time)
    table = read_table(path, separator, encoding, missing_values, column_names)
    target = str(target)
    marked = [] if categorical is None else as_names(categorical)
    _check_columns(table, target, groups, time, as_names(drop), marked)

    has_target = table[target].notna().to_numpy()
    notes = [f"{int((~has_target).sum()):,} rows without it left out"] if not has_target.all() else []
    if has_target.sum() < LEAST_ROWS:
        given = f"{path}, {has_target.sum()} rows with a target"
        raise DatasetError("dataset.path", given, f"at least {LEAST_ROWS}", "a file with more rows")
    order = np.flatnonzero(has_target)
    if time is not None:
        order = order[np.argsort(roles.parse_times(time, table[time], has_target)[order], kind="stable")]
    # All rows are converted, also those without a target, so that messages count rows as the file does.
    left_out = {target, *as_names(drop), *(name for name in (groups, time) if name is not None)}
    names = [name for name in table.columns if name not in left_out]
    if not names:
        raise DatasetError("dataset.path", f"{path} without features", "a column besides the target", "dataset.drop=[]")
    features = [roles.parse_feature(name, table[name], has_target, name in marked) for name in names]
    notes += [note for each in features for note in each.notes]
    x = np.column_stack([each.values for each in features])[order]
    goal = roles.parse_target(target, table[target], task, has_target)
    y = goal.y[order]
    members = None if groups is None else roles.parse_groups(groups, table[groups], has_target)[order]
    train, test = split_rows(y, test_fraction, members, time is not None)
    _require_known_classes(y, train, goal.class_names, target)
    found = "classification" if goal.class_names else "regression"
    source = f"{path}, {len(order):,} rows; target {target}: {found}, {'inferred' if task is None else 'as configured'}"
    return Dataset(
        "csv",
        x[train],
        y[train],
        x[test],
        y[test],
        source="; ".join([source, *notes]),
        groups=None if members is None else members[train],
        gap=None if time is None else 0,
        columns=tuple(each.column for each in features),
        class_names=goal.class_names,
    )


def _check_options(task: Any, test_fraction: Any, groups: str | None, time: str | None) -> None:
    if task is not None and task not in TASKS:
        raise DatasetError("dataset.task", task, f"one of {', '.join(TASKS)}, or null", "dataset.task=null")
    check_test_fraction(test_fraction)
    if groups is not None and time is not None:
        expected = "null, since dataset.groups is set: a split by time would not keep groups together"
        raise DatasetError("dataset.time", time, expected, "dataset.time=null or dataset.groups=null")


def _check_columns(
    table: pd.DataFrame, target: str, groups: str | None, time: str | None, drop: list[str], categorical: list[str]
) -> None:
    require_columns(table, "target", [target])
    for key, names in (
        ("groups", [groups] if groups is not None else []),
        ("time", [time] if time is not None else []),
        ("drop", drop),
        ("categorical", categorical),
    ):
        require_columns(table, key, names)
        if target in names:
            fix = f"dataset.{key}=null" if key in ("groups", "time") else f"dataset.{key}=[…] without it"
            raise DatasetError(f"dataset.{key}", target, "a column that is not the target", fix)


def _require_known_classes(y: Array, train: Array, names: tuple[str, ...], target: str) -> None:
    unknown = sorted(set(range(len(names))) - set(np.unique(y[train]))) if names else []
    if unknown:
        found = f"class {names[unknown[0]]} in the test split alone"
        expected = "training rows of every class"
        raise DatasetError(key_of(target), found, expected, "dataset.test_fraction=0.1, or more rows of the class")
