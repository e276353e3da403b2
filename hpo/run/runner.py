"""Runs one study: connects strategy, executor and record; the rules are in the other modules of this folder.

- :mod:`hpo.run.limits` decides when the study ends,
- :mod:`hpo.run.signals` handles Ctrl-C, SIGTERM and a closed terminal,
- :mod:`hpo.run.trials` runs a trial, and :mod:`hpo.run.trial_record` writes its record,
- :mod:`hpo.run.replay` answers finished trials from the record,
- :mod:`hpo.run.best_weights` decides which weights are kept,
- :mod:`hpo.run.finalize` tests and logs the best model.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from hpo.core.measurement import Measurement, OnReport, step_of
from hpo.core.params import Params
from hpo.core.space import Parameter, SearchSpace, Suggest
from hpo.core.states import Decision, State
from hpo.core.trial import FoldResult, Proposal, Trial
from hpo.errors import HpoError, SearchStopped, StudyFailed, one_line, redact
from hpo.evaluation.tasks import FoldTask
from hpo.run.best_weights import BestWeights, delete_weights
from hpo.run.declared_space import DeclaredSpace
from hpo.run.finalize import Finalizer
from hpo.run.limits import StudyLimits
from hpo.run.metadata import record_start
from hpo.run.replay import RecordedTrials, ReplayedTrial
from hpo.run.result import Result, StopCause
from hpo.run.signals import handle_interrupts
from hpo.run.trial_record import TrialRecorder, spent_tags
from hpo.run.trials import RunningTrial, TrialControl
from hpo.run.view import View
from hpo.study.study import Study
from hpo.tracking.resume import RecordedStudy
from hpo.tracking.schema import Tag
from hpo.tracking.writer import Tracker

# Seconds that MLflow has to take the last records of a study that was interrupted or has failed.
LAST_SECONDS = 3.0


class Runner:
    """Runs one study to its end.

    Args:
        tracker: writes the record; the weights of the best trial lie in its folder.
        overrides: the command line that defines the study, for the record.
        recorded: the record of a study that is resumed; None for a new one.
        changes: the differences from the recorded study, if the user resumes it in spite of them.
        clock: returns seconds, for ``limits.timeout_seconds``.
    """

    def __init__(
        self,
        study: Study,
        tracker: Tracker,
        view: View,
        overrides: Sequence[str] = (),
        recorded: RecordedStudy | None = None,
        changes: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.study = study
        self.recorder = TrialRecorder(study, tracker)
        self._tracker, self._view = tracker, view
        self._overrides, self._recorded, self._changes = list(overrides), recorded, changes
        definition = study.definition
        self._limits = StudyLimits(definition.limits, clock)
        self._weights = BestWeights(tracker.folder, study.model.weights_suffix, definition.objective)
        self._to_replay = RecordedTrials(recorded.trials if recorded else ())
        self._declared = DeclaredSpace()
        # Taken before the locks of a trial's params and of the recorder, after the lock of a trial.
        self._lock = threading.RLock()
        self._ended: list[Trial] = []
        self._open: dict[int, RunningTrial] = {}
        self._next_number = 0
        self._is_searching = False

    def run(self) -> Result:
        """Search, then test and log the best model.

        Raises:
            StudyFailed: when the disk takes no records, or no worker can be started; what was recorded stays.
        """
        study = self.study
        try:
            with handle_interrupts(self._may_stop, self._stop_on_signal):
                record_start(study, self._tracker, self._overrides, self._recorded, self._changes)
                self._view.study_started(study)
                if self._recorded is not None:
                    self._resume(self._recorded)
                try:
                    study.executor.start(study.evaluator, self._tracker.folder, study.n_at_once)
                    self._search()
                    self._close_open_trials()
                    return self._finalize()
                finally:
                    study.executor.stop()
        except BaseException as error:
            self._abandon(StopCause.INTERRUPTED if isinstance(error, KeyboardInterrupt) else StopCause.ERROR)
            raise

    def _may_stop(self) -> bool:
        return self._is_searching and not self._limits.is_interrupted

    def _stop_on_signal(self, message: str) -> None:
        self._limits.interrupt()
        self._view.stopping(message)

    def _resume(self, recorded: RecordedStudy) -> None:
        """Count what the record has; the strategy will propose those trials again."""
        for each in recorded.trials:
            for parameter in SearchSpace.from_record(each.domains).values():
                self._declared.add(parameter)
        self._next_number = max((each.trial.number + 1 for each in recorded.trials), default=0)
        finished = [each.trial for each in recorded.trials if each.trial.state.is_finished]
        unfinished = [each.trial.number for each in recorded.trials if not each.trial.state.is_finished]
        self._tracker.close_running_trials(unfinished)
        self._ended = self._weights.restore(finished, unfinished)
        seconds, epochs = recorded.tags.get(Tag.SPENT_SECONDS, 0.0), recorded.tags.get(Tag.SPENT_EPOCHS, 0)
        self._limits.restore((trial.state for trial in finished), float(seconds), int(epochs))
        self._view.study_resumed(self._ended, len(unfinished), self._weights.best)

    def _search(self) -> None:
        strategy, recorded = self.study.strategy, self._recorded
        first = recorded.tags.get(Tag.FIRST_N_TRIALS, "") if recorded else ""
        problem = replace(
            self.study.search,
            n_workers=self.study.n_at_once,
            recorded=tuple(each.trial.params for each in recorded.trials) if recorded else (),
            first_n_trials=int(first) if first.isdigit() else None,
        )
        self._is_searching = True
        try:
            strategy.search(problem, _Evaluate(self))
        except SearchStopped:
            pass
        except HpoError:
            raise
        except Exception as error:  # raised by the library, outside any trial
            raise StudyFailed(f"the search failed in {strategy.tags.backend}: {one_line(error)}") from error
        finally:
            self._is_searching = False

    def _close_open_trials(self) -> None:
        """End the trials that wait for a larger budget."""
        is_search_over = self._limits.cause in (None, StopCause.N_TRIALS)
        for trial in list(self._open.values()):
            trial.close_at_end(is_search_over)

    def open(self, params: Params, suggest: Suggest | None = None) -> RunningTrial | ReplayedTrial:
        """Start a trial, or take it from the record; see :class:`hpo.strategies.base.Evaluate`."""
        with self._lock:
            recorded = self._to_replay.take(params)
            if recorded is not None and recorded.trial.state.is_finished:
                if self._limits.cause is not None:
                    raise SearchStopped
                metric = self.study.definition.objective.metric
                return ReplayedTrial(recorded, self.study.max_epochs, metric, suggest)
            self._limits.start_clock()
            self._limits.require_new_trial(len(self._open))
            number = self._next_number if recorded is None else recorded.trial.number
            keeps_weights = recorded is not None and not self.study.evaluator.refits_winner
            weights = self._weights.find(number) if keeps_weights else None
            trial = RunningTrial(self, number, params, recorded, weights, suggest)
            self._next_number = max(self._next_number, number + 1)
            self._open[number] = trial
            self.recorder.start(number, trial.params, trial.attempt)
            self._view.trial_started(number, trial.params)
        return trial

    # Called by trials; see hpo.run.trials.TrialHost.

    def declare(self, parameter: Parameter) -> None:
        self._declared.add(parameter)

    def train_fold(self, task: FoldTask, control: TrialControl) -> FoldResult:
        if not self.study.evaluator.refits_winner:
            path, score = self._weights.path_of(task.number), self._weights.score_to_beat
            task = replace(task, weights_path=path, save_above=score)
        result = self.study.executor.run(task, control)
        if not result.error and not result.traceback:
            return result
        error, traceback = (None if text is None else redact(text) for text in (result.error, result.traceback))
        return replace(result, error=error, traceback=traceback)

    def on_epoch(self, epoch: int, logs: Mapping[str, float], control: TrialControl) -> Decision:
        with self._lock:
            self._limits.count_epoch()
            if epoch >= control.n_recorded or not self.study.model.has_epochs:
                self.recorder.epoch(control.number, control.fold, epoch, logs, control.max_epochs)
            self._view.epoch_ended(control.number, control.fold, epoch, logs)
            if self._limits.decide() is Decision.INTERRUPT:
                return Decision.INTERRUPT
        value = logs.get(self.study.definition.objective.metric)
        if control.on_report is None or value is None:
            return Decision.CONTINUE
        # Without the lock: a pruner may wait for its own.
        return control.on_report(Measurement(control.fold, step_of(epoch, logs), value))

    def poll(self) -> Decision:
        return self._limits.decide()

    def close(self, trial: Trial) -> None:
        with self._lock:
            running = self._open.pop(trial.number, None)
            if running is not None and not trial.folds:
                self.recorder.discard(trial.number)
                return
            trial = replace(trial, ended_seconds=self._limits.seconds)
            self._ended.append(trial)
            self._limits.count_trial(trial.state)
            is_finished = trial.state is not State.WAITING
            beaten = self._weights.offer(trial) if is_finished else None
            self.recorder.end(trial, self._limits, self._weights.best)
            if beaten is not None:  # only now: until the new best trial is recorded, the old one is the best
                delete_weights(beaten.folds)
            self._view.trial_ended(trial, self._weights.best)

    def fail(self) -> None:
        self._limits.stop(StopCause.ERROR)

    # The end.

    def _finalize(self) -> Result:
        cause = self._limits.final_cause
        trials = tuple(sorted(self._ended, key=lambda trial: trial.number))
        study = self.study.with_found(self._declared.space)
        result = Result(study, cause, trials, self._weights.best, self._limits.seconds)
        result = Finalizer(result, self._tracker, self._view, self._recorded, spent_tags(self._limits)).run()
        is_delivered = self._tracker.flush(LAST_SECONDS if cause is StopCause.INTERRUPTED else None)
        if is_delivered and result.best is not None:
            result = replace(result, model_uri=self._tracker.model_uri(result.best.number))
        return result

    def _abandon(self, cause: StopCause) -> None:
        """Close the runs of a study that ends with an error, as far as the disk takes the records."""
        if cause is StopCause.INTERRUPTED:
            self._limits.interrupt()  # other threads start nothing more
        self._limits.stop(cause)
        try:
            self._tracker.close_running_trials()
            tags = {Tag.STATE: cause.state, Tag.ENDED_BY: cause.value, **spent_tags(self._limits)}
            self._tracker.end_study(cause.status, tags)
        except StudyFailed:
            pass  # the error that is being raised says the same
        self._tracker.flush(LAST_SECONDS)


class _Evaluate:
    """Given to the strategy; see :class:`hpo.strategies.base.Evaluate`."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def __call__(self, proposal: Proposal, on_report: OnReport | None = None, suggest: Suggest | None = None) -> Trial:
        running = self._runner.open(proposal.params, suggest)
        running.train(proposal.max_epochs, on_report)
        return running.close()

    def open(self, params: Params) -> RunningTrial | ReplayedTrial:
        return self._runner.open(params)
