"""Decides whether a trial over-fits, under-fits or fits well, from its training and validation scores."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from enum import StrEnum

from hpo.core.objective import Objective, metric_direction
from hpo.core.trial import Trial

# A gap between training and validation score within so many standard errors may be chance.
N_STANDARD_ERRORS = 2.0


class Fit(StrEnum):
    """How well a trial generalises."""

    OVER = "over-fitted"
    UNDER = "under-fitted"
    WELL = "well-fitted"
    UNDETERMINED = "undetermined"


def fit_of(trial: Trial, objective: Objective, n_scored: int, median: float | None) -> Fit:
    """Classify a COMPLETE trial.

    - Over-fitted: the training score is better than the validation score by more than two standard errors, and the
      monitored metric worsened after its best epoch.
    - Under-fitted: the training score is worse than the median validation score of the study.
    - Well-fitted: neither, and the gap is within two standard errors.
    - Undetermined: otherwise, or if there is no training score or no standard error.

    Args:
        n_scored: rows that a fold is scored on.
        median: the median validation score of the study's COMPLETE trials; None if there is none.
    """
    gaps, train_score = trial.gaps(objective), trial.train_score(objective)
    if not gaps or train_score is None:
        return Fit.UNDETERMINED
    if median is not None and objective.better(median, train_score):
        return Fit.UNDER
    error = standard_error(trial, objective, n_scored)
    if error is None:
        return Fit.UNDETERMINED
    if statistics.fmean(gaps) <= N_STANDARD_ERRORS * error:
        return Fit.WELL
    return Fit.OVER if has_worsened(trial) else Fit.UNDETERMINED


def standard_error(trial: Trial, objective: Objective, n_scored: int) -> float | None:
    """Standard error of the gap between training and validation score.

    With several folds, of their mean; with one fold, that of the difference of two binomial proportions, which exists
    for accuracies only.

    Args:
        n_scored: rows that the fold is scored on.

    Returns:
        None for one fold and another metric, or without a training score.
    """
    gaps = trial.gaps(objective)
    if len(gaps) > 1:
        return statistics.stdev(gaps) / math.sqrt(len(gaps))
    if "accuracy" not in objective.metric or not gaps or n_scored < 1:
        return None
    shares = [trial.train_score(objective), trial.mean_score]
    return math.sqrt(sum((p or 0.0) * (1 - (p or 0.0)) / n_scored for p in shares))


def has_worsened(trial: Trial) -> bool:
    """Whether the monitored metric ended worse than at its best epoch, on at least half of the folds with a curve."""
    worsened = []
    for fold in trial.folds:
        curve, best = fold.history.get(fold.outcome.monitor, ()), fold.outcome.best_epoch
        if len(curve) > 1 and best is not None:
            loss = curve[-1] - curve[best]
            worsened.append(-loss > 0 if metric_direction(fold.outcome.monitor) == "maximize" else loss > 0)
    return bool(worsened) and sum(worsened) * 2 >= len(worsened)


def fits_of(trials: Sequence[Trial], objective: Objective, n_scored: int) -> dict[int, Fit]:
    """Classify every COMPLETE trial, by number."""
    complete = [trial for trial in trials if trial.value is not None]
    median = statistics.median(trial.value or 0.0 for trial in complete) if complete else None
    return {trial.number: fit_of(trial, objective, n_scored, median) for trial in complete}
