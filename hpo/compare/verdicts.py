"""The verdict on each pair of levels: better, worse, equivalent or unresolved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import combinations

from hpo.compare.statistics import PairedTest, adjust_p_values, pair_differences, paired_test, seeds_needed


class Verdict(StrEnum):
    """Verdict on a pair of levels."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    UNRESOLVED = "unresolved"


@dataclass(frozen=True, kw_only=True)
class Difference(PairedTest):
    """A pair of levels, compared over the seeds that both have.

    Args:
        first, second: the levels.
        differences: seed → first minus second, with the sign that makes positive better.
        alpha: error probability of the tests; the interval has confidence ``1 - alpha``.
        min_effect: the smallest difference that matters.
        p_adjusted: ``p_value``, adjusted for the number of pairs; ``p_equivalent`` is adjusted too.
        final_alpha: error probability of this pair in the analysis that is to resolve it.
    """

    first: str
    second: str
    differences: Mapping[int, float]
    alpha: float
    min_effect: float
    p_adjusted: float
    verdict: Verdict
    final_alpha: float

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.differences)

    @property
    def n_more(self) -> int | None:
        """Seeds that would probably resolve the pair, from ``min_effect`` and the observed spread, never the mean.

        None if the pair is resolved.
        """
        if self.verdict is not Verdict.UNRESOLVED:
            return None
        return more_seeds_needed(self, self.n, self.min_effect, self.final_alpha)


def compare_pairs(
    scores: Mapping[str, Mapping[int, float]],
    maximize: bool,
    min_effect: float,
    alpha: float,
    final_alpha: float | None = None,
) -> list[Difference]:
    """Compare every pair of levels over the seeds that both have.

    Args:
        scores: level → seed → score.
        maximize: whether a higher score is better.
        min_effect: the smallest difference that matters, in units of the score, above 0.
        alpha: error probability of all pairs together.
        final_alpha: error probability of all pairs in the analysis that is to resolve them; None means ``alpha``.

    Returns:
        The pairs with at least two common seeds.
    """
    pairs = [(a, b, pair_differences(scores[a], scores[b], maximize)) for a, b in combinations(scores, 2)]
    pairs = [pair for pair in pairs if len(pair[2]) > 1]
    tests = [paired_test(list(differences.values()), min_effect, alpha) for _, _, differences in pairs]
    n = len(pairs)
    adjusted = adjust_p_values([*(test.p_value for test in tests), *(test.p_equivalent for test in tests)], n)
    found = []
    for (first, second, differences), test, p, q in zip(pairs, tests, adjusted[:n], adjusted[n:], strict=True):
        verdict = judge(test.mean, p, q, alpha)
        found.append(
            Difference(
                **vars(replace(test, p_equivalent=q)),
                first=first,
                second=second,
                differences=differences,
                alpha=alpha,
                min_effect=min_effect,
                p_adjusted=p,
                verdict=verdict,
                final_alpha=(final_alpha or alpha) / n,
            )
        )
    return found


def judge(mean: float, p_adjusted: float, p_equivalent: float, alpha: float) -> Verdict:
    """Decide the verdict on a pair. Equivalence comes first: a certain difference may be too small to matter.

    Args:
        mean: of the differences, positive if the first level is better.
        p_adjusted: of no difference, adjusted for the number of pairs.
        p_equivalent: of a difference that matters, adjusted for the number of pairs.
        alpha: error probability of all pairs together.
    """
    if p_equivalent <= alpha:
        return Verdict.EQUIVALENT
    if p_adjusted <= alpha:
        return Verdict.BETTER if mean > 0 else Verdict.WORSE
    return Verdict.UNRESOLVED


def more_seeds_needed(test: PairedTest, n: int, min_effect: float, alpha: float) -> int:
    """Seeds, in addition to ``n``, that would probably resolve a pair.

    Args:
        alpha: error probability of the pair.
    """
    if test.effect_size is None and math.isfinite(test.sd):
        # The sign test has p = 2^(1-n) for a difference and half of that for equivalence.
        needed = math.ceil(-math.log2(alpha)) + (abs(test.mean) >= min_effect * (1 - 1e-9))
    else:
        needed = seeds_needed(test.sd, min_effect, alpha)
    return max(1, needed - n)
