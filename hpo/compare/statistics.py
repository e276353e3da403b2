"""Statistics of a comparison: the paired test of two levels, adjusted p-values, power, and seeds needed.

Seeds on one task are replicates: a pair is two studies with the same seed. The only assumption is that the paired
differences are a sample whose mean is close enough to normal for Student's t; ``benchmarks/error_rates.py`` checks it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

POWER = 0.8
MAX_N = 10_000


@dataclass(frozen=True)
class PairedTest:
    """Tests of the paired differences of two levels.

    Args:
        mean, sd: of the differences.
        low, high: confidence interval of the mean.
        p_value: two-sided, of no difference.
        p_equivalent: of a difference of at least ``min_effect`` (two one-sided tests, Schuirmann 1987).
        effect_size: mean over standard deviation, with Hedges' (1981) correction; None if all differences are equal.
    """

    mean: float
    sd: float
    low: float
    high: float
    p_value: float
    p_equivalent: float
    effect_size: float | None


def pair_differences(first: Mapping[int, float], second: Mapping[int, float], maximize: bool) -> dict[int, float]:
    """First minus second, by seed, with the sign that makes positive better; of the seeds that both have."""
    sign = 1.0 if maximize else -1.0
    return {seed: sign * (first[seed] - second[seed]) for seed in sorted(first.keys() & second.keys())}


def paired_test(differences: Sequence[float], min_effect: float, alpha: float) -> PairedTest:
    """Test paired differences, with Student's t or, if all of them are equal, with the sign test.

    Args:
        differences: one for each seed.
        min_effect: the smallest difference that matters, above 0.
        alpha: the interval has confidence ``1 - alpha``.
    """
    values = np.array(differences, float)
    n = len(values)
    mean = float(values.mean()) if n else math.nan
    sd = float(values.std(ddof=1)) if n > 1 else math.nan
    if n < 2 or not math.isfinite(sd):
        return PairedTest(mean, sd, -math.inf, math.inf, 1.0, 1.0, None)
    if sd > 1e-12 * max(1.0, abs(mean)):
        return _t_test(values, mean, sd, min_effect, alpha)
    return _sign_test(n, mean, sd, min_effect, alpha)


def _t_test(values: NDArray[np.float64], mean: float, sd: float, min_effect: float, alpha: float) -> PairedTest:
    n = len(values)
    low, high = (float(end) for end in stats.t.interval(1 - alpha, n - 1, loc=mean, scale=sd / math.sqrt(n)))
    p_value = float(stats.ttest_1samp(values, 0.0).pvalue)
    p_equivalent = max(
        float(stats.ttest_1samp(values, -min_effect, alternative="greater").pvalue),
        float(stats.ttest_1samp(values, min_effect, alternative="less").pvalue),
    )
    return PairedTest(mean, sd, low, high, p_value, p_equivalent, mean / sd * (1 - 3 / (4 * (n - 1) - 1)))


def _sign_test(n: int, mean: float, sd: float, min_effect: float, alpha: float) -> PairedTest:
    """Equal differences, as of rounded scores, have no spread for a t-test; Fisher's sign test is exact."""
    p_sign = 2.0 ** (1 - n)
    p_value = 1.0 if abs(mean) < 1e-12 else p_sign
    p_equivalent = 2.0**-n if abs(mean) < min_effect * (1 - 1e-9) else 1.0  # 0.57 - 0.56 is not below 0.01
    low, high = (mean, mean) if p_sign <= alpha else (-math.inf, math.inf)
    return PairedTest(mean, sd, low, high, p_value, p_equivalent, None)


def adjust_p_values(p_values: Sequence[float], n_pairs: int) -> list[float]:
    """Adjust the p-values of the hypotheses of all pairs, in the order given.

    Holm (1979) with the improvement of Shaffer (1986): a pair has two hypotheses (no difference, and a difference that
    matters), of which at most one is true; so at most ``n_pairs`` of all hypotheses are true.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, so_far = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        n_true = min(n_pairs, len(p_values) - rank)
        so_far = max(so_far, min(1.0, n_true * p_values[index]))
        adjusted[index] = so_far
    return adjusted


def power(n: int, sd: float, effect: float, alpha: float) -> float:
    """Probability that a two-sided paired t-test over ``n`` seeds detects a difference of ``effect``."""
    if n < 2:
        return 0.0
    if sd <= 0:
        return 1.0
    shift, critical = effect / sd * math.sqrt(n), float(stats.t.ppf(1 - alpha / 2, n - 1))
    return float(stats.nct.sf(critical, n - 1, shift) + stats.nct.sf(critical, n - 1, -shift))


def seeds_needed(sd: float, effect: float, alpha: float) -> int:
    """Fewest seeds with which a paired t-test has power :data:`POWER` for ``effect``; at most :data:`MAX_N`."""
    if not math.isfinite(sd) or sd <= 0:
        return 2 if sd == 0 else 3
    low, high = 2, 4
    while power(high, sd, effect, alpha) < POWER:
        low, high = high, 2 * high
        if high > MAX_N:
            return MAX_N
    while low < high:
        middle = (low + high) // 2
        if power(middle, sd, effect, alpha) >= POWER:
            high = middle
        else:
            low = middle + 1
    return low
