"""What early stopping saved in a study, and what a shorter patience would have changed.

A shorter patience can be replayed on the recorded curves. A longer one cannot: the epochs after the stop do not exist.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from hpo.compare.studies import ComparedStudy
from hpo.core.early_stopping import EarlyStopping
from hpo.core.objective import Objective
from hpo.models.fitting import EarlyStoppingMonitor

PATIENCES = (1, 2, 3, 5, 8, 13, 21)


@dataclass(frozen=True)
class ShorterPatience:
    """Effect of a shorter patience on the COMPLETE trials of a study.

    Args:
        epochs_run: epochs that would have been trained.
        epochs_saved: epochs that would not have been trained.
        n_changed: trials that would have kept another epoch.
        winner, winner_score: number and score of the trial that would have won; None if the scores at other epochs are
            unknown, as with several folds, which are scored at the kept epoch only.
    """

    patience: int
    epochs_run: int
    epochs_saved: int
    n_changed: int
    winner: int | None
    winner_score: float | None


@dataclass(frozen=True)
class EarlyStoppingSummary:
    """Early stopping in a study; epochs are summed over all folds of all trials.

    Args:
        stop_reasons: stop reason → folds.
        shorter: effects of shorter patiences, shortest first.
    """

    n_trials: int
    epochs_run: int
    epochs_allowed: int
    epochs_saved: int
    stop_reasons: dict[str, int]
    shorter: tuple[ShorterPatience, ...]

    @property
    def share_saved(self) -> float:
        """Saved epochs as a fraction of the allowed ones."""
        return self.epochs_saved / self.epochs_allowed if self.epochs_allowed else 0.0


def summarize_study(study: ComparedStudy) -> EarlyStoppingSummary:
    """Summarise early stopping in a study."""
    return summarize_tables(study.trials, study.folds, study.epochs, early_stopping_of(study), study.objective)


def summarize_tables(
    trials: pd.DataFrame, folds: pd.DataFrame, epochs: pd.DataFrame, stopping: EarlyStopping, objective: Objective
) -> EarlyStoppingSummary:
    """Summarise early stopping from the tables of a study, see :mod:`hpo.reporting.tables`."""
    reasons = folds["stop_reason"].value_counts()
    return EarlyStoppingSummary(
        n_trials=len(trials),
        epochs_run=int(folds["epochs_run"].sum()),
        epochs_allowed=int(folds["max_epochs"].sum()),
        epochs_saved=int(folds["epochs_saved"].sum()),
        stop_reasons={str(reason): int(count) for reason, count in reasons.items()},
        shorter=tuple(_shorter(trials, folds, epochs, stopping, objective)),
    )


def combine(summaries: Sequence[EarlyStoppingSummary]) -> EarlyStoppingSummary:
    """Sum the summaries of several studies, without the effects of shorter patiences, which belong to one study."""
    reasons: Counter[str] = Counter()
    for summary in summaries:
        reasons.update(summary.stop_reasons)
    return EarlyStoppingSummary(
        n_trials=sum(each.n_trials for each in summaries),
        epochs_run=sum(each.epochs_run for each in summaries),
        epochs_allowed=sum(each.epochs_allowed for each in summaries),
        epochs_saved=sum(each.epochs_saved for each in summaries),
        stop_reasons=dict(reasons),
        shorter=(),
    )


def early_stopping_of(study: ComparedStudy) -> EarlyStopping:
    """Early stopping as the study was configured."""
    prefix = "early_stopping."
    given = {key.removeprefix(prefix): value for key, value in study.identity.items() if key.startswith(prefix)}
    return EarlyStopping(**given)


def _shorter(
    trials: pd.DataFrame, folds: pd.DataFrame, epochs: pd.DataFrame, stopping: EarlyStopping, objective: Objective
) -> list[ShorterPatience]:
    complete = set(trials.loc[trials["objective"].notna(), "trial"])
    if stopping.monitor not in epochs or not complete:
        return []
    longest = int(folds["epochs_run"].max()) if stopping.patience is None else stopping.patience
    curves = [
        (int(str(trial)), table.sort_values("epoch"))
        for (trial, _), table in epochs.groupby(["trial", "fold"])
        if trial in complete
    ]
    # The score at another epoch is known only of a hold-out study that scores the best epoch.
    is_scored = folds["fold"].nunique() == 1 and objective.epoch == "best"
    return [_shorten(p, curves, stopping, objective, is_scored) for p in PATIENCES if p < longest]


def _shorten(
    patience: int,
    curves: Sequence[tuple[int, pd.DataFrame]],
    stopping: EarlyStopping,
    objective: Objective,
    is_scored: bool,
) -> ShorterPatience:
    """Replay one shorter patience on the curves of all folds."""
    n_run, changed, scores = 0, set(), {}
    for trial, curve in curves:
        values = curve[stopping.monitor].tolist()
        n_epochs, kept = replay(values, replace(stopping, patience=patience))
        _, kept_before = replay(values, replace(stopping, patience=None))
        if not stopping.restore_best_weights:
            kept, kept_before = n_epochs - 1, len(curve) - 1
        n_run += n_epochs
        if kept != kept_before:
            changed.add(trial)
        if is_scored and kept is not None:
            scores[trial] = float(curve[objective.metric].iloc[kept])
    best = (max if objective.direction == "maximize" else min)(scores, key=scores.__getitem__) if scores else None
    n_saved = sum(len(curve) for _, curve in curves) - n_run
    return ShorterPatience(patience, n_run, n_saved, len(changed), best, None if best is None else scores[best])


def replay(values: Sequence[float], stopping: EarlyStopping) -> tuple[int, int | None]:
    """Apply early stopping to a recorded curve.

    Args:
        values: the monitored metric by epoch.

    Returns:
        The number of epochs trained, and the best epoch, from 0; None if there is none.
    """
    monitor = EarlyStoppingMonitor(stopping)
    for epoch, value in enumerate(values):
        monitor.update(epoch, value)
        if monitor.should_stop(epoch):
            return epoch + 1, monitor.best_epoch
    return len(values), monitor.best_epoch
