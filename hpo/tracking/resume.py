"""Loads a study to resume it, from MLflow or, while that does not answer, from the outbox on this machine.

Nothing that is read is instantiated or unpickled.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Run

from hpo.core.trial import RecordedTrial
from hpo.tracking.outbox import OUTBOX_FILE, STUDY, read_outbox
from hpo.tracking.reader import StudyRecord, download, find_trial_runs, load_history, load_text
from hpo.tracking.recorded_runs import History, RecordedRun, read_history, rebuild_trials
from hpo.tracking.schema import Tag


@dataclass(frozen=True)
class RecordedStudy:
    """The record that a resumed study starts from.

    Args:
        tags: of the study's run.
        metrics: of the study's run, the last value of each.
        texts: reads a text artifact by name.
        trials: in order of their numbers.
    """

    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    texts: Callable[[str], str]
    trials: tuple[RecordedTrial, ...]


def load_from_mlflow(
    client: mlflow.MlflowClient, study: StudyRecord, metrics: Sequence[str], n_folds: int
) -> RecordedStudy:
    """Load a study from MLflow.

    Args:
        metrics: names of the metrics that the model reports for each epoch.
        n_folds: number of folds of each trial.
    """
    found = find_trial_runs(client, study.experiment_id, study.run_id)
    trials = rebuild_trials([_run_in_mlflow(client, run) for run in found], metrics, n_folds)
    return RecordedStudy(study.tags, study.metrics, functools.partial(load_text, client, study), trials)


def load_from_outbox(folder: Path, metrics: Sequence[str], n_folds: int) -> RecordedStudy | None:
    """Load a study from the outbox in its folder.

    Args:
        metrics: names of the metrics that the model reports for each epoch.
        n_folds: number of folds of each trial.

    Returns:
        None if the outbox does not contain the start of the study.
    """
    runs: dict[str, _OutboxRun] = {}
    for record in read_outbox(folder / OUTBOX_FILE):
        runs.setdefault(record.key, _OutboxRun()).add(record.kind, record.body)
        if "study" in record.body:
            runs.setdefault(STUDY, _OutboxRun()).add("batch", record.body["study"])
    study = runs.pop(STUDY, None)
    if study is None or not study.tags:
        return None
    trials = rebuild_trials([_run_in_outbox(run, folder) for run in runs.values()], metrics, n_folds)
    return RecordedStudy(study.tags, study.metrics, study.texts.__getitem__, trials)


def _run_in_mlflow(client: mlflow.MlflowClient, run: Run) -> RecordedRun:
    run_id = run.info.run_id

    def history(name: str) -> History:
        with tempfile.TemporaryDirectory(prefix="hpo-") as folder:
            return read_history(download(client, run_id, name, Path(folder)))

    return RecordedRun(run.data.tags, run.data.metrics, functools.partial(load_history, client, run_id), history)


@dataclass
class _OutboxRun:
    """Everything that an outbox contains about one run, as MLflow would store it."""

    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    points: dict[str, dict[int, float]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    def add(self, kind: str, body: Mapping[str, Any]) -> None:
        """Add the body of a record."""
        if kind in ("start", "batch", "end"):
            # A placeholder stays, as text: what MLflow would fill in is unknown here, but it is known to be set.
            self.tags |= {name: str(value) for name, value in body.get("tags", {}).items()}
        if kind == "start":
            self.tags[Tag.RUN_NAME] = body["name"]
            self.texts |= body.get("texts", {})
        for name, value, _, step in body.get("metrics", ()):
            self.points.setdefault(name, {})[step] = value
            self.metrics[name] = value
        if kind == "text":
            self.texts[body["name"]] = body["text"]
        if kind == "file":
            self.files.append(body["path"])


def _run_in_outbox(run: _OutboxRun, folder: Path) -> RecordedRun:
    def curve(name: str) -> list[float]:
        points = run.points.get(name, {})
        return [points[step] for step in sorted(points)]

    def history(name: str) -> History:
        paths = [folder / path for path in run.files if Path(path).name == name]
        return read_history(paths[-1] if paths else None)

    return RecordedRun(run.tags, run.metrics, curve, history)
