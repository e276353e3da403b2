from pathlib import Path

import pandas as pd
import pytest

from hpo.datasets.readers.tables import read_table, require_columns
from hpo.errors import DatasetError

TABLE = pd.DataFrame({"size": ["1", "2"], "price": ["3", "4"]})


def test_csv_values_are_text_and_names_are_stripped(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("size, price \n01,?\n2,\n")
    table = read_table(str(path), missing_values=["?"])
    assert list(table.columns) == ["size", "price"]
    assert table["size"].tolist() == ["01", "2"]
    assert table["price"].isna().all()


def test_parquet_keeps_types_and_marks_missing_values(tmp_path: Path) -> None:
    path = tmp_path / "a.pq"
    pd.DataFrame({"n": [1, -999], "t": ["x", "y"]}).to_parquet(path)
    table = read_table(str(path), missing_values=[-999])
    assert table["n"].isna().tolist() == [False, True]
    assert table["t"].tolist() == ["x", "y"]


@pytest.mark.parametrize("name", ["folder.parquet", "absent.csv"])
def test_path_that_is_not_a_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(DatasetError, match="an existing file"):
        read_table(str(tmp_path / name))


@pytest.mark.parametrize(
    ("key", "name", "fix"),
    [("target", "prize", "dataset.target=price"), ("drop", "siz", "use one of these names"), ("time", "x", "=COLUMN")],
)
def test_unknown_column_is_refused_with_similar_names(key: str, name: str, fix: str) -> None:
    require_columns(TABLE, key, ["size", "price"])
    with pytest.raises(DatasetError, match="one of the columns") as caught:
        require_columns(TABLE, key, ["size", name])
    assert caught.value.key == f"dataset.{key}"
    assert fix in caught.value.fix


def test_wrong_separator_and_missing_header_are_suggested() -> None:
    with pytest.raises(DatasetError, match=r"dataset\.separator=';'"):
        require_columns(TABLE[["size"]], "target", ["price"])
    with pytest.raises(DatasetError, match=r"dataset.column_names=\[…\] if the file has no header line"):
        require_columns(TABLE.rename(columns={"size": "1.5"}), "target", ["x"])
