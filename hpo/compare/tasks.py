"""Levels on several tasks at once: do their ranks differ, and which of them (Demšar 2006)?

A task is a block: levels are ranked within it by the mean test score of their seeds, so that metrics of any scale can
stand side by side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import plotly.graph_objects as go
from scipy import stats

from hpo.compare.comparison import Comparison, listed
from hpo.compare.figures import COLORS
from hpo.compare.text import Rows, number
from hpo.datasets.base import Array
from hpo.errors import ConfigError

N_RESAMPLES = 9999


@dataclass(frozen=True)
class Task:
    """One task: its name, and the comparison of the levels on it."""

    name: str
    comparison: Comparison


class Tasks:
    """Levels, ranked over tasks.

    Args:
        over: what the tasks are: a config group or key.
        tasks: at least two; levels that some of them lack are left out.
        alpha: the error that the ranks may be told apart with.

    Raises:
        ConfigError: when fewer than two levels are left.
    """

    def __init__(self, over: str, tasks: Sequence[Task], alpha: float) -> None:
        self.over, self.tasks, self.alpha = over, tuple(tasks), alpha
        self.by = tasks[0].comparison.by
        self.levels = sorted(set.intersection(*(set(task.comparison.group.studies) for task in tasks)))
        if len(self.levels) < 2:
            expected = f"at least two levels of {self.by} whose studies have finished on every task"
            raise ConfigError(
                "tasks", [task.name for task in tasks], expected, "the same command again, which runs them"
            )

    @cached_property
    def scores(self) -> Array:
        """Mean test scores, of shape ``(n_tasks, n_levels)``."""
        means = [{level.name: level.mean for level in task.comparison.levels} for task in self.tasks]
        return np.array([[of[level] for level in self.levels] for of in means])

    @cached_property
    def ranks(self) -> Array:
        """Ranks within the tasks, of the same shape; 1 is best, and equal means share the mean of theirs."""
        signs = np.array([[-1.0 if task.comparison.maximize else 1.0] for task in self.tasks])
        # Scores that were computed in another order differ in the last digits.
        return np.asarray(stats.rankdata(np.round(signs * self.scores, 12), axis=1))

    @cached_property
    def mean_ranks(self) -> dict[str, float]:
        """Level → mean rank, the best first."""
        means = dict(zip(self.levels, self.ranks.mean(axis=0).tolist(), strict=True))
        return dict(sorted(means.items(), key=lambda item: item[1]))

    @cached_property
    def p_value(self) -> float:
        """Of Friedman's (1937) test, by permutations within the tasks: its χ² is none yet for a handful of tasks."""

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
        """Mean ranks that differ by more are told apart (Nemenyi 1963), once Friedman's test has found a difference."""
        k, n = len(self.levels), len(self.tasks)
        q = float(stats.studentized_range.ppf(1 - self.alpha, k, math.inf)) / math.sqrt(2)
        return q * math.sqrt(k * (k + 1) / (6 * n))

    @property
    def differs(self) -> bool:
        """Whether the levels differ at all."""
        return self.p_value <= self.alpha

    def is_told_apart(self, first: str, second: str) -> bool:
        """Whether the ranks of two levels differ by more than chance would have them."""
        if not self.differs:
            return False
        return len(self.levels) == 2 or abs(self.mean_ranks[first] - self.mean_ranks[second]) > self.critical_difference

    @cached_property
    def alike(self) -> list[list[str]]:
        """The longest runs of levels, by mean rank, of which no two are told apart."""
        names = list(self.mean_ranks)
        found: list[list[str]] = []
        for start in range(len(names)):
            end = start
            while end + 1 < len(names) and not self.is_told_apart(names[start], names[end + 1]):
                end += 1
            if end > start and not any(names[end] in run for run in found):
                found.append(names[start : end + 1])
        return found

    @property
    def verdict(self) -> str:
        """In a sentence."""
        ranks = ", ".join(f"{name} {rank:.2f}" for name, rank in self.mean_ranks.items())
        said = f"Over {len(self.tasks)} tasks the mean ranks are {ranks}; "
        if not self.differs:
            return f"{said}that they differ is not shown (p = {self.p_value:.2g})."
        names, parts = list(self.mean_ranks), []
        for place, name in enumerate(names):
            if below := [other for other in names[place + 1 :] if self.is_told_apart(name, other)]:
                parts.append(f"{name} ranks above {listed(below)}")
        said += f"they differ (p = {self.p_value:.2g})"
        return f"{said}: {'; '.join(parts)}." if parts else f"{said}, but of no single pair is that shown."


def ranks_table(tasks: Tasks) -> Rows:
    """A row a task, with the mean test score of every level and its rank; the last row has the mean ranks."""
    order = list(tasks.mean_ranks)
    columns = [tasks.levels.index(name) for name in order]
    rows = []
    for task, scores, ranks in zip(tasks.tasks, tasks.scores, tasks.ranks, strict=True):
        digits = task.comparison.digits
        metric = f"test {task.comparison.metric}"
        rows.append([task.name, metric, *(f"{number(scores[c], digits)} ({ranks[c]:g})" for c in columns)])
    rows.append(["mean rank", "", *(f"{rank:.2f}" for rank in tasks.mean_ranks.values())])
    return [tasks.over, "mean over seeds (rank)", *order], rows


def notes(tasks: Tasks) -> list[str]:
    """What a reader has to know to trust the ranks."""
    k = len(tasks.levels)
    found = [
        f"Levels are ranked within each {tasks.over} by the mean test score of their seeds; 1 is best.",
        f"Friedman's test with permutations within the tasks, at {tasks.alpha:g}: its smallest p on {len(tasks.tasks)} "
        f"tasks is {max(math.factorial(k) ** (1.0 - len(tasks.tasks)), 1 / (N_RESAMPLES + 1)):.2g}.",
        "It says whether levels differ over tasks like these, and not by how much: that is in the report of each task.",
        "Tasks that are added until it says so make it say so too often: choose them before.",
    ]
    if k > 2:
        apart = f"Mean ranks are told apart where they differ by more than {tasks.critical_difference:.2f} (Nemenyi)"
        found.insert(2, f"{apart}, and only where Friedman's test finds a difference.")
    return found


def diagram(tasks: Tasks) -> go.Figure:
    """A critical-difference diagram: levels on an axis of mean ranks, and a bar over those that are not told apart."""
    figure = go.Figure()
    names = list(tasks.mean_ranks)
    for row, run in enumerate(tasks.alike, 1):
        ends = [tasks.mean_ranks[run[0]], tasks.mean_ranks[run[-1]]]
        figure.add_scatter(
            x=ends, y=[0.35 * row] * 2, mode="lines", line={"color": "#1c2330", "width": 6}, hoverinfo="skip",
            name="not told apart", showlegend=row == 1,
        )  # fmt: skip
    for place, name in enumerate(names):
        rank, depth = tasks.mean_ranks[name], -0.5 * (place + 1)
        color = COLORS[tasks.levels.index(name) % len(COLORS)]
        figure.add_scatter(
            x=[rank, rank], y=[0, depth], mode="lines+markers+text", text=["", f" {name} {rank:.2f}"],
            textposition="middle right" if rank < (1 + len(names)) / 2 else "middle left",
            line={"color": color, "width": 2}, marker={"size": [10, 1], "color": color}, showlegend=False,
            hovertemplate=f"{name}: {rank:.2f}<extra></extra>",
        )  # fmt: skip
    figure.add_hline(0, line_color="#1c2330", line_width=1.5)
    figure.update_layout(
        template="plotly_white",
        height=190 + 26 * len(names),
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        legend={"orientation": "h", "y": -0.3, "x": 0},
        font={"size": 12},
    )
    figure.update_xaxes(title_text="mean rank (1 is best)", range=[0.8, len(names) + 0.2], dtick=1, automargin=True)
    top = 0.35 * (len(tasks.alike) + 1)
    figure.update_yaxes(visible=False, range=[-0.5 * (len(names) + 0.6), top])
    return figure
