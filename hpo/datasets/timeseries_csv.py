"""A time series of your own from a CSV file, as windows of the past and the value that follows each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hpo.datasets.base import Array, Dataset
from hpo.datasets.readers import delimited
from hpo.errors import DatasetError

FILLS = ("previous",)
# Windows to train on: fewer leave nothing to validate by.
LEAST_ROWS = 10
_MISSING = ("", "na", "n/a", "nan", "null", "none", "?")


@dataclass(frozen=True)
class _Series:
    """Steps in the order of time.

    Args:
        inputs: of shape ``(n_steps, n_features)``.
        target: of shape ``(n_steps,)``.
        source: in words.
    """

    inputs: Array
    target: Array
    source: str


def load(
    path: str,
    target: str,
    features: Sequence[str] | None = None,
    time: str | None = None,
    *,
    time_format: str | None = None,
    window: int = 24,
    horizon: int = 1,
    test_fraction: float = 0.2,
    fill: str | None = None,
    separator: str = ",",
    encoding: str = "utf-8",
) -> Dataset:
    """Windows of shape (window, n_features), and the target ``horizon`` steps after the last step of each.

    Rows are steps of equal length in the order of time. The latest windows are the test split. They may begin in the
    training period, whose values are known by then; but no target of a training row lies after the last step that the
    first test window sees, for which ``horizon - 1`` rows between them are left out.

    Args:
        path: of a CSV file with a header.
        target: column to be predicted.
        features: columns that a window shows; the target, if it is among them, comes first. None is the target alone.
        time: column with dates (ISO 8601, or ``time_format``) or numbers to sort the rows by; None takes their order.
        time_format: of dates, as in ``datetime.strptime``.
        window: steps that a model sees.
        horizon: steps ahead that it predicts.
        test_fraction: share of the windows, the latest ones, that is the test split.
        fill: ``previous`` gives a missing value the one before; None refuses missing values.

    Raises:
        DatasetError: for a file that cannot be read, lacks a column, holds what is no number, a time twice, or too
            few rows.
    """
    series = _series(path, target, features, time, time_format, fill, separator, encoding)
    train, test = _rows(len(series.target), window, horizon, test_fraction)
    # Of shape (n_windows, window, n_features); the last ones have no target.
    windows = np.lib.stride_tricks.sliding_window_view(series.inputs, window, axis=0).transpose(0, 2, 1)
    ahead = window - 1 + horizon
    return Dataset(
        "timeseries_csv",
        windows[train].astype("float32"),
        series.target[train + ahead],
        windows[test].astype("float32"),
        series.target[test + ahead],
        source=series.source,
        gap=horizon - 1,
    )


def naive_errors(
    path: str,
    target: str,
    *,
    season: int | None = None,
    window: int = 24,
    horizon: int = 1,
    test_fraction: float = 0.2,
    **options: Any,
) -> dict[str, dict[str, float]]:
    """``mae`` and ``rmse`` on the test split of forecasts that learn nothing, to hold a model's against.

    ``last_value`` repeats the last step that a window shows; ``seasonal`` the latest known step that lies a whole
    number of seasons before the target (Hyndman and Athanasopoulos, *Forecasting*, 5.2).

    Args:
        season: steps of a season; None leaves the seasonal forecast out.
        options: these and the others are the arguments of :func:`load`.

    Raises:
        DatasetError: as :func:`load`, and for a season that is longer than what comes before the test split.
    """
    values = _series(path, target, **options).target
    _, test = _rows(len(values), window, horizon, test_fraction)
    seen = test + window - 1
    forecasts = {"last_value": values[seen]}
    if season is not None:
        back = math.ceil(horizon / season) * season if season > 0 else 0
        if not 0 < back <= seen[0] + horizon:
            expected = f"1 to {seen[0] + horizon} steps, those before the first test target"
            raise DatasetError("season", season, expected, f"season={min(12, seen[0] + horizon)}")
        forecasts["seasonal"] = values[seen + horizon - back]
    wrong = {name: forecast - values[seen + horizon] for name, forecast in forecasts.items()}
    return {
        name: {"mae": float(np.abs(error).mean()), "rmse": float(np.sqrt((error**2).mean()))}
        for name, error in wrong.items()
    }


def _rows(n_steps: int, window: int, horizon: int, test_fraction: float) -> tuple[Array, Array]:
    """Numbers of the windows to train on and of those to test by."""
    for name, value, default in (("window", window, 24), ("horizon", horizon, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise DatasetError(f"dataset.{name}", value, "a whole number of at least 1", f"dataset.{name}={default}")
    if isinstance(test_fraction, bool) or not 0 < test_fraction < 1:
        raise DatasetError(
            "dataset.test_fraction", test_fraction, "a share between 0 and 1", "dataset.test_fraction=0.2"
        )
    n = n_steps - window - horizon + 1
    n_test = max(1, round(n * test_fraction))
    n_train = n - n_test - (horizon - 1)
    if n_train < LEAST_ROWS:
        expected = f"at least {LEAST_ROWS} windows to train on, of which {n_steps} steps make {max(0, n_train)}"
        given = f"{window}, with dataset.horizon = {horizon} and dataset.test_fraction = {test_fraction}"
        raise DatasetError("dataset.window", given, expected, "a shorter window or horizon, or more rows")
    return np.arange(n_train), np.arange(n - n_test, n)


def _series(
    path: str,
    target: str,
    features: Sequence[str] | None = None,
    time: str | None = None,
    time_format: str | None = None,
    fill: str | None = None,
    separator: str = ",",
    encoding: str = "utf-8",
) -> _Series:
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
        order = _order(table[time], time, time_format)
        if (np.diff(order) != 1).any():
            source += f", sorted by {time}"
    columns = {name: _numbers(table[name].iloc[order], key, name) for key, name in named}
    n_filled = 0
    for key, name in named:
        n_filled += _fill(columns[name], order, key, name, fill) if name in columns else 0
    if n_filled:
        source += f", {n_filled} missing value{'s' * (n_filled != 1)} filled with the one before"
    shown = sorted(features or [target], key=lambda name: name != target)
    return _Series(np.stack([columns[name] for name in shown], axis=1), columns[target], source)


def _order(values: pd.Series[str], name: str, time_format: str | None) -> Array:
    """Rows in the order of time."""
    try:
        times = pd.to_numeric(values) if time_format is None else None
    except ValueError:
        times = None
    if times is None:
        try:
            times = pd.to_datetime(values, format=time_format or "ISO8601", utc=True)
        except ValueError as error:
            expected = f"numbers, or dates like {time_format or '1981-01-31 12:00'} ({str(error).splitlines()[0]})"
            raise DatasetError(
                "dataset.time", name, expected, "dataset.time_format=%d.%m.%Y, or mend the file"
            ) from error
    if times.isna().any():
        row = _line(int(np.flatnonzero(times.isna())[0]))
        raise DatasetError("dataset.time", f"{name}, with none {row}", "a time in every row", "mend the file")
    if times.duplicated().any():
        place = int(np.flatnonzero(times.duplicated())[0])
        given = f"{name}, with {values.iloc[place]} again {_line(place)}"
        raise DatasetError("dataset.time", given, "every time once", "one file a series, or take rows together")
    order: Array = np.argsort(times.to_numpy(), kind="stable")
    return order


def _numbers(values: pd.Series[str], key: str, name: str) -> Array:
    """As float64, missing values NaN."""
    found = np.empty(len(values))
    for place, (row, value) in enumerate(values.items()):
        text = value.strip()
        try:
            found[place] = math.nan if text.lower() in _MISSING else float(text)
        except ValueError:
            found[place] = math.inf
        if math.isinf(found[place]):
            given = f"{name}, with {value!r} {_line(int(str(row)))}"
            raise DatasetError(f"dataset.{key}", given, "numbers", "another column, or mend the file")
    return found


def _fill(values: Array, order: Array, key: str, name: str, fill: str | None) -> int:
    """Fill missing values in place, and say how many there were."""
    is_missing = np.isnan(values)
    if not is_missing.any():
        return 0
    first = int(np.flatnonzero(is_missing)[0])
    given = f"{name}, with no value {_line(int(order[first]))} and {int(is_missing.sum())} missing in all"
    if fill is None:
        raise DatasetError(f"dataset.{key}", given, "a number in every row", "dataset.fill=previous")
    if is_missing[0]:
        raise DatasetError(f"dataset.{key}", given, "a number in the earliest row", "remove the rows before the first")
    known = np.where(is_missing, 0, np.arange(len(values)))
    values[:] = values[np.maximum.accumulate(known)]
    return int(is_missing.sum())


def _line(row: int) -> str:
    """Where a row is in its file, counted from 1 after the header."""
    return f"in row {row + 1}"
