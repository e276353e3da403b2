"""Alpha spending: the error probability that each interim analysis of a comparison may use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from hpo.compare.ledger import InterimAnalysis, overlapping
from hpo.errors import ConfigError

DEFAULT_ALPHA = 0.05
ROUNDING = 1e-12  # of a sum of error probabilities
# Exponent of the spending function: 3 is close to O'Brien and Fleming's, which spends little on early analyses.
SPENDING_EXPONENT = 3.0


@dataclass(frozen=True)
class AnalysisPlan:
    """What the user decides about a comparison before its results are known.

    Args:
        min_effect: the smallest difference that matters, in units of the metric; None takes a default by metric.
        max_seeds: the most seeds that will be run; None means that there is no further analysis.
        alpha: error probability of all interim analyses and all pairs together.

    Raises:
        ConfigError: if a value is out of range.
    """

    min_effect: float | None = None
    max_seeds: int | None = None
    alpha: float = DEFAULT_ALPHA

    def __post_init__(self) -> None:
        if self.min_effect is not None and not (math.isfinite(self.min_effect) and self.min_effect > 0):
            expected = "a number above 0, in units of the metric"
            raise ConfigError("min_effect", self.min_effect, expected, "min_effect=0.01")
        if not 0 < self.alpha < 1:
            raise ConfigError("alpha", self.alpha, "a number between 0 and 1", "alpha=0.05")
        if self.max_seeds is not None and self.max_seeds < 2:
            raise ConfigError("max_seeds", self.max_seeds, "an integer of at least 2", "max_seeds=10")


def plan_analysis(asked: AnalysisPlan, earlier: Sequence[InterimAnalysis]) -> AnalysisPlan:
    """The plan of the first of the ``earlier`` analyses, which holds for every later one; else the plan asked for.

    Args:
        earlier: analyses that spend the same alpha, oldest first; see :func:`hpo.compare.ledger.overlapping`.

    Raises:
        ConfigError: if the plan asked for contradicts it.
    """
    if not earlier:
        return asked
    first = earlier[0]
    for name in ("max_seeds", "min_effect", "alpha"):
        now, before = getattr(asked, name), getattr(first, name)
        # max_seeds may be set late: the error is spent by then, and the report says so.
        is_late = name == "max_seeds" and before is None
        if now is not None and now != before and not is_late:
            expected = f"{before}, as in the first analysis: it cannot change once results are known"
            raise ConfigError(name, now, expected, f"{name}={before}, or other seeds")
    return AnalysisPlan(first.min_effect, first.max_seeds or asked.max_seeds, first.alpha)


def alpha_to_spend(alpha: float, max_seeds: int, n_seeds: int, analysed: Sequence[int]) -> float:
    """Error probability that an analysis of ``n_seeds`` may spend, so that all analyses spend at most ``alpha``.

    Lan and DeMets (1983) with the spending function ``alpha * (n / max_seeds) ** 3``. What is spent between two
    analyses is the level of the second one, which holds whatever their correlation is (Bonferroni).

    Args:
        analysed: numbers of seeds of the earlier analyses.

    Raises:
        ValueError: if ``n_seeds`` is more than ``max_seeds``.
    """
    if n_seeds > max_seeds:
        raise ValueError(f"{n_seeds} seeds are more than max_seeds={max_seeds}")
    before = max((n for n in analysed if n < n_seeds), default=0)
    spent, spent_before = (n_seeds / max_seeds) ** SPENDING_EXPONENT, (before / max_seeds) ** SPENDING_EXPONENT
    return float(alpha * (spent - spent_before))


@dataclass(frozen=True)
class AlphaSpending:
    """The error probability of one analysis, after the earlier ones.

    Args:
        seeds, levels: of this analysis.
        analyses: every interim analysis of the question, oldest first.

    Raises:
        ConfigError: if there are more seeds than ``plan.max_seeds``.
    """

    plan: AnalysisPlan
    seeds: tuple[int, ...]
    levels: tuple[str, ...]
    analyses: tuple[InterimAnalysis, ...] = ()

    def __post_init__(self) -> None:
        n, most = len(self.seeds), self.plan.max_seeds
        if most is not None and n > most:
            raise ConfigError("max_seeds", most, f"at least the {n} seeds of the studies", f"max_seeds={n}")

    @property
    def max_seeds(self) -> int:
        """Most seeds that will be analysed."""
        return self.plan.max_seeds or len(self.seeds)

    @cached_property
    def earlier(self) -> list[InterimAnalysis]:
        """Analyses of a pair of these levels on at least one of these seeds, which spent the same alpha."""
        return overlapping(self.analyses, self.seeds, self.levels)

    @property
    def n_on_other_seeds(self) -> int:
        """Analyses of a pair of these levels on other seeds: comparisons of their own, which spend nothing here."""
        return sum(each.shares_pair(self.levels) for each in self.analyses) - len(self.earlier)

    @property
    def repeated(self) -> InterimAnalysis | None:
        """The earlier analysis of exactly these seeds and levels, if there is one."""
        return next((each for each in self.earlier if each.is_of(self.seeds, self.levels)), None)

    @property
    def others(self) -> list[InterimAnalysis]:
        """The earlier analyses of other seeds or levels."""
        return [each for each in self.earlier if each is not self.repeated]

    @cached_property
    def spent(self) -> float:
        """Error probability of this analysis; 0 if earlier ones have spent all of it."""
        if self.repeated is not None:
            return self.repeated.spent
        left = self.plan.alpha - sum(each.spent for each in self.earlier)
        if left < ROUNDING:
            return 0.0
        if self.plan.max_seeds is None:
            return left
        return min(left, alpha_to_spend(self.plan.alpha, self.max_seeds, len(self.seeds), self._analysed))

    @property
    def is_exploratory(self) -> bool:
        """Whether nothing is left to spend, so that the result has to be confirmed on other seeds."""
        return self.spent <= 0

    @property
    def alpha(self) -> float:
        """Level of the tests and intervals of this analysis."""
        return self.plan.alpha if self.is_exploratory else self.spent

    @property
    def final_alpha(self) -> float:
        """Level of the last analysis or, if no other is planned, of a new comparison."""
        n = len(self.seeds)
        if self.plan.max_seeds is None or n >= self.max_seeds:
            return self.plan.alpha
        return alpha_to_spend(self.plan.alpha, self.max_seeds, self.max_seeds, [*self._analysed, n])

    @property
    def _analysed(self) -> list[int]:
        return [len(each.seeds) for each in self.earlier]
