"""Reports as files."""

import re
from pathlib import Path

from hpo.compare.comparison import Comparison
from hpo.compare.pages import markdown, write_ranking_report, write_report
from hpo.compare.report import list_notes
from hpo.compare.spending import AnalysisPlan
from unit.compare.toy_comparison import BEST, WORST, always, compared, compared_with_left_out, grouped


def test_markdown_starts_with_conclusion_and_has_whole_tables() -> None:
    made = compared(optuna=BEST, random=WORST)
    lines = markdown(made).splitlines()
    assert lines[0] == "# Strategy on mlp, digits, holdout, at most 2 trials each, 5 seeds (0, 1, 2, 3, 4)"
    assert lines[2] == "**Optuna is better than random.**"
    tables = [line for line in lines if line.startswith("|")]
    assert len(tables) == (2 + 2) + (2 + 1) + (2 + 2 * 3)
    assert {line.count("|") for line in tables[:4]} == {12}
    assert [line.count("|") for line in tables[4:]] == [8] * 3 + [5] * 8
    assert all(f"- {note}" in lines for note in list_notes(made))
    assert "## Left out" not in lines


def test_markdown_escapes_bar_in_name() -> None:
    text = markdown(Comparison(grouped({"a|b": BEST, "c": WORST}), AnalysisPlan()))
    assert "| a/b | 0.9160 |" in text


def test_markdown_lists_studies_left_out() -> None:
    assert "## Left out\n\n- `mine`: it is [red]interrupted\n" in markdown(compared_with_left_out())


def test_report_is_written_as_html_and_markdown(tmp_path: Path) -> None:
    made = compared(optuna=BEST, random=WORST)
    page, report = write_report(made, tmp_path, "python -m hpo compare name=<mine>")
    html = page.read_text(encoding="utf-8")
    assert report.read_text(encoding="utf-8").startswith(markdown(made))
    assert report.read_text(encoding="utf-8").rstrip().endswith("`python -m hpo compare name=<mine>`")
    assert "Optuna is better than random." in html
    names = ["differences", "scores", "curve-trials", "curve-epochs", "curve-seconds", "over-tuning"]
    names += ["parallel", "stopping", "savings", "cost"]
    assert re.findall(r'<div id="of-([\w-]+)">', html) == names
    assert "<script src" not in html


def test_ranking_report_is_written_as_html_and_markdown(tmp_path: Path) -> None:
    page, report = write_ranking_report(always(6), tmp_path, "python -m hpo compare")
    assert 'id="plot-ranks"' in page.read_text(encoding="utf-8")
    lines = report.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# strategy over dataset"
    assert "| mean rank |  | 1.00 | 2.00 | 3.00 |" in lines
