"""All trials, folds and epochs of a comparison, as tables for further analysis."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from hpo.compare.comparison import Comparison
from hpo.tracking.schema import TABLES, table_file


def join_tables(comparison: Comparison, name: str) -> pd.DataFrame:
    """Join the table ``trials``, ``folds`` or ``epochs`` of all studies, with name, level and seed of the study."""
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
    """Write every table as Parquet and CSV."""
    paths = []
    for name in TABLES:
        table = join_tables(comparison, name)
        # A hyperparameter may be text in one study and a number in another, which Parquet refuses.
        for column in (name for name, kind in table.dtypes.items() if pd.api.types.is_object_dtype(kind)):
            kinds = {type(value) for value in table[column].dropna()}
            if len(kinds) > 1:
                table[column] = table[column].map(lambda value: None if pd.isna(value) else str(value))
        paths += [folder / table_file(name), folder / table_file(name, "csv")]
        table.to_parquet(paths[-2], index=False)
        table.to_csv(paths[-1], index=False)
    return paths
