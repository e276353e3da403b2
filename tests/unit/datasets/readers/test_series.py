from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpo.datasets.readers.series import order_by_time, read_series
from hpo.errors import DatasetError


def write(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_columns_are_read_in_order_of_time_with_the_target_first(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "day,x,y", "2024-01-02,2,20", "2024-01-01,1,10", "2024-01-03,3,30")
    series = read_series(path, "y", ["x", "y"], "day")
    assert series.inputs.tolist() == [[10, 1], [20, 2], [30, 3]]
    assert series.target.tolist() == [10, 20, 30]
    assert series.source == "a.csv, sorted by day"


def test_missing_values_are_filled_after_sorting(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "t,y", "3,", "1,10", "2,20")
    series = read_series(path, "y", time="t", fill="previous")
    assert series.target.tolist() == [10, 20, 20]
    assert series.source.endswith("1 missing value replaced by the one before")
    with pytest.raises(DatasetError, match="no value in row 1 and 1 missing in all"):
        read_series(path, "y", time="t")


def test_order_by_time_takes_numbers_and_dates() -> None:
    assert order_by_time(pd.Series(["10", "9", "11"]), "t").tolist() == [1, 0, 2]
    assert order_by_time(pd.Series(["2.1.2024", "1.2.2024", "1.1.2024"]), "t", "%d.%m.%Y").tolist() == [2, 0, 1]
    assert np.array_equal(order_by_time(pd.Series(["2024-01-01T01:00+02:00", "2024-01-01T00:00+00:00"]), "t"), [0, 1])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["1", "1"], "1 again in row 2"),
        (["2024-01-01", ""], "no value in row 2"),
        (["noon", "1"], "numbers, or dates"),
    ],
)
def test_unusable_times_are_refused(values: list[str], message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        order_by_time(pd.Series(values), "t")
    assert caught.value.key == "dataset.time"
