"""A comparison as one HTML file that needs nothing else: it opens without a network."""

from __future__ import annotations

from pathlib import Path

import jinja2
import plotly.offline

import hpo
from hpo.compare import text
from hpo.compare.comparison import Comparison
from hpo.compare.figures import figures

WIDE = ("differences", "parallel")
_CONFIG = {"responsive": True, "displaylogo": False, "modeBarButtonsToRemove": ["lasso2d", "select2d"]}


def write_page(comparison: Comparison, path: Path) -> Path:
    """Write the page to ``path``."""
    environment = jinja2.Environment(loader=jinja2.PackageLoader("hpo.compare", "."), autoescape=True)
    drawn = [
        (name, title, figure.to_html(full_html=False, include_plotlyjs=False, config=_CONFIG, div_id=f"plot-{name}"))
        for name, (title, figure) in figures(comparison).items()
    ]
    page = environment.get_template("page.html").render(
        title=f"Which {comparison.by}? {' · '.join(comparison.group.studies)}",
        setting=text.setting(comparison),
        verdict=comparison.verdict,
        tables=[(name.split()[-1].lower(), name, *make(comparison)) for name, make in text.TABLES.items()],
        figures=drawn,
        wide=WIDE,
        notes=text.notes(comparison),
        left_out=comparison.group.left_out,
        by=comparison.by,
        studies=[
            (level, seed, study.name, study.record.run_id)
            for level, by_seed in comparison.group.studies.items()
            for seed, study in by_seed.items()
        ],
        version=hpo.__version__,
        plotlyjs=plotly.offline.get_plotlyjs(),
    )
    path.write_text(page, encoding="utf-8")
    return path
