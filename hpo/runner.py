"""One study: strategy × executor × evaluation → tracker, with limits, failures and interrupts."""

from __future__ import annotations

import csv
import io
import json
import signal
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

from hpo.errors import SearchStopped, StudyFailed
from hpo.evaluation import FoldTask, TestScore
from hpo.study import MUTABLE, Study
from hpo.tracking import STUDY, DatasetRecord, Tracker
from hpo.trial import Decision, FoldResult, Measurement, OnRung, Params, Proposal, State, Trial, canonical


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


class Runner:
    """Runs one study to its end.

    Args:
        output_path: folder for the weights of the best trial, made if missing.
        overrides: the command line that defined the study, to be recorded.
    """

    def __init__(
        self, study: Study, tracker: Tracker, view: View, output_path: Path, overrides: Sequence[str] = ()
    ) -> None:
        self._study, self._tracker, self._view = study, tracker, view
        self._overrides = list(overrides)
        self._folder = output_path / "studies" / study.name
        self._lock = threading.RLock()
        self._started = time.monotonic()
        self._trials: list[Trial] = []
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
        study = self._study
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            run_id = self._record_start()
            self._view.study_started(study)
            self._started = time.monotonic()
            study.executor.start(lambda: study.evaluator)
            try:
                with self._interrupts():
                    study.strategy.search(study.search, self.evaluate)
            except SearchStopped:
                pass
            finally:
                study.executor.stop()
            return self._finish(run_id)
        except BaseException as error:
            self._abandon(End.INTERRUPTED if isinstance(error, KeyboardInterrupt) else End.ERROR)
            raise

    def evaluate(self, proposal: Proposal, on_rung: OnRung | None = None) -> Trial:
        """Train and record one proposal on all folds; see :class:`hpo.strategies.base.Evaluate`."""
        with self._lock:
            self._check_limits()
            number, self._next_number = self._next_number, self._next_number + 1
            self._tracker.start_trial(number, proposal.params)
            self._view.trial_started(number, proposal.params)
        started = time.monotonic()
        max_epochs = min(proposal.max_epochs or self._study.definition.max_epochs, self._study.definition.max_epochs)
        folds: list[FoldResult] = []
        for fold in range(self._study.evaluator.n_folds):
            best = self._best.value if self._best else None
            task = FoldTask(proposal.params, fold, max_epochs, self._folder / f"trial-{number:04d}", best)
            folds.append(self._study.executor.run(task, _Control(self, number, fold, on_rung)))
            if folds[-1].outcome.stop_reason.state is not State.COMPLETE:
                break
        trial = Trial(number, dict(proposal.params), tuple(folds), time.monotonic() - started)
        with self._lock:
            self._account(trial)
        if trial.state is State.WAITING:
            raise SearchStopped
        return trial

    # Limits and interrupts.

    def _check_limits(self) -> None:
        limits = self._study.definition.limits
        finished = sum(trial.state.is_finished for trial in self._trials)
        if limits.n_trials is not None and finished >= limits.n_trials:
            self._stop(End.N_TRIALS)
        if limits.max_consecutive_failures is not None and self._failures_in_a_row >= limits.max_consecutive_failures:
            self._stop(End.FAILURES)
        self._check_running_limits()
        if self._end is not None:
            raise SearchStopped

    def _check_running_limits(self) -> None:
        """The limits that also cut running trials short."""
        limits = self._study.definition.limits
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
        study, tracker = self._study, self._tracker
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

    def on_epoch(
        self, number: int, fold: int, epoch: int, logs: Mapping[str, float], on_rung: OnRung | None
    ) -> Decision:
        """Record one epoch of a running trial, and decide whether it goes on."""
        with self._lock:
            self._epochs_total += 1
            prefix = f"fold_{fold}/" if self._study.evaluator.n_folds > 1 else ""
            self._tracker.log_metrics(number, {prefix + name: value for name, value in logs.items()}, epoch)
            self._view.epoch_ended(number, fold, epoch, logs)
            self._check_running_limits()
            if self._end is not None:
                return Decision.INTERRUPT
            value = logs.get(self._study.definition.objective.metric)
            if on_rung is None or value is None:
                return Decision.CONTINUE
            return on_rung(Measurement(fold * self._study.definition.max_epochs + epoch, value))

    def poll(self) -> Decision:
        """Whether a running trial may train its next batch."""
        self._check_running_limits()
        return Decision.CONTINUE if self._end is None else Decision.INTERRUPT

    def _account(self, trial: Trial) -> None:
        self._trials.append(trial)
        self._tracker.end_trial(trial)
        if trial.state is State.WAITING:
            self._view.trial_ended(trial, self._best)
            return
        self._failures_in_a_row = self._failures_in_a_row + 1 if trial.state is State.FAIL else 0
        value, best = trial.value, self._best.value if self._best else None
        if value is not None and self._study.definition.objective.better(value, best):
            self._forget_weights(self._best)
            self._best = trial
        else:
            self._forget_weights(trial)
        self._tracker.log_metrics(STUDY, self._progress(), trial.number)
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
        end = self._end or End.EXHAUSTED
        seconds = time.monotonic() - self._started
        result = Result(self._study, run_id, end, tuple(self._trials), self._best, seconds)
        is_finished = end.status == "FINISHED"
        if self._best is not None:
            self._view.search_ended("testing and logging the best model" if is_finished else "logging the best model")
            weights = self._best.folds[0].weights_path
            assert weights is not None, "a best trial has saved its weights"
            evaluator = self._study.evaluator
            fitted = evaluator.restore(self._best.params, Path(weights))
            # Once, and only by the winner of a finished study: before that there is none.
            result = replace(result, test=evaluator.test(fitted) if is_finished else None)
            self._record_winner(result, self._best)
            example = evaluator.example()
            try:
                uri = self._tracker.log_model(self._best.number, fitted.native, example, fitted.predict(example))
                result = replace(result, model_uri=uri)
                self._tracker.set_tags(STUDY, {"hpo.best_model_uri": uri})
            except StudyFailed as error:
                result = replace(
                    result, problems=(f"the best model was not logged, its weights are {weights}: {error}",)
                )
        self._view.search_ended("recording the results")
        return self._record_end(result)

    def _record_winner(self, result: Result, best: Trial) -> None:
        if result.test:
            tests = {f"test_{name}": value for name, value in result.test.metrics.items()}
            self._tracker.log_metrics(STUDY, tests)
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
        tracker.log_text(STUDY, trials_csv(result.trials), "trials.csv")
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
            for path in plots.draw(result.trials, self._study.definition, self._folder / "plots"):
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


class _Control:
    """One fold's line to the runner."""

    def __init__(self, runner: Runner, number: int, fold: int, on_rung: OnRung | None) -> None:
        self._runner, self._number, self._fold, self._on_rung = runner, number, fold, on_rung

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        return self._runner.on_epoch(self._number, self._fold, epoch, logs, self._on_rung)

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
    if result.test:
        scores = ", ".join(f"{name} {value:.5f}" for name, value in result.test.metrics.items())
        lines[0] += f"; on the test split, scored once: {scores}"
    lines += ["", "| parameter | value |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in best.params.items()]
    lines += ["", f"`python -m hpo best {result.study.name}` prints the command that trains it again."]
    return "\n".join(lines)


def trials_csv(trials: tuple[Trial, ...]) -> str:
    """A table of all trials: number, state, stop reason, objective, outcome, seconds and params."""
    names = sorted({name for trial in trials for name in trial.params})
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    columns = ["trial", "state", "stop_reason", "objective", "epochs_run", "best_epoch", "epochs_saved", "seconds"]
    table.writerow([*columns, *(f"params.{name}" for name in names), "error"])
    for trial in trials:
        best_epoch = trial.folds[0].outcome.best_epoch if trial.folds else None
        row = [trial.number, trial.state, trial.stop_reason, trial.value, trial.epochs_run, best_epoch]
        row += [trial.epochs_saved, round(trial.seconds, 3)]
        table.writerow([*row, *(trial.params.get(name) for name in names), trial.error])
    return text.getvalue()
