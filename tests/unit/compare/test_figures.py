"""Figures of a report."""

from hpo.compare.figures import rank_diagram
from unit.compare.toy_comparison import always


def test_rank_diagram_shows_levels_at_mean_ranks() -> None:
    figure = rank_diagram(always(6))
    marks = {trace.text[1].split()[0]: trace.x[0] for trace in figure.data if trace.text is not None}
    assert marks == {"a": 1.0, "b": 2.0, "c": 3.0}
    bars = [list(trace.x) for trace in figure.data if trace.name == "no significant difference"]
    assert bars == [[1.0, 2.0], [2.0, 3.0]]
