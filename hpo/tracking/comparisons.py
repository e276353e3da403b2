"""A comparison as a run of MLflow, beside the studies that it compares."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Run

from hpo.errors import redact
from hpo.tracking.reader import search_runs
from hpo.tracking.schema import Tag

KEY = Tag.COMPARISON_KEY
LOOK = Tag.LOOK


def log_comparison(
    client: mlflow.MlflowClient,
    experiment_id: str,
    name: str,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
    files: Sequence[Path],
) -> str:
    """Make the run of a comparison, or take the one of the same look, and return its id; files are its artifacts."""
    all_tags = {Tag.KIND: "comparison", **{key: redact(value) for key, value in tags.items()}}
    known = [run for run in _runs(client, experiment_id, tags[KEY]) if run.data.tags.get(LOOK) == tags[LOOK]]
    run = known[0] if known else client.create_run(experiment_id, tags=all_tags, run_name=name)
    if known:
        for key, value in all_tags.items():
            client.set_tag(run.info.run_id, key, value)
    for metric, number in metrics.items():
        client.log_metric(run.info.run_id, metric, number)
    for file in files:
        client.log_artifact(run.info.run_id, str(file))
    client.set_terminated(run.info.run_id, "FINISHED", int(time.time() * 1000))
    return str(run.info.run_id)


def looks_at(client: mlflow.MlflowClient, experiment_id: str, key: str) -> list[dict[str, Any]]:
    """The looks at the same question that are recorded, the first one first; see :mod:`hpo.compare.command`."""
    return [json.loads(run.data.tags[LOOK]) for run in _runs(client, experiment_id, key) if LOOK in run.data.tags]


def _runs(client: mlflow.MlflowClient, experiment_id: str, key: str) -> list[Run]:
    text = f"tags.`hpo.kind` = 'comparison' and tags.`{KEY}` = '{key}'"
    return search_runs(client, experiment_id, text, "attributes.start_time ASC")
