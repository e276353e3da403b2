"""Small real studies: the CNN on digits, narrow enough to train in seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from hpo.tracking.reader import StudyRecord, TrialRecord, list_studies, load_trials
from hpo.tracking.store import open_store

SMALL = (
    "dataset=digits",
    "max_epochs=3",
    "executor.threads_per_trial=1",
    "search_space.filters={low: 2, high: 4, step: 2, grid: [2]}",
    "search_space.dense_units={low: 8, high: 16, step: 8, grid: [8]}",
    "model.filters=4",
    "model.dense_units=16",
)


@pytest.fixture
def small() -> tuple[str, ...]:
    """Overrides for a study whose trials take a second."""
    return SMALL


@pytest.fixture
def read(workdir: Path) -> Callable[..., tuple[mlflow.MlflowClient, StudyRecord, list[TrialRecord]]]:
    """The newest study of the working folder, read back from MLflow."""

    def load(name: str | None = None) -> tuple[Any, StudyRecord, list[TrialRecord]]:
        client, experiment = open_store("sqlite:///hpo_runs/mlflow.db", "hpo", Path("hpo_runs"))
        studies = list_studies(client, experiment)
        study = next(s for s in studies if name in (None, s.name))
        return client, study, load_trials(client, study)

    return load
