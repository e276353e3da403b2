"""Reports as files: HTML that opens without a network, and Markdown, for example for a pull request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go
import plotly.offline

import hpo
from hpo.compare.comparison import Comparison
from hpo.compare.conclusion import conclude, conclude_ranking
from hpo.compare.figures import figures, rank_diagram
from hpo.compare.report import TABLES, describe_setting, list_notes, list_ranking_notes, ranks_table
from hpo.compare.tasks import TaskRanking
from hpo.tracking.schema import Artifact

WIDE = ("differences", "parallel", "ranks")
_CONFIG = {"responsive": True, "displaylogo": False, "modeBarButtonsToRemove": ["lasso2d", "select2d"]}


def write_report(comparison: Comparison, folder: Path, command: str) -> tuple[Path, Path]:
    """Write the report of a comparison.

    Args:
        command: the command line that made it.

    Returns:
        Paths of the HTML and the Markdown file.
    """
    page = render(
        folder / Artifact.REPORT_PAGE,
        figures(comparison),
        title=f"Which {comparison.by}? {' · '.join(comparison.group.studies)}",
        setting=describe_setting(comparison),
        verdict=conclude(comparison),
        tables=[(name.split()[-1].lower(), name, *make(comparison)) for name, make in TABLES.items()],
        notes=list_notes(comparison),
        left_out=comparison.group.left_out,
        by=comparison.by,
        studies=[
            (level, seed, study.name, study.record.run_id)
            for level, by_seed in comparison.group.studies.items()
            for seed, study in by_seed.items()
        ],
    )
    report = folder / Artifact.REPORT
    report.write_text(f"{markdown(comparison)}\n{_made_by(command)}\n", encoding="utf-8")
    return page, report


def write_ranking_report(ranking: TaskRanking, folder: Path, command: str) -> tuple[Path, Path]:
    """Write the report of levels ranked over tasks; see :func:`write_report`."""
    seeds = ranking.tasks[0].comparison.seeds
    page = render(
        folder / Artifact.REPORT_PAGE,
        {"ranks": ("Critical differences", rank_diagram(ranking))},
        title=f"Which {ranking.by}? {' · '.join(ranking.levels)}",
        setting=f"{ranking.by} over {ranking.over} ({', '.join(task.name for task in ranking.tasks)}), "
        f"{len(seeds)} seeds each",
        verdict=conclude_ranking(ranking),
        tables=[("ranks", "Ranks", *ranks_table(ranking))],
        notes=list_ranking_notes(ranking),
    )
    lines = [f"# {ranking.by} over {ranking.over}", "", f"**{conclude_ranking(ranking)}**", ""]
    lines += [*markdown_table(*ranks_table(ranking)), "", *(f"- {note}" for note in list_ranking_notes(ranking)), ""]
    report = folder / Artifact.REPORT
    report.write_text("\n".join([*lines, _made_by(command), ""]), encoding="utf-8")
    return page, report


def render(path: Path, figures: Mapping[str, tuple[str, go.Figure]], **parts: Any) -> Path:
    """Render the HTML template to ``path``.

    Args:
        figures: name → title and figure.
        parts: other variables of the template.
    """
    environment = jinja2.Environment(loader=jinja2.PackageLoader("hpo.compare", "."), autoescape=True)
    drawn = [
        (name, title, figure.to_html(full_html=False, include_plotlyjs=False, config=_CONFIG, div_id=f"plot-{name}"))
        for name, (title, figure) in figures.items()
    ]
    page = environment.get_template("page.html").render(
        figures=drawn, wide=WIDE, version=hpo.__version__, plotlyjs=plotly.offline.get_plotlyjs(), **parts
    )
    path.write_text(page, encoding="utf-8")
    return path


def markdown(comparison: Comparison) -> str:
    """The report as Markdown."""
    setting = describe_setting(comparison)
    lines = [f"# {setting[0].upper()}{setting[1:]}", "", f"**{conclude(comparison)}**", ""]
    for title, make in TABLES.items():
        lines += [f"## {title}", "", *markdown_table(*make(comparison)), ""]
    lines += [f"- {note}" for note in list_notes(comparison)]
    if comparison.group.left_out:
        lines += ["", "## Left out", ""]
        lines += [f"- `{left.name}`: {left.reason}" for left in comparison.group.left_out]
    return "\n".join(lines) + "\n"


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [_row(headings), _row(["---"] * len(headings)), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _made_by(command: str) -> str:
    return f"Made by hpo {hpo.__version__}: `{command}`"
