"""Reads studies and trials from MLflow. Nothing that is read is instantiated or unpickled."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException

from hpo.core.states import State, StopReason
from hpo.tracking.schema import Artifact, Metric, Tag, fold_tag, parse_fold_tag


@dataclass(frozen=True)
class StudyRecord:
    """A study in MLflow.

    Args:
        state: value of ``Tag.STATE``.
        started: in seconds since 1970.
        ended: in seconds since 1970; None while it runs.
    """

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
    """A trial in MLflow.

    Args:
        params: as text, as MLflow stores them; typed ones are in ``Tag.PARAMS``.
        folds: outcome of each fold; see :func:`hpo.tracking.schema.fold_tag`.
    """

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
        return self.metrics.get(Metric.OBJECTIVE)


def search_runs(client: mlflow.MlflowClient, experiment_id: str, filter_string: str, order: str) -> list[Run]:
    """Find all runs that match a filter, over all pages.

    Args:
        order: such as ``attributes.start_time ASC``.
    """
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs([experiment_id], filter_string, ViewType.ACTIVE_ONLY, 1000, [order], page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def list_studies(client: mlflow.MlflowClient, experiment_id: str) -> list[StudyRecord]:
    """List the studies of an experiment, newest first."""
    runs = search_runs(client, experiment_id, f"tags.`{Tag.KIND}` = 'study'", "attributes.start_time DESC")
    return [_study(run) for run in runs]


def find_study(
    client: mlflow.MlflowClient, experiment_id: str, name: str, uid: str | None = None
) -> StudyRecord | None:
    """Find the newest study with a name, or the study with a uid, which also finds one that was renamed.

    Args:
        uid: replaces the name if given.
    """
    quoted = name.replace("'", "")
    is_wanted = f"attributes.run_name = '{quoted}'" if uid is None else f"tags.`{Tag.STUDY_UID}` = '{uid}'"
    matches = f"tags.`{Tag.KIND}` = 'study' and {is_wanted}"
    runs = search_runs(client, experiment_id, matches, "attributes.start_time DESC")
    return _study(runs[0]) if runs else None


def find_trial_runs(client: mlflow.MlflowClient, experiment_id: str, study_run_id: str) -> list[Run]:
    """Find the runs of a study's trials, oldest first, including superseded attempts."""
    matches = f"tags.`{Tag.PARENT}` = '{study_run_id}' and tags.`{Tag.KIND}` = 'trial'"
    return search_runs(client, experiment_id, matches, "attributes.start_time ASC")


def load_trials(client: mlflow.MlflowClient, study: StudyRecord) -> list[TrialRecord]:
    """Load the newest attempt of each trial of a study, in order of their numbers, without learning curves."""
    newest: dict[int, TrialRecord] = {}
    runs = find_trial_runs(client, study.experiment_id, study.run_id)
    for run in sorted(runs, key=lambda run: int(run.data.tags.get(Tag.ATTEMPT, 0))):
        trial = _trial(run)
        newest[trial.number] = trial
    return [newest[number] for number in sorted(newest)]


def load_history(client: mlflow.MlflowClient, run_id: str, metric: str) -> list[float]:
    """Load one metric of a trial, by epoch."""
    points = client.get_metric_history(run_id, metric)
    return [point.value for point in sorted(points, key=lambda point: point.step)]


def download(client: mlflow.MlflowClient, run_id: str, name: str, folder: Path) -> Path | None:
    """Copy an artifact, a file or a folder, into ``folder``; returns None if the run does not have it."""
    try:
        return Path(client.download_artifacts(run_id, name, str(folder)))
    except (MlflowException, OSError):
        return None


def load_text(client: mlflow.MlflowClient, study: StudyRecord, name: str) -> str:
    """Load a text artifact of a study."""
    with tempfile.TemporaryDirectory() as folder:
        return Path(client.download_artifacts(study.run_id, name, folder)).read_text(encoding="utf-8")


def load_config(client: mlflow.MlflowClient, study: StudyRecord) -> str:
    """Load the config of a study as YAML text."""
    return load_text(client, study, Artifact.CONFIG)


def read_fold_summaries(tags: Mapping[str, str]) -> Sequence[Mapping[str, Any]]:
    """Read the outcome of each fold from the tags of a trial, in order of the folds."""
    parsed = (parse_fold_tag(name) for name in tags)
    folds = sorted(fold for fold, budget in filter(None, parsed) if budget is None)
    return [json.loads(tags[fold_tag(fold)]) for fold in folds]


def _study(run: Run) -> StudyRecord:
    ended = run.info.end_time
    return StudyRecord(
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        name=run.info.run_name,
        state=run.data.tags.get(Tag.STATE, "unknown"),
        tags=run.data.tags,
        params=run.data.params,
        metrics=run.data.metrics,
        started=run.info.start_time / 1000,
        ended=ended / 1000 if ended else None,
    )


def _trial(run: Run) -> TrialRecord:
    tags = run.data.tags
    reason = tags.get(Tag.STOP_REASON)
    return TrialRecord(
        run_id=run.info.run_id,
        number=int(tags[Tag.TRIAL]),
        state=State(tags[Tag.STATE]),
        stop_reason=StopReason(reason) if reason else None,
        params=run.data.params,
        metrics=run.data.metrics,
        tags=tags,
        folds=tuple(read_fold_summaries(tags)),
    )
