"""``python -m hpo list``: lists the studies of a store."""

from __future__ import annotations

import argparse
from pathlib import Path

from hpo.cli import stores
from hpo.cli.command import Command, add_store_arguments
from hpo.cli.console import console
from hpo.cli.exit_codes import OK


def _execute(parsed: argparse.Namespace) -> int:
    tracking = stores.tracking_config(parsed)
    client, experiment_id = stores.open_existing(tracking)
    from hpo.cli import lists
    from hpo.run.lock import is_locked
    from hpo.tracking.outbox import find_pending_studies
    from hpo.tracking.reader import list_studies

    output_path = Path(tracking["output_path"])
    studies = list_studies(client, experiment_id)
    held = {s.name for s in studies if s.state == "running" and is_locked(output_path / "studies" / s.name)}
    lists.print_studies(console(), studies, held, [folder.name for folder in find_pending_studies(output_path)])
    return OK


COMMAND = Command(
    "list",
    "[OVERRIDE ...]",
    "list the studies of a store",
    "Lists the studies of a store, newest first, with their state, number of trials, best value and test score.",
    add_store_arguments,
    _execute,
)
