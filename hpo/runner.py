"""One study: strategy × executor × evaluation → tracker, with limits, failures and interrupts."""

from __future__ import annotations

import json
import signal
import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import yaml

from hpo.errors import HpoError, SearchStopped, StudyFailed
from hpo.evaluation import FoldTask, TestScore
from hpo.models.base import FittedModel
from hpo.study import MUTABLE, Study
from hpo.tables import mean_curves, trials_csv, write_history
from hpo.tracking import STUDY, DatasetRecord, Tracker
from hpo.trial import (
    Decision,
    FoldResult,
    Measurement,
    OnRung,
    Params,
    Proposal,
    State,
    StopReason,
    Trial,
    canonical,
    pareto_front,
)

# With more folds than this, their curves and scores are in history.parquet and the outcomes only.
MAX_FOLD_CURVES = 20


class End(StrEnum):
    """What ended a study."""

    N_TRIALS = "n_trials"
    TIMEOUT = "timeout_seconds"
    MAX_EPOCHS = "max_epochs_total"
    FAILURES = "max_consecutive_failures"
    EXHAUSTED = "exhausted"
    INTERRUPTED = "interrupted"
    ERROR = "error"

    @property
    def status(self) -> str:
        """The MLflow status of the study's run."""
        if self in (End.FAILURES, End.ERROR):
            return "FAILED"
        return "KILLED" if self is End.INTERRUPTED else "FINISHED"


class View(Protocol):
    """Who watches a study; called from the thread that runs it."""

    def study_started(self, study: Study) -> None: ...
    def trial_started(self, number: int, params: Params) -> None: ...
    def epoch_ended(self, number: int, fold: int, epoch: int, logs: Mapping[str, float]) -> None: ...
    def trial_ended(self, trial: Trial, best: Trial | None) -> None: ...
    def stopping(self, reason: str) -> None: ...
    def search_ended(self, doing: str) -> None: ...


@dataclass(frozen=True)
class Result:
    """A study that has ended.

    Args:
        problems: what went wrong after the search, in words; the trials are safe.
    """

    study: Study
    run_id: str
    end: End
    trials: tuple[Trial, ...]
    best: Trial | None
    seconds: float
    test: TestScore | None = None
    model_uri: str | None = None
    problems: tuple[str, ...] = ()

    @property
    def top(self) -> list[Trial]:
        """COMPLETE trials, best first."""
        complete = [trial for trial in self.trials if trial.value is not None]
        sign = -1 if self.study.definition.objective.direction == "maximize" else 1
        return sorted(complete, key=lambda trial: (sign * (trial.value or 0.0), trial.number))

    @property
    def front(self) -> list[Trial]:
        """With several objectives the trials that no other one dominates."""
        return pareto_front(self.trials, self.study.definition.objective)


class Runner:
    """Runs one study to its end.

    Args:
        output_path: folder for the weights of the best trial, made if missing.
        overrides: the command line that defined the study, to be recorded.
    """

    def __init__(
        self, study: Study, tracker: Tracker, view: View, output_path: Path, overrides: Sequence[str] = ()
    ) -> None:
        self.study = study
        self._tracker, self._view = tracker, view
        self._overrides = list(overrides)
        self._folder = output_path / "studies" / study.name
        self._lock = threading.RLock()
        self._started = time.monotonic()
        self._trials: list[Trial] = []
        self._open: dict[int, RunningTrial] = {}
        self._next_number = 0
        self._best: Trial | None = None
        self._epochs_total = 0
        self._failures_in_a_row = 0
        self._end: End | None = None

    def run(self) -> Result:
        """Search, then test and log the winner.

        Raises:
            StudyFailed: when the tracking store refuses writes; what was recorded stays.
        """
        study = self.study
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            run_id = self._record_start()
            self._view.study_started(study)
            self._started = time.monotonic()
            study.executor.start(lambda: study.evaluator)
            try:
                with self._interrupts():
                    self._search()
                    self._close_open_trials()
            finally:
                study.executor.stop()
            return self._finish(run_id)
        except BaseException as error:
            self._abandon(End.INTERRUPTED if isinstance(error, KeyboardInterrupt) else End.ERROR)
            raise

    def _search(self) -> None:
        strategy = self.study.strategy
        try:
            strategy.search(self.study.search, _Evaluate(self))
        except SearchStopped:
            pass
        except HpoError:
            raise
        except Exception as error:  # of the library, outside any trial
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            raise StudyFailed(f"the search itself failed in {strategy.tags.backend}: {said}") from error

    def open(self, params: Params) -> RunningTrial:
        """Begin a trial; see :meth:`hpo.strategies.base.Evaluate.open`."""
        with self._lock:
            if not self._next_number:
                self._started = time.monotonic()  # what a library takes to start is not the search's time
            self._check_limits()
            trial = RunningTrial(self, self._next_number, params)
            self._next_number += 1
            self._open[trial.number] = trial
            self._tracker.start_trial(trial.number, params)
            self._view.trial_started(trial.number, params)
        return trial

    def train_fold(self, task: FoldTask, number: int, n_recorded: int, on_rung: OnRung | None) -> FoldResult:
        """Have one fold trained; its first ``n_recorded`` epochs are in the record already."""
        if self.study.evaluator.refits_winner:
            task = replace(task, weights_path=None)
        else:
            best = self._best.value if self._best else None
            task = replace(task, weights_path=self._folder / f"trial-{number:04d}", save_above=best)
        return self.study.executor.run(task, _Control(self, number, task, n_recorded, on_rung))

    def record_score(self, number: int, result: FoldResult, budget: int) -> None:
        """Record what a fold scored, at the budget that it had."""
        n_folds = self.study.evaluator.n_folds
        if result.score is not None and 1 < n_folds <= MAX_FOLD_CURVES:
            self._tracker.log_metrics(number, {f"fold_{result.fold}/score": result.score}, budget)

    def close(self, trial: Trial) -> None:
        """Count and record a trial that has ended."""
        with self._lock:
            self._open.pop(trial.number, None)
            self._account(trial)

    def abandon(self, number: int) -> None:
        """Close a trial of which nothing was trained."""
        with self._lock:
            self._open.pop(number, None)
            self._tracker.close_running_trials([number])

    def _close_open_trials(self) -> None:
        """End the trials that wait for a larger budget: dropped where the search is over, else to be run again."""
        for trial in list(self._open.values()):
            is_whole = len(trial.trial.folds) == self.study.evaluator.n_folds
            if trial.trial.state is State.FAIL or (is_whole and self._end in (None, End.N_TRIALS)):
                trial.close(dropped=True)
            else:
                trial.interrupt()

    # Limits and interrupts.

    def _check_limits(self) -> None:
        limits = self.study.definition.limits
        if limits.n_trials is not None and self._next_number >= limits.n_trials:
            self._stop(End.N_TRIALS)
        if limits.max_consecutive_failures is not None and self._failures_in_a_row >= limits.max_consecutive_failures:
            self._stop(End.FAILURES)
        self._check_running_limits()
        if self._end is not None:
            raise SearchStopped

    def _check_running_limits(self) -> None:
        """The limits that also cut running trials short."""
        limits = self.study.definition.limits
        if limits.timeout_seconds is not None and time.monotonic() - self._started >= limits.timeout_seconds:
            self._stop(End.TIMEOUT)
        if limits.max_epochs_total is not None and self._epochs_total >= limits.max_epochs_total:
            self._stop(End.MAX_EPOCHS)

    def _stop(self, end: End) -> None:
        if self._end is None:
            self._end = end

    @contextmanager
    def _interrupts(self) -> Iterator[None]:
        """Ctrl-C once ends the study in good order, twice at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def on_signal(signum: int, frame: FrameType | None) -> None:
            if self._end is End.INTERRUPTED:
                raise KeyboardInterrupt
            self._end = End.INTERRUPTED
            self._view.stopping("closing the running trial; Ctrl-C again ends at once")

        before = signal.signal(signal.SIGINT, on_signal)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    # The record.

    def _record_start(self) -> str:
        study, tracker = self.study, self._tracker
        tags = {
            "hpo.strategy": study.names.strategy,
            "hpo.model": study.names.model,
            "hpo.dataset": study.dataset.name,
            "hpo.resampling": study.names.resampling,
            "hpo.seed": study.definition.seed,
            "hpo.overrides": json.dumps(self._overrides),
            "hpo.state": "running",
            "hpo.fingerprint": study.fingerprint,
            "hpo.data_digest": study.dataset.digest,
            "hpo.folds_digest": study.evaluator.folds_digest,
            "hpo.objective": f"{study.definition.objective.direction} {study.definition.objective.metric}",
            **{f"hpo.objective.{name}": way for name, way in study.definition.objective.others.items()},
            "hpo.n_folds": study.evaluator.n_folds,
            "hpo.backend": study.strategy.tags.backend,
            "hpo.threads_per_trial": study.executor.threads_per_trial,
            **{f"hpo.limits.{name}": value for name, value in asdict(study.definition.limits).items()},
        }
        if study.dataset_note:
            tags["hpo.dataset_note"] = study.dataset_note
        defining = {key: value for key, value in study.config.items() if key not in MUTABLE}
        data = DatasetRecord(study.dataset.name, study.dataset.digest, study.dataset.source, study.evaluator.n_samples)
        run_id = tracker.start_study(study.name, {k: str(v) for k, v in tags.items()}, dict(_flat(defining)), data)
        # Without the store's address, which may hold a password.
        config = {key: value for key, value in study.config.items() if key != "tracking"}
        tracker.log_text(STUDY, yaml.safe_dump(config, sort_keys=False), "config.yaml")
        space = study.definition.space.to_config()
        tracker.log_text(STUDY, yaml.safe_dump(space, sort_keys=False), "search_space.yaml")
        tracker.log_text(STUDY, json.dumps(study.identity, indent=2, default=str), "fingerprint.json")
        return run_id

    def on_epoch(self, epoch: int, logs: Mapping[str, float], control: _Control) -> Decision:
        """Record one epoch of a running trial, and decide whether it goes on."""
        with self._lock:
            self._epochs_total += 1
            # Without epochs a larger budget is another model, told apart by the budget.
            step = epoch if self.study.model.has_epochs else control.max_epochs - 1
            if epoch >= control.n_recorded or not self.study.model.has_epochs:
                self._tracker.log_metrics(control.number, self._curves(control.fold, logs), step)
            self._view.epoch_ended(control.number, control.fold, epoch, logs)
            self._check_running_limits()
            if self._end is not None:
                return Decision.INTERRUPT
            value = logs.get(self.study.definition.objective.metric)
            if control.on_rung is None or value is None:
                return Decision.CONTINUE
            return control.on_rung(Measurement(control.fold, epoch, value))

    def _curves(self, fold: int, logs: Mapping[str, float]) -> dict[str, float]:
        """What of an epoch is recorded at once: with folds only the watched metrics; means follow at the end."""
        n_folds, definition = self.study.evaluator.n_folds, self.study.definition
        if n_folds == 1:
            return dict(logs)
        watched = (definition.early_stopping.monitor, definition.objective.metric)
        return {f"fold_{fold}/{name}": logs[name] for name in watched if name in logs and n_folds <= MAX_FOLD_CURVES}

    def poll(self) -> Decision:
        """Whether a running trial may train its next batch."""
        self._check_running_limits()
        return Decision.CONTINUE if self._end is None else Decision.INTERRUPT

    def _account(self, trial: Trial) -> None:
        self._trials.append(trial)
        if self.study.evaluator.n_folds > 1:
            for epoch, means in enumerate(mean_curves(trial.folds)):
                self._tracker.log_metrics(trial.number, means, epoch)
            path = self._folder / "histories" / f"trial-{trial.number:04d}" / "history.parquet"
            self._tracker.log_file(trial.number, write_history(trial.folds, path))
        self._tracker.end_trial(trial)
        if trial.state is State.WAITING:
            self._view.trial_ended(trial, self._best)
            return
        self._failures_in_a_row = self._failures_in_a_row + 1 if trial.state is State.FAIL else 0
        value, best = trial.value, self._best.value if self._best else None
        if value is not None and self.study.definition.objective.better(value, best):
            self._forget_weights(self._best)
            self._best = trial
        else:
            self._forget_weights(trial)
        # By the order of ending, in which rungs differ from the order of beginning.
        self._tracker.log_metrics(STUDY, self._progress(), len(self._trials) - 1)
        self._view.trial_ended(trial, self._best)

    def _progress(self) -> dict[str, float]:
        states = [trial.state for trial in self._trials]
        progress: dict[str, float] = {
            "n_complete": states.count(State.COMPLETE),
            "n_pruned": states.count(State.PRUNED),
            "n_failed": states.count(State.FAIL),
            "epochs_total": self._epochs_total,
        }
        if self._best and self._best.value is not None:
            progress["best_objective"] = self._best.value
        return progress

    def _forget_weights(self, trial: Trial | None) -> None:
        for fold in trial.folds if trial else ():
            if fold.weights_path:
                Path(fold.weights_path).unlink(missing_ok=True)

    # The end.

    def _finish(self, run_id: str) -> Result:
        end = self._end or (
            End.N_TRIALS if self._next_number == self.study.definition.limits.n_trials else End.EXHAUSTED
        )
        seconds = time.monotonic() - self._started
        result = Result(self.study, run_id, end, tuple(self._trials), self._best, seconds)
        is_finished = end.status == "FINISHED"
        self._record_tables(result)
        if self._best is not None:
            # First of all, since what follows may fail; the search has not.
            self._record_winner(result, self._best)
            try:
                result = self._test_and_log(result, self._best, is_finished)
            except Exception as error:  # a user's model or its library may raise anything
                problem = f"the best model was not tested or not logged: {type(error).__name__}: {error}"
                result = replace(result, problems=(*result.problems, problem))
        self._view.search_ended("recording the results")
        return self._record_end(result)

    def _test_and_log(self, result: Result, best: Trial, is_finished: bool) -> Result:
        fitted = self._winner(best, is_finished)
        if fitted is None:
            return result
        self._view.search_ended("testing and logging the best model" if is_finished else "logging the best model")
        if is_finished:  # once, and only by the winner of a finished study: before that there is none
            result = replace(result, test=self.study.evaluator.test(fitted))
            self._record_test(result, best)
        return self._log_model(result, best, fitted)

    def _winner(self, best: Trial, is_finished: bool) -> FittedModel | None:
        """The model of the best trial; with folds refitted on all training data, which waits for the study's end."""
        evaluator = self.study.evaluator
        if not evaluator.refits_winner:
            weights = best.folds[0].weights_path
            assert weights is not None, "a best trial has saved its weights"
            return evaluator.restore(best.params, Path(weights))
        if not is_finished:
            return None
        has_epochs, n_epochs = self.study.model.has_epochs, self.study.max_epochs
        if has_epochs:
            trained = [fold.outcome.epochs_run for fold in best.folds]
            is_best = self.study.definition.objective.epoch == "best" and best.best_epochs
            n_epochs = round(statistics.median([e + 1 for e in best.best_epochs] if is_best else trained))
        unit = self.study.model.describe_budget(n_epochs, 1.0) if has_epochs else "once"
        self._view.search_ended(f"training the best model again, on all training data, {unit}")
        started = time.monotonic()
        fitted = evaluator.refit(best.params, n_epochs)
        took = {"refit_seconds": time.monotonic() - started}
        self._tracker.log_metrics(STUDY, took | ({"refit_epochs": n_epochs} if has_epochs else {}))
        return fitted

    def _log_model(self, result: Result, best: Trial, fitted: FittedModel) -> Result:
        example, flavor = self.study.evaluator.example(), self.study.model.flavor
        try:
            uri = self._tracker.log_model(best.number, flavor, fitted.native, example, fitted.predict(example))
        except StudyFailed as error:
            return replace(result, problems=(*result.problems, f"the best model was not logged: {error}"))
        self._tracker.set_tags(STUDY, {"hpo.best_model_uri": uri})
        return replace(result, model_uri=uri)

    def _record_tables(self, result: Result) -> None:
        tracker = self._tracker
        tracker.log_text(STUDY, trials_csv(result.trials), "trials.csv")
        for name, text in self.study.strategy.tables().items():
            tracker.log_text(STUDY, text, name)
        if self.study.definition.objective.others:
            tracker.log_text(STUDY, trials_csv(tuple(result.front)), "pareto_front.csv")
            for trial in result.front:
                tracker.set_tags(trial.number, {"hpo.pareto": "true"})

    def _record_test(self, result: Result, best: Trial) -> None:
        assert result.test is not None
        self._tracker.log_metrics(STUDY, {f"test_{name}": value for name, value in result.test.metrics.items()})
        self._tracker.set_tags(STUDY, {"mlflow.note.content": _description(result, best)})

    def _record_winner(self, result: Result, best: Trial) -> None:
        tags = {
            "hpo.best_trial": best.number,
            "hpo.best_params": canonical(best.params),
            "hpo.best_trial_run_id": self._tracker.run_id(best.number),
            "mlflow.note.content": _description(result, best),
        }
        self._tracker.set_tags(STUDY, tags)
        found = {"trial": best.number, "value": best.value, "params": dict(best.params)}
        self._tracker.log_text(STUDY, json.dumps(found, indent=2), "best.json")

    def _record_end(self, result: Result) -> Result:
        from hpo import plots  # matplotlib and Optuna: slow to import, and only needed here

        tracker = self._tracker
        totals: dict[str, float] = {
            "n_trials": sum(t.state.is_finished for t in result.trials),
            "n_interrupted": sum(t.state is State.WAITING for t in result.trials),
            "epochs_saved_total": sum(t.epochs_saved for t in result.trials),
            "search_seconds": result.seconds,
        }
        tracker.log_metrics(STUDY, totals)
        if totals["n_interrupted"]:  # their epochs are in no point by trial number yet
            tracker.log_metrics(STUDY, self._progress(), self._next_number)
        try:
            for path in plots.draw(result.trials, self.study.definition, self._folder / "plots"):
                tracker.log_file(STUDY, path, "plots")
        except Exception as error:  # a picture is not worth a study
            result = replace(result, problems=(*result.problems, f"plots: {type(error).__name__}: {error}"))
        tags = {"hpo.state": _state(result.end), "hpo.ended_by": result.end.value}
        tracker.set_tags(STUDY, tags | ({"hpo.problems": "; ".join(result.problems)} if result.problems else {}))
        tracker.end_study(result.end.status)
        return result

    def _abandon(self, end: End) -> None:
        """Close the runs of a study that did not come to its end, as far as the store still listens."""
        try:
            self._tracker.close_running_trials()
            self._tracker.set_tags(STUDY, {"hpo.state": _state(end), "hpo.ended_by": end.value})
            self._tracker.end_study(end.status)
        except StudyFailed:
            pass  # the failure that is being raised says the same


class RunningTrial:
    """A trial that is being evaluated; see :class:`hpo.strategies.base.OpenTrial`.

    A larger budget trains a fold anew with the same seed, which repeats its epochs so far and goes on from there.
    """

    def __init__(self, runner: Runner, number: int, params: Params) -> None:
        self.number = number
        self._runner, self._params = runner, dict(params)
        self._full = runner.study.max_epochs
        self._folds: dict[int, FoldResult] = {}
        self._n_recorded: dict[int, int] = {}
        self._lock = threading.RLock()
        self._seconds = 0.0

    @property
    def trial(self) -> Trial:
        folds = tuple(self._folds[fold] for fold in sorted(self._folds))
        return Trial(self.number, self._params, folds, self._seconds)

    def train_fold(self, fold: int, max_epochs: int | None = None, on_rung: OnRung | None = None) -> FoldResult | None:
        with self._lock:
            before = self._folds.get(fold)
            if any(result.outcome.stop_reason.state is not State.COMPLETE for result in self._folds.values()):
                return None
            if before is not None and before.outcome.stop_reason is StopReason.EARLY_STOPPED:
                return before  # a larger budget would only repeat it
            self._forget_weights()
            budget = min(max_epochs or self._full, self._full)
            task = FoldTask(self._params, fold, budget, share=budget / self._full)
            started = time.monotonic()
            result = self._runner.train_fold(task, self.number, self._n_recorded.get(fold, 0), on_rung)
            self._seconds += time.monotonic() - started
            self._folds[fold] = result
            self._n_recorded[fold] = max(self._n_recorded.get(fold, 0), result.outcome.epochs_run)
            if result.outcome.stop_reason is StopReason.INTERRUPTED:
                self.close()
                raise SearchStopped
            self._runner.record_score(self.number, result, budget)
            return result

    def train(self, max_epochs: int | None = None, on_rung: OnRung | None = None) -> Trial:
        for fold in range(self._runner.study.evaluator.n_folds):
            if self.train_fold(fold, max_epochs, on_rung) is None:
                break
        return self.trial

    def close(self, dropped: bool = False) -> Trial:
        if dropped:
            self._end_as(StopReason.PRUNED)
        trial = self.trial
        assert trial.state is not State.COMPLETE or len(trial.folds) == self._runner.study.evaluator.n_folds
        self._runner.close(trial)
        return trial

    def interrupt(self) -> None:
        """Close it as one that is to be run again."""
        if not self._folds:
            self._runner.abandon(self.number)
            return
        self._end_as(StopReason.INTERRUPTED)
        self.close()

    def _end_as(self, reason: StopReason) -> None:
        """Give ``reason`` to the folds that would have gone on with a larger budget; to all if some were not begun."""
        if self.trial.state is State.FAIL:
            return
        is_whole = len(self._folds) == self._runner.study.evaluator.n_folds
        for fold, result in self._folds.items():
            outcome = result.outcome
            if outcome.stop_reason is StopReason.MAX_EPOCHS or not is_whole:
                allowed = self._full if self._runner.study.model.has_epochs else outcome.max_epochs
                outcome = replace(outcome, stop_reason=reason, max_epochs=allowed)
                self._folds[fold] = replace(result, outcome=outcome)

    def _forget_weights(self) -> None:
        for result in self._folds.values():
            if result.weights_path:
                Path(result.weights_path).unlink(missing_ok=True)


class _Evaluate:
    """What a strategy is given; see :class:`hpo.strategies.base.Evaluate`."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def __call__(self, proposal: Proposal, on_rung: OnRung | None = None) -> Trial:
        running = self._runner.open(proposal.params)
        running.train(proposal.max_epochs, on_rung)
        return running.close()

    def open(self, params: Params) -> RunningTrial:
        return self._runner.open(params)


class _Control:
    """One fold's line to the runner."""

    def __init__(self, runner: Runner, number: int, task: FoldTask, n_recorded: int, on_rung: OnRung | None) -> None:
        self._runner, self.number, self.n_recorded, self.on_rung = runner, number, n_recorded, on_rung
        self.fold, self.max_epochs = task.fold, task.max_epochs

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        return self._runner.on_epoch(epoch, logs, self)

    def poll(self) -> Decision:
        return self._runner.poll()


def _state(end: End) -> str:
    return {"FINISHED": "finished", "FAILED": "failed", "KILLED": "interrupted"}[end.status]


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    elif value is not None or "search_space." not in prefix:
        yield prefix, value


def _description(result: Result, best: Trial) -> str:
    """What the MLflow UI shows at the top of the study's run, in Markdown."""
    metric = result.study.definition.objective.metric
    lines = [f"**Best: trial {best.number}**, {metric} {best.value:.5f}"]
    if best.standard_error is not None:
        lines[0] += f" ± {best.standard_error:.5f} (standard error over {len(best.folds)} folds, naive)"
    if result.test:
        scores = ", ".join(f"{name} {value:.5f}" for name, value in result.test.metrics.items())
        lines[0] += f"; on the test split, scored once: {scores}"
    lines += ["", "| parameter | value |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in best.params.items()]
    lines += ["", f"`python -m hpo best {result.study.name}` prints the command that trains it again."]
    return "\n".join(lines)
