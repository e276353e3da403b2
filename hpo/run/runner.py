"""One study: strategy × executor × evaluation → tracker, with limits, failures and interrupts."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Protocol

from hpo.core.measurement import Measurement, OnReport, step_of
from hpo.core.params import Params, canonical
from hpo.core.space import Parameter, SearchSpace, Suggest, united
from hpo.core.states import Decision, State
from hpo.core.trial import FoldResult, Proposal, RecordedTrial, Trial
from hpo.errors import HpoError, SearchStopped, StudyFailed, full_disk_ends_the_study, redact
from hpo.evaluation.tasks import FoldTask
from hpo.reporting.tables import mean_curves, write_history
from hpo.run.finalize import Finish, state_of
from hpo.run.metadata import record_start
from hpo.run.result import Result, StopCause
from hpo.run.trials import Control, ReplayedTrial, RunningTrial
from hpo.study.study import Study
from hpo.tracking.resume import RecordedStudy
from hpo.tracking.schema import Artifact, Metric, Tag, fold_metric, fold_score_metric, traceback_file
from hpo.tracking.writer import Tracker

# With more folds than this, their curves and scores are in history.parquet and the outcomes only.
MAX_FOLD_CURVES = 20
# What also ends the trials that are running.
_CUTS_SHORT = (StopCause.TIMEOUT, StopCause.MAX_EPOCHS, StopCause.INTERRUPTED, StopCause.ERROR)
# At the end of a study that was interrupted or has failed, MLflow gets this long to take the last records.
LAST_SECONDS = 3.0


class View(Protocol):
    """Who watches a study; told one thing at a time."""

    def study_started(self, study: Study) -> None: ...
    def study_resumed(self, finished: Sequence[Trial], n_unfinished: int, best: Trial | None) -> None: ...
    def trial_started(self, number: int, params: Params) -> None: ...
    def epoch_ended(self, number: int, fold: int, epoch: int, logs: Mapping[str, float]) -> None: ...
    def trial_ended(self, trial: Trial, best: Trial | None) -> None: ...
    def stopping(self, reason: str) -> None: ...
    def search_ended(self, doing: str) -> None: ...


class Runner:
    """Runs one study to its end.

    Args:
        tracker: whose folder is also the place for the weights of the best trial.
        overrides: the command line that defined the study, to be recorded.
        recorded: of a study that goes on, what its record has.
        changes: what differs from the recorded study, where the user goes on with it all the same.
    """

    def __init__(
        self,
        study: Study,
        tracker: Tracker,
        view: View,
        overrides: Sequence[str] = (),
        recorded: RecordedStudy | None = None,
        changes: str | None = None,
    ) -> None:
        self.study = study
        self._tracker, self._view = tracker, view
        self._overrides = list(overrides)
        self._recorded, self._changes = recorded, changes
        self._folder = tracker.folder
        self._lock = threading.RLock()
        self._seconds_before = 0.0
        self._started: float | None = None
        self._trials: list[Trial] = []
        self._n_by_state: Counter[State] = Counter()
        self._open: dict[int, RunningTrial] = {}
        self._to_replay: dict[str, list[RecordedTrial]] = {}
        self._found: dict[str, Parameter] = {}
        self._next_number = 0
        self._best: Trial | None = None
        self._epochs_total = 0
        self._failures_in_a_row = 0
        self._end: StopCause | None = None
        self._is_searching = False

    def run(self) -> Result:
        """Search, then test and log the winner.

        Raises:
            StudyFailed: when the disk takes no records, or no worker can be started; what was recorded stays.
        """
        study = self.study
        try:
            with self._interrupts():
                record_start(study, self._tracker, self._overrides, self._recorded, self._changes)
                self._view.study_started(study)
                if self._recorded is not None:
                    self._resume(self._recorded)
                try:
                    study.executor.start(study.evaluator, self._folder, study.n_at_once)
                    self._search()
                    self._close_open_trials()
                    return self._finish()
                finally:
                    study.executor.stop()
        except BaseException as error:
            self._abandon(StopCause.INTERRUPTED if isinstance(error, KeyboardInterrupt) else StopCause.ERROR)
            raise

    def _resume(self, recorded: RecordedStudy) -> None:
        """Count what the record has; the strategy will come to it again."""
        kept: set[Path] = set()
        for each in recorded.trials:
            self._to_replay.setdefault(canonical(each.trial.params), []).append(each)
            self._next_number = max(self._next_number, each.trial.number + 1)
            for parameter in SearchSpace.from_record(each.domains).values():
                self._find(parameter)
        unfinished = [each.trial.number for each in recorded.trials if not each.trial.state.is_finished]
        self._tracker.close_running_trials(unfinished)
        kept |= {path for number in unfinished if (path := self._weights_of(number)) is not None}
        finished = [each.trial for each in recorded.trials if each.trial.state.is_finished]
        # As they ended, since the first of equals is the best.
        for trial in sorted(finished, key=lambda trial: (trial.ended_seconds or 0.0, trial.number)):
            weights = self._weights_of(trial.number)
            if weights is not None and trial.folds:
                trial = replace(trial, folds=(replace(trial.folds[0], weights_path=str(weights)), *trial.folds[1:]))
            self._trials.append(trial)
            self._n_by_state[trial.state] += 1
            best = self._best.value if self._best else None
            if trial.value is not None and self.study.definition.objective.better(trial.value, best):
                self._best = trial
        if self._best is not None and self._best.folds[0].weights_path:
            kept.add(Path(self._best.folds[0].weights_path))
        for path in self._folder.glob(f"*trial-*{self.study.model.weights_suffix}"):
            if path not in kept:  # of a trial that is no longer the best
                path.unlink(missing_ok=True)
        self._seconds_before = float(recorded.tags.get(Tag.SPENT_SECONDS, 0.0))
        self._epochs_total = int(recorded.tags.get(Tag.SPENT_EPOCHS, 0))
        self._view.study_resumed(self._trials, len(unfinished), self._best)

    def _weights_of(self, number: int) -> Path | None:
        """Where a trial's weights lie, if they do."""
        path = self._folder / f"trial-{number:04d}{self.study.model.weights_suffix}"
        return path if path.exists() else None

    def _search(self) -> None:
        strategy = self.study.strategy
        first = self._recorded.tags.get(Tag.FIRST_N_TRIALS, "") if self._recorded else ""
        search = replace(
            self.study.search,
            n_workers=self.study.n_at_once,
            recorded=tuple(each.trial.params for each in self._recorded.trials) if self._recorded else (),
            first_n_trials=int(first) if first.isdigit() else None,
        )
        self._is_searching = True
        try:
            strategy.search(search, _Evaluate(self))
        except SearchStopped:
            pass
        except HpoError:
            raise
        except Exception as error:  # of the library, outside any trial
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            raise StudyFailed(f"the search itself failed in {strategy.tags.backend}: {said}") from error
        finally:
            self._is_searching = False

    def open(self, params: Params, suggest: Suggest | None = None) -> RunningTrial | ReplayedTrial:
        """Begin a trial; see :class:`hpo.strategies.base.Evaluate`."""
        with self._lock:
            recorded = self._take_recorded(params)
            if recorded is not None and recorded.trial.state.is_finished:
                if self._end is not None:
                    raise SearchStopped
                metric = self.study.definition.objective.metric
                return ReplayedTrial(recorded, self.study.max_epochs, metric, suggest)
            if self._started is None:
                self._started = time.monotonic()  # what a library takes to start is not the search's time
            self._check_limits()
            number = self._next_number if recorded is None else recorded.trial.number
            weights = self._weights_of(number) if recorded and not self.study.evaluator.refits_winner else None
            trial = RunningTrial(self, number, params, recorded, weights, suggest)
            self._next_number = max(self._next_number, number + 1)
            self._open[number] = trial
            self._tracker.start_trial(number, trial.params, trial.attempt)
            self._view.trial_started(number, trial.params)
        return trial

    def _take_recorded(self, params: Params) -> RecordedTrial | None:
        """What the record has of a trial with these params, each to be had once, by number."""
        known = self._to_replay.get(canonical(params))
        return known.pop(0) if known else None

    # What a trial needs; see hpo.run.trials.TrialHost.

    def train_fold(
        self, task: FoldTask, running: RunningTrial, n_recorded: int, on_report: OnReport | None
    ) -> FoldResult:
        if not self.study.evaluator.refits_winner:
            best = self._best.value if self._best else None
            task = replace(task, weights_path=self._folder / f"trial-{running.number:04d}", save_above=best)
        result = self.study.executor.run(task, Control(self, running, task, n_recorded, on_report))
        if not result.error and not result.traceback:
            return result
        error, traceback = (None if text is None else redact(text) for text in (result.error, result.traceback))
        return replace(result, error=error, traceback=traceback)

    def record_fold(self, running: RunningTrial, result: FoldResult, budget: int) -> None:
        n_folds = self.study.evaluator.n_folds
        self._tracker.log_fold(running.number, result, budget >= self.study.max_epochs)
        if 1 < n_folds <= MAX_FOLD_CURVES:
            if result.score is not None:
                self._tracker.log_metrics(running.number, {fold_score_metric(result.fold): result.score}, budget)
            self._record_history(running.trial)  # now, so that a killed study need not train this fold again

    def _record_history(self, trial: Trial) -> None:
        path = self._folder / "histories" / self._tracker.key(trial.number) / Artifact.HISTORY
        with full_disk_ends_the_study():
            self._tracker.log_file(trial.number, write_history(trial.folds, path))

    def retry(self, running: RunningTrial, lost: FoldResult) -> None:
        with self._lock:
            number = running.number
            self._tracker.set_tags(number, {Tag.ERROR: lost.error or "the worker was lost"})
            if lost.traceback:
                self._tracker.log_text(number, lost.traceback, traceback_file(lost.fold))
            self._tracker.close_running_trials([number], lost.outcome.stop_reason)
            self._tracker.start_trial(number, running.params, running.attempt)

    def close(self, trial: Trial) -> None:
        with self._lock:
            running = self._open.pop(trial.number, None)
            if running is not None and not trial.folds:  # nothing was trained
                self._tracker.close_running_trials([trial.number])
            else:
                self._account(trial)

    def _close_open_trials(self) -> None:
        """End the trials that wait for a larger budget: dropped where the search is over, else to be run again."""
        for trial in list(self._open.values()):
            trial.wait()
            if trial.number not in self._open:
                continue  # it has ended meanwhile
            if trial.trial.state in (State.FAIL, State.PRUNED) or trial.is_whole:
                trial.close()
            elif trial.has_rung and self._end in (None, StopCause.N_TRIALS):
                trial.close(dropped=True)
            else:
                trial.interrupt()

    # Limits and interrupts.

    def fail(self) -> None:
        self._stop(StopCause.ERROR)

    @property
    def _n_finished(self) -> int:
        """Trials that count towards ``limits.n_trials``."""
        return sum(n for state, n in self._n_by_state.items() if state.is_finished)

    @property
    def _seconds(self) -> float:
        """Of searching, over the whole life of the study."""
        return self._seconds_before + (0.0 if self._started is None else time.monotonic() - self._started)

    def _check_limits(self) -> None:
        limits = self.study.definition.limits
        if limits.n_trials is not None and self._n_finished + len(self._open) >= limits.n_trials:
            self._stop(StopCause.N_TRIALS)
        if limits.max_consecutive_failures is not None and self._failures_in_a_row >= limits.max_consecutive_failures:
            self._stop(StopCause.FAILURES)
        self._check_running_limits()
        if self._end is not None:
            raise SearchStopped

    def _check_running_limits(self) -> None:
        """The limits that also cut running trials short."""
        limits = self.study.definition.limits
        if limits.timeout_seconds is not None and self._seconds >= limits.timeout_seconds:
            self._stop(StopCause.TIMEOUT)
        if limits.max_epochs_total is not None and self._epochs_total >= limits.max_epochs_total:
            self._stop(StopCause.MAX_EPOCHS)

    def _stop(self, end: StopCause) -> None:
        if self._end is None or (end in _CUTS_SHORT and self._end not in _CUTS_SHORT):
            self._end = end

    @property
    def _decision(self) -> Decision:
        """Whether running trials may go on; a study that begins no more trials lets them come to their end."""
        self._check_running_limits()
        return Decision.INTERRUPT if self._end in _CUTS_SHORT else Decision.CONTINUE

    @contextmanager
    def _interrupts(self) -> Iterator[None]:
        """Ctrl-C once ends the search in good order, twice at once; so do SIGTERM and a terminal that is closed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def on_signal(signum: int, frame: FrameType | None) -> None:
            if signum == signal.SIGHUP:
                _let_go_of_the_terminal()
            if not self._is_searching or self._end is StopCause.INTERRUPTED:
                raise KeyboardInterrupt
            self._end = StopCause.INTERRUPTED
            again = "Ctrl-C again ends at once" if signum == signal.SIGINT else f"for {signal.Signals(signum).name}"
            self._view.stopping(f"closing what is running; {again}")

        watched = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {each: signal.signal(each, on_signal) for each in watched}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    # The record.

    def on_epoch(self, epoch: int, logs: Mapping[str, float], control: Control) -> Decision:
        with self._lock:
            self._epochs_total += 1
            running, fold = control.running, control.fold
            if epoch >= control.n_recorded or not self.study.model.has_epochs:
                self.record_epoch(running, fold, epoch, logs, control.max_epochs)
            self._view.epoch_ended(running.number, fold, epoch, logs)
            if self._decision is Decision.INTERRUPT:
                return Decision.INTERRUPT
        value = logs.get(self.study.definition.objective.metric)
        if control.on_report is None or value is None:
            return Decision.CONTINUE
        return control.on_report(Measurement(fold, step_of(epoch, logs), value))

    def record_epoch(
        self,
        running: RunningTrial,
        fold: int,
        epoch: int,
        logs: Mapping[str, float],
        budget: int,
    ) -> None:
        # Without epochs a larger budget is another model, told apart by the budget.
        step = step_of(epoch, logs) if self.study.model.has_epochs else budget - 1
        metrics = self._curves(fold, logs)
        running.remember(fold, step, metrics)
        self.record_point(running, step, metrics)

    def record_param(self, running: RunningTrial, parameter: Parameter) -> None:
        with self._lock:
            self._find(parameter)
            domains = SearchSpace(list(running.domains.values())).to_config()
            self._tracker.log_param(running.number, parameter.name, running.params, domains)

    def _find(self, parameter: Parameter) -> None:
        """Add a parameter to the space that trials declare while they run."""
        known = self._found.get(parameter.name)
        self._found[parameter.name] = parameter if known is None else united(known, parameter)

    def record_note(self, running: RunningTrial, name: str, text: str) -> None:
        with self._lock:
            self._tracker.log_note(running.number, name, text)

    def record_point(self, running: RunningTrial, step: int, metrics: Mapping[str, float]) -> None:
        self._tracker.log_metrics(running.number, metrics, step)

    def _curves(self, fold: int, logs: Mapping[str, float]) -> dict[str, float]:
        """What of an epoch is recorded at once: with folds only the watched metrics; means follow at the end."""
        n_folds, definition = self.study.evaluator.n_folds, self.study.definition
        if n_folds == 1:
            return dict(logs)
        watched = (definition.early_stopping.monitor, definition.objective.metric)
        return {fold_metric(fold, name): logs[name] for name in watched if name in logs and n_folds <= MAX_FOLD_CURVES}

    def poll(self) -> Decision:
        return self._decision

    def _account(self, trial: Trial) -> None:
        trial = replace(trial, ended_seconds=self._seconds)
        self._trials.append(trial)
        self._n_by_state[trial.state] += 1
        n_folds = self.study.evaluator.n_folds
        if n_folds > 1:
            for epoch, means in enumerate(mean_curves(trial.folds)):
                self._tracker.log_metrics(trial.number, means, epoch)
            self._record_history(trial)
        objective, lost = self.study.definition.objective, trial
        if trial.state is State.WAITING:
            self._tracker.end_trial(trial, objective, {}, 0, self._spent)
            self._view.trial_ended(trial, self._best)
            return
        self._failures_in_a_row = self._failures_in_a_row + 1 if trial.state is State.FAIL else 0
        value, best = trial.value, self._best.value if self._best else None
        if value is not None and objective.better(value, best):
            lost, self._best = self._best or trial, trial
        # By the order of ending, in which rungs differ from the order of beginning.
        self._tracker.end_trial(trial, objective, self._progress(), self._n_finished - 1, self._spent)
        if lost is not self._best:  # only now: until the new one is recorded, the old one is the best
            self._forget_weights(lost)
        self._view.trial_ended(trial, self._best)

    @property
    def _spent(self) -> dict[str, object]:
        """What limits are about, over the whole life of the study; as tags, since they hold what was lost as well."""
        return {Tag.SPENT_SECONDS: round(self._seconds, 3), Tag.SPENT_EPOCHS: self._epochs_total}

    def _progress(self) -> dict[str, float]:
        progress: dict[str, float] = {
            Metric.N_COMPLETE: self._n_by_state[State.COMPLETE],
            Metric.N_PRUNED: self._n_by_state[State.PRUNED],
            Metric.N_FAILED: self._n_by_state[State.FAIL],
            Metric.EPOCHS_TOTAL: self._epochs_total,
            Metric.SEARCH_SECONDS: self._seconds,
        }
        if self._best and self._best.value is not None:
            progress[Metric.BEST_OBJECTIVE] = self._best.value
        return progress

    def _forget_weights(self, trial: Trial) -> None:
        for fold in trial.folds:
            if fold.weights_path:
                Path(fold.weights_path).unlink(missing_ok=True)

    # The end.

    def _finish(self) -> Result:
        limit = self.study.definition.limits.n_trials
        end = self._end or (StopCause.N_TRIALS if self._n_finished == limit else StopCause.EXHAUSTED)
        trials = tuple(sorted(self._trials, key=lambda trial: trial.number))
        study = self.study.with_found(SearchSpace(list(self._found.values())))
        result = Result(study, end, trials, self._best, self._seconds)
        result = Finish(result, self._tracker, self._view, self._recorded, self._spent).run()
        is_delivered = self._tracker.flush(LAST_SECONDS if end is StopCause.INTERRUPTED else None)
        if is_delivered and result.best is not None:
            result = replace(result, model_uri=self._tracker.model_uri(result.best.number))
        return result

    def _abandon(self, end: StopCause) -> None:
        """Close the runs of a study that did not come to its end, as far as the disk still takes it."""
        self._end = end  # other threads begin nothing any more
        try:
            self._tracker.close_running_trials()
            tags = {Tag.STATE: state_of(end), Tag.ENDED_BY: end.value, **self._spent}
            self._tracker.end_study(end.status, tags)
        except StudyFailed:
            pass  # the failure that is being raised says the same
        self._tracker.flush(LAST_SECONDS)


class _Evaluate:
    """What a strategy is given; see :class:`hpo.strategies.base.Evaluate`."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def __call__(self, proposal: Proposal, on_report: OnReport | None = None, suggest: Suggest | None = None) -> Trial:
        running = self._runner.open(proposal.params, suggest)
        running.train(proposal.max_epochs, on_report)
        return running.close()

    def open(self, params: Params) -> RunningTrial | ReplayedTrial:
        return self._runner.open(params)


def _let_go_of_the_terminal() -> None:
    """Writing to a terminal that is closed would fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
