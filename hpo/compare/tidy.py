"""All trials, folds and epochs of a comparison as tables for one's own analysis."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from hpo.compare.comparison import Comparison
from hpo.tracking.schema import TABLES, table_file


def tidy(comparison: Comparison, name: str) -> pd.DataFrame:
    """One of the tables ``trials``, ``folds`` and ``epochs`` of all studies, with the study, its level and its seed."""
    parts = []
    for level, by_seed in comparison.group.studies.items():
        for seed, study in by_seed.items():
            table = getattr(study, name)
            labels = {"study": study.name, "level": level, "study_seed": seed}
            parts.append(
                pd.DataFrame({**{k: [v] * len(table) for k, v in labels.items()}}).join(table.reset_index(drop=True))
            )
    return pd.concat([part for part in parts if len(part)], ignore_index=True) if any(map(len, parts)) else parts[0]


def write_tables(comparison: Comparison, folder: Path) -> list[Path]:
    """Every table as Parquet and CSV."""
    paths = []
    for name in TABLES:
        table = tidy(comparison, name)
        # A parameter may be text under one strategy and a number under another.
        for column in (name for name, kind in table.dtypes.items() if pd.api.types.is_object_dtype(kind)):
            kinds = {type(value) for value in table[column].dropna()}
            if len(kinds) > 1:
                table[column] = table[column].map(lambda value: None if pd.isna(value) else str(value))
        paths += [folder / table_file(name), folder / table_file(name, "csv")]
        table.to_parquet(paths[-2], index=False)
        table.to_csv(paths[-1], index=False)
    return paths
