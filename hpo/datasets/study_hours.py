"""A made-up example: hours of study and years of schooling of 48 people, and whether they passed an exam."""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from hpo.datasets.base import Column, Dataset

TEST_EVERY = 4


def load() -> Dataset:
    """Load 36 training and 12 test rows: hours of study a week and years of schooling; label 1 is a pass.

    The rows are included in hpo. The test split is every fourth row.
    """
    text = files("hpo.datasets").joinpath("study_hours.csv").read_text(encoding="utf-8")
    rows = np.loadtxt(text.splitlines(), delimiter=",", skiprows=1)
    x, y = rows[:, :2], rows[:, 2].astype("int64")
    is_test = np.arange(len(rows)) % TEST_EVERY == TEST_EVERY - 1
    columns = (Column("hours"), Column("years"))
    return Dataset(
        "study_hours",
        x[~is_test],
        y[~is_test],
        x[is_test],
        y[is_test],
        source="hpo.datasets, study_hours.csv",
        columns=columns,
        class_names=("fail", "pass"),
    )
