"""The commands of ``python -m hpo``, one module each, imported when they are used."""

from __future__ import annotations

import importlib

from hpo.cli.command import Command

NAMES = (
    "run",
    "plan",
    "strategies",
    "resume",
    "compare",
    "trials",
    "list",
    "best",
    "sync",
    "ui",
    "new",
    "help",
)
"""All commands, in the order of the help."""


def load(name: str) -> Command:
    """Import the module of a command and return the command.

    Args:
        name: one of :data:`NAMES`.
    """
    command: Command = importlib.import_module(f"{__name__}.{name}").COMMAND
    return command
