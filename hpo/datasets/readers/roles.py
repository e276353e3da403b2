"""The roles of a table's columns: features, target, times and groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hpo.datasets.base import Array, Column
from hpo.datasets.readers.columns import (
    format_label,
    key_of,
    override,
    parse_categories,
    parse_days,
    parse_numbers,
    to_texts,
)
from hpo.errors import DatasetError

# Integers with at most this many values, in five times as many rows, are taken for classes.
MOST_CLASSES = 20


@dataclass(frozen=True)
class Feature:
    """A column that a model sees.

    Args:
        values: of shape ``(n,)``, NaN for missing values.
        column: its name and categories.
        notes: what a reader of the study's record should know.
    """

    values: Array
    column: Column
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """The target of every row: class numbers, or real values without ``class_names``."""

    y: Array
    class_names: tuple[str, ...] = ()


def parse_feature(name: str, column: pd.Series[Any], is_used: Array, is_categorical: bool) -> Feature:
    """Convert a column to numbers: numbers, days since 1970-01-01, or indices of categories.

    Args:
        is_used: of shape ``(n,)``, which rows have a target.
        is_categorical: whether numbers and dates are categories, too.

    Raises:
        DatasetError: if it has no values, or values that cannot be used.
    """
    drop = override("drop", name)
    others = f"{override('categorical', name)} or {drop}"
    if not column[is_used].notna().any():
        raise DatasetError(key_of(name), "no value in any row that has a target", "at least one value", drop)
    first = column.dropna().iloc[0]
    if np.ndim(first) != 0 or isinstance(first, bytes | dict | list | pd.Timedelta):
        expected = "numbers, text, truth values or dates"
        raise DatasetError(key_of(name), f"a {type(first).__name__}", expected, drop)
    if not is_categorical:
        numbers = parse_numbers(name, column, others)
        if numbers is not None:
            return Feature(numbers, Column(name))
        days = parse_days(name, column, others)
        if days is not None:
            return Feature(days, Column(name), (f"{name}: days since 1970-01-01",))
    values, labels = parse_categories(column)
    are_unique = len(labels) > len(column) / 2 and len(column) > MOST_CLASSES
    notes = (f"{name}: {len(labels):,} categories, almost every value is unique",) if are_unique else ()
    return Feature(values, Column(name, labels), notes)


def parse_target(name: str, column: pd.Series[Any], task: str | None, is_used: Array) -> Target:
    """Convert the target column to class numbers or real values.

    Args:
        task: ``classification`` or ``regression``; None treats text, truth values and few integers as classes.
        is_used: of shape ``(n,)``, which rows have a target; the others get -1 or NaN.

    Raises:
        DatasetError: if it has a single class, almost a class per row, or text in a regression.
    """
    or_else = f"dataset.task=classification, or another target than {name}"
    numbers = parse_numbers(name, column, or_else, is_strict=task != "classification")
    if numbers is None and task == "regression":
        first = to_texts(column)[is_used].iloc[0]
        raise DatasetError("dataset.task", task, f"numbers in {name}, which has {first!r}", "dataset.task=null")
    if numbers is not None:
        distinct = np.unique(numbers[is_used])
        are_few = len(distinct) <= min(MOST_CLASSES, max(2, is_used.sum() // 5))
        if task == "regression" or (task is None and not (are_few and np.all(distinct % 1 == 0))):
            return Target(numbers)
        labels = tuple(format_label(number) for number in distinct)
        values: Array = np.searchsorted(distinct, numbers).astype("float64")
    else:
        values, labels = parse_categories(column)
    n = int(is_used.sum())
    if len(labels) < 2:
        raise DatasetError(key_of(name), f"one class, {labels[0]}", "at least two classes", "another dataset.target")
    if len(labels) > max(2, n / 2):
        expected = "classes with several rows each"
        fix = f"another dataset.target, or{' dataset.task=regression' if numbers is not None else ' more rows'}"
        raise DatasetError(key_of(name), f"{len(labels):,} classes in {n:,} rows", expected, fix)
    return Target(np.where(is_used, values, -1).astype("int64"), labels)


def parse_times(name: str, column: pd.Series[Any], is_used: Array) -> Array:
    """Convert a column of dates or numbers to numbers that rows can be sorted by.

    Raises:
        DatasetError: if a used row has no value, or the values are neither dates nor numbers.
    """
    or_else = "another column: dataset.time=COLUMN"
    _require_all(name, column, is_used, "time")
    found = parse_numbers(name, column, or_else)
    found = parse_days(name, column, or_else) if found is None else found
    if found is None:
        first = to_texts(column)[is_used].iloc[0]
        raise DatasetError("dataset.time", f"{name}, which has {first!r}", "dates or numbers", or_else)
    return found


def parse_groups(name: str, column: pd.Series[Any], is_used: Array) -> Array:
    """Number the groups of a column; rows that are not used get -1.

    Raises:
        DatasetError: if a used row has no value, or there are fewer than two groups.
    """
    _require_all(name, column, is_used, "groups")
    members = parse_categories(column)[0]
    if len(np.unique(members[is_used])) < 2:
        raise DatasetError("dataset.groups", f"{name}, one group", "at least two groups", "dataset.groups=null")
    return np.where(is_used, members, -1).astype("int64")


def _require_all(name: str, column: pd.Series[Any], is_used: Array, key: str) -> None:
    is_missing = is_used & column.isna().to_numpy()
    if is_missing.any():
        found = f"{name}, no value in row {int(np.argmax(is_missing)) + 1}"
        raise DatasetError(f"dataset.{key}", found, "a value in every row", f"add it, or dataset.{key}=null")
