"""A comparison as one HTML file that needs nothing else: it opens without a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go
import plotly.offline

import hpo
from hpo.compare import text
from hpo.compare.comparison import Comparison
from hpo.compare.figures import figures
from hpo.compare.tasks import Tasks, diagram, notes, ranks_table

WIDE = ("differences", "parallel", "ranks")
_CONFIG = {"responsive": True, "displaylogo": False, "modeBarButtonsToRemove": ["lasso2d", "select2d"]}


def write_page(comparison: Comparison, path: Path) -> Path:
    """Write the page of a comparison to ``path``."""
    return render(
        path,
        figures(comparison),
        title=f"Which {comparison.by}? {' · '.join(comparison.group.studies)}",
        setting=text.setting(comparison),
        verdict=comparison.verdict,
        tables=[(name.split()[-1].lower(), name, *make(comparison)) for name, make in text.TABLES.items()],
        notes=text.notes(comparison),
        left_out=comparison.group.left_out,
        by=comparison.by,
        studies=[
            (level, seed, study.name, study.record.run_id)
            for level, by_seed in comparison.group.studies.items()
            for seed, study in by_seed.items()
        ],
    )


def write_tasks_page(tasks: Tasks, path: Path) -> Path:
    """Write the page of levels on several tasks to ``path``."""
    first = tasks.tasks[0].comparison
    return render(
        path,
        {"ranks": ("Critical differences", diagram(tasks))},
        title=f"Which {tasks.by}? {' · '.join(tasks.levels)}",
        setting=f"{tasks.by} over {tasks.over} ({', '.join(task.name for task in tasks.tasks)}), "
        f"{len(first.seeds)} seeds of each",
        verdict=tasks.verdict,
        tables=[("ranks", "Ranks", *ranks_table(tasks))],
        notes=notes(tasks),
    )


def render(path: Path, figures: Mapping[str, tuple[str, go.Figure]], **parts: Any) -> Path:
    """Fill the template, and write it to ``path``.

    Args:
        figures: name → title and figure.
        parts: what else the template shows.
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
