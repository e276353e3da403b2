"""``python -m hpo trials``: prints the trials of a study and a summary of early stopping."""

from __future__ import annotations

import argparse
from pathlib import Path

from hpo.cli import stores
from hpo.cli.command import Command, add_study
from hpo.cli.command_lines import best_command
from hpo.cli.console import console
from hpo.cli.exit_codes import OK


def _execute(parsed: argparse.Namespace) -> int:
    tracking = stores.tracking_config(parsed)
    client, experiment_id = stores.open_existing(tracking)
    from hpo.compare import trials

    study = stores.find(client, experiment_id, parsed.study)
    folder = Path(tracking["output_path"]) / "studies" / study.name
    trials.show(console(), client, study, folder, best_command)
    return OK


COMMAND = Command(
    "trials",
    "STUDY [OVERRIDE ...]",
    "show the trials of a study: early stopping, epochs saved, over- and under-fitting",
    "Shows the trials of a study: how each training ended, what early stopping saved and what a shorter patience would "
    "have changed, and whether each model over- or under-fits. Writes the learning curves to trials.html.",
    add_study,
    _execute,
)
