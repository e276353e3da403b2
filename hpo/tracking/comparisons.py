"""A comparison as a run of MLflow, beside the studies that it compares."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import mlflow

from hpo.errors import redact
from hpo.tracking.reader import search_runs

KEY = "hpo.comparison_key"
SEEDS = "hpo.seeds"
SPENT = "hpo.alpha_spent"


def log_comparison(
    client: mlflow.MlflowClient,
    experiment_id: str,
    name: str,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
    files: Sequence[Path],
) -> str:
    """Make the run of a comparison, with its files as artifacts, and return its id."""
    all_tags = {"hpo.kind": "comparison", **{key: redact(value) for key, value in tags.items()}}
    run = client.create_run(experiment_id, tags=all_tags, run_name=name)
    for key, value in metrics.items():
        client.log_metric(run.info.run_id, key, value)
    for file in files:
        client.log_artifact(run.info.run_id, str(file))
    client.set_terminated(run.info.run_id, "FINISHED", int(time.time() * 1000))
    return str(run.info.run_id)


def looks_at(client: mlflow.MlflowClient, experiment_id: str, key: str) -> dict[tuple[int, ...], float]:
    """The seeds at which the same question has been asked before → the error that was spent on it."""
    text = f"tags.`hpo.kind` = 'comparison' and tags.`{KEY}` = '{key}'"
    runs = search_runs(client, experiment_id, text, "attributes.start_time DESC")
    return {tuple(json.loads(run.data.tags[SEEDS])): float(run.data.tags[SPENT]) for run in runs}
