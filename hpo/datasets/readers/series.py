"""Time series from CSV files: steps in order of time, without missing values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hpo.datasets.base import Array
from hpo.datasets.readers import delimited
from hpo.errors import DatasetError, first_line

FILLS = ("previous",)
_MISSING = ("", "na", "n/a", "nan", "null", "none", "?")


@dataclass(frozen=True)
class Series:
    """Steps in order of time.

    Args:
        inputs: of shape ``(n_steps, n_features)``.
        target: of shape ``(n_steps,)``.
        source: where they come from and what was changed, in words.
    """

    inputs: Array
    target: Array
    source: str


def read_series(
    path: str,
    target: str,
    features: Sequence[str] | None = None,
    time: str | None = None,
    time_format: str | None = None,
    fill: str | None = None,
    separator: str = ",",
    encoding: str = "utf-8",
) -> Series:
    """Read the columns of a time series as ``float64``.

    Args:
        path: a CSV file with a header.
        target: the target column.
        features: columns of the inputs; the target, if it is one of them, comes first. None: the target alone.
        time: column of dates or numbers to sort the rows by; None keeps their order.
        time_format: of dates that are not ISO 8601, as in ``datetime.strptime``.
        fill: ``previous`` replaces a missing value by the one before; None refuses missing values.

    Raises:
        DatasetError: if the file cannot be read, lacks a column, has a value that is not a number, or a time twice.
    """
    if fill is not None and fill not in FILLS:
        raise DatasetError("dataset.fill", fill, f"{', '.join(FILLS)} or null", "dataset.fill=previous")
    if features is not None and (isinstance(features, str) or not features or len(set(features)) < len(features)):
        expected = "a list of different columns, or null for the target"
        raise DatasetError("dataset.features", features, expected, f"'dataset.features=[{target}]'")
    named = [("target", target), *(("features", name) for name in features or ())]
    all_named = [*named, *([("time", time)] if time is not None else [])]
    table = delimited.read("path", path, separator, encoding, True, all_named)
    source = Path(path).name
    order = np.arange(len(table))
    if time is not None:
        order = order_by_time(table[time], time, time_format)
        if (np.diff(order) != 1).any():
            source += f", sorted by {time}"
    columns = {name: _numbers(table[name].iloc[order], key, name) for key, name in named}
    n_filled = sum(_fill(columns[name], order, key, name, fill) for key, name in named)
    if n_filled:
        source += f", {n_filled} missing value{'s' * (n_filled != 1)} replaced by the one before"
    shown = sorted(features or [target], key=lambda name: name != target)
    return Series(np.stack([columns[name] for name in shown], axis=1), columns[target], source)


def order_by_time(values: pd.Series[str], name: str, time_format: str | None = None) -> Array:
    """Return the rows in order of time.

    Args:
        values: numbers or dates, as text.
        name: of their column, for messages.
        time_format: of the dates, as in ``datetime.strptime``; None reads ISO 8601.

    Raises:
        DatasetError: if a row has no time, or the time of another row, or a value is neither a number nor a date.
    """
    try:
        times = pd.to_numeric(values) if time_format is None else None
    except ValueError:
        times = None
    if times is None:
        try:
            times = pd.to_datetime(values, format=time_format or "ISO8601", utc=True)
        except ValueError as error:
            expected = f"numbers, or dates like {time_format or '1981-01-31 12:00'} ({first_line(error)})"
            fix = "dataset.time_format=%d.%m.%Y, or correct the file"
            raise DatasetError("dataset.time", name, expected, fix) from error
    if times.isna().any():
        row = _row(int(np.flatnonzero(times.isna())[0]))
        raise DatasetError("dataset.time", f"{name}, no value {row}", "a time in every row", "correct the file")
    if times.duplicated().any():
        place = int(np.flatnonzero(times.duplicated())[0])
        given = f"{name}, with {values.iloc[place]} again {_row(place)}"
        raise DatasetError("dataset.time", given, "every time once", "one file per series, or combine the rows")
    order: Array = np.argsort(times.to_numpy(), kind="stable")
    return order


def _numbers(values: pd.Series[str], key: str, name: str) -> Array:
    """Convert to float64, with NaN for missing values."""
    found = np.empty(len(values))
    for place, (row, value) in enumerate(values.items()):
        text = value.strip()
        try:
            found[place] = math.nan if text.lower() in _MISSING else float(text)
        except ValueError:
            found[place] = math.inf
        if math.isinf(found[place]):
            given = f"{name}, with {value!r} {_row(int(str(row)))}"
            raise DatasetError(f"dataset.{key}", given, "numbers", "another column, or correct the file")
    return found


def _fill(values: Array, order: Array, key: str, name: str, fill: str | None) -> int:
    """Fill missing values in place and return how many there were."""
    is_missing = np.isnan(values)
    if not is_missing.any():
        return 0
    first = int(np.flatnonzero(is_missing)[0])
    given = f"{name}, with no value {_row(int(order[first]))} and {int(is_missing.sum())} missing in all"
    if fill is None:
        raise DatasetError(f"dataset.{key}", given, "a number in every row", "dataset.fill=previous")
    if is_missing[0]:
        raise DatasetError(f"dataset.{key}", given, "a number in the earliest row", "remove the rows before the first")
    known = np.where(is_missing, 0, np.arange(len(values)))
    values[:] = values[np.maximum.accumulate(known)]
    return int(is_missing.sum())


def _row(row: int) -> str:
    """Name a row, counted from 1 after the header."""
    return f"in row {row + 1}"
