"""A table of your own: a CSV or Parquet file, of which one column is the target."""

from __future__ import annotations

import difflib
import lzma
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from hpo.datasets.base import Array, Column, Dataset
from hpo.datasets.readers.columns import categories_in, days_in, key_of, label_of, numbers_in, override, texts_of
from hpo.datasets.readers.delimited import separator_of
from hpo.errors import DatasetError

TASKS = ("classification", "regression")
# Whole numbers of at most as many values, in five times as many rows, are taken for classes.
MOST_CLASSES = 20
LEAST_ROWS = 3
_PARQUET = (".parquet", ".pq")
_TEXT = (".csv", ".tsv", ".txt", ".data", ".dat")
_PACKED = (".gz", ".bz2", ".xz", ".zip")
# Of a file that is not packed as its name says, besides OSError, or has a quote left open.
_BROKEN = (ValueError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)


@dataclass(frozen=True)
class _Target:
    """The target of every row: labels, or real values without ``class_names``."""

    y: Array
    class_names: tuple[str, ...] = ()


def load(
    path: str,
    target: str,
    task: str | None = None,
    categorical: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    groups: str | None = None,
    time: str | None = None,
    test_fraction: float = 0.2,
    missing_values: Sequence[Any] | None = None,
    separator: str = ",",
    encoding: str = "utf-8",
    column_names: Sequence[str] | None = None,
) -> Dataset:
    """Rows of ``float64`` of shape ``(n, columns)``, NaN for missing values; rows without a target are left out.

    Text and truth values become categories, dates (year-month-day) days since 1970-01-01. Nothing but the names of
    categories and classes is taken from all rows.

    Args:
        path: a local file, from the working directory; Parquet where it ends in ``.parquet`` or ``.pq``, else CSV.
        target: name of the column that is learned.
        task: ``classification`` or ``regression``; None takes text, truth values and few whole numbers for classes.
        categorical: columns of numbers or dates that are categories, besides those of text and truth values.
        drop: columns to leave out.
        groups: column that says which rows belong together, such as a patient; no feature. The test split and
            ``resampling=group_kfold`` keep them together.
        time: column of dates or numbers that the rows are sorted by; no feature. The latest rows are the test split.
        test_fraction: share of the rows that is set apart as the test split, always the same ones.
        missing_values: entries that mean a missing value, besides empty ones, NA, NaN, null and their like.
        separator: of a CSV file, one character; ``tab`` for a tab.
        encoding: of a CSV file.
        column_names: of a CSV file whose first line is data already.

    Raises:
        DatasetError: for a file or option that cannot be used, naming the column and the row where there is one.
    """
    marked = [] if categorical is None else _names(categorical)
    _check_options(task, test_fraction, groups, time)
    table = _read(path, separator, encoding, missing_values, column_names)
    target = str(target)
    _require_columns(table, "target", [target])
    for key, names in (
        ("groups", [groups] if groups is not None else []),
        ("time", [time] if time is not None else []),
        ("drop", _names(drop)),
        ("categorical", marked),
    ):
        _require_columns(table, key, names)
        if target in names:
            fix = f"dataset.{key}=null" if key in ("groups", "time") else f"dataset.{key}=[…] without it"
            raise DatasetError(f"dataset.{key}", target, "a column that is not the target", fix)

    has_target = table[target].notna().to_numpy()
    notes = [f"{int((~has_target).sum()):,} rows without it left out"] if not has_target.all() else []
    if has_target.sum() < LEAST_ROWS:
        raise DatasetError(
            "dataset.path",
            f"{path}, {has_target.sum()} rows with a target",
            f"at least {LEAST_ROWS}",
            "a file with more rows",
        )
    order = np.flatnonzero(has_target)
    moments = None if time is None else _moments(time, table[time], has_target)
    if moments is not None:
        order = order[np.argsort(moments[order], kind="stable")]
    # Before rows are left out, so that a message names a row as the file has it.
    left_out = {target, *_names(drop), *(name for name in (groups, time) if name is not None)}
    names = [name for name in table.columns if name not in left_out]
    if not names:
        raise DatasetError("dataset.path", f"{path} without features", "a column besides the target", "dataset.drop=[]")
    parsed = [_feature(name, table[name], has_target, name in marked, notes) for name in names]
    x = np.column_stack([values for values, _ in parsed])[order]
    goal = _target(target, table[target], task, has_target)
    y = goal.y[order]
    members = None if groups is None else _members(groups, table[groups], has_target)[order]
    train, test = _split(y, test_fraction, members, moments is not None)
    _require_known_classes(y, train, test, goal.class_names, target)
    found = "classification" if goal.class_names else "regression"
    source = f"{path}, {len(order):,} rows; target {target}: {found}, {'inferred' if task is None else 'as configured'}"
    return Dataset(
        "csv",
        x[train],
        y[train],
        x[test],
        y[test],
        source="; ".join([source, *notes]),
        groups=None if members is None else members[train],
        gap=None if moments is None else 0,
        columns=tuple(column for _, column in parsed),
        class_names=goal.class_names,
    )


def _check_options(task: Any, test_fraction: Any, groups: str | None, time: str | None) -> None:
    if task is not None and task not in TASKS:
        raise DatasetError("dataset.task", task, f"one of {', '.join(TASKS)}, or null", "dataset.task=null")
    if isinstance(test_fraction, bool) or not isinstance(test_fraction, int | float) or not 0 < test_fraction < 1:
        raise DatasetError("dataset.test_fraction", test_fraction, "between 0 and 1", "dataset.test_fraction=0.2")
    if groups is not None and time is not None:
        expected = "null, since dataset.groups is set: the latest rows would tear groups apart"
        raise DatasetError("dataset.time", time, expected, "dataset.time=null or dataset.groups=null")


def _names(given: Sequence[str] | str) -> list[str]:
    return [given] if isinstance(given, str) else [str(name) for name in given]


def _read(path: str, separator: str, encoding: str, missing: Sequence[Any] | None, names: Any) -> pd.DataFrame:
    given, file = str(path), Path(str(path)).expanduser()
    if "://" in given:
        expected = "a local file, since data from the network may be others tomorrow"
        raise DatasetError("dataset.path", given, expected, "download it, then dataset.path=FILE")
    ending = [suffix.lower() for suffix in file.suffixes if suffix.lower() not in _PACKED][-1:]
    if not ending or ending[0] not in (*_TEXT, *_PARQUET):
        expected = f"a file that ends in {', '.join((*_TEXT, *_PARQUET))}"
        raise DatasetError("dataset.path", given, expected, "convert it to CSV or Parquet, or rename it")
    if not file.is_file():
        near = difflib.get_close_matches(file.name, _neighbours(file), 3)
        expected = f"a file that is there, from {Path.cwd()}" + (f"; near: {', '.join(near)}" if near else "")
        raise DatasetError("dataset.path", given, expected, f"dataset.path={file.parent / near[0] if near else 'FILE'}")
    entries = [] if missing is None else [str(value) for value in _names(missing)]
    try:
        if ending[0] in _PARQUET:
            table = _parquet(file, entries)
        else:
            table = _text(file, separator_of(separator), encoding, entries, names)
    except OSError as error:
        raise DatasetError("dataset.path", given, "a file that can be read", f"mend it: {error}") from error
    table.columns = pd.Index([str(name).strip() for name in table.columns])
    twice = sorted(set(table.columns[table.columns.duplicated()]))
    if twice:
        expected = "another name for each column"
        raise DatasetError("dataset.path", f"{given}, columns {', '.join(twice)} twice", expected, "rename them")
    if not len(table):
        raise DatasetError("dataset.path", f"{given}, no rows", f"at least {LEAST_ROWS} rows", "another file")
    return table


def _neighbours(file: Path) -> list[str]:
    return [other.name for other in file.parent.iterdir()] if file.parent.is_dir() else []


def _text(file: Path, separator: str, encoding: str, missing: list[str], names: Any) -> pd.DataFrame:
    """All entries as text: what is a number is decided where it can be named."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of lines that are longer than the first one
            table = pd.read_csv(
                file,
                sep=separator,
                encoding=encoding,
                header=None,
                names=None if names is None else range(len(_names(names))),
                index_col=False,
                dtype="object",
                na_values=missing,
                skipinitialspace=True,
            )
    except pd.errors.EmptyDataError as error:
        raise DatasetError("dataset.path", f"{file}, empty", "a table", "another file") from error
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        expected = f"as many entries in every line ({str(error).strip()})"
        raise DatasetError("dataset.path", file, expected, "mend the line, or dataset.separator=';'") from error
    except LookupError as error:
        expected = "the name of an encoding that Python knows"
        raise DatasetError("dataset.encoding", encoding, expected, "dataset.encoding=utf-8") from error
    except UnicodeError as error:
        other = "latin-1" if encoding.lower().replace("-", "") == "utf8" else "utf-8"
        expected = f"the encoding of {file} ({error})"
        raise DatasetError("dataset.encoding", encoding, expected, f"dataset.encoding={other}") from error
    except _BROKEN as error:
        raise DatasetError("dataset.path", file, f"a CSV file ({error})", "mend the file") from error
    if names is not None:
        table.columns = pd.Index(_names(names))
        return table
    # As data, since pandas would rename columns of equal names.
    heads = [f"column {place + 1}" if pd.isna(name) else str(name) for place, name in enumerate(table.iloc[0])]
    table.columns = pd.Index([head.strip() for head in heads])
    return table.iloc[1:].reset_index(drop=True)


def _parquet(file: Path, missing: list[str]) -> pd.DataFrame:
    import pyarrow as pa

    try:
        table = pd.read_parquet(file)
    except (pa.ArrowException, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DatasetError("dataset.path", file, f"a Parquet file ({reason})", "mend the file") from error
    for name in table.columns if missing else ():
        table[name] = table[name].mask(texts_of(table[name]).isin(missing))
    return table


def _require_columns(table: pd.DataFrame, key: str, names: Sequence[str]) -> None:
    for name in names:
        if name in table.columns:
            continue
        near = difflib.get_close_matches(name, table.columns, 3, 0.5)
        known = [*near, *(column for column in table.columns if column not in near)]
        more = f" and {len(known) - 12} more" if len(known) > 12 else ""
        fix = f"dataset.{key}={near[0] if near else 'COLUMN'}" if key in ("target", "groups", "time") else "spell it so"
        if len(table.columns) == 1:
            fix = "dataset.separator=';' or dataset.separator=tab, where that is what parts the columns"
        elif np.isfinite(np.asarray(pd.to_numeric(pd.Series(list(table.columns)), errors="coerce"), "float64")).any():
            fix += ", or dataset.column_names=[…] where the first line is data already"
        raise DatasetError(f"dataset.{key}", name, f"one of the columns {', '.join(known[:12])}{more}", fix)


def _feature(
    name: str, column: pd.Series[Any], is_used: Array, is_marked: bool, notes: list[str]
) -> tuple[Array, Column]:
    """The numbers of a column, and what they mean; what is worth knowing is added to ``notes``."""
    drop = override("drop", name)
    others = f"{override('categorical', name)} or {drop}"
    if not column[is_used].notna().any():
        raise DatasetError(key_of(name), "no value in any row that has a target", "at least one value", drop)
    first = column.dropna().iloc[0]
    if np.ndim(first) != 0 or isinstance(first, bytes | dict | list | pd.Timedelta):
        expected = "numbers, text, truth values or dates"
        raise DatasetError(key_of(name), f"a {type(first).__name__}", expected, drop)
    if not is_marked:
        numbers = numbers_in(name, column, others)
        if numbers is not None:
            return numbers, Column(name)
        days = days_in(name, column, others)
        if days is not None:
            notes.append(f"{name}: days since 1970-01-01")
            return days, Column(name)
    values, labels = categories_in(column)
    if len(labels) > len(column) / 2 and len(column) > MOST_CLASSES:
        notes.append(f"{name}: {len(labels):,} categories, hardly one twice")
    return values, Column(name, labels)


def _target(name: str, column: pd.Series[Any], task: str | None, is_used: Array) -> _Target:
    or_else = f"dataset.task=classification, or another target than {name}"
    numbers = numbers_in(name, column, or_else, is_strict=task != "classification")
    if numbers is None and task == "regression":
        first = texts_of(column)[is_used].iloc[0]
        raise DatasetError("dataset.task", task, f"numbers in {name}, which has {first!r}", "dataset.task=null")
    if numbers is not None:
        distinct = np.unique(numbers[is_used])
        are_few = len(distinct) <= min(MOST_CLASSES, max(2, is_used.sum() // 5))
        if task == "regression" or (task is None and not (are_few and np.all(distinct % 1 == 0))):
            return _Target(numbers)
        labels = tuple(label_of(number) for number in distinct)
        values: Array = np.searchsorted(distinct, numbers).astype("float64")
    else:
        values, labels = categories_in(column)
    n = int(is_used.sum())
    if len(labels) < 2:
        raise DatasetError(key_of(name), f"one class, {labels[0]}", "at least two classes", "another dataset.target")
    if len(labels) > max(2, n / 2):
        expected = "classes that several rows have"
        fix = f"another dataset.target, or{' dataset.task=regression' if numbers is not None else ' more rows'}"
        raise DatasetError(key_of(name), f"{len(labels):,} classes in {n:,} rows", expected, fix)
    return _Target(np.where(is_used, values, -1).astype("int64"), labels)


def _moments(name: str, column: pd.Series[Any], is_used: Array) -> Array:
    or_else = "another column: dataset.time=COLUMN"
    _require_all(name, column, is_used, "time")
    moments = numbers_in(name, column, or_else)
    moments = days_in(name, column, or_else) if moments is None else moments
    if moments is None:
        first = texts_of(column)[is_used].iloc[0]
        raise DatasetError("dataset.time", f"{name}, which has {first!r}", "dates or numbers", or_else)
    return moments


def _members(name: str, column: pd.Series[Any], is_used: Array) -> Array:
    _require_all(name, column, is_used, "groups")
    members = categories_in(column)[0]
    if len(np.unique(members[is_used])) < 2:
        raise DatasetError("dataset.groups", f"{name}, one group", "at least two groups", "dataset.groups=null")
    return np.where(is_used, members, -1).astype("int64")


def _require_all(name: str, column: pd.Series[Any], is_used: Array, key: str) -> None:
    is_missing = is_used & column.isna().to_numpy()
    if is_missing.any():
        found = f"{name}, no value in row {int(np.argmax(is_missing)) + 1}"
        raise DatasetError(f"dataset.{key}", found, "a value in every row", f"mend it, or dataset.{key}=null")


def _split(y: Array, fraction: float, groups: Array | None, is_ordered: bool) -> tuple[Array, Array]:
    """Rows to train on and rows of the test split, of which both have some."""
    rows, n_test = np.arange(len(y)), min(len(y) - 1, max(1, round(len(y) * fraction)))
    if is_ordered:
        return rows[:-n_test], rows[-n_test:]
    if groups is not None:
        try:
            train, test = next(GroupShuffleSplit(1, test_size=fraction, random_state=0).split(rows, groups=groups))
        except ValueError as error:
            expected = f"a share that leaves a group on both sides ({error})"
            raise DatasetError("dataset.test_fraction", fraction, expected, "dataset.test_fraction=0.3") from error
        return train, test
    single = np.zeros(len(y), dtype=bool)
    if y.dtype.kind == "i":
        # A class of one row is trained on: it could be scored only by a model that never saw it.
        single = np.bincount(y)[y] == 1
    n_classes = len(np.unique(y[~single]))
    n_rest = int((~single).sum())
    can_stratify = y.dtype.kind == "i" and n_classes <= n_test and n_rest - n_test >= n_classes
    if n_rest - n_test < 1:
        single[:], n_rest = False, len(y)
    train, test = train_test_split(
        rows[~single], test_size=n_test, stratify=y[~single] if can_stratify else None, random_state=0
    )
    return np.concatenate([train, rows[single]]), test


def _require_known_classes(y: Array, train: Array, test: Array, names: tuple[str, ...], target: str) -> None:
    unknown = sorted(set(range(len(names))) - set(np.unique(y[train]))) if names else []
    if unknown:
        found = f"class {names[unknown[0]]} in the test split alone"
        expected = "every class among the rows to train on"
        raise DatasetError(key_of(target), found, expected, "dataset.test_fraction=0.1, or more rows of the class")
