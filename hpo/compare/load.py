"""Finished studies of an experiment, with their tables, from any MLflow store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpo.compare.studies import ComparedStudy, LeftOut, from_record, from_tables, unfinished
from hpo.tracking.reader import StudyRecord, download
from hpo.tracking.resume import load_from_mlflow
from hpo.tracking.schema import TABLES, Artifact, Tag, table_file


def load(client: Any, records: Sequence[StudyRecord], folder: Path) -> tuple[list[ComparedStudy], list[LeftOut]]:
    """The finished ones among ``records``, and why the others are left out.

    Args:
        folder: where their tables are kept while they are looked at.
    """
    studies, left_out = [], []
    for record in records:
        reason = unfinished(record)
        if reason is not None:
            left_out.append(reason)
            continue
        study = read(client, record, folder)
        if study is None:
            left_out.append(LeftOut(record.name, f"its record has no {Artifact.IDENTITY}"))
        else:
            studies.append(study)
    return studies, left_out


def read(client: Any, record: StudyRecord, folder: Path) -> ComparedStudy | None:
    """One study, finished or not; None where its record does not say what defines it."""
    here = folder / record.run_id
    here.mkdir(parents=True, exist_ok=True)
    path = download(client, record.run_id, Artifact.IDENTITY, here)
    if path is None:
        return None
    identity = json.loads(path.read_text(encoding="utf-8"))
    tables = download(client, record.run_id, Artifact.TABLES, here)
    if tables is not None and all((tables / table_file(name)).exists() for name in TABLES):
        return from_tables(record, identity, tables)
    n_folds = int(record.tags[Tag.N_FOLDS])
    metric = record.tags[Tag.OBJECTIVE].split(" ", 1)[1]
    metrics = list(dict.fromkeys([metric, "loss", "val_loss", metric.removeprefix("val_")]))
    return from_record(record, identity, load_from_mlflow(client, record, metrics, n_folds))
