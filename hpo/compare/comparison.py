"""The numbers of a comparison: made once from a group of studies, and shown in several forms."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import cached_property

from hpo.compare.curves import SearchCurves
from hpo.compare.groups import Group
from hpo.compare.ledger import InterimAnalysis
from hpo.compare.levels import Level, summarize_level
from hpo.compare.spending import AlphaSpending, AnalysisPlan
from hpo.compare.verdicts import Difference, compare_pairs
from hpo.core.objective import Objective

# Default of min_effect: 0.01 for metrics that are fractions, else a share of the mean score.
FRACTIONS = ("accuracy", "auc", "precision", "recall", "f1", "top_k", "r2")
DEFAULT_EFFECT = 0.01
RELATIVE_EFFECT = 0.05


class Comparison:
    """A comparison of a group of studies.

    Args:
        group: the studies.
        plan: what the user decided before the results were known.
        analyses: every interim analysis of the same question, oldest first.
        test_scorings: data digest → how often all studies of the experiment scored its test split.
        missing: names of studies of the comparison that have not finished.

    Raises:
        ConfigError: if there are more seeds than ``plan.max_seeds``.
    """

    def __init__(
        self,
        group: Group,
        plan: AnalysisPlan,
        analyses: Sequence[InterimAnalysis] = (),
        test_scorings: Mapping[str, int] | None = None,
        missing: Sequence[str] = (),
    ) -> None:
        self.group, self.plan, self.missing = group, plan, tuple(missing)
        self.test_scorings = dict(test_scorings or {})
        self.seeds = group.seeds
        self.spending = AlphaSpending(plan, tuple(self.seeds), tuple(group.studies), tuple(analyses))
        self.curves = SearchCurves(group, self.maximize)

    @property
    def by(self) -> str:
        """The factor."""
        return self.group.by

    @property
    def objective(self) -> Objective:
        """Objective of all studies."""
        return self.group.example.objective

    @property
    def metric(self) -> str:
        """Name of the objective's metric on the test split."""
        return self.objective.metric.removeprefix("val_")

    @property
    def maximize(self) -> bool:
        """Whether a higher score is better."""
        return self.objective.direction == "maximize"

    @property
    def is_default_effect(self) -> bool:
        """Whether ``min_effect`` is a default, not the user's choice."""
        return self.plan.min_effect is None

    @cached_property
    def min_effect(self) -> float:
        """The smallest difference that matters, in units of the metric."""
        if self.plan.min_effect is not None:
            return self.plan.min_effect
        if any(name in self.metric for name in FRACTIONS):
            return DEFAULT_EFFECT
        return RELATIVE_EFFECT * abs(
            statistics.fmean(score for scores in self.scores.values() for score in scores.values())
        )

    @property
    def digits(self) -> int:
        """Decimals that show differences of the size of ``min_effect``."""
        return min(12, max(4, 2 - math.floor(math.log10(self.min_effect)))) if self.min_effect > 0 else 4

    @cached_property
    def scores(self) -> dict[str, dict[int, float]]:
        """Level → seed → test score, for the seeds that all levels have."""
        return {
            level: {seed: by_seed[seed].test_score for seed in self.seeds}
            for level, by_seed in self.group.studies.items()
        }

    @cached_property
    def differences(self) -> list[Difference]:
        """Every pair of levels, compared by test score."""
        spending = self.spending
        return compare_pairs(self.scores, self.maximize, self.min_effect, spending.alpha, spending.final_alpha)

    @cached_property
    def levels(self) -> list[Level]:
        """Every level, best mean test score first."""
        levels = [
            summarize_level(name, [by_seed[seed] for seed in self.seeds], self.curves, self.maximize)
            for name, by_seed in self.group.studies.items()
        ]
        return sorted(levels, key=lambda level: -level.mean if self.maximize else level.mean)

    def analysis(self) -> InterimAnalysis:
        """This comparison as an entry of the ledger of interim analyses."""
        return InterimAnalysis(
            seeds=tuple(self.seeds),
            levels=tuple(sorted(self.group.studies)),
            spent=self.spending.spent,
            max_seeds=self.plan.max_seeds,
            min_effect=self.min_effect,
            alpha=self.plan.alpha,
        )
