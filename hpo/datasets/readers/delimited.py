"""Delimited text files, CSV and the like: their values as they are written there."""

from __future__ import annotations

import csv
from collections.abc import Iterable

import pandas as pd

from hpo.errors import DatasetError


def separator_of(given: str) -> str:
    """The character between values.

    Raises:
        DatasetError: for anything but one character, ``tab`` or ``\\t``.
    """
    mark = {"tab": "\t", r"\t": "\t"}.get(given, given)
    if not isinstance(mark, str) or len(mark) != 1:
        raise DatasetError("dataset.separator", given, "a single character, or tab", "dataset.separator=';'")
    return mark


def read(
    key: str, path: str, separator: str, encoding: str, quoted: bool, columns: Iterable[tuple[str, str]]
) -> pd.DataFrame:
    """All columns of a file with a header, as text.

    Args:
        key: option of the dataset that names the file.
        separator: a single character; a tab may be written ``tab`` or ``\\t``.
        quoted: whether ``"`` encloses values.
        columns: options of the dataset, each with the column that it names.

    Raises:
        DatasetError: for a file that cannot be read or lacks one of the columns.
    """
    mark = separator_of(separator)
    try:
        table = pd.read_csv(
            path,
            sep=mark,
            encoding=encoding,
            dtype=str,
            keep_default_na=False,
            index_col=False,
            quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        )
    except (UnicodeDecodeError, LookupError) as error:
        fix = "dataset.encoding=cp949 for older Korean files, cp1252 for western ones"
        raise DatasetError("dataset.encoding", encoding, f"the encoding of {path} ({error})", fix) from error
    except OSError as error:
        expected = f"a file that can be read ({error.strerror or error})"
        raise DatasetError(f"dataset.{key}", path, expected, f"dataset.{key}=/path/of/file.csv") from error
    except (ValueError, pd.errors.ParserWarning) as error:  # pandas's errors of reading are the former
        expected = f"lines of equally many values between {separator!r} ({str(error).strip()})"
        raise DatasetError(f"dataset.{key}", path, expected, "another dataset.separator, or mend the file") from error
    for option, column in columns:
        if column not in table.columns:
            found = ", ".join(str(each) for each in table.columns[:20])
            fix = f"dataset.{option}={table.columns[-1]}, or another dataset.separator"
            raise DatasetError(f"dataset.{option}", column, f"a column of {path}: {found}", fix)
    return table
