"""Tables from CSV and Parquet files."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hpo.datasets.readers.columns import to_texts
from hpo.datasets.readers.delimited import parse_separator, reading
from hpo.errors import DatasetError, first_line

_PARQUET = (".parquet", ".pq")
_TEXT = (".csv", ".tsv", ".txt", ".data", ".dat")
_COMPRESSED = (".gz", ".bz2", ".xz", ".zip")


def as_names(given: Sequence[str] | str) -> list[str]:
    """Return an option that names columns as a list, also if it is a single name."""
    return [given] if isinstance(given, str) else [str(name) for name in given]


def read_table(
    path: str,
    separator: str = ",",
    encoding: str = "utf-8",
    missing_values: Sequence[Any] | None = None,
    column_names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Read a CSV or Parquet file; the values of a CSV file are text.

    Args:
        path: a local file; Parquet if it ends in ``.parquet`` or ``.pq``, else CSV.
        separator: of a CSV file, one character; ``tab`` for a tab.
        encoding: of a CSV file.
        missing_values: entries that mean a missing value, besides those of pandas.
        column_names: of a CSV file without a header line.

    Raises:
        DatasetError: if the file does not exist, cannot be read, has no rows or two columns of the same name.
    """
    given, file = str(path), Path(str(path)).expanduser()
    if "://" in given:
        expected = "a local file, since data from the network may change between two studies"
        raise DatasetError("dataset.path", given, expected, "download it, then dataset.path=FILE")
    ending = [suffix.lower() for suffix in file.suffixes if suffix.lower() not in _COMPRESSED][-1:]
    if not ending or ending[0] not in (*_TEXT, *_PARQUET):
        expected = f"a file that ends in {', '.join((*_TEXT, *_PARQUET))}"
        raise DatasetError("dataset.path", given, expected, "convert it to CSV or Parquet, or rename it")
    if not file.is_file():
        near = difflib.get_close_matches(file.name, _neighbours(file), 3)
        expected = f"an existing file, relative to {Path.cwd()}" + (f"; similar: {', '.join(near)}" if near else "")
        raise DatasetError("dataset.path", given, expected, f"dataset.path={file.parent / near[0] if near else 'FILE'}")
    entries = [] if missing_values is None else [str(value) for value in as_names(missing_values)]
    if ending[0] in _PARQUET:
        table = _parquet(file, entries)
    else:
        table = _csv(file, parse_separator(separator), encoding, entries, column_names)
    table.columns = pd.Index([str(name).strip() for name in table.columns])
    twice = sorted(set(table.columns[table.columns.duplicated()]))
    if twice:
        expected = "a different name for every column"
        raise DatasetError("dataset.path", f"{given}, columns {', '.join(twice)} twice", expected, "rename them")
    if not len(table):
        raise DatasetError("dataset.path", f"{given}, no rows", "at least one row", "another file")
    return table


def require_columns(table: pd.DataFrame, key: str, names: Sequence[str]) -> None:
    """Refuse column names that ``table`` does not have.

    Args:
        key: the option of the dataset that names the columns.

    Raises:
        DatasetError: for the first missing one, with similar names.
    """
    for name in names:
        if name in table.columns:
            continue
        near = difflib.get_close_matches(name, table.columns, 3, 0.5)
        known = [*near, *(column for column in table.columns if column not in near)]
        more = f" and {len(known) - 12} more" if len(known) > 12 else ""
        is_single = key in ("target", "groups", "time")
        fix = f"dataset.{key}={near[0] if near else 'COLUMN'}" if is_single else "use one of these names"
        if len(table.columns) == 1:
            fix = "dataset.separator=';' or dataset.separator=tab, if that separates the columns"
        elif np.isfinite(np.asarray(pd.to_numeric(pd.Series(list(table.columns)), errors="coerce"), "float64")).any():
            fix += ", or dataset.column_names=[…] if the file has no header line"
        raise DatasetError(f"dataset.{key}", name, f"one of the columns {', '.join(known[:12])}{more}", fix)


def _neighbours(file: Path) -> list[str]:
    return [other.name for other in file.parent.iterdir()] if file.parent.is_dir() else []


def _csv(file: Path, separator: str, encoding: str, missing: list[str], names: Any) -> pd.DataFrame:
    """Read all entries as text, so that a value that is not a number can be named."""
    with reading("path", file, encoding):
        table = pd.read_csv(
            file,
            sep=separator,
            encoding=encoding,
            header=None,
            names=None if names is None else range(len(as_names(names))),
            index_col=False,
            dtype="object",
            na_values=missing,
            skipinitialspace=True,
        )
    if names is not None:
        table.columns = pd.Index(as_names(names))
        return table
    # The header is read as data, since pandas would rename columns of the same name.
    heads = [f"column {place + 1}" if pd.isna(name) else str(name) for place, name in enumerate(table.iloc[0])]
    table.columns = pd.Index([head.strip() for head in heads])
    return table.iloc[1:].reset_index(drop=True)


def _parquet(file: Path, missing: list[str]) -> pd.DataFrame:
    import pyarrow as pa

    try:
        table = pd.read_parquet(file)
    except OSError as error:
        raise DatasetError("dataset.path", file, "a file that can be read", f"correct it: {error}") from error
    except (pa.ArrowException, ValueError) as error:
        raise DatasetError("dataset.path", file, f"a Parquet file ({first_line(error)})", "correct the file") from error
    for name in table.columns if missing else ():
        table[name] = table[name].mask(to_texts(table[name]).isin(missing))
    return table
