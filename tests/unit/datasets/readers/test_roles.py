from typing import Any

import numpy as np
import pandas as pd
import pytest

from hpo.datasets.base import Column
from hpo.datasets.readers import roles
from hpo.errors import DatasetError


def column(*values: Any) -> "pd.Series[Any]":
    return pd.Series(list(values), dtype="object")


ALL = np.ones(4, bool)


def test_feature_is_numbers_days_or_categories() -> None:
    numbers = roles.parse_feature("n", column("1", "2.5", None, "4"), ALL, False)
    assert np.array_equal(numbers.values, [1, 2.5, np.nan, 4], equal_nan=True)
    assert (numbers.column, numbers.notes) == (Column("n"), ())
    days = roles.parse_feature("d", column("1970-01-03", "1970-01-01", None, "1970-01-02"), ALL, False)
    assert np.array_equal(days.values, [2, 0, np.nan, 1], equal_nan=True)
    assert days.notes == ("d: days since 1970-01-01",)
    categories = roles.parse_feature("c", column("10", "9", None, "9"), ALL, True)
    assert np.array_equal(categories.values, [1, 0, np.nan, 0], equal_nan=True)
    assert categories.column == Column("c", ("9", "10"))


def test_note_says_if_almost_every_category_is_unique() -> None:
    made = roles.parse_feature("id", column(*(f"n{place}" for place in range(30))), np.ones(30, bool), False)
    assert made.notes == ("id: 30 categories, almost every value is unique",)


def test_feature_without_values_in_used_rows_is_refused() -> None:
    with pytest.raises(DatasetError, match="no value in any row"):
        roles.parse_feature("n", column("1", None, None, None), ALL & [False, True, True, True], False)


def test_target_of_unused_rows_is_minus_1() -> None:
    target = roles.parse_target("t", column("a", "b", None, "a"), None, np.array([True, True, False, True]))
    assert (target.y.tolist(), target.class_names) == ([0, 1, -1, 0], ("a", "b"))


def test_target_without_class_names_is_a_regression() -> None:
    target = roles.parse_target("t", column("1.5", "2", "3", "4"), None, ALL)
    assert (target.y.tolist(), target.class_names) == ([1.5, 2, 3, 4], ())


def test_times_sort_numbers_and_dates() -> None:
    assert np.argsort(roles.parse_times("t", column("3", "1", "2", "4"), ALL)).tolist() == [1, 2, 0, 3]
    dates = column("2024-02-01", "2023-01-01", "2024-01-01", "2025-01-01")
    assert np.argsort(roles.parse_times("t", dates, ALL)).tolist() == [1, 2, 0, 3]
    with pytest.raises(DatasetError, match="dates or numbers"):
        roles.parse_times("t", column("noon", "one", "two", "three"), ALL)


def test_groups_are_numbered_and_every_used_row_needs_one() -> None:
    members = column("b", "a", None, "b")
    assert roles.parse_groups("g", members, np.array([True, True, False, True])).tolist() == [1, 0, -1, 1]
    with pytest.raises(DatasetError, match="no value in row 3"):
        roles.parse_groups("g", members, ALL)
    with pytest.raises(DatasetError, match="at least two groups"):
        roles.parse_groups("g", column("a", "a", "a", "a"), ALL)
