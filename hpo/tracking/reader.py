"""Studies and trials as MLflow holds them. Nothing that is read is ever instantiated or unpickled."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Run, ViewType
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from hpo.tracking.store import quiet
from hpo.trial import State, StopReason


@dataclass(frozen=True)
class StudyRecord:
    """A study as read back from MLflow."""

    run_id: str
    experiment_id: str
    name: str
    state: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    started: float
    ended: float | None


@dataclass(frozen=True)
class TrialRecord:
    """A trial as read back from MLflow; params are text, as MLflow keeps them."""

    run_id: str
    number: int
    state: State
    stop_reason: StopReason | None
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    folds: tuple[Mapping[str, Any], ...]

    @property
    def value(self) -> float | None:
        """The objective; None unless the trial is COMPLETE."""
        return self.metrics.get("objective")


def _runs(client: mlflow.MlflowClient, experiment_ids: Sequence[str], filter_string: str, order: str) -> list[Run]:
    runs: list[Run] = []
    token: str | None = None
    while True:
        with quiet():
            page = client.search_runs(
                list(experiment_ids), filter_string, ViewType.ACTIVE_ONLY, 1000, [order], page_token=token
            )
        runs += page
        token = page.token
        if not token:
            return runs


def list_studies(client: mlflow.MlflowClient, experiment_id: str) -> list[StudyRecord]:
    """All studies of an experiment, newest first."""
    runs = _runs(client, [experiment_id], "tags.`hpo.kind` = 'study'", "attributes.start_time DESC")
    return [_study(run) for run in runs]


def find_study(client: mlflow.MlflowClient, experiment_id: str, name: str) -> StudyRecord | None:
    """The newest study of that name, or None."""
    quoted = name.replace("'", "")
    text = f"tags.`hpo.kind` = 'study' and attributes.run_name = '{quoted}'"
    runs = _runs(client, [experiment_id], text, "attributes.start_time DESC")
    return _study(runs[0]) if runs else None


def load_trials(client: mlflow.MlflowClient, study: StudyRecord) -> list[TrialRecord]:
    """The trials of a study by number, without their curves."""
    text = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{study.run_id}' and tags.`hpo.kind` = 'trial'"
    runs = _runs(client, [study.experiment_id], text, "attributes.start_time ASC")
    return sorted((_trial(run) for run in runs), key=lambda trial: trial.number)


def load_history(client: mlflow.MlflowClient, run_id: str, metric: str) -> list[float]:
    """One metric of a trial by epoch."""
    points = client.get_metric_history(run_id, metric)
    return [point.value for point in sorted(points, key=lambda point: point.step)]


def load_config(client: mlflow.MlflowClient, study: StudyRecord) -> str:
    """The composed config of a study, as the YAML text that was recorded; never to be instantiated."""
    with quiet(), tempfile.TemporaryDirectory() as folder:
        return Path(client.download_artifacts(study.run_id, "config.yaml", folder)).read_text(encoding="utf-8")


def _study(run: Run) -> StudyRecord:
    ended = run.info.end_time
    return StudyRecord(
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        name=run.info.run_name,
        state=run.data.tags.get("hpo.state", "unknown"),
        tags=run.data.tags,
        params=run.data.params,
        metrics=run.data.metrics,
        started=run.info.start_time / 1000,
        ended=ended / 1000 if ended else None,
    )


def _trial(run: Run) -> TrialRecord:
    tags = run.data.tags
    reason = tags.get("hpo.stop_reason")
    numbers = sorted(int(key.removeprefix("hpo.fold_")) for key in tags if key.startswith("hpo.fold_"))
    return TrialRecord(
        run_id=run.info.run_id,
        number=int(tags["hpo.trial"]),
        state=State(tags["hpo.state"]),
        stop_reason=StopReason(reason) if reason else None,
        params=run.data.params,
        metrics=run.data.metrics,
        tags=tags,
        folds=tuple(json.loads(tags[f"hpo.fold_{number}"]) for number in numbers),
    )
