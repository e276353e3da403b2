"""Adjusted p-values, power and seeds needed, checked against SciPy and published values."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hpo.compare.statistics import adjust_p_values, power, seeds_needed
from unit.compare.toy_comparison import power_by_quadrature


def test_p_values_are_adjusted_by_holm() -> None:
    assert adjust_p_values([0.01, 0.04, 0.03, 0.005], 4) == [
        pytest.approx(0.03),
        pytest.approx(0.06),  # 0.04 × 1, but not below the one before it
        pytest.approx(0.06),
        pytest.approx(0.02),
    ]
    assert adjust_p_values([0.02], 1) == [0.02]
    assert adjust_p_values([], 0) == []
    assert adjust_p_values([0.9, 0.8], 2) == [1.0, 1.0]


def test_adjustment_counts_one_true_hypothesis_per_pair() -> None:
    # Three pairs, six hypotheses: three at most are true at once, then as many as are left.
    p_values = [0.001, 0.002, 0.004, 0.010, 0.020, 0.5]
    assert adjust_p_values(p_values, 3) == [pytest.approx(p) for p in (0.003, 0.006, 0.012, 0.030, 0.040, 0.5)]
    assert adjust_p_values([0.03, 0.9], 1) == [0.03, 0.9]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.booleans())
def test_adjusted_p_value_is_between_raw_and_bonferroni(p_values: list[float], in_pairs: bool) -> None:
    n_pairs = (len(p_values) + 1) // 2 if in_pairs else len(p_values)
    adjusted = adjust_p_values(p_values, n_pairs)
    for p, q in zip(p_values, adjusted, strict=True):
        assert p <= q <= min(1.0, n_pairs * p) + 1e-12
    assert min(adjusted) == pytest.approx(min(1.0, n_pairs * min(p_values)))
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)


@pytest.mark.parametrize(("effect", "n"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_seeds_needed_match_published_tables(effect: float, n: int) -> None:
    """Cohen's small, medium and large effect, power 0.8, two-sided 0.05, as G*Power has them."""
    assert seeds_needed(1.0, effect, 0.05) == n


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 3, 0.05 / 8, 0.00135, 0.0004])
def test_power_matches_quadrature(alpha: float) -> None:
    for effect in (0.4, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 20.0):
        for n in (2, 3, 5, 9, 20, 100):
            expected = power_by_quadrature(n, 1.0, effect, alpha)
            assert power(n, 1.0, effect, alpha) == pytest.approx(expected, abs=5e-3), (effect, n)


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 3, 0.00135, 0.0001])
def test_seeds_needed_are_fewest_with_enough_power(alpha: float) -> None:
    for sd in (0.05, 0.1, 0.15, 0.2, 0.5, 1.0, 2.0):
        n = seeds_needed(sd, 1.0, alpha)
        assert power_by_quadrature(n, sd, 1.0, alpha) >= 0.8 - 5e-3, sd
        assert n == 2 or power_by_quadrature(n - 1, sd, 1.0, alpha) < 0.8 + 5e-3, sd


def test_power_matches_simulation() -> None:
    values = np.random.default_rng(1).normal(0.8, 1.0, (20_000, 15))
    found = float((stats.ttest_1samp(values, 0.0, axis=1).pvalue <= 0.05).mean())
    assert power(15, 1.0, 0.8, 0.05) == pytest.approx(found, abs=4 * math.sqrt(0.16 / 20_000))


def test_power_at_limits() -> None:
    assert power(1, 1.0, 1.0, 0.05) == 0.0
    assert power(2, 0.0, 1.0, 0.05) == 1.0
    assert power(10, 1.0, 1e-9, 0.05) == pytest.approx(0.05)


def test_seeds_needed_is_bounded() -> None:
    assert seeds_needed(math.nan, 0.01, 0.05) == 3
    assert seeds_needed(1.0, 1e-6, 0.05) == 10_000  # and no more
