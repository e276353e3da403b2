"""Paired differences between two ways of doing the same study, with errors that stay below what was promised.

Seeds on one task are replicates: a pair is two studies with the same seed, and all that is assumed is that its
differences are a sample whose mean is near enough to normal for Student's t. ``benchmarks/error_rates.py`` checks that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import combinations

import numpy as np
from scipy import stats

POWER = 0.8
MAX_N = 10_000
# Of the spending function alpha·(n/max)^RHO: 3 is close to O'Brien and Fleming's, which spends little on early looks.
RHO = 3.0


class Verdict(StrEnum):
    """What can be said of a pair."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    UNRESOLVED = "unresolved"


@dataclass(frozen=True)
class Difference:
    """A pair of levels, compared over the seeds that both have.

    Args:
        first, second: the levels.
        differences: first minus second by seed, with the sign that makes positive better.
        low, high: the interval of the mean at confidence ``1 - alpha``.
        p_value: two-sided, of no difference; ``p_adjusted`` with the error shared by all pairs, see :func:`adjust`.
        p_equivalent: of a difference of ``min_effect`` or more (two one-sided tests, Schuirmann 1987), adjusted too.
        effect_size: mean over standard deviation of the differences, with Hedges' (1981) correction; None where all
            differences are equal.
        n_more: seeds that would probably settle an unresolved pair: from ``min_effect`` and the spread that was seen,
            never from the mean that was seen. None for a pair that is settled.
    """

    first: str
    second: str
    differences: Mapping[int, float]
    mean: float
    sd: float
    low: float
    high: float
    alpha: float
    min_effect: float
    p_value: float
    p_adjusted: float
    p_equivalent: float
    effect_size: float | None
    verdict: Verdict = Verdict.UNRESOLVED
    n_more: int | None = None

    @property
    def n(self) -> int:
        """Seeds."""
        return len(self.differences)


def alpha_of_look(alpha: float, max_seeds: int, n_seeds: int, looks: Sequence[int]) -> float:
    """The error that a look at ``n_seeds`` may spend, so that all looks together spend at most ``alpha``.

    Lan & DeMets (1983) with the spending function ``alpha * (n / max_seeds) ** 3``; what is spent between two looks is
    the level of the second one, which holds whatever the looks have in common (Bonferroni). ``looks`` are the numbers
    of seeds that have been looked at before.

    Raises:
        ValueError: for more seeds than ``max_seeds``.
    """
    if n_seeds > max_seeds:
        raise ValueError(f"{n_seeds} seeds are more than the {max_seeds} that were declared")
    before = max((n for n in looks if n < n_seeds), default=0)
    return float(alpha * ((n_seeds / max_seeds) ** RHO - (before / max_seeds) ** RHO))


def compare_pairs(
    scores: Mapping[str, Mapping[int, float]],
    maximize: bool,
    min_effect: float,
    alpha: float,
    planned: float | None = None,
) -> list[Difference]:
    """Every pair of levels over the seeds that both have.

    Args:
        scores: level → seed → score.
        maximize: whether a higher score is better.
        min_effect: the smallest difference that matters, in units of the score, above 0.
        alpha: the error that all pairs together may spend.
        planned: the error that the look which is to settle them may spend; None means ``alpha``.
    """
    found = [
        _difference(first, second, _paired(scores[first], scores[second], maximize), min_effect, alpha)
        for first, second in combinations(scores, 2)
    ]
    found = [difference for difference in found if difference.n >= 2]
    n = len(found)
    both = adjust([*(d.p_value for d in found), *(d.p_equivalent for d in found)], n)
    adjusted = [replace(d, p_adjusted=p, p_equivalent=q) for d, p, q in zip(found, both[:n], both[n:], strict=True)]
    return [_judged(difference, n, planned or alpha) for difference in adjusted]


def _paired(first: Mapping[int, float], second: Mapping[int, float], maximize: bool) -> dict[int, float]:
    sign = 1.0 if maximize else -1.0
    return {seed: sign * (first[seed] - second[seed]) for seed in sorted(first.keys() & second.keys())}


def _difference(
    first: str, second: str, differences: Mapping[int, float], min_effect: float, alpha: float
) -> Difference:
    values = np.array(list(differences.values()), float)
    n = len(values)
    mean = float(values.mean()) if n else math.nan
    sd = float(values.std(ddof=1)) if n > 1 else math.nan
    effect: float | None = None
    if n < 2 or not math.isfinite(sd):
        low, high, p_value, p_equivalent = -math.inf, math.inf, 1.0, 1.0
    elif sd > 1e-12 * max(1.0, abs(mean)):
        error = sd / math.sqrt(n)
        low, high = (float(end) for end in stats.t.interval(1 - alpha, n - 1, loc=mean, scale=error))
        p_value = float(stats.ttest_1samp(values, 0.0).pvalue)
        p_equivalent = max(
            float(stats.ttest_1samp(values, -min_effect, alternative="greater").pvalue),
            float(stats.ttest_1samp(values, min_effect, alternative="less").pvalue),
        )
        effect = mean / sd * (1 - 3 / (4 * (n - 1) - 1))
    else:
        # Equal differences, as of rounded scores, have no spread to go by: Fisher's sign test is exact.
        p_sign = 2.0 ** (1 - n)
        p_value = 1.0 if abs(mean) < 1e-12 else p_sign
        p_equivalent = 2.0**-n if abs(mean) < min_effect * (1 - 1e-9) else 1.0  # 0.57 - 0.56 is not below 0.01
        low, high = (mean, mean) if p_sign <= alpha else (-math.inf, math.inf)
    return Difference(
        first, second, dict(differences), mean, sd, low, high, alpha, min_effect, p_value, 1.0, p_equivalent, effect
    )


def _judged(difference: Difference, n_pairs: int, planned: float) -> Difference:
    is_equivalent = difference.p_equivalent <= difference.alpha
    if is_equivalent:
        return replace(difference, verdict=Verdict.EQUIVALENT)
    if difference.p_adjusted <= difference.alpha:
        return replace(difference, verdict=Verdict.BETTER if difference.mean > 0 else Verdict.WORSE)
    if difference.effect_size is None and math.isfinite(difference.sd):
        # The sign test: 2^(1-n) for a difference, half of that for equivalence.
        needed = math.ceil(-math.log2(planned / n_pairs)) + (abs(difference.mean) >= difference.min_effect * (1 - 1e-9))
    else:
        needed = seeds_needed(difference.sd, difference.min_effect, planned / n_pairs)
    return replace(difference, n_more=max(1, needed - difference.n))


def adjust(p_values: Sequence[float], n_pairs: int) -> list[float]:
    """Adjusted p-values of the hypotheses of all pairs, in the order given.

    Holm (1979) as Shaffer (1986) sharpened it: of a pair's two hypotheses, no difference and one that matters, at most
    one is true, so that no more than ``n_pairs`` of them are.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, so_far = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        n_true = min(n_pairs, len(p_values) - rank)
        so_far = max(so_far, min(1.0, n_true * p_values[index]))
        adjusted[index] = so_far
    return adjusted


def power(n: int, sd: float, effect: float, alpha: float) -> float:
    """Probability that a two-sided paired t-test over ``n`` seeds finds a difference of ``effect``."""
    if n < 2:
        return 0.0
    if sd <= 0:
        return 1.0
    shift, critical = effect / sd * math.sqrt(n), float(stats.t.ppf(1 - alpha / 2, n - 1))
    return float(stats.nct.sf(critical, n - 1, shift) + stats.nct.sf(critical, n - 1, -shift))


def seeds_needed(sd: float, effect: float, alpha: float) -> int:
    """The fewest seeds with which a difference of ``effect`` would be found in four of five comparisons."""
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
