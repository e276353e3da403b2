"""Runs one trial of a study: its folds and budgets, retries after lost workers, and its end."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from hpo.core.measurement import OnReport
from hpo.core.params import Params, ParamValue
from hpo.core.space import Parameter, SearchSpace, Suggest
from hpo.core.states import Decision, State, StopReason
from hpo.core.trial import FoldResult, RecordedTrial, Trial
from hpo.errors import SearchStopped, StudyFailed
from hpo.evaluation.tasks import FoldTask
from hpo.run.best_weights import delete_weights
from hpo.run.replay import report_curve
from hpo.run.trial_record import TrialRecorder
from hpo.study.study import Study

# A trial that ran on this many lost nodes may be the cause of their loss.
MAX_LOST_NODES = 5


class TrialHost(Protocol):
    """The services of a runner that its trials use; all may be called from any thread."""

    @property
    def study(self) -> Study:
        """The study that the trial belongs to."""
        ...

    @property
    def recorder(self) -> TrialRecorder:
        """Writes the record of the trial."""
        ...

    def declare(self, parameter: Parameter) -> None:
        """Add a parameter that a trial asked for to the search space of the study."""
        ...

    def train_fold(self, task: FoldTask, control: TrialControl) -> FoldResult:
        """Train one fold in the executor."""
        ...

    def on_epoch(self, epoch: int, logs: Mapping[str, float], control: TrialControl) -> Decision:
        """Count, record and show the metrics of an epoch, and decide whether the trial continues."""
        ...

    def poll(self) -> Decision:
        """Decide whether a trial continues between two batches."""
        ...

    def close(self, trial: Trial) -> None:
        """Count and record a trial that has ended."""
        ...

    def fail(self) -> None:
        """End the study, since it cannot continue."""
        ...


class RunningTrial:
    """A trial that is being evaluated; see :class:`hpo.strategies.base.OpenTrial`.

    A larger budget trains a fold again from its first epoch with the same seed, so that its first epochs repeat. Folds
    may be trained by several threads at the same time.

    Args:
        recorded: an earlier attempt at this trial; its finished folds are not trained again.
        weights: the weights that the earlier attempt saved.
        suggest: chooses the params that the trial asks for while it runs; ``params`` is then ignored.
    """

    def __init__(
        self,
        host: TrialHost,
        number: int,
        params: Params,
        recorded: RecordedTrial | None = None,
        weights: Path | None = None,
        suggest: Suggest | None = None,
    ) -> None:
        self.number = number
        self.attempt = 0 if recorded is None else recorded.attempt + 1
        self._host = host
        self._full = host.study.max_epochs
        self._suggest = suggest
        # Taken after every other lock, except that of the recorder.
        self._params_lock = threading.Lock()
        self._params: dict[str, ParamValue] = dict(params) if suggest is None else {}
        self._domains: dict[str, Parameter] = {}
        self._recorded_domains = recorded.domains if recorded else {}
        self._recorded_results = dict(recorded.results) if recorded else {}
        self._weights = weights
        self._folds: dict[int, FoldResult] = {}
        self._results: dict[tuple[int, int], FoldResult] = {}
        # Fold → epochs in the record already: a larger budget repeats them.
        self._n_recorded: dict[int, int] = {}
        self._n_crashes = self._n_lost_nodes = self._n_training = 0
        self._is_interrupted = self._is_closed = False
        self._lock = threading.RLock()
        self._idle = threading.Condition(self._lock)
        self._seconds = 0.0

    @property
    def params(self) -> Params:
        """The params of the trial; of a trial that asks for them while it runs, those chosen so far."""
        with self._params_lock:
            return dict(self._params)

    @property
    def trial(self) -> Trial:
        """The trial as evaluated so far."""
        with self._lock:
            folds = tuple(self._folds[fold] for fold in sorted(self._folds))
            return Trial(self.number, self.params, folds, self._seconds, self._is_interrupted)

    def suggest(self, parameter: Parameter) -> ParamValue:
        """Let the strategy choose a value, and record it at once."""
        assert self._suggest is not None, "the study was opened for trials that ask"
        value = self._suggest(parameter)
        self._host.declare(parameter)
        with self._params_lock:
            self._params[parameter.name] = value
            self._domains[parameter.name] = parameter
            domains = SearchSpace(list(self._domains.values())).to_config()
            # Inside the lock: of two threads, the last to record has the params of both.
            self._host.recorder.param(self.number, parameter.name, dict(self._params), domains)
        return value

    def train_fold(
        self, fold: int, max_epochs: int | None = None, on_report: OnReport | None = None
    ) -> FoldResult | None:
        try:
            return self._train_fold(fold, min(max_epochs or self._full, self._full), on_report)
        except StudyFailed:
            self._host.fail()
            raise

    def _train_fold(self, fold: int, budget: int, on_report: OnReport | None) -> FoldResult | None:
        with self._lock:
            before = self._folds.get(fold)
            if self._is_closed or any(r.outcome.stop_reason.state is not State.COMPLETE for r in self._folds.values()):
                return None
            if before is not None and before.outcome.stop_reason is StopReason.EARLY_STOPPED:
                return before  # a larger budget would stop at the same epoch
            delete_weights(self._folds.values())
            self._n_training += 1
        try:
            result = self._restore_fold(fold, budget, on_report) or self._train_with_retries(fold, budget, on_report)
        finally:
            with self._idle:
                self._n_training -= 1
                self._idle.notify_all()
        with self._lock:
            self._n_recorded[fold] = max(self._n_recorded.get(fold, 0), result.outcome.epochs_run)
            if result.outcome.stop_reason is StopReason.INTERRUPTED:
                self._is_interrupted = True
                self._folds.setdefault(fold, result)  # the result of a smaller budget is kept: it has a score
                if not self._n_training:  # else the last of the folds in training closes the trial
                    self.close()
                raise SearchStopped
            self._folds[fold] = self._results[fold, budget] = result
            self._host.recorder.fold(self.trial, result, budget)
        return result

    def _train_with_retries(self, fold: int, budget: int, on_report: OnReport | None) -> FoldResult:
        while True:
            fraction, spent = budget / self._full, self._seconds
            task = FoldTask(
                self.params, fold, budget, budget_fraction=fraction, spent_seconds=spent, number=self.number
            )
            control = TrialControl(self._host, self, fold, budget, self._n_recorded.get(fold, 0), on_report)
            result = self._host.train_fold(task, control)
            with self._lock:
                if not self._may_retry(result.outcome.stop_reason):
                    self._seconds += sum(result.seconds.values())
                    return result
                self._retry(result)

    def _may_retry(self, reason: StopReason) -> bool:
        """Whether the worker was lost and retries are left; lost nodes are counted apart from crashes."""
        if reason is StopReason.NODE_LOST:
            self._n_lost_nodes += 1
            return self._n_lost_nodes <= MAX_LOST_NODES
        if reason is StopReason.CRASHED:
            self._n_crashes += 1
            return self._n_crashes <= self._host.study.executor.retries
        return False

    def _retry(self, lost: FoldResult) -> None:
        """Continue the trial in a new run, which contains the results of the other folds."""
        self.attempt += 1
        self._n_recorded.pop(lost.fold, None)
        if self._suggest is not None:  # the trial asks again, and receives the same values
            with self._params_lock:
                self._params.clear()
                self._domains.clear()
        self._host.recorder.restart(self.trial, self.attempt, lost, self._results)

    def _restore_fold(self, fold: int, budget: int, on_report: OnReport | None) -> FoldResult | None:
        """The result of an earlier attempt, recorded again in the run of this one; None if it has none."""
        result = self._recorded_results.get((fold, budget))
        if result is None:
            return None
        for parameter in SearchSpace.from_record(self._recorded_domains).values():
            self.suggest(parameter)
        for epoch in range(self._n_recorded.get(fold, 0), result.outcome.epochs_run):
            logs = {name: values[epoch] for name, values in result.history.items()}
            self._host.recorder.epoch(self.number, fold, epoch, logs, budget)
        report_curve(result, self._host.study.definition.objective.metric, on_report)
        with self._lock:
            self._seconds += sum(result.seconds.values())
        if self._weights is not None and budget == max(b for f, b in self._recorded_results if f == fold):
            return replace(result, weights_path=str(self._weights))
        return result

    def train(self, max_epochs: int | None = None, on_report: OnReport | None = None) -> Trial:
        for fold in range(self._host.study.evaluator.n_folds):
            if self.train_fold(fold, max_epochs, on_report) is None:
                break
        return self.trial

    def close(self, dropped: bool = False) -> Trial:
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                if dropped:
                    self._mark_pruned()
                trial = self.trial
                n_folds = self._host.study.evaluator.n_folds
                assert trial.state is not State.COMPLETE or len(trial.folds) == n_folds
                self._host.close(trial)
        return self.trial

    def close_at_end(self, is_search_over: bool) -> None:
        """End a trial that its strategy left open when the search ended, after its training threads have stopped.

        Args:
            is_search_over: whether the search ended by itself or by ``n_trials``, so that the trial will not continue;
                otherwise it is recorded as interrupted.
        """
        self.wait()
        with self._lock:
            if self._is_closed:
                return
            if self.trial.state in (State.FAIL, State.PRUNED) or self._is_whole:
                self.close()
            elif is_search_over and self._has_rung:
                self.close(dropped=True)
            else:
                self._is_interrupted = True
                self.close()

    def wait(self) -> None:
        """Wait for the threads that still train the trial; they have been told to stop."""
        with self._idle:
            self._idle.wait_for(lambda: self._n_training == 0)

    @property
    def _has_rung(self) -> bool:
        """Whether all folds have completed some budget."""
        return self.trial.state is State.COMPLETE and len(self._folds) == self._host.study.evaluator.n_folds

    @property
    def _is_whole(self) -> bool:
        """Whether a larger budget would change no fold."""
        done = (
            r.budget == self._full or r.outcome.stop_reason is not StopReason.MAX_EPOCHS for r in self._folds.values()
        )
        return self._has_rung and all(done)

    def _mark_pruned(self) -> None:
        """Mark the folds that a larger budget would have continued as pruned."""
        if self.trial.state is State.FAIL:
            return
        is_whole = len(self._folds) == self._host.study.evaluator.n_folds
        for fold, result in self._folds.items():
            outcome = result.outcome
            if outcome.stop_reason is StopReason.MAX_EPOCHS or not is_whole:
                allowed = self._full if self._host.study.model.has_epochs else outcome.max_epochs
                outcome = replace(outcome, stop_reason=StopReason.PRUNED, max_epochs=allowed)
                self._folds[fold] = replace(result, outcome=outcome)


class TrialControl:
    """Connects the training of one fold to the runner; see :class:`hpo.models.base.ObjectiveControl`.

    Every method may be called from any thread.

    Args:
        max_epochs: the budget of the fold.
        n_recorded: epochs of the fold that are in the record already.
        on_report: decides about pruning after each epoch; None for no pruning.
    """

    def __init__(
        self,
        host: TrialHost,
        running: RunningTrial,
        fold: int,
        max_epochs: int,
        n_recorded: int = 0,
        on_report: OnReport | None = None,
    ) -> None:
        self._host, self._running = host, running
        self.number, self.fold, self.max_epochs = running.number, fold, max_epochs
        self.n_recorded, self.on_report = n_recorded, on_report

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        return self._host.on_epoch(epoch, logs, self)

    def poll(self) -> Decision:
        return self._host.poll()

    def suggest(self, parameter: Parameter) -> ParamValue:
        return self._running.suggest(parameter)

    def note(self, name: str, text: str) -> None:
        self._host.recorder.note(self.number, name, text)
