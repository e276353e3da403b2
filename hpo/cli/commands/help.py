"""``python -m hpo help``: explains a command or lists the options of a config group."""

from __future__ import annotations

import argparse
import difflib

from hpo.cli import commands, overview
from hpo.cli.command import Command
from hpo.cli.exit_codes import OK
from hpo.errors import ConfigError


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic", nargs="?", metavar="TOPIC", help="a command, or a config group such as model")


def _execute(parsed: argparse.Namespace) -> int:
    print(help_on(parsed.topic))
    return OK


def help_on(topic: str | None) -> str:
    """Return the help on a command or a config group, or the overview.

    Raises:
        ConfigError: for an unknown topic.
    """
    if topic is None:
        return overview.overview()
    if topic in commands.NAMES:
        return commands.load(topic).help_text()
    if topic in overview.TOPICS:
        return overview.group_help(topic)
    close = difflib.get_close_matches(topic, overview.TOPICS, 1)
    expected = f"one of {', '.join(overview.TOPICS)}"
    raise ConfigError("help", topic, expected, f"python -m hpo help{f' {close[0]}' if close else ''}")


COMMAND = Command(
    "help",
    "[TOPIC]",
    "list the options of a config group, or explain a command",
    "Lists the options of a config group with their descriptions, or explains a command.",
    _add_arguments,
    _execute,
    (
        ("python -m hpo help model", "all models"),
        ("python -m hpo help compare", "the command compare"),
    ),
)
