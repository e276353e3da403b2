"""Delimited text files such as CSV: values as text, and errors that name the option to change."""

from __future__ import annotations

import csv
import lzma
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from hpo.errors import DatasetError

# Raised, besides OSError, for a file that is not compressed as its name says, or has an unclosed quote.
_BROKEN = (ValueError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)


def parse_separator(given: str) -> str:
    """Return the character between values.

    Raises:
        DatasetError: if ``given`` is not a single character, ``tab`` or ``\\t``.
    """
    mark = {"tab": "\t", r"\t": "\t"}.get(given, given)
    if not isinstance(mark, str) or len(mark) != 1:
        raise DatasetError("dataset.separator", given, "a single character, or tab", "dataset.separator=';'")
    return mark


@contextmanager
def reading(key: str, path: str | Path, encoding: str) -> Iterator[None]:
    """Turn the errors of pandas' readers into errors that name an option, and refuse lines that are too long.

    Args:
        key: the option of the dataset that names the file.
        path: the file, for messages.
        encoding: the encoding that it is read with, for messages.

    Raises:
        DatasetError: for an error of reading, including ``OSError``.
    """
    option = f"dataset.{key}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # lines with more values than the first one
            yield
    except pd.errors.EmptyDataError as error:
        raise DatasetError(option, f"{path}, empty", "a table", "another file") from error
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        expected = f"the same number of values in every line ({str(error).strip()})"
        raise DatasetError(option, path, expected, "correct the line, or dataset.separator=';'") from error
    except LookupError as error:
        expected = f"the encoding of {path}, by a name that Python knows"
        raise DatasetError("dataset.encoding", encoding, expected, "dataset.encoding=utf-8") from error
    except UnicodeError as error:
        other = "latin-1" if encoding.lower().replace("-", "") == "utf8" else "utf-8"
        fix = f"dataset.encoding={other}; or cp949 for older Korean files, cp1252 for western ones"
        raise DatasetError("dataset.encoding", encoding, f"the encoding of {path} ({error})", fix) from error
    except OSError as error:
        expected = f"a file that can be read ({error.strerror or error})"
        raise DatasetError(option, path, expected, f"{option}=/path/of/file.csv") from error
    except _BROKEN as error:
        raise DatasetError(option, path, f"a CSV file ({str(error).strip()})", "correct the file") from error


def read(
    key: str, path: str, separator: str, encoding: str, quoted: bool, columns: Iterable[tuple[str, str]]
) -> pd.DataFrame:
    """Read all columns of a file with a header, as text.

    Args:
        key: the option of the dataset that names the file.
        separator: a single character; a tab may be written ``tab`` or ``\\t``.
        quoted: whether ``"`` encloses values.
        columns: options of the dataset, each with the column that it names.

    Raises:
        DatasetError: if the file cannot be read or lacks one of the columns.
    """
    mark = parse_separator(separator)
    with reading(key, path, encoding):
        table = pd.read_csv(
            path,
            sep=mark,
            encoding=encoding,
            dtype=str,
            keep_default_na=False,
            index_col=False,
            quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        )
    for option, column in columns:
        if column not in table.columns:
            found = ", ".join(str(each) for each in table.columns[:20])
            fix = f"dataset.{option}={table.columns[-1]}, or another dataset.separator"
            raise DatasetError(f"dataset.{option}", column, f"a column of {path}: {found}", fix)
    return table
