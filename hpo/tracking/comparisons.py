"""Comparisons as MLflow runs, beside the studies that they compare."""

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


def log_comparison(
    client: mlflow.MlflowClient,
    experiment_id: str,
    name: str,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
    files: Sequence[Path],
) -> str:
    """Record a comparison, or update the run of the same interim analysis.

    Args:
        name: of the run.
        tags: including ``Tag.COMPARISON_KEY`` and ``Tag.INTERIM_ANALYSIS``, which identify the run.
        files: uploaded as artifacts.

    Returns:
        The id of the run.
    """
    run_tags = {Tag.KIND: "comparison", **{key: redact(value) for key, value in tags.items()}}
    run_id = _find_run(client, experiment_id, tags)
    if run_id is None:
        run_id = client.create_run(experiment_id, tags=run_tags, run_name=name).info.run_id
    else:
        for key, value in run_tags.items():
            client.set_tag(run_id, key, value)
    for metric, number in metrics.items():
        client.log_metric(run_id, metric, number)
    for file in files:
        client.log_artifact(run_id, str(file))
    client.set_terminated(run_id, "FINISHED", int(time.time() * 1000))
    return str(run_id)


def load_interim_analyses(client: mlflow.MlflowClient, experiment_id: str, key: str) -> list[dict[str, Any]]:
    """Load the recorded interim analyses of a question, oldest first; see :mod:`hpo.compare.command`.

    Args:
        key: digest of the question, as in ``Tag.COMPARISON_KEY``.
    """
    recorded = (run.data.tags.get(Tag.INTERIM_ANALYSIS) for run in _comparison_runs(client, experiment_id, key))
    return [json.loads(text) for text in recorded if text is not None]


def _find_run(client: mlflow.MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> str | None:
    for run in _comparison_runs(client, experiment_id, tags[Tag.COMPARISON_KEY]):
        if run.data.tags.get(Tag.INTERIM_ANALYSIS) == tags[Tag.INTERIM_ANALYSIS]:
            return str(run.info.run_id)
    return None


def _comparison_runs(client: mlflow.MlflowClient, experiment_id: str, key: str) -> list[Run]:
    matches = f"tags.`{Tag.KIND}` = 'comparison' and tags.`{Tag.COMPARISON_KEY}` = '{key}'"
    return search_runs(client, experiment_id, matches, "attributes.start_time ASC")
