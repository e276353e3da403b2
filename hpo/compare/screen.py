"""A comparison in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hpo.compare.comparison import Comparison
from hpo.compare.conclusion import conclude, conclude_ranking
from hpo.compare.report import TABLES, describe_setting, list_notes, list_ranking_notes, ranks_table
from hpo.compare.tasks import TaskRanking


def print_comparison(console: Console, comparison: Comparison, paths: Sequence[str] = ()) -> None:
    """Print a comparison, with the conclusion and the files at the end."""
    console.print(f"[bold]{escape(describe_setting(comparison))}[/]\n", highlight=False)
    for title, make in TABLES.items():
        print_table(console, title, *make(comparison))
    for note in list_notes(comparison):
        console.print(f"[dim]{escape(note)}[/]", highlight=False)
    for left_out in comparison.group.left_out:
        fix = f"; {left_out.fix}" if left_out.fix else ""
        console.print(f"[yellow]left out:[/] {escape(left_out.name)}: {escape(left_out.reason + fix)}", highlight=False)
    _print_conclusion(console, conclude(comparison), paths)


def print_ranking(console: Console, ranking: TaskRanking, paths: Sequence[str] = ()) -> None:
    """Print levels ranked over tasks, with the conclusion and the files at the end."""
    console.rule(style="dim")
    print_table(console, f"{ranking.by} over {ranking.over}", *ranks_table(ranking))
    for note in list_ranking_notes(ranking):
        console.print(f"[dim]{escape(note)}[/]", highlight=False)
    _print_conclusion(console, conclude_ranking(ranking), paths)


def print_table(console: Console, title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table and an empty line."""
    table = Table(title=title, title_justify="left", header_style="bold", box=None, padding=(0, 1))
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if place == 0 or heading == "verdict" else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table, highlight=False)
    console.print()


def _print_conclusion(console: Console, conclusion: str, paths: Sequence[str]) -> None:
    console.print(f"\n[bold green]{escape(conclusion)}[/]", highlight=False)
    for path in paths:
        console.print(f"  [cyan]{escape(path)}[/]", highlight=False, soft_wrap=True)
