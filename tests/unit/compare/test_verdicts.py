"""Verdicts on pairs of levels, checked against SciPy, published examples and hand calculations."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hpo.compare.verdicts import Difference, Verdict, compare_pairs
from unit.compare.toy_comparison import power_by_quadrature

# Student (1908), "The probable error of a mean": hours of sleep gained by ten patients with two drugs.
SLEEP = {
    "first": (0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0),
    "second": (1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4),
}


def by_seed(values: Sequence[float], first: int = 0) -> dict[int, float]:
    return dict(enumerate(values, first))


def compared(
    first: Sequence[float],
    second: Sequence[float],
    maximize: bool = True,
    min_effect: float = 0.01,
    alpha: float = 0.05,
) -> Difference:
    """Compare one pair, whose p-values need no adjustment."""
    scores = {"first": by_seed(first), "second": by_seed(second)}
    (difference,) = compare_pairs(scores, maximize, min_effect, alpha)
    return difference


def test_sleep_data_match_published_t_test() -> None:
    found = compared(SLEEP["second"], SLEEP["first"], min_effect=0.5)
    assert found.mean == pytest.approx(1.58)
    assert found.sd == pytest.approx(1.229995, abs=1e-6)
    assert (found.low, found.high) == (pytest.approx(0.7001142, abs=1e-7), pytest.approx(2.4598858, abs=1e-7))
    assert found.p_value == pytest.approx(0.002833, abs=1e-6)
    assert found.verdict is Verdict.BETTER
    assert (found.n, found.n_more) == (10, None)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=12).filter(
        lambda pairs: np.std([a - b for a, b in pairs]) > 1e-3
    ),
    st.sampled_from([0.1, 0.05, 0.01, 0.001]),
)
def test_interval_and_p_value_match_scipy_paired_t_test(pairs: list[tuple[float, float]], alpha: float) -> None:
    first, second = zip(*pairs, strict=True)
    found = compared(first, second, alpha=alpha)
    expected = stats.ttest_rel(first, second)
    interval = expected.confidence_interval(1 - alpha)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert found.p_value == pytest.approx(expected.pvalue)


def test_positive_difference_is_better_in_both_directions() -> None:
    low, high = (0.1, 0.2, 0.15, 0.12), (0.5, 0.61, 0.56, 0.5)
    for maximize, verdict in ((True, Verdict.WORSE), (False, Verdict.BETTER)):
        found = compared(low, high, maximize)
        assert found.verdict is verdict
        assert found.mean == pytest.approx((-1 if maximize else 1) * 0.4)


def test_only_common_seeds_are_paired() -> None:
    scores = {"a": by_seed((0.5, 0.6, 0.7), first=0), "b": by_seed((0.1, 0.2, 0.3), first=1)}
    (found,) = compare_pairs(scores, True, 0.01, 0.05)
    assert found.differences == {1: pytest.approx(0.5), 2: pytest.approx(0.5)}
    alone = {"a": {0: 0.5, 1: 0.6}, "b": {1: 0.5, 2: 0.6}}
    assert compare_pairs(alone, True, 0.01, 0.05) == []


def test_two_seeds_are_tested_with_one_degree_of_freedom() -> None:
    found = compared((0.9, 0.7), (0.6, 0.6))  # differences 0.3 and 0.1: t = 0.2 / 0.1 = 2
    assert found.p_value == pytest.approx(1 - 2 * math.atan(2) / math.pi)  # Cauchy
    half = 0.1 * math.tan(math.pi / 2 * 0.95)
    assert (found.low, found.high) == (pytest.approx(0.2 - half), pytest.approx(0.2 + half))
    assert found.verdict is Verdict.UNRESOLVED
    assert found.n_more is not None
    assert found.n_more >= 1


def test_effect_size_has_hedges_correction() -> None:
    found = compared(SLEEP["second"], SLEEP["first"])
    assert found.effect_size == pytest.approx(1.58 / 1.229995 * (1 - 3 / 35), abs=1e-5)
    # Hedges's approximation is within a percent of his exact factor.
    exact = math.gamma(9 / 2) / (math.sqrt(9 / 2) * math.gamma(8 / 2))
    assert found.effect_size == pytest.approx(1.58 / 1.229995 * exact, rel=0.01)


def test_effect_size_has_sign_of_difference() -> None:
    found = compared((0.3, 0.1, 0.2), (0.0, 0.0, 0.0), maximize=False)
    assert found.effect_size == pytest.approx(-0.2 / 0.1 * (1 - 3 / 7))


def test_identical_scores_are_equivalent_after_enough_seeds() -> None:
    five = compared((0.9,) * 5, (0.9,) * 5)
    assert (five.mean, five.sd, five.p_value) == (0.0, 0.0, 1.0)
    assert five.effect_size is None
    assert five.p_equivalent == 1 / 32
    assert five.verdict is Verdict.EQUIVALENT
    four = compared((0.9,) * 4, (0.9,) * 4)
    assert (four.p_equivalent, four.verdict) == (1 / 16, Verdict.UNRESOLVED)
    assert (four.low, four.high) == (-math.inf, math.inf)


@pytest.mark.parametrize(("n", "verdict"), [(5, Verdict.UNRESOLVED), (6, Verdict.BETTER)])
def test_equal_differences_use_sign_test(n: int, verdict: Verdict) -> None:
    first = [0.9 - 0.1 * seed for seed in range(n)]  # as numbers they differ in the last digit
    found = compared(first, [score - 0.1 for score in first])
    assert found.p_value == stats.binomtest(n, n, 0.5).pvalue
    assert found.p_equivalent == 1.0
    assert found.verdict is verdict
    ends = (0.1, 0.1) if verdict is Verdict.BETTER else (-math.inf, math.inf)
    assert (found.low, found.high) == (pytest.approx(ends[0]), pytest.approx(ends[1]))


def test_equal_small_differences_are_equivalent() -> None:
    found = compared((0.505,) * 6, (0.5,) * 6, min_effect=0.01)
    assert found.p_equivalent == 1 / 64
    assert found.verdict is Verdict.EQUIVALENT
    assert compared((0.515,) * 6, (0.5,) * 6, min_effect=0.01).verdict is Verdict.BETTER


@pytest.mark.parametrize("n", [2, 3, 4])
def test_equal_differences_need_seeds_of_sign_test(n: int) -> None:
    found = compared((0.75,) * n, (0.5,) * n)
    assert found.verdict is Verdict.UNRESOLVED
    assert found.n_more == 6 - n  # 2 / 2**6 is the first below 0.05


@pytest.mark.parametrize("n", [2, 6, 10])
def test_nan_score_is_unresolved(n: int) -> None:
    for first in ((math.nan,) * n, (math.nan, *(0.5,) * (n - 1))):
        found = compared(first, (0.4,) * n)
        assert found.verdict is Verdict.UNRESOLVED
        assert found.p_value == 1.0


def test_all_pairs_share_alpha() -> None:
    scores = {
        "a": by_seed((0.90, 0.91, 0.93, 0.90, 0.92)),
        "b": by_seed((0.80, 0.82, 0.81, 0.83, 0.80)),
        "c": by_seed((0.88, 0.90, 0.90, 0.91, 0.88)),
    }
    found = {(d.first, d.second): d for d in compare_pairs(scores, True, 0.01, 0.05)}
    raw = {
        pair: float(stats.ttest_rel(list(scores[pair[0]].values()), list(scores[pair[1]].values())).pvalue)
        for pair in (("a", "b"), ("a", "c"), ("b", "c"))
    }
    assert {pair: d.p_value for pair, d in found.items()} == pytest.approx(raw)
    smallest, middle, largest = sorted(raw, key=raw.__getitem__)
    assert found[smallest].p_adjusted == pytest.approx(3 * raw[smallest])
    assert found[middle].p_adjusted == pytest.approx(3 * raw[middle])
    assert found[largest].p_adjusted == pytest.approx(3 * raw[largest])  # six hypotheses, three of them true
    # The pair of a and c is below 0.05 only while it is alone: p = 0.09 here
    assert largest == ("a", "c")
    assert [found[pair].verdict for pair in raw] == [Verdict.BETTER, Verdict.UNRESOLVED, Verdict.WORSE]


def test_equivalence_is_two_one_sided_tests() -> None:
    first, second = (0.901, 0.899, 0.902, 0.900, 0.898, 0.903), (0.900, 0.900, 0.900, 0.900, 0.900, 0.900)
    differences = np.array(first) - np.array(second)
    t = differences.std(ddof=1) / math.sqrt(6)
    below = stats.t.sf((differences.mean() + 0.01) / t, 5)
    above = stats.t.cdf((differences.mean() - 0.01) / t, 5)
    found = compared(first, second, min_effect=0.01)
    assert found.p_equivalent == pytest.approx(max(below, above))
    assert found.verdict is Verdict.EQUIVALENT
    assert found.n_more is None


def test_equivalence_agrees_with_90_percent_interval() -> None:
    first, second = (0.52, 0.49, 0.51, 0.53, 0.50), (0.50, 0.50, 0.50, 0.50, 0.50)
    interval = stats.ttest_rel(first, second).confidence_interval(0.90)
    reach = max(abs(interval.low), abs(interval.high))
    assert compared(first, second, min_effect=reach * 1.001).verdict is Verdict.EQUIVALENT
    assert compared(first, second, min_effect=reach * 0.999).verdict is not Verdict.EQUIVALENT


def test_significant_but_small_difference_is_equivalent() -> None:
    first, second = (0.5011, 0.5009, 0.5010, 0.5012, 0.5008), (0.5,) * 5
    found = compared(first, second, min_effect=0.01)
    assert found.p_adjusted < 0.05
    assert found.verdict is Verdict.EQUIVALENT
    assert compared(first, second, min_effect=0.0005).verdict is Verdict.BETTER


def test_few_noisy_seeds_are_unresolved() -> None:
    found = compared((0.9, 0.7, 0.8), (0.7, 0.8, 0.75))
    assert found.verdict is Verdict.UNRESOLVED
    assert found.low < 0 < found.high
    assert found.n_more is not None


def test_equivalence_is_adjusted_for_number_of_pairs() -> None:
    noise = (0.001, -0.001, 0.002, -0.002, 0.0)
    scores = {
        "a": by_seed((0.5,) * 5),
        "b": by_seed([0.5 + each for each in noise]),
        "c": by_seed([0.5 - each / 2 for each in noise]),
    }
    alone = {
        (one, other): compare_pairs({one: scores[one], other: scores[other]}, True, 0.01, 0.05)[0].p_equivalent
        for one, other in (("a", "b"), ("a", "c"), ("b", "c"))
    }
    together = {(d.first, d.second): d.p_equivalent for d in compare_pairs(scores, True, 0.01, 0.05)}
    assert together[("a", "c")] == pytest.approx(3 * alone[("a", "c")])  # the smallest of the three
    assert all(together[pair] >= alone[pair] for pair in alone)


def test_more_seeds_depend_on_min_effect_not_on_mean() -> None:
    spread = np.array([0.06, -0.04, 0.03, -0.05, 0.0])
    counts = set()
    for mean in (0.0, 0.01, 0.02):
        found = compared(0.5 + spread + mean, (0.5,) * 5, min_effect=0.02)
        assert found.verdict is Verdict.UNRESOLVED
        counts.add(found.n_more)
    sd = float(spread.std(ddof=1))
    n = next(n for n in range(2, 200) if power_by_quadrature(n, sd, 0.02, 0.05) >= 0.8)
    assert counts == {n - 5}


def test_more_pairs_need_more_seeds() -> None:
    spread = np.array([0.06, -0.04, 0.03, -0.05, 0.0])
    scores = {"a": by_seed(0.5 + spread), "b": by_seed((0.5,) * 5), "c": by_seed(0.5 - spread)}
    found = compare_pairs(scores, True, 0.02, 0.05)[0]
    sd = float(spread.std(ddof=1))
    n = next(n for n in range(2, 400) if power_by_quadrature(n, sd, 0.02, 0.05 / 3) >= 0.8)
    assert found.n_more == n - 5


def test_error_rates_and_coverage_are_nominal() -> None:
    """120 comparisons without a difference and 120 with just one that matters.

    By the seed the counts are what they are; of other seeds 1 in 10 000 would fall outside of four standard errors.
    """
    rng, n_runs, n = np.random.default_rng(3), 120, 5
    none = rng.normal(0.0, 0.02, (n_runs, n))
    some = rng.normal(0.05, 0.02, (n_runs, n))
    found_none = [compared(0.5 + row, (0.5,) * n, min_effect=0.05) for row in none]
    found_some = [compared(0.5 + row, (0.5,) * n, min_effect=0.05) for row in some]
    slack = 4 * math.sqrt(0.05 * 0.95 / n_runs)
    assert np.mean([d.low <= 0.0 <= d.high for d in found_none]) == pytest.approx(0.95, abs=slack)
    assert np.mean([d.low <= 0.05 <= d.high for d in found_some]) == pytest.approx(0.95, abs=slack)
    assert np.mean([d.p_value <= 0.05 for d in found_none]) == pytest.approx(0.05, abs=slack)
    assert np.mean([d.p_equivalent <= 0.05 for d in found_some]) == pytest.approx(0.05, abs=slack)
