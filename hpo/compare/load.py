"""Reads the finished studies of an experiment, with their tables, from any MLflow store."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpo.compare.eligibility import LeftOut, reason_unfinished
from hpo.compare.studies import ComparedStudy, from_record, from_tables
from hpo.tracking.reader import StudyRecord, download
from hpo.tracking.resume import load_from_mlflow
from hpo.tracking.schema import TABLES, Artifact, Tag, table_file


def load(client: Any, records: Sequence[StudyRecord], folder: Path) -> tuple[list[ComparedStudy], list[LeftOut]]:
    """Load the finished studies among ``records``, and the reasons for leaving the others out.

    Args:
        folder: where their tables are downloaded to; it must exist as long as the studies are used.
    """
    studies, left_out = [], []
    for record in records:
        reason = reason_unfinished(record)
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
    """Read one study, finished or not; None if its identity is not recorded."""
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


def count_test_scorings(records: Sequence[StudyRecord]) -> dict[str, int]:
    """Data digest → how often the studies scored the test split of these data."""
    counts: Counter[str] = Counter()
    for record in records:
        counts[record.tags.get(Tag.DATA_DIGEST, "unknown")] += int(record.tags.get(Tag.N_TESTS, 0))
    return dict(sorted(counts.items()))
