"""Digits in the format of Kaggle's digit recognizer, ``train.csv``: a label and 784 pixels a row.

https://www.kaggle.com/c/digit-recognizer/data
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from hpo.datasets.base import Dataset
from hpo.datasets.splits import TEST_FRACTION, split_off_test
from hpo.errors import DatasetError, first_line

SIDE = 28
_COLUMNS = SIDE * SIDE + 1


def load(path: str) -> Dataset:
    """Load images of shape (28, 28, 1), pixels 0 to 255, labels 0 to 9.

    The test split is a stratified fifth, the same rows every time, since the file has none of its own.

    Args:
        path: a CSV file with a header; a row is a label and the 784 pixels from left to right, top to bottom.

    Raises:
        DatasetError: if the file cannot be read, has another number of columns, no header, fewer than two rows of a
            label, or numbers that are neither labels nor pixels.
    """
    table = _read(path)
    if table.shape[1] != _COLUMNS:
        raise _error(f"{path} with {table.shape[1]} columns", f"{_COLUMNS}: a label, then {SIDE}×{SIDE} pixels")
    if all(str(name).partition(".")[0].isdigit() for name in table.columns):
        raise _error(f"{path}, first line is numbers", "a header: label,pixel0,pixel1,…")
    for place, name in enumerate(table.columns):
        values = pd.to_numeric(table[name], errors="coerce").to_numpy("float64")
        most = 9 if place == 0 else 255
        wrong = ~((values >= 0) & (values <= most) & (values == np.floor(values)))
        if wrong.any():
            row = int(wrong.argmax())
            found = f"{table[name].iloc[row]} in column {name}, line {row + 2} of {path}"
            raise _error(found, f"{'labels' if place == 0 else 'pixels'}: whole numbers from 0 to {most}")
    numbers = table.to_numpy("float64").astype("uint8")
    labels = numbers[:, 0].astype("int64")
    classes, counts = np.unique(labels, return_counts=True)
    if not len(classes) or counts.min() < 2 or round(len(labels) * TEST_FRACTION) < len(classes):
        found = f"{path} with {len(labels)} rows of {len(classes)} labels"
        raise _error(found, "at least two rows of every label, and five rows a label on average")
    images = numbers[:, 1:].reshape(-1, SIDE, SIDE, 1)
    x, y, x_test, y_test = split_off_test(images, labels)
    return Dataset("mnist_csv", x, y, x_test, y_test, source=f"the file {Path(path).name}")


def _read(path: str) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows with more values than the header
            return pd.read_csv(path, index_col=False, low_memory=False)
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        raise _error(f"{path} ({first_line(error)})", "a CSV file that can be read") from error


def _error(found: str, expected: str) -> DatasetError:
    return DatasetError("dataset.path", found, expected, "correct the file, or dataset.path=another.csv")
