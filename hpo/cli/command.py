"""What a command is: a name, help texts, arguments, and a function that runs it."""

from __future__ import annotations

import argparse
import shlex
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from hpo.cli.exit_codes import OK
from hpo.errors import ConfigError

WIDTH = 100
"""Columns of every help text."""


class ArgumentParser(argparse.ArgumentParser):
    """A parser that raises :class:`ConfigError` where argparse would print its usage and end the process."""

    def error(self, message: str) -> NoReturn:
        """Raise the error for arguments that cannot be parsed.

        Raises:
            ConfigError: always.
        """
        name = self.prog.rpartition(" ")[2]
        usage = " ".join(self.format_usage().split())
        # Intermixed parsing calls optional positionals required as well.
        raise ConfigError(name, message.removesuffix(", OVERRIDE"), usage, f"python -m hpo help {name}")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=WIDTH, max_help_position=28)


@dataclass(frozen=True)
class Command:
    """One command of ``python -m hpo``.

    Args:
        name: first word of the command line.
        usage: its arguments, as the overview shows them.
        summary: one line for the overview.
        description: what it does, for ``python -m hpo help NAME``.
        add_arguments: adds the arguments to a parser.
        execute: runs the command and returns its exit code.
        examples: command line → what it does.
        details: further text for the end of the help.
    """

    name: str
    usage: str
    summary: str
    description: str
    add_arguments: Callable[[argparse.ArgumentParser], object]
    execute: Callable[[argparse.Namespace], int]
    examples: Sequence[tuple[str, str]] = ()
    details: Callable[[], str] | None = None

    def run(self, arguments: Sequence[str]) -> int:
        """Parse ``arguments`` and run the command; with ``--help`` print its help.

        Raises:
            ConfigError: for arguments that cannot be parsed.
        """
        if {"-h", "--help"} & set(arguments):
            print(self.help_text())
            return OK
        return self.execute(self._parser().parse_intermixed_args(arguments))

    def help_text(self) -> str:
        """Return what ``python -m hpo help NAME`` prints."""
        return self._parser().format_help().rstrip()

    def _parser(self) -> ArgumentParser:
        parser = ArgumentParser(
            prog=f"python -m hpo {self.name}",
            usage=f"python -m hpo {self.name} {self.usage}".rstrip(),
            description=textwrap.fill(self.description, WIDTH),
            epilog=self._epilog(),
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
        )
        self.add_arguments(parser)
        return parser

    def _epilog(self) -> str | None:
        parts = [] if self.details is None else [self.details()]
        if self.examples:
            lines = [f"  {command}\n      {text}" for command, text in self.examples]
            parts.append("\n".join(["examples:", *lines]))
        return "\n\n".join(parts) or None


def add_overrides(parser: argparse.ArgumentParser, help_text: str) -> None:
    """Add positional Hydra overrides and ``--config-dir``, which adds a folder of YAML files to them."""
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help=help_text)
    add_config_dir(parser)


def add_config_dir(parser: argparse.ArgumentParser) -> None:
    """Add ``--config-dir``."""
    parser.add_argument("--config-dir", "-cd", metavar="DIR", help="folder with your own YAML files")


def add_store_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which store to read."""
    add_overrides(parser, "of the tracking group, as for a study: tracking.uri=…")


def add_study(parser: argparse.ArgumentParser) -> None:
    """Add the name of a study and the arguments that say which store has it."""
    parser.add_argument("study", metavar="STUDY", help="its name; python -m hpo list shows the names")
    add_store_arguments(parser)


def given(arguments: Sequence[Any]) -> str:
    """Return arguments as they were typed, for an error message."""
    return shlex.join(map(str, arguments)) or "nothing"
