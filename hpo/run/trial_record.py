"""Writes the trials of a running study to its record."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from hpo.core.measurement import step_of
from hpo.core.params import Params
from hpo.core.states import State
from hpo.core.trial import FoldResult, Trial
from hpo.errors import full_disk_ends_the_study
from hpo.reporting.tables import mean_curves, write_history
from hpo.run.limits import StudyLimits
from hpo.study.study import Study
from hpo.tracking.schema import Artifact, Metric, Tag, fold_metric, fold_score_metric, traceback_file
from hpo.tracking.writer import Tracker

# With more folds, their curves and scores are only in history.parquet and the outcomes.
MAX_FOLD_CURVES = 20


class TrialRecorder:
    """Records what running trials report. Safe to use from several threads.

    Args:
        study: decides which metrics of an epoch are recorded.
        tracker: writes the record.
    """

    def __init__(self, study: Study, tracker: Tracker) -> None:
        self._study, self._tracker = study, tracker
        self._lock = threading.RLock()
        # Trial → fold → recorded points, to be repeated in the run of the next attempt.
        self._points: dict[int, dict[int, list[tuple[int, Mapping[str, float]]]]] = {}

    def start(self, number: int, params: Params, attempt: int) -> None:
        """Start the run of a trial."""
        self._tracker.start_trial(number, params, attempt)

    def epoch(self, number: int, fold: int, epoch: int, logs: Mapping[str, float], budget: int) -> None:
        """Record the metrics of one epoch of one fold.

        Args:
            epoch: counted from 0.
            budget: the most epochs of the fold; the step of models without epochs, for which each budget is one point.
        """
        step = step_of(epoch, logs) if self._study.model.has_epochs else budget - 1
        metrics = self._curves(fold, logs)
        with self._lock:
            self._points.setdefault(number, {}).setdefault(fold, []).append((step, metrics))
            self._tracker.log_metrics(number, metrics, step)

    def _curves(self, fold: int, logs: Mapping[str, float]) -> dict[str, float]:
        """The metrics recorded at once: with folds, only the watched ones; means follow at the end of the trial."""
        n_folds, definition = self._study.evaluator.n_folds, self._study.definition
        if n_folds == 1:
            return dict(logs)
        watched = (definition.early_stopping.monitor, definition.objective.metric)
        return {fold_metric(fold, name): logs[name] for name in watched if name in logs and n_folds <= MAX_FOLD_CURVES}

    def param(self, number: int, name: str, params: Params, domains: Mapping[str, Any]) -> None:
        """Record a param that a trial asked for while it runs.

        Args:
            name: of the new param.
            params: all params of the trial so far.
            domains: all that it asked for so far, as search space entries.
        """
        self._tracker.log_param(number, name, params, domains)

    def note(self, number: int, name: str, text: str) -> None:
        """Record a note of an objective about its trial."""
        self._tracker.log_note(number, name, text)

    def fold(self, trial: Trial, result: FoldResult, budget: int) -> None:
        """Record the result of a fold, so that the fold need not be trained again if the study is killed now.

        Args:
            trial: with the results of its folds so far.
            budget: the most epochs that the fold was given.
        """
        n_folds = self._study.evaluator.n_folds
        with self._lock:
            self._tracker.log_fold(trial.number, result, budget >= self._study.max_epochs)
            if 1 < n_folds <= MAX_FOLD_CURVES:
                if result.score is not None:
                    self._tracker.log_metrics(trial.number, {fold_score_metric(result.fold): result.score}, budget)
                self._history(trial)

    def _history(self, trial: Trial) -> None:
        path = self._tracker.folder / "histories" / self._tracker.key(trial.number) / Artifact.HISTORY
        with full_disk_ends_the_study():
            self._tracker.log_file(trial.number, write_history(trial.folds, path))

    def restart(
        self, trial: Trial, attempt: int, lost: FoldResult, results: Mapping[tuple[int, int], FoldResult]
    ) -> None:
        """Close the run of a trial with a lost worker, and start the next, which repeats what other folds recorded.

        Args:
            trial: with the results of its folds so far.
            attempt: number of the new run.
            lost: the result that describes the loss.
            results: of the fold budgets that are done, by fold and budget.
        """
        number = trial.number
        with self._lock:
            self._tracker.set_tags(number, {Tag.ERROR: lost.error or "the worker was lost"})
            if lost.traceback:
                self._tracker.log_text(number, lost.traceback, traceback_file(lost.fold))
            self._tracker.close_running_trials([number], lost.outcome.stop_reason)
            self._tracker.start_trial(number, trial.params, attempt)
            points = self._points.get(number, {})
            points.pop(lost.fold, None)
            for step, metrics in [point for fold in points.values() for point in fold]:
                self._tracker.log_metrics(number, metrics, step)
            for (_, budget), result in sorted(results.items()):
                self.fold(trial, result, budget)

    def discard(self, number: int) -> None:
        """Close the run of a trial that trained nothing; it will be run again."""
        self._tracker.close_running_trials([number])
        self._points.pop(number, None)

    def end(self, trial: Trial, limits: StudyLimits, best: Trial | None) -> None:
        """Record how a trial ended, and the progress of the study.

        Args:
            limits: which have counted the trial already.
            best: the best trial, which may be this one.
        """
        if self._study.evaluator.n_folds > 1:
            for epoch, means in enumerate(mean_curves(trial.folds)):
                self._tracker.log_metrics(trial.number, means, epoch)
            self._history(trial)
        # Steps follow the order of ends, which differs from the order of starts under successive halving.
        progress, step = (_progress(limits, best), limits.n_finished - 1) if trial.state.is_finished else ({}, 0)
        self._tracker.end_trial(trial, self._study.definition.objective, progress, step, spent_tags(limits))
        self._points.pop(trial.number, None)


def spent_tags(limits: StudyLimits) -> dict[str, object]:
    """What a study has spent, for its tags: they include interrupted trials, which its metrics do not."""
    return {Tag.SPENT_SECONDS: round(limits.seconds, 3), Tag.SPENT_EPOCHS: limits.epochs}


def _progress(limits: StudyLimits, best: Trial | None) -> dict[str, float]:
    progress: dict[str, float] = {
        Metric.N_COMPLETE: limits.n_in(State.COMPLETE),
        Metric.N_PRUNED: limits.n_in(State.PRUNED),
        Metric.N_FAILED: limits.n_in(State.FAIL),
        Metric.EPOCHS_TOTAL: limits.epochs,
        Metric.SEARCH_SECONDS: limits.seconds,
    }
    if best is not None and best.value is not None:
        progress[Metric.BEST_OBJECTIVE] = best.value
    return progress
