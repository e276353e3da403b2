"""What a pruner sees of a running trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hpo.core.states import Decision

# A curve that says at which step each report of a model was made, where reports are no epochs.
STEP = "at_step"


def step_of(epoch: int, logs: Mapping[str, float]) -> int:
    """Where a report stands: at its own step if it says so, else at the epoch."""
    return int(logs.get(STEP, epoch))


@dataclass(frozen=True)
class Measurement:
    """What a pruner sees after an epoch.

    Args:
        fold: to be compared with the same fold of other trials only.
        epoch: from 0, or the step of the model's own report.
        value: the objective's metric on the rows that are watched, after that epoch.
    """

    fold: int
    epoch: int
    value: float


OnReport = Callable[[Measurement], Decision]
