import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hpo.datasets.base import Dataset
from hpo.datasets.csv import load
from hpo.errors import DatasetError
from hpo.tracking.reader import list_studies
from hpo.tracking.store import open_store

N = 40


def table(**columns: Any) -> pd.DataFrame:
    """40 rows: a number with missing values, a text, a truth value, a few integers, a real number."""
    random = np.random.default_rng(0)
    made = {
        "size": np.where(np.arange(N) % 7 == 3, np.nan, random.normal(size=N).round(3)),
        "colour": ["red", "blue", None, "green"] * (N // 4),
        "is_new": [True, False] * (N // 2),
        "grade": np.arange(N) % 3,
        "price": random.normal(size=N).round(4) + np.arange(N),
    }
    return pd.DataFrame({**made, **columns})


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write a table or a text into the working directory and return its name."""
    monkeypatch.chdir(tmp_path)

    def write(content: pd.DataFrame | str | bytes, name: str = "data.csv", **options: Any) -> str:
        if isinstance(content, pd.DataFrame):
            content.to_csv(name, index=False, **options)
        else:
            Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    return write


def rows_of(data: Dataset) -> np.ndarray:
    return np.concatenate([data.x, data.x_test])


def test_columns_are_numbers_or_categories_with_missing_values(write: Callable[..., str]) -> None:
    data = load(write(table()), "price")
    assert data.name == "csv"
    assert data.x.dtype == np.float64
    assert {column.name: column.categories for column in data.columns} == {
        "size": None,
        "colour": ("blue", "green", "red"),
        "is_new": ("False", "True"),
        "grade": None,
    }
    assert np.isnan(rows_of(data)).sum(axis=0).tolist() == [6, 10, 0, 0]
    row = np.flatnonzero(np.concatenate([data.y, data.y_test]) == table()["price"][1])[0]
    assert rows_of(data)[row].tolist() == [table()["size"][1], 0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("target", "task", "class_names", "message"),
    [
        ("colour", None, ("blue", "green", "red"), "target colour: classification, inferred; 10 rows without it"),
        ("is_new", None, ("False", "True"), "target is_new: classification, inferred"),
        ("grade", None, ("0", "1", "2"), "target grade: classification, inferred"),
        ("price", None, (), "target price: regression, inferred"),
        ("grade", "regression", (), "target grade: regression, as configured"),
        ("grade", "classification", ("0", "1", "2"), "target grade: classification, as configured"),
    ],
)
def test_task_is_inferred_from_the_target_and_can_be_set(
    write: Callable[..., str], target: str, task: str | None, class_names: tuple[str, ...], message: str
) -> None:
    data = load(write(table()), target, task=task)
    assert data.class_names == class_names
    assert data.spec.n_classes == len(class_names)
    assert data.source.startswith("data.csv, ")
    assert message in data.source
    assert target not in [column.name for column in data.columns]


def test_rows_without_a_target_are_left_out(write: Callable[..., str]) -> None:
    price = table()["price"].where(np.arange(N) % 10 != 0)
    data = load(write(table(price=price)), "price")
    assert len(data.x) + len(data.x_test) == N - 4
    assert sorted([*data.y, *data.y_test]) == sorted(price.dropna())
    assert "4 rows without it left out" in data.source


def test_many_distinct_integers_are_a_regression(write: Callable[..., str]) -> None:
    assert load(write(table(count=np.arange(N))), "count").is_regression
    # Twelve values in 40 rows: too few rows per value for classes.
    assert load(write(table(count=np.arange(N) % 12)), "count").is_regression


def test_categorical_turns_numbers_into_categories(write: Callable[..., str]) -> None:
    data = load(write(table(zone=np.arange(N) % 4 + 8)), "price", categorical=["zone"])
    column = next(column for column in data.columns if column.name == "zone")
    assert column.categories == ("8", "9", "10", "11")


def test_parquet_and_csv_give_the_same_dataset(write: Callable[..., str]) -> None:
    frame = table(count=pd.array([None, 2] * (N // 2), dtype="Int64"))
    frame.to_parquet("data.parquet")
    csv, parquet = load(write(frame), "grade"), load("data.parquet", "grade")
    assert csv.digest == parquet.digest
    assert (csv.columns, csv.class_names) == (parquet.columns, parquet.class_names)


def test_compressed_file_with_other_format_is_read(write: Callable[..., str]) -> None:
    plain = load(write(table()), "grade")
    text = table(size=table()["size"].map(lambda value: "?" if np.isnan(value) else f"{value}"))
    content = text.to_csv(sep=";", index=False).encode("utf-16")
    write(gzip.compress(content), "data.txt.gz")
    data = load("data.txt.gz", "grade", separator=";", encoding="utf-16", missing_values=["?"])
    assert data.digest == plain.digest


@pytest.mark.parametrize("separator", ["tab", "\\t", "\t"])
def test_file_without_header_and_with_tabs_is_read(write: Callable[..., str], separator: str) -> None:
    file = write(table(), sep="\t", header=False)
    data = load(file, "e", separator=separator, column_names=["a", "b", "c", "d", "e"])
    assert data.digest == load(write(table()), "price").digest


def test_dates_become_days_since_1970(write: Callable[..., str]) -> None:
    day = pd.date_range("2024-01-01", periods=N).strftime("%Y-%m-%d")
    data = load(write(table(day=day)), "price")
    assert sorted(rows_of(data)[:, -1]) == [19723.0 + place for place in range(N)]
    assert "day: days since 1970-01-01" in data.source
    table(day=pd.date_range("2024-01-01", periods=N)).to_parquet("data.parquet")
    assert load("data.parquet", "price").digest == data.digest


def test_dropped_columns_are_not_features(write: Callable[..., str]) -> None:
    data = load(write(table(gap=[None] * N)), "price", drop=["gap", "colour"])
    assert [column.name for column in data.columns] == ["size", "is_new", "grade"]
    assert data.x.shape[1] == 3


def test_test_split_is_stratified_and_reproducible(write: Callable[..., str]) -> None:
    label = np.where(np.arange(N) % 4 == 0, "rare", "common")
    first, second = (load(write(table(label=label)), "label") for _ in range(2))
    assert first.digest == second.digest
    assert (np.bincount(first.y_test).tolist(), np.bincount(first.y).tolist()) == ([6, 2], [24, 8])
    half = load("data.csv", "label", test_fraction=0.5)
    assert np.bincount(half.y_test).tolist() == [15, 5]


def test_only_row_of_a_class_is_a_training_row(write: Callable[..., str]) -> None:
    label = ["one", *["a", "b", "b"] * ((N - 1) // 3)]
    data = load(write(table(label=label)), "label")
    assert data.class_names == ("a", "b", "one")
    assert (data.y == 2).sum() == 1
    assert len(data.y_test) == 8


def test_groups_stay_in_one_part(write: Callable[..., str]) -> None:
    patient = [f"p{place % 8}" for place in range(N)]
    frame = table(patient=patient)
    data = load(write(frame), "price", groups="patient")
    assert data.groups is not None
    assert "patient" not in [column.name for column in data.columns]
    of = dict(zip(frame["price"], patient, strict=True))
    assert len({of[price] for price in data.y}) + len({of[price] for price in data.y_test}) == 8
    # The numbers stand for the same groups as the names.
    pairs = {(of[price], group) for price, group in zip(data.y, data.groups, strict=True)}
    assert len(pairs) == len(set(data.groups))


@pytest.mark.parametrize("kind", ["number", "date"])
def test_latest_rows_are_the_test_split(write: Callable[..., str], kind: str) -> None:
    place = np.random.default_rng(3).permutation(N)
    when = pd.to_datetime("2024-01-31") + pd.to_timedelta(place, unit="D") if kind == "date" else place + 90
    data = load(write(table(price=place * 1.5, when=when)), "price", time="when")
    assert data.y.tolist() == [1.5 * place for place in range(32)]
    assert data.y_test.tolist() == [1.5 * place for place in range(32, N)]
    assert data.gap == 0
    assert "when" not in [column.name for column in data.columns]


def nearly(column: str, place: int, entry: str) -> pd.DataFrame:
    """A table with one entry changed."""
    frame = table().astype({column: "object"})
    frame.loc[place, column] = entry
    return frame


# Fault → file, options, the key that the message must name, and texts that it must contain.
BAD: dict[str, tuple[pd.DataFrame | str | bytes, dict[str, Any], str, tuple[str, ...]]] = {
    "unknown target": (table(), {"target": "prize"}, "dataset.target", ("price", "dataset.target=price")),
    "one column": (table().to_csv(sep=";"), {}, "dataset.target", ("dataset.separator=';'",)),
    "no header": (
        table().to_csv(index=False, header=False),
        {},
        "dataset.target",
        ("dataset.column_names=",),
    ),
    "unknown groups": (table(), {"groups": "patient"}, "dataset.groups", ("size, colour",)),
    "unknown time": (table(), {"time": "pri"}, "dataset.time", ("dataset.time=price",)),
    "unknown column to drop": (table(), {"drop": ["siz"]}, "dataset.drop", ("one of the columns size",)),
    "unknown categorical column": (
        table(),
        {"categorical": ["siz"]},
        "dataset.categorical",
        ("one of the columns size",),
    ),
    "dropped target": (table(), {"drop": ["price"]}, "dataset.drop", ("not the target",)),
    "a column without values": (table(gap=[None] * N), {}, "dataset, column gap", ("dataset.drop=[gap]",)),
    "a single class": (table(), {"target": "one"}, "dataset, column one", ("one class, yes",)),
    "a single value": (table(price=[1.5] * N), {}, "dataset csv", ("one value",)),
    "one class per row": (table(), {"target": "id"}, "dataset, column id", ("40 classes in 40 rows",)),
    "text among numbers": (
        nearly("size", 4, "n/k"),
        {},
        "dataset, column size",
        ("'n/k' in row 5", "correct it", "dataset.missing_values=[n/k]", "dataset.categorical=[size]"),
    ),
    "text in a real-valued target": (nearly("price", 0, "cheap"), {}, "dataset, column price", ("'cheap' in row 1",)),
    "regression on text": (table(), {"target": "colour", "task": "regression"}, "dataset.task", ("'red'",)),
    "an infinite number": (nearly("size", 9, "-inf"), {}, "dataset, column size", ("-inf in row 10", "finite")),
    "ambiguous dates": (
        table(day=[f"{place % 28 + 1}.12.2024" for place in range(N)]),
        {},
        "dataset, column day",
        ("'1.12.2024' in row 1", "year-month-day", "dataset.drop=[day]"),
    ),
    "two rows": (table().head(2), {}, "dataset.path", ("2 rows", "at least 3")),
    "header only": (table().head(0), {}, "dataset.path", ("no rows",)),
    "an empty file": ("", {}, "dataset.path", ("empty",)),
    "wrong encoding": ("größe,price\n1,2\n".encode("latin-1"), {}, "dataset.encoding", ("=latin-1",)),
    "unknown encoding": (table(), {"encoding": "utf-9"}, "dataset.encoding", ("utf-8",)),
    "two columns of one name": ("a,b,a,price\n1,2,3,4\n", {}, "dataset.path", ("columns a twice",)),
    "line with too many values": ("a,price\n1,2\n1,2,3\n", {}, "dataset.path", ("line 3, saw 3",)),
    "too few column names": (table(), {"column_names": ["a", "price"]}, "dataset.path", ("same number of values",)),
    "separator of two characters": (table(), {"separator": "::"}, "dataset.separator", ("a single character",)),
    "no features": (table()[["price"]], {}, "dataset.path", ("without features",)),
    "unknown task": (table(), {"task": "ranking"}, "dataset.task", ("classification, regression",)),
    "no training rows": (table(), {"test_fraction": 1}, "dataset.test_fraction", ("between 0 and 1",)),
    "groups and time": (table(), {"groups": "colour", "time": "grade"}, "dataset.time", ("dataset.groups=null",)),
    "row without group": (table(), {"groups": "colour"}, "dataset.groups", ("no value in row 3",)),
    "row without time": (table(), {"time": "size"}, "dataset.time", ("no value in row 4",)),
    "text as time": (table(when=["noon"] * N), {"time": "when"}, "dataset.time", ("dates or numbers", "'noon'")),
    "single group": (table(), {"groups": "one"}, "dataset.groups", ("at least two groups",)),
    "class in the test split only": (
        table(label=["a", "b"] * 19 + ["c", "c"], when=range(N)),
        {"target": "label", "time": "when"},
        "dataset, column label",
        ("class c in the test split alone",),
    ),
    "not Parquet": ("a,b\n1,2\n", {"path": "data.parquet"}, "dataset.path", ("a Parquet file",)),
    "truncated gzip": (gzip.compress(b"a,b")[:-4], {"path": "data.csv.gz"}, "dataset.path", ("correct the file",)),
}


@pytest.mark.parametrize("case", list(BAD))
def test_unusable_file_or_option_is_refused_with_a_fix(case: str, write: Callable[..., str]) -> None:
    content, options, key, message = BAD[case]
    if isinstance(content, pd.DataFrame) and {"one", "id"} & {str(value) for value in options.values()}:
        content = content.assign(one="yes", id=[f"n{place}" for place in range(N)])
    options = {"path": "data.csv", "target": "price", **options}
    write(content, options["path"])
    with pytest.raises(DatasetError) as caught:
        load(**options)
    assert caught.value.key == key
    for part in message:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("dat.csv", "similar: data.csv"),
        ("nowhere/data.csv", "an existing file"),
        ("https://example.org/data.csv", "a local file"),
        ("data.xlsx", "ends in .csv"),
        ("folder.csv", "an existing file"),
    ],
)
def test_unusable_path_is_refused(path: str, message: str, write: Callable[..., str]) -> None:
    write(table())
    Path("folder.csv").mkdir()
    with pytest.raises(DatasetError, match=message) as caught:
        load(path, "price")
    assert caught.value.key == "dataset.path"


def test_column_of_lists_is_refused(write: Callable[..., str]) -> None:
    table(pair=[[1, 2]] * N).to_parquet("data.parquet")
    with pytest.raises(DatasetError, match=r"dataset.drop=\[pair\]"):
        load("data.parquet", "price")


FEW = "a,label\n1,x\n2,y\n3,x\n4,y\n"


@pytest.mark.parametrize(
    ("content", "arguments", "key", "message"),
    [
        (table(), ["dataset.target=labl"], "dataset.target", "one of the columns"),
        (nearly("size", 4, "n/k"), ["dataset.target=grade"], "dataset, column size", "'n/k' in row 5"),
        (
            FEW,
            ["dataset.target=label", "resampling=kfold", "resampling.n_splits=5"],
            "resampling.n_splits = 5",
            "number of rows, 3",
        ),
        (table(), [], "dataset.target", "value"),
    ],
)
def test_study_with_unusable_data_ends_before_training(
    content: pd.DataFrame | str,
    arguments: list[str],
    key: str,
    message: str,
    hpo: Callable[..., int],
    write: Callable[..., str],
    workdir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(workdir)
    assert hpo("model=svm", "dataset=csv", f"dataset.path={write(content)}", *arguments) == 2
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    assert err.startswith(f"error: {key}")
    assert err.count("error: ") == 1
    assert "  expected: " in err
    assert "  fix:      " in err
    assert message in err
    client, experiment = open_store("sqlite:///hpo_runs/mlflow.db", "hpo", Path("hpo_runs"))
    assert list_studies(client, experiment) == []
