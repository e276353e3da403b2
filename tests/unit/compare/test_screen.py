"""A comparison in the terminal."""

import io
from collections.abc import Sequence

from rich.console import Console

from hpo.compare.comparison import Comparison
from hpo.compare.screen import print_comparison
from hpo.compare.spending import AnalysisPlan
from unit.compare.toy_comparison import BEST, WORST, compared, compared_with_left_out, grouped


def printed(comparison: Comparison, paths: Sequence[str] = ()) -> str:
    text = io.StringIO()
    print_comparison(Console(file=text, width=200), comparison, paths)
    return text.getvalue()


def test_terminal_ends_with_conclusion_and_files() -> None:
    lines = printed(compared(optuna=BEST, random=WORST), ["a/report.html", "a/report.md"]).rstrip().splitlines()
    assert lines[-3:] == ["Optuna is better than random.", "  a/report.html", "  a/report.md"]
    assert lines[0].startswith("strategy on mlp, digits")
    assert any(line.split()[:2] == ["random", "0.8120"] for line in lines)


def test_terminal_lists_studies_left_out_with_fix() -> None:
    assert "left out: mine: it is [red]interrupted; python -m hpo resume mine" in printed(compared_with_left_out())


def test_terminal_escapes_markup() -> None:
    said = printed(Comparison(grouped({"[bold]a": BEST, "b": WORST}), AnalysisPlan()))
    assert "[bold]a is better than b." in said
    assert "[bold]a − b" in said
