"""Reports of running trials, as pruners see them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hpo.core.states import Decision

# Name of the curve with the step of each report, for models that report by steps instead of epochs.
STEP = "at_step"


def step_of(epoch: int, logs: Mapping[str, float]) -> int:
    """The step of a report: its own if it has one, otherwise the epoch."""
    return int(logs.get(STEP, epoch))


@dataclass(frozen=True)
class Measurement:
    """The value that a pruner sees after an epoch.

    Args:
        fold: index of the fold; pruners compare equal folds of different trials.
        epoch: counted from 0, or the step of a report.
        value: the objective's metric on the watched rows after that epoch.
    """

    fold: int
    epoch: int
    value: float


OnReport = Callable[[Measurement], Decision]
