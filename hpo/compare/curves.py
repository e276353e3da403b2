"""The best value so far over trials, epochs and seconds: a strategy that prunes may win on one and lose on another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from hpo.datasets.base import Array

AXES = ("trials", "epochs", "seconds")
N_POINTS = 200


@dataclass(frozen=True)
class Incumbent:
    """The best validation value of a study as a step function: ``values[i]`` holds from ``at[i]`` on.

    Args:
        at: where on the axis the best value changed, increasing; shape ``(n,)``.
        values: the best value from there on; shape ``(n,)``.
        end: where the study ended on the axis.
    """

    at: Array
    values: Array
    end: float

    def value_at(self, x: float) -> float:
        """The best value at ``x``; NaN before the first."""
        place = int(np.searchsorted(self.at, x, side="right")) - 1
        return math.nan if place < 0 else float(self.values[place])

    def reaches(self, target: float, maximize: bool) -> float | None:
        """Where the best value first comes to ``target``; None where it never does."""
        reached = self.values >= target if maximize else self.values <= target
        return float(self.at[np.argmax(reached)]) if reached.any() else None


def incumbent(trials: pd.DataFrame, axis: str, maximize: bool) -> Incumbent:
    """The incumbent of a study from its table of trials, in the order in which they ended."""
    ended = trials[trials["ended_order"].notna()].sort_values("ended_order")
    places = {
        "trials": np.arange(1, len(ended) + 1, dtype=float),
        "epochs": ended["epochs_run"].cumsum().to_numpy(float),
        "seconds": ended["ended_seconds"].to_numpy(float),
    }[axis]
    values = ended["objective"].to_numpy(float) * (1 if maximize else -1)
    known = np.where(np.isnan(values), -np.inf, values)
    best = np.maximum.accumulate(known) if len(known) else known
    changed = np.flatnonzero(best > np.concatenate([[-np.inf], best[:-1]]))
    end = float(places[-1]) if len(places) else 0.0
    return Incumbent(places[changed], best[changed] * (1 if maximize else -1), end)


def common_end(incumbents: Sequence[Incumbent]) -> float:
    """How far all of them go."""
    return min((each.end for each in incumbents), default=0.0)


def common_start(incumbents: Sequence[Incumbent]) -> float:
    """From where all of them have a value."""
    return max((float(each.at[0]) for each in incumbents if len(each.at)), default=0.0)


def area(one: Incumbent, start: float, end: float) -> float:
    """The mean of the best value between ``start`` and ``end``."""
    if not end > start or not len(one.at):
        return one.value_at(end)
    inside = one.at[(one.at > start) & (one.at < end)]
    edges = np.concatenate([[start], inside, [end]])
    heights = np.array([one.value_at(x) for x in edges[:-1]])
    return float((heights * np.diff(edges)).sum() / (end - start))


@dataclass(frozen=True)
class Band:
    """The mean of several incumbents with pointwise intervals; arrays of shape ``(n,)``."""

    at: Array
    mean: Array
    low: Array
    high: Array


def band(incumbents: Sequence[Incumbent], start: float, end: float, confidence: float = 0.95) -> Band:
    """Mean and Student's t interval over seeds at points between ``start`` and ``end``."""
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
    """A value that most studies reach: the median final value of the weakest level."""
    medians = [float(np.median(values)) for values in finals.values()]
    return min(medians) if maximize else max(medians)
