"""Tags and metrics that a trial's run gets when the trial ends."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from hpo.core.objective import Objective
from hpo.core.states import State
from hpo.core.trial import FoldResult, Trial
from hpo.tracking.redaction import Redacted, to_json
from hpo.tracking.schema import Metric, Tag, best_metric, fold_tag, objective_metric, phase_metric


def final_metrics(trial: Trial, objective: Objective) -> dict[str, float]:
    """Scalars to sort trials by. Over several folds: the mean, of epochs the median, of seconds the sum."""
    return {
        Metric.EPOCHS_RUN: trial.epochs_run,
        Metric.EPOCHS_SAVED: trial.epochs_saved,
        Metric.TOTAL_SECONDS: trial.seconds,
        **({} if trial.ended_seconds is None else {Metric.ENDED_SECONDS: trial.ended_seconds}),
        **_scores(trial),
        **_generalisation(trial, objective),
        **_phases(trial.folds),
        **_early_stopping(trial),
        **_model_size(trial.folds),
    }


def final_tags(trial: Trial) -> dict[str, str]:
    """State, stop reason, error and the outcome of each fold."""
    tags = {Tag.STATE: trial.state.value, Tag.STOP_REASON: str(trial.stop_reason or "")}
    if trial.error:
        tags[Tag.ERROR] = trial.error
    return tags | {fold_tag(fold.fold): fold_json(fold) for fold in trial.folds}


def fold_json(fold: FoldResult) -> Redacted:
    """Score, early-stopping outcome and seconds of a fold, as its tag holds them."""
    return to_json(fold.summary())


def final_status(trial: Trial) -> str:
    """Status of the trial's run in MLflow: ``FINISHED``, also if it was pruned, ``FAILED`` or ``KILLED``."""
    return {State.FAIL: "FAILED", State.WAITING: "KILLED"}.get(trial.state, "FINISHED")


def _scores(trial: Trial) -> dict[str, float]:
    metrics: dict[str, float] = {}
    if trial.values is not None:
        metrics[Metric.OBJECTIVE] = trial.values[0]
        others = zip(trial.folds[0].others, trial.values[1:], strict=True)
        metrics |= {objective_metric(name): value for name, value in others}
    elif trial.mean_score is not None:  # at the budget at which the trial was pruned
        metrics[Metric.RUNG_OBJECTIVE] = trial.mean_score
    if trial.std is not None and trial.standard_error is not None:
        metrics |= {Metric.OBJECTIVE_STD: trial.std, Metric.OBJECTIVE_SE: trial.standard_error}
    return metrics


def _generalisation(trial: Trial, objective: Objective) -> dict[str, float]:
    train_score = trial.train_score(objective)
    if train_score is None or trial.value is None:
        return {}
    return {Metric.TRAIN_SCORE: train_score, Metric.GENERALISATION_GAP: statistics.fmean(trial.gaps(objective))}


def _phases(folds: Sequence[FoldResult]) -> Mapping[str, float]:
    phases = {phase for fold in folds for phase in fold.seconds}
    return {phase_metric(phase): sum(fold.seconds.get(phase, 0.0) for fold in folds) for phase in phases}


def _early_stopping(trial: Trial) -> dict[str, float]:
    outcomes = [fold.outcome for fold in trial.folds]
    metrics: dict[str, float] = {}
    if trial.best_epochs:
        metrics[Metric.BEST_EPOCH] = statistics.median(trial.best_epochs)
    stopped = [outcome.stopped_epoch for outcome in outcomes if outcome.stopped_epoch is not None]
    if stopped and len(stopped) == len(outcomes):
        metrics[Metric.STOPPED_EPOCH] = statistics.median(stopped)
    best_values = [outcome.best_value for outcome in outcomes if outcome.best_value is not None]
    if best_values:
        metrics[best_metric(outcomes[0].monitor)] = statistics.fmean(best_values)
    return metrics


def _model_size(folds: Sequence[FoldResult]) -> dict[str, float]:
    n_weights = folds[0].n_weights if folds else None
    return {} if n_weights is None else {Metric.N_WEIGHTS: n_weights}
