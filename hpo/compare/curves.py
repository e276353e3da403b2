"""Search curves: the best validation value so far by trials, epochs and seconds.

A strategy that prunes may be faster by epochs and slower by trials.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import stats

from hpo.compare.groups import Group
from hpo.datasets.base import Array
from hpo.tracking.schema import Tag

AXES = ("trials", "epochs", "seconds")
N_POINTS = 200


@dataclass(frozen=True)
class Incumbent:
    """The best validation value so far, as a step function: ``values[i]`` holds from ``at[i]`` on.

    Args:
        at: positions on the axis at which the best value improved, increasing; shape ``(n,)``.
        values: best value from that position; shape ``(n,)``.
        end: position at which the study ended.
    """

    at: Array
    values: Array
    end: float

    def value_at(self, x: float) -> float:
        """Best value at ``x``; NaN before the first value."""
        place = int(np.searchsorted(self.at, x, side="right")) - 1
        return math.nan if place < 0 else float(self.values[place])

    def reaches(self, target: float, maximize: bool) -> float | None:
        """First position at which the best value reaches ``target``; None if it never does."""
        reached = self.values >= target if maximize else self.values <= target
        return float(self.at[np.argmax(reached)]) if reached.any() else None


def incumbent(trials: pd.DataFrame, axis: str, maximize: bool) -> Incumbent:
    """Compute the incumbent from a table of trials, in the order in which they ended.

    Args:
        axis: one of :data:`AXES`.
    """
    ended = trials[trials["ended_order"].notna()].sort_values("ended_order")
    positions = {
        "trials": np.arange(1, len(ended) + 1, dtype=float),
        "epochs": ended["epochs_run"].cumsum().to_numpy(float),
        "seconds": ended["ended_seconds"].to_numpy(float),
    }[axis]
    values = ended["objective"].to_numpy(float) * (1 if maximize else -1)
    known = np.where(np.isnan(values), -np.inf, values)
    best = np.maximum.accumulate(known) if len(known) else known
    changed = np.flatnonzero(best > np.concatenate([[-np.inf], best[:-1]]))
    end = float(positions[-1]) if len(positions) else 0.0
    return Incumbent(positions[changed], best[changed] * (1 if maximize else -1), end)


def common_end(incumbents: Sequence[Incumbent]) -> float:
    """Last position that all of them reach."""
    return min((each.end for each in incumbents), default=0.0)


def common_start(incumbents: Sequence[Incumbent]) -> float:
    """First position at which all of them have a value."""
    return max((float(each.at[0]) for each in incumbents if len(each.at)), default=0.0)


def area(one: Incumbent, start: float, end: float) -> float:
    """Mean of the best value between ``start`` and ``end``; the value at ``end`` if the range is empty."""
    if not end > start or not len(one.at):
        return one.value_at(end)
    inside = one.at[(one.at > start) & (one.at < end)]
    edges = np.concatenate([[start], inside, [end]])
    heights = np.array([one.value_at(x) for x in edges[:-1]])
    return float((heights * np.diff(edges)).sum() / (end - start))


@dataclass(frozen=True)
class Band:
    """Mean of several incumbents with pointwise confidence intervals; arrays of shape ``(n,)``."""

    at: Array
    mean: Array
    low: Array
    high: Array


def band(incumbents: Sequence[Incumbent], start: float, end: float, confidence: float = 0.95) -> Band:
    """Mean and Student's t interval over seeds, at up to :data:`N_POINTS` positions between ``start`` and ``end``."""
    at = np.unique(
        np.concatenate([[start, end], *(each.at[(each.at >= start) & (each.at <= end)] for each in incumbents)])
    )
    if len(at) > N_POINTS:
        at = np.unique(at[np.linspace(0, len(at) - 1, N_POINTS).round().astype(int)])
    values = np.array([[each.value_at(x) for x in at] for each in incumbents])
    mean, n = values.mean(axis=0), len(incumbents)
    if n < 2:
        return Band(at, mean, mean, mean)
    half = stats.t.ppf(0.5 + confidence / 2, n - 1) * values.std(axis=0, ddof=1) / math.sqrt(n)
    return Band(at, mean, mean - half, mean + half)


def target_of(finals: Mapping[str, Sequence[float]], maximize: bool) -> float:
    """A value that most studies reach: the median final value of the weakest level.

    Args:
        finals: level → final value of each seed.
    """
    medians = [float(np.median(values)) for values in finals.values()]
    return min(medians) if maximize else max(medians)


class SearchCurves:
    """The incumbents of all studies of a comparison.

    Args:
        group: the studies.
        maximize: whether a higher value is better.
    """

    def __init__(self, group: Group, maximize: bool) -> None:
        self._group, self._maximize = group, maximize

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """Axes to compare on; seconds only if all studies ran on known, equal hardware."""
        members = self._group.members
        machines = {study.record.tags.get(Tag.HARDWARE) for study in members}
        ended = [study.trials.loc[study.trials["ended_order"].notna(), "ended_seconds"] for study in members]
        is_known = None not in machines and all(table.notna().all() for table in ended)
        return AXES if is_known and len(machines) == 1 else AXES[:-1]

    @cached_property
    def incumbents(self) -> dict[str, dict[str, list[Incumbent]]]:
        """Axis → level → incumbent of each seed."""
        return {
            axis: {
                level: [incumbent(by_seed[seed].trials, axis, self._maximize) for seed in self._group.seeds]
                for level, by_seed in self._group.studies.items()
            }
            for axis in self.axes
        }

    @cached_property
    def target(self) -> float:
        """Validation value of the time to target."""
        finals = {
            level: [float(each.values[-1]) for each in found if len(each.values)]
            for level, found in self.incumbents["trials"].items()
        }
        return target_of(finals, self._maximize)

    def reached(self, axis: str, level: str) -> tuple[float | None, ...]:
        """Position at which each seed reaches the target; None if it never does."""
        return tuple(each.reaches(self.target, self._maximize) for each in self.incumbents[axis][level])

    def areas(self, axis: str, level: str) -> tuple[float, ...]:
        """Mean of the best value of each seed, over the range in which all studies have a value."""
        start, end = self.common_range(axis)
        return tuple(area(each, start, end) for each in self.incumbents[axis][level])

    def common_range(self, axis: str) -> tuple[float, float]:
        """From the position at which all studies have a value to the end of the first one."""
        every = [each for found in self.incumbents[axis].values() for each in found]
        start, end = common_start(every), common_end(every)
        return start, max(start, end)

    def bands(self, axis: str) -> dict[str, Band]:
        """Level → mean and interval, up to the end of the last study: a study that has ended keeps its best value."""
        ends = [each.end for found in self.incumbents[axis].values() for each in found]
        start, _ = self.common_range(axis)
        return {level: band(found, start, max([start, *ends])) for level, found in self.incumbents[axis].items()}
