"""Finds the store and the study that a command reads."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hpo.cli import hydra_app
from hpo.errors import ConfigError, TrackingError


def tracking_config(parsed: argparse.Namespace) -> dict[str, Any]:
    """Return the config group ``tracking`` for the parsed ``overrides`` and ``config_dir``."""
    tracking: dict[str, Any] = hydra_app.compose(parsed.overrides, parsed.config_dir)["tracking"]
    return tracking


def open_existing(tracking: dict[str, Any]) -> tuple[Any, str]:
    """Open a store for reading and return its client and the id of the experiment.

    Raises:
        TrackingError: if there is no such store; reading creates none.
    """
    from hpo.tracking.store import open_store, store_exists

    if not store_exists(tracking["uri"]):
        raise TrackingError(
            "tracking.uri",
            tracking["uri"],
            "a store that holds studies; this file does not exist",
            "run a study first (python -m hpo), or change to the folder in which it ran",
        )
    return open_store(tracking["uri"], tracking["experiment"], Path(tracking["output_path"]), create=False)


def find(client: Any, experiment_id: str, name: str) -> Any:
    """Return the record of a study.

    Raises:
        ConfigError: if the store has no such study; names those that it has.
    """
    from hpo.tracking.reader import find_study, list_studies

    study = find_study(client, experiment_id, name)
    if study is None:
        known = [s.name for s in list_studies(client, experiment_id)]
        expected = f"a study of this store: {', '.join(known[:5]) or 'it has none yet'}"
        raise ConfigError("study", name, expected, "python -m hpo list")
    return study
