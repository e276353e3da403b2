"""The early-stopping ledger: what stopping saved, and what a shorter patience would have changed.

A shorter patience can be read off the recorded curves; a longer one cannot, since the epochs after the stop are not
there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from hpo.core.early_stopping import EarlyStopping
from hpo.core.objective import Objective
from hpo.models.fitting import EarlyStoppingMonitor

PATIENCES = (1, 2, 3, 5, 8, 13, 21)


@dataclass(frozen=True)
class ShorterPatience:
    """What a patience would have done to the trials of a study.

    Args:
        epochs_saved: that would not have been trained.
        n_changed: trials that would have kept another epoch.
        winner: number of the trial that would have won, with what it would have scored; None where the scores at other
            epochs are not known, as with folds, which are scored once, at the kept epoch.
    """

    patience: int
    epochs_run: int
    epochs_saved: int
    n_changed: int
    winner: int | None
    winner_score: float | None


@dataclass(frozen=True)
class Ledger:
    """Early stopping over a whole study; epochs over all folds of all trials."""

    n_trials: int
    epochs_run: int
    epochs_allowed: int
    epochs_saved: int
    stop_reasons: dict[str, int]
    shorter: tuple[ShorterPatience, ...]

    @property
    def share_saved(self) -> float:
        """Saved epochs over those that were allowed."""
        return self.epochs_saved / self.epochs_allowed if self.epochs_allowed else 0.0


def ledger(
    trials: pd.DataFrame, folds: pd.DataFrame, epochs: pd.DataFrame, stopping: EarlyStopping, objective: Objective
) -> Ledger:
    """The ledger of a study, from its tables."""
    reasons = folds["stop_reason"].value_counts()
    return Ledger(
        n_trials=len(trials),
        epochs_run=int(folds["epochs_run"].sum()),
        epochs_allowed=int(folds["max_epochs"].sum()),
        epochs_saved=int(folds["epochs_saved"].sum()),
        stop_reasons={str(reason): int(count) for reason, count in reasons.items()},
        shorter=tuple(_shorter(trials, folds, epochs, stopping, objective)),
    )


def _shorter(
    trials: pd.DataFrame, folds: pd.DataFrame, epochs: pd.DataFrame, stopping: EarlyStopping, objective: Objective
) -> Sequence[ShorterPatience]:
    complete = set(trials.loc[trials["objective"].notna(), "trial"])
    if stopping.monitor not in epochs or not complete:
        return []
    longest = int(folds["epochs_run"].max()) if stopping.patience is None else stopping.patience
    curves = {key: table.sort_values("epoch") for key, table in epochs.groupby(["trial", "fold"]) if key[0] in complete}
    has_one_fold = folds["fold"].nunique() == 1
    found = []
    for patience in (p for p in PATIENCES if p < longest):
        shorter = replace(stopping, patience=patience)
        ran, changed, scores = 0, set(), {}
        for (trial, _), curve in curves.items():
            trial = int(str(trial))
            n_run, kept = replay(curve[stopping.monitor].tolist(), shorter)
            _, kept_before = replay(curve[stopping.monitor].tolist(), replace(stopping, patience=None))
            if not stopping.restore_best_weights:
                kept, kept_before = n_run - 1, len(curve) - 1
            ran += n_run
            if kept != kept_before:
                changed.add(trial)
            if has_one_fold and kept is not None and objective.epoch == "best":
                scores[trial] = float(curve[objective.metric].iloc[kept])
        best = (max if objective.direction == "maximize" else min)(scores, key=scores.__getitem__) if scores else None
        total = sum(len(curve) for curve in curves.values())
        score = None if best is None else scores[best]
        found.append(ShorterPatience(patience, ran, total - ran, len(changed), best, score))
    return found


def replay(values: Sequence[float], stopping: EarlyStopping) -> tuple[int, int | None]:
    """How many epochs of a recorded curve ``stopping`` would have trained, and which it would have kept."""
    monitor = EarlyStoppingMonitor(stopping)
    for epoch, value in enumerate(values):
        monitor.update(epoch, value)
        if monitor.should_stop(epoch):
            return epoch + 1, monitor.best_epoch
    return len(values), monitor.best_epoch
