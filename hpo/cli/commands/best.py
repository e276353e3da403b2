"""``python -m hpo best``: prints the best params of a study."""

from __future__ import annotations

import argparse
import json

from hpo.cli import stores
from hpo.cli.command import Command, add_study
from hpo.cli.command_lines import best_command
from hpo.cli.console import console
from hpo.cli.exit_codes import OK
from hpo.errors import ConfigError
from hpo.tracking.schema import Tag


def _execute(parsed: argparse.Namespace) -> int:
    client, experiment_id = stores.open_existing(stores.tracking_config(parsed))
    from hpo.cli import lists
    from hpo.tracking.reader import load_trials

    study = stores.find(client, experiment_id, parsed.study)
    number = study.tags.get(Tag.BEST_TRIAL)
    if number is None:
        expected = f"a study with a completed trial; this one is {study.state}"
        raise ConfigError("study", parsed.study, expected, "python -m hpo list")
    trial = next(t for t in load_trials(client, study) if t.number == int(number))
    command = best_command(json.loads(study.tags[Tag.OVERRIDES]), json.loads(study.tags[Tag.BEST_PARAMS]))
    lists.print_best(console(), study, trial, command)
    return OK


COMMAND = Command(
    "best",
    "STUDY [OVERRIDE ...]",
    "print the best params of a study, and a command that trains them again",
    "Prints the best params of a study, its test scores, the address of its model, and a command that trains these "
    "params again.",
    add_study,
    _execute,
)
