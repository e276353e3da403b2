from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hpo.datasets import digits, mnist_csv
from hpo.errors import DatasetError

HEADER = ",".join(["label", *(f"pixel{place}" for place in range(784))])


def rows_of_digits(n: int) -> list[str]:
    """Real digits in Kaggle's format."""
    data = digits.load().with_images_of((28, 28, 1))
    return [",".join(map(str, [label, *image.ravel()])) for label, image in zip(data.y[:n], data.x[:n], strict=True)]


@pytest.fixture(scope="module")
def rows() -> list[str]:
    return rows_of_digits(200)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    def to_file(*lines: str) -> str:
        path = tmp_path / "train.csv"
        path.write_text("\n".join(lines) + "\n")
        return str(path)

    return to_file


def test_rows_become_images_with_a_fixed_test_split(rows: list[str], write: Callable[..., str]) -> None:
    path = write(HEADER, *rows)
    data = mnist_csv.load(path)
    assert data.name == "mnist_csv"
    assert (data.x.shape, data.x_test.shape) == ((160, 28, 28, 1), (40, 28, 28, 1))
    assert data.x.dtype == np.uint8
    assert data.digest == mnist_csv.load(path).digest
    assert set(data.y_test) == set(range(10))
    # Every image is one of the file's, with its label.
    originals = {tuple(map(int, row.split(","))) for row in rows}
    for x, y in ((data.x, data.y), (data.x_test, data.y_test)):
        assert {(label, *image.ravel()) for label, image in zip(y, x, strict=True)} <= originals


def put(row: str, place: int, value: str) -> str:
    fields = row.split(",")
    fields[place] = value
    return ",".join(fields)


@pytest.mark.parametrize(
    ("change", "found", "expected"),
    [
        (lambda rows: [HEADER, *(row.rpartition(",")[0] for row in rows)], "nan in column pixel783", "0 to 255"),
        (lambda rows: [HEADER.rpartition(",")[0], *(row.rpartition(",")[0] for row in rows)], "784 columns", "785"),
        (lambda rows: [HEADER, rows[0] + ",0", *rows[1:]], "train.csv", "can be read"),
        (lambda rows: rows, "first line is numbers", "a header"),
        (lambda rows: [HEADER, rows[0], put(rows[1], 7, "256"), *rows[2:]], "256 in column pixel6, line 3", "0 to 255"),
        (lambda rows: [HEADER, put(rows[0], 5, "-1"), *rows[1:]], "-1 in column pixel4, line 2", "0 to 255"),
        (lambda rows: [HEADER, put(rows[0], 5, "0.5"), *rows[1:]], "0.5 in column pixel4", "whole numbers"),
        (lambda rows: [HEADER, put(rows[0], 5, "x"), *rows[1:]], "x in column pixel4", "whole numbers"),
        (lambda rows: [HEADER, put(rows[0], 0, "10"), *rows[1:]], "10 in column label", "0 to 9"),
        (lambda rows: [HEADER, *rows[:12]], "12 rows", "two rows of every label"),
        (lambda rows: [HEADER], "0 rows", "two rows of every label"),
        (lambda rows: [""], "train.csv", "can be read"),
    ],
)
def test_unusable_file_is_refused_with_its_fault(
    change: Callable[[list[str]], list[str]], found: str, expected: str, rows: list[str], write: Callable[..., str]
) -> None:
    with pytest.raises(DatasetError) as caught:
        mnist_csv.load(write(*change(rows)))
    assert caught.value.key == "dataset.path"
    assert found in str(caught.value.value)
    assert expected in caught.value.expected


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"absent\.csv"):
        mnist_csv.load(str(tmp_path / "absent.csv"))
