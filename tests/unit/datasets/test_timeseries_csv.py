import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import real_data

from hpo.datasets import timeseries_csv
from hpo.datasets.timeseries_csv import load, naive_errors
from hpo.errors import DatasetError
from hpo.evaluation.resampling import Holdout, TimeSeriesResampling

N_STEPS = 60


def write(path: Path, **changed: dict[int, str]) -> str:
    """Write a file in which ``sales`` is the step k and ``rain`` is 100 + k."""
    columns = {
        "day": [str(np.datetime64("2024-01-01") + k) for k in range(N_STEPS)],
        "sales": [str(k) for k in range(N_STEPS)],
        "rain": [str(100 + k) for k in range(N_STEPS)],
    }
    for name, values in changed.items():
        for row, value in values.items():
            columns[name][row] = value
    lines = [",".join(columns), *(",".join(row) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_target_follows_its_window_by_the_horizon(tmp_path: Path) -> None:
    data = load(write(tmp_path / "a.csv"), "sales", ["rain", "sales"], "day", window=5, horizon=3)
    assert data.x.shape[1:] == (5, 2)
    assert (data.x.dtype, data.y.dtype) == (np.float32, np.float64)
    assert data.is_regression
    # The target is feature 0 in any order of the names.
    assert data.x[0, :, 0].tolist() == [0, 1, 2, 3, 4]
    assert data.x[0, :, 1].tolist() == [100, 101, 102, 103, 104]
    for x, y in ((data.x, data.y), (data.x_test, data.y_test)):
        assert np.array_equal(y, x[:, -1, 0] + 3)
        assert (np.diff(y) == 1).all()
    assert data.y_test[-1] == N_STEPS - 1
    assert load(write(tmp_path / "a.csv"), "sales", ["rain"]).x[0, 0].tolist() == [100]


@pytest.mark.parametrize("horizon", [1, 4])
@pytest.mark.parametrize("resampling", [Holdout(0.2), TimeSeriesResampling(3)])
def test_training_targets_are_known_before_the_next_part_starts(
    tmp_path: Path, horizon: int, resampling: Holdout | TimeSeriesResampling
) -> None:
    data = load(write(tmp_path / "a.csv"), "sales", window=5, horizon=horizon)
    assert data.gap == horizon - 1
    # Values are steps: the last target of a part is no later than the last step of the next window.
    assert data.y[-1] == data.x_test[0, -1, 0]
    for split in resampling.splits(data.y, 0, None, data.gap):
        parts = [part for part in (split.train, split.watch, split.score) if part is not None]
        assert all((np.diff(part) == 1).all() for part in parts)
        for before, after in itertools.pairwise(parts):
            assert data.y[before[-1]] <= data.x[after[0], -1, 0]


def test_rows_are_sorted_by_time(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "a.csv"))
    straight = load(str(path), "sales", time="day")
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *reversed(lines)]) + "\n")
    turned = load(str(path), "sales", time="day")
    assert turned.digest == straight.digest
    assert turned.source == "a.csv, sorted by day"
    assert load(str(path), "sales").digest != straight.digest
    numbered = load(str(path), "sales", time="rain")
    assert numbered.digest == straight.digest


def test_dates_that_are_not_iso_8601_need_time_format(tmp_path: Path) -> None:
    days = {k: f"{1 + k % 28}.{1 + k // 28}.2024" for k in range(N_STEPS)}
    path = write(tmp_path / "a.csv", day=days)
    with pytest.raises(DatasetError, match="time_format"):
        load(path, "sales", time="day")
    assert load(path, "sales", time="day", time_format="%d.%m.%Y").x[0, 0, 0] == 0


def test_missing_values_are_refused_or_filled_from_the_step_before(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", sales={10: "", 11: "NA"}, rain={5: "?"})
    with pytest.raises(DatasetError, match="in row 11 and 2 missing") as caught:
        load(path, "sales")
    assert caught.value.key == "dataset.target"
    data = load(path, "sales", ["sales", "rain"], window=12, fill="previous")
    assert data.x[0, 9:, 0].tolist() == [9, 9, 9]
    assert data.x[0, 4:6, 1].tolist() == [104, 104]
    assert "3 missing values" in data.source
    with pytest.raises(DatasetError, match="earliest"):
        load(write(tmp_path / "a.csv", sales={0: ""}), "sales", fill="previous")


@pytest.mark.parametrize(
    ("options", "changed", "key", "message"),
    [
        ({"target": "x"}, {}, "target", "day, sales, rain"),
        ({"features": ["x"]}, {}, "features", "day, sales, rain"),
        ({"features": "rain"}, {}, "features", "a list"),
        ({"time": "x"}, {}, "time", "day, sales, rain"),
        ({"target": "day"}, {}, "target", "numbers"),
        ({}, {"sales": {7: "many"}}, "target", "'many' in row 8"),
        ({}, {"sales": {7: "inf"}}, "target", "'inf' in row 8"),
        ({"time": "day"}, {"day": {7: "2024-01-05"}}, "time", "2024-01-05 again in row 8"),
        ({"time": "day"}, {"day": {7: ""}}, "time", "in row 8"),
        ({"window": 50}, {}, "window", "at least 10 training windows"),
        ({"window": 0}, {}, "window", "at least 1"),
        ({"horizon": 0}, {}, "horizon", "at least 1"),
        ({"horizon": 40}, {}, "window", "horizon"),
        ({"test_fraction": 0}, {}, "test_fraction", "between 0 and 1"),
        ({"fill": "mean"}, {}, "fill", "previous"),
    ],
)
def test_unusable_file_or_option_is_refused(
    tmp_path: Path, options: dict[str, Any], changed: dict[str, dict[int, str]], key: str, message: str
) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        load(**{"path": write(tmp_path / "a.csv", **changed), "target": "sales", "window": 6, **options})
    assert caught.value.key == f"dataset.{key}"


def test_naive_forecasts_use_known_steps_only(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv")
    errors = naive_errors(path, "sales", horizon=3, window=5, season=2)
    # One season before the target is not known yet; two seasons before it is the step before the last known one.
    assert errors["last_value"] == {"mae": 3, "rmse": 3}
    assert errors["seasonal"] == {"mae": 4, "rmse": 4}
    with pytest.raises(DatasetError, match="season"):
        naive_errors(path, "sales", season=59)


def test_real_series_of_daily_temperatures() -> None:
    path = str(real_data("data/timeseries/daily-min-temperatures.csv"))
    data = load(path, "Temp", time="Date")
    assert (len(data.y), len(data.y_test), timeseries_csv.load(path, "Temp").digest) == (2901, 725, data.digest)
    errors = naive_errors(path, "Temp", time="Date", season=365)
    assert errors["last_value"]["mae"] == pytest.approx(np.abs(data.x_test[:, -1, 0] - data.y_test).mean())
