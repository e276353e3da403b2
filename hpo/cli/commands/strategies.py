"""``python -m hpo strategies``: lists the search strategies."""

from __future__ import annotations

import argparse

from hpo import config as configs
from hpo.cli import hydra_app
from hpo.cli.command import Command
from hpo.cli.console import console
from hpo.cli.exit_codes import OK
from hpo.errors import ConfigError


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/strategies.md")


def _execute(parsed: argparse.Namespace) -> int:
    from hpo.cli import lists
    from hpo.study import build as studies

    rows: list[lists.StrategyRow] = []
    for name, description in configs.options("strategy").items():
        config = hydra_app.compose([f"strategy={name}"])
        try:
            rows.append((name, studies.strategy_tags(config), description))
        except ConfigError as error:  # its library is not installed; the fix is the command that installs it
            rows.append((name, None, f"{description} (not installed: {error.fix})"))
    if parsed.markdown:
        print(lists.strategies_markdown(rows))
    else:
        lists.print_strategies(console(), rows)
    return OK


COMMAND = Command(
    "strategies",
    "[--markdown]",
    "list the search strategies: library, abilities, when to use each",
    "Lists the search strategies: the library behind each, what it supports, and when to use it.",
    _add_arguments,
    _execute,
)
