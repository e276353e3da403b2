"""Tables of all trials, folds and epochs of a comparison."""

from pathlib import Path

import pandas as pd

from hpo.compare.export import join_tables, write_tables
from unit.compare.toy_comparison import BEST, WORST, compared


def test_tables_of_all_studies_are_joined_with_level_and_seed() -> None:
    table = join_tables(compared(a=BEST[:2], b=WORST[:2]), "trials")
    assert len(table) == 2 * 2 * 2
    assert table.groupby(["level", "study_seed"]).size().to_dict() == {
        ("a", 0): 2,
        ("a", 1): 2,
        ("b", 0): 2,
        ("b", 1): 2,
    }


def test_tables_are_written_as_parquet_and_csv(tmp_path: Path) -> None:
    paths = write_tables(compared(a=BEST[:2], b=WORST[:2]), tmp_path)
    assert {path.name for path in paths} == {
        f"{name}.{suffix}" for name in ("trials", "folds", "epochs") for suffix in ("parquet", "csv")
    }
    assert len(pd.read_csv(tmp_path / "epochs.csv")) == len(pd.read_parquet(tmp_path / "epochs.parquet")) > 0
