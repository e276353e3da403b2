"""Levels that are ranked over several tasks, against values that are known."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from hpo.compare.comparison import Comparison, Settings
from hpo.compare.tasks import Task, Tasks, diagram, notes, ranks_table
from hpo.errors import ConfigError
from unit.compare.toy_comparison import grouped


def ranked(*scores: dict[str, float], alpha: float = 0.05) -> Tasks:
    """A task for each mapping of level to mean test score, of two seeds."""
    made = [{level: (mean - 0.01, mean + 0.01) for level, mean in of.items()} for of in scores]
    comparisons = [Comparison(grouped(of), Settings()) for of in made]
    return Tasks("dataset", [Task(f"t{place}", each) for place, each in enumerate(comparisons)], alpha)


def always(n: int, order: Sequence[str] = "abc") -> Tasks:
    return ranked(*({level: 0.9 - 0.1 * place for place, level in enumerate(order)} for _ in range(n)))


def test_the_best_mean_ranks_first_and_equal_ones_share_a_rank() -> None:
    made = ranked({"a": 0.9, "b": 0.8, "c": 0.8}, {"a": 0.7, "b": 0.8, "c": 0.6})
    np.testing.assert_array_equal(made.ranks, [[1, 2.5, 2.5], [2, 1, 3]])
    assert made.mean_ranks == {"a": 1.5, "b": 1.75, "c": 2.75}


def test_the_p_value_is_that_of_all_permutations() -> None:
    # Of 6^4 permutations within the tasks the 6 that rank all alike are as extreme.
    assert always(4).p_value == pytest.approx(6 / 6**4)
    assert always(2, "ab").p_value == pytest.approx(0.5)
    assert ranked({"a": 0.9, "b": 0.9}, {"a": 0.8, "b": 0.8}).p_value == 1.0


def test_with_many_tasks_it_is_friedmans() -> None:
    draw = np.random.default_rng(1)
    scores = draw.normal(size=(40, 4)) * 0.1 + 0.5 + np.array([0.06, 0.0, 0.0, 0.0])
    made = ranked(*(dict(zip("abcd", row, strict=True)) for row in scores.tolist()))
    assert made.p_value == pytest.approx(stats.friedmanchisquare(*scores.T).pvalue, abs=0.01)


def test_the_critical_difference_is_the_one_that_is_published() -> None:
    # Demšar (2006), four classifiers on fourteen data sets: 1.25 at 0.05, 1.12 at 0.10.
    assert always(14, "abcd").critical_difference == pytest.approx(1.25, abs=0.005)
    made = always(14, "abcd")
    made.alpha = 0.10
    assert made.critical_difference == pytest.approx(1.12, abs=0.005)


def test_levels_are_told_apart_beyond_the_critical_difference_only() -> None:
    made = always(6)
    assert made.critical_difference == pytest.approx(1.353, abs=0.001)
    assert made.is_told_apart("a", "c")
    assert not made.is_told_apart("a", "b")
    assert made.alike == [["a", "b"], ["b", "c"]]
    assert made.verdict.startswith("Over 6 tasks the mean ranks are a 1.00, b 2.00, c 3.00; they differ (p = ")
    assert made.verdict.endswith("): a ranks above c.")


def test_without_a_difference_all_are_alike() -> None:
    made = ranked({"a": 0.9, "b": 0.8, "c": 0.7}, {"a": 0.7, "b": 0.8, "c": 0.9})
    assert made.alike == [["a", "b", "c"]]
    assert "that they differ is not shown (p = 1)" in made.verdict


def test_two_levels_are_told_apart_by_the_test_itself() -> None:
    made = always(6, "ab")
    assert made.p_value == pytest.approx(2 / 2**6)
    assert made.is_told_apart("a", "b")
    assert "a ranks above b" in made.verdict
    assert not any("Nemenyi" in note for note in notes(made))


def test_the_table_has_scores_with_their_ranks() -> None:
    headings, rows = ranks_table(ranked({"a": 0.8, "b": 0.9}, {"a": 0.6, "b": 0.7}))
    assert headings == ["dataset", "mean over seeds (rank)", "b", "a"]
    assert rows[0] == ["t0", "test accuracy", "0.9000 (1)", "0.8000 (2)"]
    assert rows[-1] == ["mean rank", "", "1.00", "2.00"]


def test_what_could_be_found_at_all_is_said() -> None:
    assert any("its smallest p on 3 tasks is 0.028." in note for note in notes(always(3)))


def test_levels_that_a_task_lacks_are_left_out() -> None:
    made = ranked({"a": 0.8, "b": 0.9, "c": 0.7}, {"a": 0.6, "b": 0.7})
    assert made.levels == ["a", "b"]
    with pytest.raises(ConfigError, match="at least two levels"):
        ranked({"a": 0.8, "b": 0.9}, {"a": 0.6, "c": 0.7})


def test_the_diagram_has_every_level_at_its_mean_rank() -> None:
    figure = diagram(always(6))
    marks = {trace.text[1].split()[0]: trace.x[0] for trace in figure.data if trace.text is not None}
    assert marks == {"a": 1.0, "b": 2.0, "c": 3.0}
    bars = [list(trace.x) for trace in figure.data if trace.name == "not told apart"]
    assert bars == [[1.0, 2.0], [2.0, 3.0]]
