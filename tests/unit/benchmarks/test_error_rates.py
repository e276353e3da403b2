"""The benchmark of error rates, with populations that are known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.error_rates import (
    Cell,
    Plan,
    analyse_in_turn,
    analyse_once,
    analyses_up_to,
    coverage,
    coverage_cell,
    error_cell,
    false_differences,
    powers,
    predictions,
    predictions_between_analyses,
    print_table,
)
from benchmarks.populations import Pair, Population
from hpo.compare.spending import AnalysisPlan
from hpo.compare.verdicts import Verdict

PLAN = Plan(repeats=4, max_seeds=8, seed=0, pool_seeds=40)


def normal(name: str, mean: float = 0.0, n_labels: int = 3, sd: float = 1.0) -> Population:
    rng = np.random.default_rng(len(name))
    return Population(name, True, mean + sd * rng.normal(size=(n_labels, PLAN.pool_seeds)), is_fresh=False)


def test_interim_analyses_are_evenly_spaced() -> None:
    assert analyses_up_to(20) == [5, 10, 15, 20]
    assert analyses_up_to(4) == [2, 3, 4]


def test_interim_analyses_spend_alpha_in_turn() -> None:
    scores = normal("population").scores[:2]
    found = list(analyse_in_turn(scores, True, AnalysisPlan(0.4, 8, 0.05), [2, 4, 8]))
    assert [(n, difference.n) for n, (difference,) in found] == [(2, 2), (4, 4), (8, 8)]
    levels = [difference.alpha for _, (difference,) in found]
    assert levels == pytest.approx(
        [0.05 * (1 / 4) ** 3, 0.05 * ((1 / 2) ** 3 - (1 / 4) ** 3), 0.05 * (1 - (1 / 2) ** 3)]
    )
    assert sum(levels) == pytest.approx(0.05)


def test_single_analysis_detects_a_large_difference() -> None:
    scores = np.stack([np.linspace(5.0, 5.1, 6), np.linspace(0.0, 0.2, 6)])
    assert analyse_once(scores, True, 0.1).verdict is Verdict.BETTER
    assert analyse_once(scores, False, 0.1).verdict is Verdict.WORSE


def test_certain_difference_is_called_at_the_first_analysis() -> None:
    n = PLAN.repeats * PLAN.n_seeds
    scores = np.stack([np.linspace(50, 51, n), np.linspace(0, 1, n) ** 2])
    row = false_differences(Population("apart", True, scores, is_fresh=True), 2, PLAN)
    assert row[:2] == ["apart", 2]
    assert isinstance(row[-1], Cell)
    assert row[-1].share == 1.0
    assert row[-1].is_broken


def test_false_differences_of_equal_levels_are_rare() -> None:
    row = false_differences(normal("equal"), 3, PLAN)
    assert isinstance(row[-1], Cell)
    assert row[-1].count <= 1


def test_coverage_of_populations_and_pairs() -> None:
    described, errors = coverage(normal("equal"), PLAN)
    assert described[:2] == ["equal", "+0"]
    assert errors[0] == "equal"
    first, second = normal("one", 1.0), normal("other")
    described, errors = coverage(Pair(first, second), PLAN)
    assert described[0] == "one − other"
    truth = float((first.scores[:, None] - second.scores[None]).mean())
    assert described[1] == f"{truth:+.4g}"
    cells = [cell for cell in described if isinstance(cell, Cell)]
    assert len(cells) == 4
    assert all(cell.repeats == PLAN.repeats for cell in cells)


def test_power_rises_with_the_number_of_seeds() -> None:
    rows = powers(normal("equal"), PLAN)
    assert [row[2] for row in rows] == [3, 5, 10, 20]
    better = [cell.share for row in rows if isinstance(cell := row[3], Cell)]
    assert better[-1] >= better[0]
    expected = [float(str(row[4]).rstrip("%")) for row in rows]
    assert expected == sorted(expected)


def test_predictions_count_unresolved_pairs() -> None:
    rows = predictions(normal("equal"), PLAN)
    assert [row[1] for row in rows] == [3, 5, 10]
    assert all(isinstance(row[2], Cell) and row[2].repeats == PLAN.repeats // 2 for row in rows)
    rows = predictions_between_analyses(normal("equal"), PLAN)
    assert [row[1] for row in rows] == [2, 4, 6]


def test_bounds_allow_for_the_number_of_repeats() -> None:
    assert not error_cell(5, 100).is_broken
    assert error_cell(10, 100).is_broken
    assert not coverage_cell(94, 100).is_broken
    assert coverage_cell(80, 100).is_broken


def test_broken_bounds_are_returned_and_marked(capsys: pytest.CaptureFixture[str]) -> None:
    broken = print_table("Title", ["pair", "error"], [["a", error_cell(50, 100)], ["b", error_cell(0, 100)]])
    assert broken == ["Title: a, error: 50.0%"]
    assert "| a | 50.0% BROKEN |\n| b | 0.0% |" in capsys.readouterr().out
