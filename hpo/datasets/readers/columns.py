"""Columns of a table as numbers: numbers, dates as days, and indices of categories."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from hpo.datasets.base import Array
from hpo.errors import DatasetError

# Share of numbers from which on the other entries of a column are errors.
LEAST_NUMBERS = 0.9
_DATE = r"(?:\d{4}[-/.]\d{1,2}(?:[-/.]\d{1,2})?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})(?:[ T].*)?"
_EPOCH = pd.Timestamp(0, tz="UTC")


def key_of(name: str) -> str:
    """Return the name of a column in error messages."""
    return f"dataset, column {name}"


def override(key: str, name: str) -> str:
    """Return the override that sets an option to a list of one name, quoted for a shell."""
    is_plain = re.fullmatch(r"[\w./?%*@+-]+", name)
    return f"dataset.{key}=[{name}]" if is_plain else f"'dataset.{key}=[\"{name}\"]'"


def parse_numbers(name: str, column: pd.Series[Any], or_else: str, is_strict: bool = True) -> Array | None:
    """Convert a column to ``float64`` with NaN for missing entries; return None if it does not hold numbers.

    Args:
        or_else: another fix for an entry that is not a number, in words.
        is_strict: whether a column of numbers with a few other entries is refused; otherwise None is returned.

    Raises:
        DatasetError: for the first entry of such a column that is not a number, and for infinite numbers.
    """
    if _is_boolean(column) or pd.api.types.is_datetime64_any_dtype(column.dtype):
        return None
    if pd.api.types.is_numeric_dtype(column.dtype):
        values: Array = column.to_numpy(dtype="float64", na_value=np.nan)
    else:
        given = column.notna().to_numpy()
        texts = to_texts(column)
        parsed: Array = np.asarray(pd.to_numeric(texts.where(given), errors="coerce"), dtype="float64")
        is_bad = given & np.isnan(parsed)
        if is_bad.sum() > (1 - LEAST_NUMBERS) * given.sum() or (is_bad.any() and not is_strict):
            return None
        if is_bad.any():
            row = int(np.argmax(is_bad))
            found = texts.iloc[row]
            share = 1 - is_bad.sum() / given.sum()
            expected = f"numbers, as in {share:.1%} of its entries; {is_bad.sum()} are not"
            fix = f"correct it, {override('missing_values', found)}, or {or_else}"
            raise DatasetError(key_of(name), f"{found!r} in row {row + 1}", expected, fix)
        values = parsed
    if np.isinf(values).any():
        row = int(np.argmax(np.isinf(values)))
        fix = f"correct it, {override('missing_values', to_texts(column).iloc[row])}, or {or_else}"
        raise DatasetError(key_of(name), f"{values[row]} in row {row + 1}", "finite numbers", fix)
    return values


def parse_days(name: str, column: pd.Series[Any], or_else: str) -> Array | None:
    """Convert dates to days since 1970-01-01, with NaN for missing entries; return None if the column has no dates.

    Raises:
        DatasetError: for dates that are not written as year-month-day, since they would be ambiguous.
    """
    given = column.notna().to_numpy()
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        moments = pd.to_datetime(column, utc=True)
    else:
        texts = to_texts(column)
        if texts[given].str.fullmatch(_DATE).mean() < LEAST_NUMBERS:
            return None
        moments = pd.to_datetime(texts.where(given), format="ISO8601", errors="coerce", utc=True)
        is_bad = given & moments.isna().to_numpy()
        if is_bad.any():
            row = int(np.argmax(is_bad))
            expected = "dates as year-month-day, such as 2024-12-31"
            raise DatasetError(
                key_of(name), f"{texts.iloc[row]!r} in row {row + 1}", expected, f"use that format, or {or_else}"
            )
    days: Array = ((moments - _EPOCH) / pd.Timedelta(days=1)).to_numpy(dtype="float64")
    return days


def parse_categories(column: pd.Series[Any]) -> tuple[Array, tuple[str, ...]]:
    """Return the index of every entry's category, NaN for a missing one, and the categories in order.

    Categories are in numerical order if all are numbers, else in alphabetical order.
    """
    given = column.notna().to_numpy()
    texts = to_texts(column)
    labels = sorted(set(texts[given]))
    as_numbers = np.asarray(pd.to_numeric(pd.Series(labels, dtype="object"), errors="coerce"), dtype="float64")
    if not np.isnan(as_numbers).any():
        labels = [labels[place] for place in np.argsort(as_numbers, kind="stable")]
    places = pd.Index(labels, dtype="object").get_indexer(pd.Index(texts))
    return np.where(given, places, np.nan), tuple(labels)


def format_label(number: float) -> str:
    """Return a number as the name of a class."""
    return str(int(number)) if float(number).is_integer() else str(float(number))


def to_texts(column: pd.Series[Any]) -> pd.Series[Any]:
    """Convert every entry to text; the text of a missing entry has no meaning."""
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        numbers = column.to_numpy(dtype="float64", na_value=np.nan)
        found = [
            "" if np.isnan(number) else format_label(number) if np.isfinite(number) else str(number)
            for number in numbers
        ]
        return pd.Series(found, index=column.index, dtype="object")
    return pd.Series([str(entry) for entry in column.to_numpy(dtype="object")], index=column.index, dtype="object")


def _is_boolean(column: pd.Series[Any]) -> bool:
    return pd.api.types.infer_dtype(column, skipna=True) == "boolean"
