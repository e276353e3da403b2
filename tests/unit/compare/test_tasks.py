"""Levels ranked over several tasks, checked against known values."""

import numpy as np
import pytest
from scipy import stats

from hpo.compare.conclusion import conclude_ranking
from hpo.compare.report import list_ranking_notes
from hpo.errors import ConfigError
from unit.compare.toy_comparison import always, ranked


def test_best_mean_ranks_first_and_ties_share_a_rank() -> None:
    made = ranked({"a": 0.9, "b": 0.8, "c": 0.8}, {"a": 0.7, "b": 0.8, "c": 0.6})
    np.testing.assert_array_equal(made.ranks, [[1, 2.5, 2.5], [2, 1, 3]])
    assert made.mean_ranks == {"a": 1.5, "b": 1.75, "c": 2.75}


def test_p_value_counts_all_permutations() -> None:
    # Of 6^4 permutations within the tasks the 6 that rank all alike are as extreme.
    assert always(4).p_value == pytest.approx(6 / 6**4)
    assert always(2, "ab").p_value == pytest.approx(0.5)
    assert ranked({"a": 0.9, "b": 0.9}, {"a": 0.8, "b": 0.8}).p_value == 1.0


def test_p_value_matches_friedman_with_many_tasks() -> None:
    draw = np.random.default_rng(1)
    scores = draw.normal(size=(40, 4)) * 0.1 + 0.5 + np.array([0.06, 0.0, 0.0, 0.0])
    made = ranked(*(dict(zip("abcd", row, strict=True)) for row in scores.tolist()))
    assert made.p_value == pytest.approx(stats.friedmanchisquare(*scores.T).pvalue, abs=0.01)


def test_critical_difference_matches_published_values() -> None:
    # Demšar (2006), four classifiers on fourteen data sets: 1.25 at 0.05, 1.12 at 0.10.
    assert always(14, "abcd").critical_difference == pytest.approx(1.25, abs=0.005)
    made = always(14, "abcd")
    made.alpha = 0.10
    assert made.critical_difference == pytest.approx(1.12, abs=0.005)


def test_levels_differ_beyond_critical_difference_only() -> None:
    made = always(6)
    assert made.critical_difference == pytest.approx(1.353, abs=0.001)
    assert made.is_told_apart("a", "c")
    assert not made.is_told_apart("a", "b")
    assert made.indistinguishable == [["a", "b"], ["b", "c"]]
    assert conclude_ranking(made).startswith(
        "Over 6 tasks the mean ranks are a 1.00, b 2.00, c 3.00. They differ (p = "
    )
    assert conclude_ranking(made).endswith("): a ranks above c.")


def test_all_levels_are_indistinguishable_without_difference() -> None:
    made = ranked({"a": 0.9, "b": 0.8, "c": 0.7}, {"a": 0.7, "b": 0.8, "c": 0.9})
    assert made.indistinguishable == [["a", "b", "c"]]
    assert "No significant difference was found (p = 1)." in conclude_ranking(made)


def test_two_levels_are_distinguished_by_friedman_alone() -> None:
    made = always(6, "ab")
    assert made.p_value == pytest.approx(2 / 2**6)
    assert made.is_told_apart("a", "b")
    assert "a ranks above b" in conclude_ranking(made)
    assert not any("Nemenyi" in note for note in list_ranking_notes(made))


def test_levels_missing_from_a_task_are_left_out() -> None:
    made = ranked({"a": 0.8, "b": 0.9, "c": 0.7}, {"a": 0.6, "b": 0.7})
    assert made.levels == ["a", "b"]
    with pytest.raises(ConfigError, match="at least two levels"):
        ranked({"a": 0.8, "b": 0.9}, {"a": 0.6, "c": 0.7})
