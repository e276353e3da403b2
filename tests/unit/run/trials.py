"""Trials and fold results made by hand."""

from collections.abc import Sequence
from typing import Any

from hpo.core.early_stopping import EarlyStoppingOutcome
from hpo.core.states import StopReason
from hpo.core.trial import FoldResult, Trial


def fold(
    score: float | None = 0.5,
    reason: StopReason = StopReason.MAX_EPOCHS,
    index: int = 0,
    losses: Sequence[float] = (0.7, 0.6, 0.5),
    budget: int | None = 3,
    best_epoch: int | None = None,
    **more: Any,
) -> FoldResult:
    """A fold that watched ``val_loss``."""
    outcome = EarlyStoppingOutcome(
        "val_loss", 3, 0.0, len(losses), budget or len(losses), None, best_epoch, None, True, reason
    )
    return FoldResult(index, 1, score, outcome, {"val_loss": tuple(losses)}, {"train": 1.0}, budget=budget, **more)


def trial(number: int, score: float | None = 0.5, reason: StopReason = StopReason.MAX_EPOCHS, **more: Any) -> Trial:
    """A trial of one fold."""
    ended = more.pop("ended_seconds", None)
    return Trial(number, more.pop("params", {"x": 0.5}), (fold(score, reason, **more),), 1.0, ended_seconds=ended)
