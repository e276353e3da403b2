"""What a study says of itself: every statement goes to the outbox at once, and from there to MLflow in its own time.

Nothing of MLflow is on the training path. A thread delivers every two seconds; while the store does not answer, the
statements wait on disk.
"""

from __future__ import annotations

import json
import math
import re
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo.core.objective import Objective
from hpo.core.params import canonical
from hpo.core.states import State, StopReason
from hpo.core.trial import FoldResult, Trial
from hpo.errors import DISK_FULL, StudyFailed, redact
from hpo.tracking.delivery import Connect, OutboxUploader
from hpo.tracking.outbox import STUDY, Outbox, Record, run_id_of
from hpo.tracking.schema import (
    Metric,
    Tag,
    best_metric,
    fold_tag,
    objective_metric,
    phase_metric,
    traceback_file,
    user_file,
    user_tag,
)

FLUSH_SECONDS = 2.0
MAX_WAIT_SECONDS = 30.0  # between two attempts while the store does not answer
HEARTBEAT_SECONDS = 30.0
MAX_NOTE = 4000  # characters of a tag, of which MLflow takes at least 5000
RunKey = int | str
"""A trial's number, or ``STUDY``."""


@dataclass(frozen=True)
class DatasetRecord:
    """What is recorded of the data: name, digest (at most 36 characters), source, and rows by part."""

    name: str
    digest: str
    source: str
    n_samples: Mapping[str, int]


class Tracker:
    """The one writer of a study.

    Args:
        folder: of the study, where the outbox lies.
        uid: of the study, for the whole of its life.
        connect: see :class:`hpo.tracking.delivery.OutboxUploader`.
        say: is told in words when the store stops or begins to answer; called from the delivering thread.
        driver: who writes, as in the tag ``hpo.driver``; where that names another one, nothing more is written.

    Raises:
        StudyFailed: from any method that says something, when the disk does not take it.
    """

    def __init__(
        self, folder: Path, uid: str, connect: Connect, say: Callable[[str], None], driver: str | None = None
    ) -> None:
        self._driver = driver
        self.folder = folder
        self._outbox = Outbox(folder)
        self._courier = OutboxUploader(folder, uid, connect)
        self._say = say
        self._keys: dict[int, str] = {}
        self._running: set[int] = set()
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        self._n_rounds = 0
        self._wanted = 0
        self._is_busy = self._is_closing = self._is_sealed = self._is_taken_over = False
        self._said_trouble = False
        self._heart_beat = time.monotonic()
        self.trouble: str | None = None
        self._thread = threading.Thread(target=self._deliver, name="hpo-tracker", daemon=True)
        self._thread.start()

    # What the driver says; none of it waits for MLflow, but for flush and close.

    def start_study(
        self,
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, object],
        data: DatasetRecord,
        texts: Mapping[str, str],
    ) -> None:
        """Make the study's run, with all that defines it: in one line, so that it is never there in part.

        Args:
            texts: artifacts by name.
        """
        inputs = {
            "name": data.name,
            "digest": data.digest,
            "source": json.dumps({"source": redact(data.source)}),
            "profile": json.dumps({f"n_{part}": rows for part, rows in data.n_samples.items()}),
        }
        tags, params = {Tag.KIND: "study", **_clean(tags)}, _clean(params)
        self._put(STUDY, "start", name=name, tags=tags, at=_now(), params=params, texts=_clean(texts), inputs=inputs)

    def reopen_study(self, tags: Mapping[str, str], attempts: Mapping[int, int]) -> None:
        """Go on with a study that has a run; ``attempts`` are those of its trials by number."""
        self._keys.update({number: _key(number, attempt) for number, attempt in attempts.items()})
        self._put(STUDY, "reopen")
        self.set_tags(STUDY, tags)

    def start_trial(self, number: int, params: Mapping[str, Any], attempt: int = 0) -> None:
        """Make the run of a trial, with its hyperparameters; a later attempt takes the place of the one before."""
        if attempt:
            self.set_tags(number, {Tag.SUPERSEDED: "true"})
        key = self._keys[number] = _key(number, attempt)
        tags = {
            Tag.KIND: "trial",
            Tag.TRIAL: str(number),
            Tag.ATTEMPT: str(attempt),
            Tag.PARAMS: Clean(canonical(_redacted(params))),
            Tag.STATE: State.RUNNING.value,
            Tag.PARENT: run_id_of(STUDY),
        }
        with self._lock:
            self._running.add(number)
        self._put(number, "start", name=key, tags=_clean(tags), at=_now(), params=_clean(params))

    def log_param(self, number: int, name: str, params: Mapping[str, Any], domains: Mapping[str, Any]) -> None:
        """A param that a trial has asked for while it runs, in one line with all that it has by now.

        Args:
            params: all of the trial's so far.
            domains: what it has asked for, as a search space has them.
        """
        shown = json.dumps(_redacted(domains))
        tags = {Tag.PARAMS: Clean(canonical(_redacted(params))), Tag.DOMAINS: Clean(shown)}
        self._put(number, "batch", params=_clean({name: params[name]}), tags=tags)

    def log_note(self, number: int, name: str, text: str) -> None:
        """What an objective says of its trial: a tag, or a text file where MLflow takes no such tag."""
        if len(text) <= MAX_NOTE and re.fullmatch(r"[\w .:-]{1,200}", name):
            self.set_tags(number, {user_tag(name): text})
        else:
            self.log_text(number, text, user_file(name))

    def log_metrics(self, key: RunKey, metrics: Mapping[str, float], step: int = 0) -> None:
        """One point a metric."""
        self._put(key, "batch", metrics=_points(metrics, step))

    def set_tags(self, key: RunKey, tags: Mapping[str, object], metrics: Mapping[str, float] | None = None) -> None:
        """Set tags, replacing earlier values, and in the same breath one point a metric."""
        self._put(key, "batch", tags=_clean(tags), metrics=_points(metrics or {}, 0))

    def log_fold(self, number: int, result: FoldResult, is_whole_budget: bool) -> None:
        """Record the outcome of a fold; those of smaller budgets are kept beside the last one."""
        text = _json(result.summary())
        tags = {fold_tag(result.fold): text}
        if not is_whole_budget:
            tags[fold_tag(result.fold, result.budget)] = text
        self.set_tags(number, tags)

    def end_trial(
        self, trial: Trial, objective: Objective, progress: Mapping[str, float], step: int, tags: Mapping[str, object]
    ) -> None:
        """Record how a trial ended: state, outcome of every fold, seconds by phase, traceback.

        All in one line with what that makes of the study, so that a trial is finished in the record or not begun.

        Args:
            progress: metrics of the study, at ``step``.
            tags: of the study.
        """
        for fold in trial.folds:
            if fold.traceback:
                self.log_text(trial.number, fold.traceback, traceback_file(fold.fold))
        failed = "FAILED" if trial.state is State.FAIL else "KILLED" if trial.state is State.WAITING else "FINISHED"
        self._put(
            trial.number,
            "end",
            metrics=_points(_final_metrics(trial, objective), 0),
            tags=_clean(_final_tags(trial)),
            status=failed,
            at=_now(),
            study={"metrics": _points(progress, step), "tags": _clean(tags)},
        )
        with self._lock:
            self._running.discard(trial.number)

    def close_running_trials(self, numbers: Sequence[int] | None = None, reason: str = StopReason.INTERRUPTED) -> None:
        """Close trials that nobody will end any more as interrupted, all or some; their epochs stay."""
        with self._lock:
            closing = sorted(self._running if numbers is None else numbers)
            self._running -= set(closing)
        for number in closing:
            tags = _clean({Tag.STATE: State.WAITING.value, Tag.STOP_REASON: reason})
            self._put(number, "end", tags=tags, status="KILLED", at=_now())

    def log_text(self, key: RunKey, text: str, name: str) -> None:
        """A text file among the artifacts."""
        self._put(key, "text", text=redact(text), name=name)

    def log_file(self, key: RunKey, path: Path, folder: str = "") -> None:
        """A file among the artifacts; it lies in the study's folder, and must stay until it is delivered."""
        self._put(key, "file", path=str(path.relative_to(self.folder)), folder=folder)

    def log_model(self, key: RunKey, path: Path) -> None:
        """An MLflow model, saved to ``path`` in the study's folder, as a model of a trial and of the study."""
        self._put(key, "model", path=str(path.relative_to(self.folder)))

    def end_study(self, status: str, tags: Mapping[str, object]) -> None:
        """Close the study's run as ``FINISHED``, ``FAILED`` or ``KILLED``, with its last tags; nothing is said then."""
        self._put(STUDY, "end", status=status, at=_now(), tags=_clean(tags))
        self._is_sealed = True

    def key(self, number: int) -> str:
        """The newest run of a trial, as the outbox names it."""
        return self._keys.get(number, _key(number, 0))

    def flush(self, seconds: float | None = None) -> bool:
        """Wait until everything said so far is in the store, or some seconds; whether it is.

        Without ``seconds`` it waits as long as the store answers.
        """
        until = None if seconds is None else time.monotonic() + seconds
        with self._changed:
            # A round that has begun may have missed what was said since.
            round_ = self._wanted = max(self._wanted, self._n_rounds + (2 if self._is_busy else 1))
            self._changed.notify_all()
            while self._n_rounds < round_:
                left = 1.0 if until is None else min(1.0, until - time.monotonic())
                if left <= 0 or not self._thread.is_alive():
                    return False
                self._changed.wait(left)
            return self.trouble is None

    @property
    def n_refused(self) -> int:
        """Records that MLflow refused for good; they are in ``refused.jsonl``."""
        return self._courier.n_refused

    def run_id(self, key: RunKey) -> str | None:
        """The MLflow id of a run; None while MLflow does not have it."""
        if self.trouble is not None:
            return None
        return self._courier.run_id(self.key(key) if isinstance(key, int) else key)

    def model_uri(self, key: RunKey) -> str | None:
        """The URI of the model that was logged for a trial, once it is delivered."""
        try:
            return self._courier.model_uri(self.key(key) if isinstance(key, int) else key) or None
        except Exception:  # MLflow, the network and databases raise of everything; the address is not worth a study
            return None

    def close(self, seconds: float | None = None) -> bool:
        """Deliver what can be, for some seconds at most, and end the thread; whether all was delivered."""
        is_delivered = self.flush(seconds)
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        # A thread that waits for an answer is not waited for: it dies with the process.
        self._thread.join(seconds if is_delivered else 0.1)
        self._outbox.close()
        return is_delivered

    # Inside.

    def _put(self, key: RunKey, kind: str, **body: Any) -> None:
        named = self.key(key) if isinstance(key, int) else key
        if self._is_taken_over:
            raise StudyFailed("another driver has gone on with this study; this one has ended")
        try:
            with self._lock:
                if not self._is_sealed:  # else a thread that has not heard of the end
                    self._outbox.append(Record(named, kind, body))
        except OSError as error:
            if error.errno in DISK_FULL:
                said = f"the disk that holds {self.folder} is full ({error.strerror})"
            else:
                said = f"{self._outbox.path} cannot be written to ({error.strerror})"
            raise StudyFailed(f"{said}; what was recorded is safe") from error

    def _deliver(self) -> None:
        wait = FLUSH_SECONDS
        while True:
            with self._changed:
                if self._n_rounds >= self._wanted and not self._is_closing:
                    self._changed.wait(wait)
                if self._is_closing and self._n_rounds >= self._wanted:
                    return
                self._is_busy = True
            try:
                self._courier.deliver()
                self._beat()
                self.trouble, wait = None, FLUSH_SECONDS
            except Exception as error:  # MLflow, the network and databases raise of everything
                self.trouble, wait = redact(_first_line(error)), min(MAX_WAIT_SECONDS, 2 * wait)
            self._tell_of_trouble()
            with self._changed:
                self._n_rounds += 1
                self._is_busy = False
                self._changed.notify_all()

    def _tell_of_trouble(self) -> None:
        text = None
        if self.trouble is not None and not self._said_trouble:
            text = f"MLflow does not answer ({self.trouble}); training goes on, the records wait on disk"
        elif self.trouble is None and self._said_trouble:
            text = "MLflow answers again; the records that waited are delivered"
        self._said_trouble = self.trouble is not None
        with suppress(Exception, SystemExit):  # a terminal that is gone must not end the delivering
            if text is not None:
                self._say(text)

    def _beat(self) -> None:
        """Say that a driver is alive, for those on other machines; a lock says so on this one."""
        if time.monotonic() - self._heart_beat < HEARTBEAT_SECONDS:
            return
        self._heart_beat = time.monotonic()
        client, _ = self._courier.store
        run_id = self._courier.run_id(STUDY)
        if run_id is None:
            return
        holder = client.get_run(run_id).data.tags.get(Tag.DRIVER)
        if self._driver is not None and holder != self._driver:
            self._is_taken_over = True  # while this machine slept
        else:
            client.set_tag(run_id, Tag.DRIVER_SEEN, str(round(time.time())))


def _key(number: int, attempt: int) -> str:
    return f"trial-{number:04d}" + (f".{attempt}" if attempt else "")


class Clean(str):
    """Text that has no secrets any more, and must stay as it is: JSON that is read back."""


def _clean(values: Mapping[str, Any]) -> dict[str, Any]:
    """As text without secrets; what MLflow alone can tell stays as it is."""
    return {name: value if isinstance(value, dict | Clean) else redact(str(value)) for name, value in values.items()}


def _redacted(value: Any) -> Any:
    """``value`` with every text in it redacted, so that it can become JSON."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: _redacted(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_redacted(inner) for inner in value]
    return value


def _json(value: Any) -> Clean:
    return Clean(json.dumps(_finite(_redacted(value))))


def _points(metrics: Mapping[str, float], step: int) -> list[list[Any]]:
    at = _now()
    return [[name, float(value), at, step] for name, value in metrics.items()]


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


def _now() -> int:
    return int(time.time() * 1000)


def _final_metrics(trial: Trial, objective: Objective) -> dict[str, float]:
    """The scalars that people sort trials by; with several folds, means over them (of epochs, medians)."""
    outcomes = [fold.outcome for fold in trial.folds]
    metrics: dict[str, float] = {
        Metric.EPOCHS_RUN: trial.epochs_run,
        Metric.EPOCHS_SAVED: trial.epochs_saved,
        Metric.TOTAL_SECONDS: trial.seconds,
    }
    if trial.values is not None:
        metrics[Metric.OBJECTIVE] = trial.values[0]
        others = zip(trial.folds[0].others, trial.values[1:], strict=True)
        metrics |= {objective_metric(name): value for name, value in others}
    elif trial.mean_score is not None:  # at the budget at which it was dropped
        metrics[Metric.RUNG_OBJECTIVE] = trial.mean_score
    if trial.ended_seconds is not None:
        metrics[Metric.ENDED_SECONDS] = trial.ended_seconds
    train_score = trial.train_score(objective)
    if train_score is not None and trial.value is not None:
        metrics |= {Metric.TRAIN_SCORE: train_score, Metric.GENERALISATION_GAP: statistics.fmean(trial.gaps(objective))}
    if trial.std is not None and trial.standard_error is not None:
        metrics |= {Metric.OBJECTIVE_STD: trial.std, Metric.OBJECTIVE_SE: trial.standard_error}
    for phase in {phase for fold in trial.folds for phase in fold.seconds}:
        metrics[phase_metric(phase)] = sum(fold.seconds.get(phase, 0.0) for fold in trial.folds)
    if trial.best_epochs:
        metrics[Metric.BEST_EPOCH] = statistics.median(trial.best_epochs)
    stopped = [outcome.stopped_epoch for outcome in outcomes if outcome.stopped_epoch is not None]
    if stopped and len(stopped) == len(outcomes):
        metrics[Metric.STOPPED_EPOCH] = statistics.median(stopped)
    best_values = [outcome.best_value for outcome in outcomes if outcome.best_value is not None]
    if best_values:
        metrics[best_metric(outcomes[0].monitor)] = statistics.fmean(best_values)
    if trial.folds and trial.folds[0].n_weights is not None:
        metrics[Metric.N_WEIGHTS] = trial.folds[0].n_weights
    return metrics


def _final_tags(trial: Trial) -> dict[str, str]:
    tags = {Tag.STATE: trial.state.value, Tag.STOP_REASON: str(trial.stop_reason or "")}
    if trial.error:
        tags[Tag.ERROR] = trial.error
    for fold in trial.folds:
        tags[fold_tag(fold.fold)] = _json(fold.summary())
    return tags


def _finite(value: Any) -> Any:
    """``value`` with NaN and infinities as text, since JSON has none."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return value
