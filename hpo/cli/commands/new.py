"""``python -m hpo new``: writes a project folder."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from hpo.cli.command import Command
from hpo.cli.exit_codes import OK
from hpo.cli.project import new as projects


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="a new folder, such as my_project")


def _execute(parsed: argparse.Namespace) -> int:
    folder = parsed.folder
    for path in projects.write(folder):
        print(f"wrote {folder / path}")
    print(
        f"next: cd {shlex.quote(str(folder))} && python -m hpo --config-dir=conf model=my_mlp limits.n_trials=10"
        "\nits README.md has the other commands"
    )
    return OK


COMMAND = Command(
    "new",
    "FOLDER",
    "write a project folder with your own model, data and test to start from",
    "Writes a folder with a model, a dataset, a search space, a test and a README, to start your own project from.",
    _add_arguments,
    _execute,
)
