"""The trials of a running study: those that are trained, and those that a resumed study answers from its record."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from hpo.core.measurement import STEP, Measurement, OnReport
from hpo.core.params import Params, ParamValue
from hpo.core.space import Parameter, SearchSpace, Suggest
from hpo.core.states import Decision, State, StopReason
from hpo.core.trial import FoldResult, RecordedTrial, Trial
from hpo.errors import SearchStopped, StudyFailed
from hpo.evaluation.tasks import FoldTask
from hpo.study.study import Study

# A trial that so many nodes were lost under may be what took them down.
MAX_LOST_NODES = 5


class TrialHost(Protocol):
    """What a trial needs of the runner of its study."""

    study: Study

    def train_fold(
        self, task: FoldTask, running: RunningTrial, n_recorded: int, on_report: OnReport | None
    ) -> FoldResult:
        """Have one fold trained; its first ``n_recorded`` epochs are in the record already."""
        ...

    def record_epoch(
        self, running: RunningTrial, fold: int, epoch: int, logs: Mapping[str, float], budget: int
    ) -> None:
        """Record what a model reported after an epoch."""
        ...

    def record_point(self, running: RunningTrial, step: int, metrics: Mapping[str, float]) -> None:
        """Record metrics that were recorded for an earlier attempt."""
        ...

    def record_param(self, running: RunningTrial, parameter: Parameter) -> None:
        """Record a param that a trial has asked for while it runs."""
        ...

    def record_note(self, running: RunningTrial, name: str, text: str) -> None:
        """Record what an objective says of its trial."""
        ...

    def record_fold(self, running: RunningTrial, result: FoldResult, budget: int) -> None:
        """Record what a fold came to, at the budget that it had."""
        ...

    def retry(self, running: RunningTrial, lost: FoldResult) -> None:
        """Close the run of a trial whose worker was lost, and make the next one."""
        ...

    def close(self, trial: Trial) -> None:
        """Count and record a trial that has ended."""
        ...

    def on_epoch(self, epoch: int, logs: Mapping[str, float], control: Control) -> Decision:
        """Take the metrics of an epoch, and decide how to go on."""
        ...

    def poll(self) -> Decision:
        """Decide between two batches."""
        ...

    def fail(self) -> None:
        """The study cannot go on: nothing more is trained."""
        ...


class RunningTrial:
    """A trial that is being evaluated; see :class:`hpo.strategies.base.OpenTrial`.

    A larger budget trains a fold anew with the same seed, which repeats its epochs so far and goes on from there. Folds
    may be trained by several threads at once.

    Args:
        recorded: what an earlier attempt at this trial has left: its folds are taken over and not trained again.
        weights: the weights that it has left.
        suggest: answers what the trial asks for while it runs; its params are then what was answered so far.
    """

    def __init__(
        self,
        runner: TrialHost,
        number: int,
        params: Params,
        recorded: RecordedTrial | None = None,
        weights: Path | None = None,
        suggest: Suggest | None = None,
    ) -> None:
        self.number = number
        self._suggest = suggest
        self.params = dict(params) if suggest is None else {}
        self.domains: dict[str, Parameter] = {}
        self._domains_before = recorded.domains if recorded else {}
        self.attempt = 0 if recorded is None else recorded.attempt + 1
        self._runner = runner
        self._full = runner.study.max_epochs
        self._taken_over = dict(recorded.results) if recorded else {}
        self._weights = weights
        self._folds: dict[int, FoldResult] = {}
        self._n_recorded: dict[int, int] = {}
        # What the record has of every fold, to be said again if the trial is begun anew.
        self._points: dict[int, list[tuple[int, Mapping[str, float]]]] = {}
        self._points_lock = threading.Lock()  # taken last: the runner holds its own while it waits for this one
        self._results: dict[tuple[int, int], FoldResult] = {}
        self._n_crashes = self._n_lost_nodes = self._n_training = 0
        self._is_interrupted = self._is_closed = False
        self._lock = threading.RLock()
        self._idle = threading.Condition(self._lock)
        self._seconds = 0.0

    @property
    def trial(self) -> Trial:
        folds = tuple(self._folds[fold] for fold in sorted(self._folds))
        return Trial(self.number, dict(self.params), folds, self._seconds, self._is_interrupted)

    def suggest(self, parameter: Parameter) -> ParamValue:
        """Have the strategy choose a value, and record it at once."""
        assert self._suggest is not None, "the study was opened for trials that ask"
        value = self._suggest(parameter)
        self.params[parameter.name] = value
        self.domains[parameter.name] = parameter
        self._runner.record_param(self, parameter)
        return value

    def train_fold(
        self, fold: int, max_epochs: int | None = None, on_report: OnReport | None = None
    ) -> FoldResult | None:
        try:
            return self._train_fold(fold, min(max_epochs or self._full, self._full), on_report)
        except StudyFailed:
            self._runner.fail()
            raise

    def _train_fold(self, fold: int, budget: int, on_report: OnReport | None) -> FoldResult | None:
        with self._lock:
            before = self._folds.get(fold)
            if self._is_closed or any(r.outcome.stop_reason.state is not State.COMPLETE for r in self._folds.values()):
                return None
            if before is not None and before.outcome.stop_reason is StopReason.EARLY_STOPPED:
                return before  # a larger budget would only repeat it
            self._forget_weights()
            self._n_training += 1
        try:
            result = self._taken_from_the_record(fold, budget, on_report) or self._trained(fold, budget, on_report)
        finally:
            with self._idle:
                self._n_training -= 1
                self._idle.notify_all()
        with self._lock:
            self._n_recorded[fold] = max(self._n_recorded.get(fold, 0), result.outcome.epochs_run)
            if result.outcome.stop_reason is StopReason.INTERRUPTED:
                self._is_interrupted = True
                self._folds.setdefault(fold, result)  # what a smaller budget came to is of more use
                if not self._n_training:  # else the last of its folds closes it
                    self.close()
                raise SearchStopped
            self._folds[fold] = self._results[fold, budget] = result
            self._runner.record_fold(self, result, budget)
        return result

    def _trained(self, fold: int, budget: int, on_report: OnReport | None) -> FoldResult:
        while True:
            share, spent = budget / self._full, self._seconds
            task = FoldTask(dict(self.params), fold, budget, share=share, spent_seconds=spent, number=self.number)
            result = self._runner.train_fold(task, self, self._n_recorded.get(fold, 0), on_report)
            with self._lock:
                if not self._is_worth_a_retry(result.outcome.stop_reason):
                    self._seconds += sum(result.seconds.values())
                    return result
                self._retry(fold, result)

    def _is_worth_a_retry(self, reason: StopReason) -> bool:
        """Whether the worker was lost, and not too often yet; a node that is lost is not the model's fault."""
        if reason is StopReason.NODE_LOST:
            self._n_lost_nodes += 1
            return self._n_lost_nodes <= MAX_LOST_NODES
        if reason is StopReason.CRASHED:
            self._n_crashes += 1
            return self._n_crashes <= self._runner.study.executor.retries
        return False

    def _retry(self, lost: int, result: FoldResult) -> None:
        """Take up the trial in a new run, which has what the other folds came to."""
        self.attempt += 1
        with self._points_lock:
            self._points.pop(lost, None)
            said = [list(points) for points in self._points.values()]
        self._n_recorded.pop(lost, None)
        if self._suggest is not None:  # it will ask again, and be given the same
            self.params.clear()
            self.domains.clear()
        self._runner.retry(self, result)
        for points in said:
            for step, metrics in points:
                self._runner.record_point(self, step, metrics)
        for (_, budget), recorded in sorted(self._results.items()):
            self._runner.record_fold(self, recorded, budget)

    def _taken_from_the_record(self, fold: int, budget: int, on_report: OnReport | None) -> FoldResult | None:
        result = self._taken_over.get((fold, budget))
        if result is None:
            return None
        for parameter in SearchSpace.from_record(self._domains_before).values():
            self.suggest(parameter)
        for epoch in range(self._n_recorded.get(fold, 0), result.outcome.epochs_run):
            logs = {name: values[epoch] for name, values in result.history.items()}
            self._runner.record_epoch(self, fold, epoch, logs, budget)
        measure_again(result, self._runner.study.definition.objective.metric, on_report)
        with self._lock:
            self._seconds += sum(result.seconds.values())
        if self._weights is not None and budget == max(b for f, b in self._taken_over if f == fold):
            return replace(result, weights_path=str(self._weights))
        return result

    def remember(self, fold: int, step: int, metrics: Mapping[str, float]) -> None:
        """These metrics of a fold are in the record."""
        with self._points_lock:
            self._points.setdefault(fold, []).append((step, metrics))

    def train(self, max_epochs: int | None = None, on_report: OnReport | None = None) -> Trial:
        for fold in range(self._runner.study.evaluator.n_folds):
            if self.train_fold(fold, max_epochs, on_report) is None:
                break
        return self.trial

    def close(self, dropped: bool = False) -> Trial:
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                if dropped:
                    self._drop()
                trial = self.trial
                n_folds = self._runner.study.evaluator.n_folds
                assert trial.state is not State.COMPLETE or len(trial.folds) == n_folds
                self._runner.close(trial)
        return self.trial

    @property
    def has_rung(self) -> bool:
        """Whether all folds have come to the end of some budget."""
        return self.trial.state is State.COMPLETE and len(self._folds) == self._runner.study.evaluator.n_folds

    @property
    def is_whole(self) -> bool:
        """Whether all folds have had all that they may be given."""
        done = (
            r.budget == self._full or r.outcome.stop_reason is not StopReason.MAX_EPOCHS for r in self._folds.values()
        )
        return self.has_rung and all(done)

    def wait(self) -> None:
        """Wait for the threads that are still training it, which have been told to stop."""
        with self._idle:
            self._idle.wait_for(lambda: self._n_training == 0)

    def interrupt(self) -> None:
        """Close it as one that is to be run again."""
        self._is_interrupted = True
        self.close()

    def _drop(self) -> None:
        """Give the folds that would have gone on with a larger budget another end."""
        if self.trial.state is State.FAIL:
            return
        is_whole = len(self._folds) == self._runner.study.evaluator.n_folds
        for fold, result in self._folds.items():
            outcome = result.outcome
            if outcome.stop_reason is StopReason.MAX_EPOCHS or not is_whole:
                allowed = self._full if self._runner.study.model.has_epochs else outcome.max_epochs
                outcome = replace(outcome, stop_reason=StopReason.PRUNED, max_epochs=allowed)
                self._folds[fold] = replace(result, outcome=outcome)

    def _forget_weights(self) -> None:
        for result in self._folds.values():
            if result.weights_path:
                Path(result.weights_path).unlink(missing_ok=True)


class ReplayedTrial:
    """A finished trial of the record, for a strategy that comes to it again: nothing is trained, nothing recorded."""

    def __init__(self, recorded: RecordedTrial, full_budget: int, metric: str, suggest: Suggest | None = None) -> None:
        self._recorded, self._full, self._metric, self._suggest = recorded, full_budget, metric, suggest
        self._last = {fold.fold: fold for fold in recorded.trial.folds}
        self._folds: dict[int, FoldResult] = {}

    @property
    def trial(self) -> Trial:
        folds = tuple(self._folds[fold] for fold in sorted(self._folds))
        return Trial(self._recorded.trial.number, self._recorded.trial.params, folds, self._recorded.trial.seconds)

    def train_fold(
        self, fold: int, max_epochs: int | None = None, on_report: OnReport | None = None
    ) -> FoldResult | None:
        budget = min(max_epochs or self._full, self._full)
        result = self._recorded.results.get((fold, budget), self._last.get(fold))
        if result is not None:
            measure_again(result, self._metric, on_report)
            self._folds[fold] = result
        return result

    def train(self, max_epochs: int | None = None, on_report: OnReport | None = None) -> Trial:
        if self._suggest is not None:  # so that the strategy hears what was asked for, as it did before
            for parameter in SearchSpace.from_record(self._recorded.domains).values():
                self._suggest(parameter)
        for fold in sorted(self._last):
            self.train_fold(fold, max_epochs, on_report)
        return self.trial

    def close(self, dropped: bool = False) -> Trial:
        return self._recorded.trial


def measure_again(result: FoldResult, metric: str, on_report: OnReport | None) -> None:
    """Tell a pruner what it has seen before; it has decided already."""
    if on_report is not None:
        steps = result.history.get(STEP)
        for epoch, value in enumerate(result.history.get(metric, ())):
            on_report(Measurement(result.fold, epoch if steps is None else int(steps[epoch]), value))


class Control:
    """One fold's line to the runner; see :class:`hpo.models.base.Control`."""

    def __init__(
        self, runner: TrialHost, running: RunningTrial, task: FoldTask, n_recorded: int, on_report: OnReport | None
    ) -> None:
        self._runner, self.running, self.n_recorded, self.on_report = runner, running, n_recorded, on_report
        self.fold, self.max_epochs = task.fold, task.max_epochs

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        return self._runner.on_epoch(epoch, logs, self)

    def poll(self) -> Decision:
        return self._runner.poll()

    def suggest(self, parameter: Parameter) -> ParamValue:
        return self.running.suggest(parameter)

    def note(self, name: str, text: str) -> None:
        self._runner.record_note(self.running, name, text)
