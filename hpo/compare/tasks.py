"""Levels ranked over several tasks: whether their ranks differ, and which (Demšar 2006).

A task is a block: levels are ranked within it by their mean test score, so that metrics may have different scales.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import stats

from hpo.compare.comparison import Comparison
from hpo.datasets.base import Array
from hpo.errors import ConfigError

N_RESAMPLES = 9999


@dataclass(frozen=True)
class Task:
    """One task: its name, and the comparison of the levels on it."""

    name: str
    comparison: Comparison


class TaskRanking:
    """Levels ranked over tasks.

    Args:
        over: config group or key whose values are the tasks.
        tasks: at least two; levels that a task lacks are left out.
        alpha: error probability of the tests of the ranks.

    Raises:
        ConfigError: if fewer than two levels are left.
    """

    def __init__(self, over: str, tasks: Sequence[Task], alpha: float) -> None:
        self.over, self.tasks, self.alpha = over, tuple(tasks), alpha
        self.by = tasks[0].comparison.by
        self.levels = sorted(set.intersection(*(set(task.comparison.group.studies) for task in tasks)))
        if len(self.levels) < 2:
            expected = f"at least two levels of {self.by} with finished studies on every task"
            raise ConfigError("tasks", [task.name for task in tasks], expected, "run the same command again")

    @cached_property
    def scores(self) -> Array:
        """Mean test scores; shape ``(n_tasks, n_levels)``."""
        by_task = [{level.name: level.mean for level in task.comparison.levels} for task in self.tasks]
        return np.array([[means[level] for level in self.levels] for means in by_task])

    @cached_property
    def ranks(self) -> Array:
        """Ranks within each task; shape ``(n_tasks, n_levels)``. 1 is best; ties share their mean rank."""
        signs = np.array([[-1.0 if task.comparison.maximize else 1.0] for task in self.tasks])
        # Equal scores may differ in the last digits.
        return np.asarray(stats.rankdata(np.round(signs * self.scores, 12), axis=1))

    @cached_property
    def mean_ranks(self) -> dict[str, float]:
        """Level → mean rank, best first."""
        means = dict(zip(self.levels, self.ranks.mean(axis=0).tolist(), strict=True))
        return dict(sorted(means.items(), key=lambda item: item[1]))

    @cached_property
    def p_value(self) -> float:
        """p-value of Friedman's (1937) test, by permutations within tasks: with few tasks its χ² is inaccurate."""

        def statistic(*ranks: Array, axis: int = -1) -> Any:
            return sum(np.sum(each, axis=axis) ** 2 for each in ranks)

        if np.ptp(self.ranks) == 0:
            return 1.0
        found = stats.permutation_test(
            tuple(self.ranks.T), statistic, permutation_type="samples", vectorized=True,
            n_resamples=N_RESAMPLES, alternative="greater", rng=np.random.default_rng(0),
        )  # fmt: skip
        return float(found.pvalue)

    @cached_property
    def critical_difference(self) -> float:
        """Smallest significant difference of mean ranks (Nemenyi 1963), if Friedman's test finds a difference."""
        k, n = len(self.levels), len(self.tasks)
        q = float(stats.studentized_range.ppf(1 - self.alpha, k, math.inf)) / math.sqrt(2)
        return q * math.sqrt(k * (k + 1) / (6 * n))

    @property
    def differs(self) -> bool:
        """Whether Friedman's test finds a difference."""
        return self.p_value <= self.alpha

    def is_told_apart(self, first: str, second: str) -> bool:
        """Whether the ranks of two levels differ significantly."""
        if not self.differs:
            return False
        return len(self.levels) == 2 or abs(self.mean_ranks[first] - self.mean_ranks[second]) > self.critical_difference

    @cached_property
    def indistinguishable(self) -> list[list[str]]:
        """Longest runs of levels, by mean rank, in which no two differ significantly."""
        names = list(self.mean_ranks)
        found: list[list[str]] = []
        for start in range(len(names)):
            end = start
            while end + 1 < len(names) and not self.is_told_apart(names[start], names[end + 1]):
                end += 1
            if end > start and not any(names[end] in run for run in found):
                found.append(names[start : end + 1])
        return found
