"""A time series of your own from a CSV file, as windows of the past with the value that follows each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hpo.datasets.base import Array, Dataset
from hpo.datasets.readers.series import read_series
from hpo.datasets.splits import check_test_fraction
from hpo.errors import DatasetError

# Training windows: fewer leave nothing to validate with.
LEAST_ROWS = 10


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
    """Load windows of shape (window, n_features), each with the target ``horizon`` steps after its last step.

    Rows are steps of equal length in order of time. The latest windows are the test split. They may start in the
    training period, since its values are known by then. ``horizon - 1`` rows between both parts are left out, so that
    no training target lies after the last step of the first test window.

    Args:
        path: a CSV file with a header.
        target: the column to predict.
        features: columns of a window; the target, if it is one of them, comes first. None: the target alone.
        time: column of dates (ISO 8601, or ``time_format``) or numbers to sort the rows by; None keeps their order.
        time_format: of dates, as in ``datetime.strptime``.
        window: steps that a model sees.
        horizon: steps from the end of a window to its target.
        test_fraction: share of the windows in the test split, the latest ones.
        fill: ``previous`` replaces a missing value by the one before; None refuses missing values.

    Raises:
        DatasetError: if the file cannot be read, lacks a column, has a value that is not a number, a time twice, or
            too few rows.
    """
    series = read_series(path, target, features, time, time_format, fill, separator, encoding)
    train, test = _split(len(series.target), window, horizon, test_fraction)
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
    """Return ``mae`` and ``rmse`` of naive forecasts on the test split, to compare a model with.

    ``last_value`` repeats the last step of a window; ``seasonal`` repeats the latest known step that is a whole number
    of seasons before the target (Hyndman and Athanasopoulos, *Forecasting*, 5.2).

    Args:
        season: steps of a season; None omits the seasonal forecast.
        options: see :func:`load`, as for the other arguments.

    Raises:
        DatasetError: as :func:`load`, or if the season is longer than the steps before the test split.
    """
    values = read_series(path, target, **options).target
    _, test = _split(len(values), window, horizon, test_fraction)
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


def _split(n_steps: int, window: int, horizon: int, test_fraction: float) -> tuple[Array, Array]:
    """Return the indices of the training windows and of the test windows."""
    for name, value, default in (("window", window, 24), ("horizon", horizon, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise DatasetError(f"dataset.{name}", value, "a whole number of at least 1", f"dataset.{name}={default}")
    check_test_fraction(test_fraction)
    n = n_steps - window - horizon + 1
    n_test = max(1, round(n * test_fraction))
    n_train = n - n_test - (horizon - 1)
    if n_train < LEAST_ROWS:
        expected = f"at least {LEAST_ROWS} training windows; {n_steps} steps make {max(0, n_train)}"
        given = f"{window}, with dataset.horizon = {horizon} and dataset.test_fraction = {test_fraction}"
        raise DatasetError("dataset.window", given, expected, "a shorter window or horizon, or more rows")
    return np.arange(n_train), np.arange(n - n_test, n)
