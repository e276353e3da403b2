"""The only writer of a study's record. Every record goes to the outbox at once; a thread uploads it to MLflow.

Training never waits for MLflow: while the store does not answer, records wait on disk.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo.core.objective import Objective
from hpo.core.params import canonical
from hpo.core.states import State, StopReason
from hpo.core.trial import FoldResult, Trial
from hpo.errors import DISK_FULL, StudyFailed, redact
from hpo.tracking.delivery import OutboxUploader
from hpo.tracking.delivery_thread import DeliveryThread
from hpo.tracking.outbox import STUDY, Outbox, Record, run_id_of, trial_key
from hpo.tracking.redaction import Redacted, redact_texts, redact_values
from hpo.tracking.schema import Tag, fold_tag, traceback_file, user_file, user_tag
from hpo.tracking.study_runs import Connect
from hpo.tracking.trial_summary import final_metrics, final_status, final_tags, fold_json

MAX_NOTE = 4000  # characters of a tag; MLflow accepts at least 5000
RunKey = int | str
"""A trial's number, or ``STUDY``."""


@dataclass(frozen=True)
class DatasetRecord:
    """The dataset of a study: name, digest (at most 36 characters), source, and number of rows by part."""

    name: str
    digest: str
    source: str
    n_samples: Mapping[str, int]


class Tracker:
    """Writes the record of one study.

    Args:
        folder: of the study, which holds the outbox.
        uid: identifier of the study, as in ``Tag.STUDY_UID``; the same in every session.
        connect: see :class:`hpo.tracking.study_runs.StudyRuns`.
        say: receives a message when the store stops answering and when it answers again; called from another thread.
        driver: this process, as in ``Tag.DRIVER``. If that tag names another driver, nothing more is written.

    Raises:
        StudyFailed: from every method that writes, if the disk refuses it or another driver has resumed the study.
    """

    def __init__(
        self, folder: Path, uid: str, connect: Connect, say: Callable[[str], None], driver: str | None = None
    ) -> None:
        self.folder = folder
        self._outbox = Outbox(folder)
        self._uploader = OutboxUploader(folder, uid, connect)
        self._delivery = DeliveryThread(self._uploader, driver, say)
        self._keys: dict[int, str] = {}
        self._running: set[int] = set()
        self._lock = threading.Lock()
        self._is_sealed = False

    # Records of the study's run. Nothing here waits for MLflow.

    def start_study(
        self,
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, object],
        data: DatasetRecord,
        texts: Mapping[str, str],
    ) -> None:
        """Create the study's run with everything that defines it, in one record, so that it is never incomplete.

        Args:
            params: the config, flattened.
            texts: artifacts by name.
        """
        self._append(
            STUDY,
            "start",
            name=name,
            at=_now(),
            tags={Tag.KIND: "study", **redact_values(tags)},
            params=redact_values(params),
            texts=redact_values(texts),
            inputs={
                "name": data.name,
                "digest": data.digest,
                "source": json.dumps({"source": redact(data.source)}),
                "profile": json.dumps({f"n_{part}": rows for part, rows in data.n_samples.items()}),
            },
        )

    def reopen_study(self, tags: Mapping[str, str], attempts: Mapping[int, int]) -> None:
        """Set the run of a study that is resumed to running.

        Args:
            attempts: number of a trial → its newest attempt.
        """
        self._keys.update({number: trial_key(number, attempt) for number, attempt in attempts.items()})
        self._append(STUDY, "reopen")
        self.set_tags(STUDY, tags)

    def end_study(self, status: str, tags: Mapping[str, object]) -> None:
        """Close the study's run as ``FINISHED``, ``FAILED`` or ``KILLED``; later records are dropped."""
        self._append(STUDY, "end", status=status, at=_now(), tags=redact_values(tags))
        self._is_sealed = True

    # Records of trial runs.

    def start_trial(self, number: int, params: Mapping[str, Any], attempt: int = 0) -> None:
        """Create the run of a trial with its hyperparameters; a later attempt supersedes the one before."""
        if attempt:
            self.set_tags(number, {Tag.SUPERSEDED: "true"})
        key = self._keys[number] = trial_key(number, attempt)
        tags = {
            Tag.KIND: "trial",
            Tag.TRIAL: str(number),
            Tag.ATTEMPT: str(attempt),
            Tag.PARAMS: Redacted(canonical(redact_texts(params))),
            Tag.STATE: State.RUNNING.value,
            Tag.PARENT: run_id_of(STUDY),
        }
        with self._lock:
            self._running.add(number)
        self._append(number, "start", name=key, tags=redact_values(tags), at=_now(), params=redact_values(params))

    def log_param(self, number: int, name: str, params: Mapping[str, Any], domains: Mapping[str, Any]) -> None:
        """Record a param that a trial asked for while it runs.

        Args:
            params: all params of the trial so far, including ``name``.
            domains: the parameters that it asked for, as in a search space.
        """
        tags = {
            Tag.PARAMS: Redacted(canonical(redact_texts(params))),
            Tag.DOMAINS: Redacted(json.dumps(redact_texts(domains))),
        }
        self._append(number, "batch", params=redact_values({name: params[name]}), tags=tags)

    def log_note(self, number: int, name: str, text: str) -> None:
        """Record a note of an objective: a tag, or a text file if MLflow accepts no such tag."""
        if len(text) <= MAX_NOTE and re.fullmatch(r"[\w .:-]{1,200}", name):
            self.set_tags(number, {user_tag(name): text})
        else:
            self.log_text(number, text, user_file(name))

    def log_fold(self, number: int, result: FoldResult, is_whole_budget: bool) -> None:
        """Record the outcome of a fold; outcomes at smaller budgets are kept beside the newest one."""
        text = fold_json(result)
        tags = {fold_tag(result.fold): text}
        if not is_whole_budget:
            tags[fold_tag(result.fold, result.budget)] = text
        self.set_tags(number, tags)

    def end_trial(
        self, trial: Trial, objective: Objective, progress: Mapping[str, float], step: int, tags: Mapping[str, object]
    ) -> None:
        """Close the run of a trial with its state, scores, folds and tracebacks.

        One record holds this and the study's progress, so that a trial counts in both or in neither.

        Args:
            progress: metrics of the study, at ``step``.
            tags: of the study.
        """
        for fold in trial.folds:
            if fold.traceback:
                self.log_text(trial.number, fold.traceback, traceback_file(fold.fold))
        self._append(
            trial.number,
            "end",
            metrics=_points(final_metrics(trial, objective), 0),
            tags=redact_values(final_tags(trial)),
            status=final_status(trial),
            at=_now(),
            study={"metrics": _points(progress, step), "tags": redact_values(tags)},
        )
        with self._lock:
            self._running.discard(trial.number)

    def close_running_trials(self, numbers: Sequence[int] | None = None, reason: str = StopReason.INTERRUPTED) -> None:
        """Close the runs of trials that will not end, all or those given, as interrupted; their epochs stay."""
        with self._lock:
            closing = sorted(self._running if numbers is None else numbers)
            self._running -= set(closing)
        for number in closing:
            tags = redact_values({Tag.STATE: State.WAITING.value, Tag.STOP_REASON: reason})
            self._append(number, "end", tags=tags, status="KILLED", at=_now())

    # Records of either.

    def log_metrics(self, key: RunKey, metrics: Mapping[str, float], step: int = 0) -> None:
        """Record one point for each metric."""
        self._append(key, "batch", metrics=_points(metrics, step))

    def set_tags(self, key: RunKey, tags: Mapping[str, object], metrics: Mapping[str, float] | None = None) -> None:
        """Set tags, replacing earlier values; metrics get one point at step 0, in the same record."""
        self._append(key, "batch", tags=redact_values(tags), metrics=_points(metrics or {}, 0))

    def log_text(self, key: RunKey, text: str, name: str) -> None:
        """Record a text file as an artifact."""
        self._append(key, "text", text=redact(text), name=name)

    def log_file(self, key: RunKey, path: Path, folder: str = "") -> None:
        """Record a file as an artifact; it has to stay in the study's folder until it is uploaded.

        Args:
            folder: among the artifacts.
        """
        self._append(key, "file", path=str(path.relative_to(self.folder)), folder=folder)

    def log_model(self, key: RunKey, path: Path) -> None:
        """Record an MLflow model, saved to ``path`` in the study's folder, as a model of a trial and of the study."""
        self._append(key, "model", path=str(path.relative_to(self.folder)))

    # Delivery to MLflow.

    def flush(self, seconds: float | None = None) -> bool:
        """Wait until everything recorded so far is uploaded; see :meth:`DeliveryThread.flush`."""
        return self._delivery.flush(seconds)

    def close(self, seconds: float | None = None) -> bool:
        """Deliver what is pending, for some seconds at most, and stop; returns whether everything is uploaded."""
        is_delivered = self._delivery.close(seconds)
        self._outbox.close()
        return is_delivered

    @property
    def trouble(self) -> str | None:
        """Why the store does not answer, in one line; None while it does."""
        return self._delivery.trouble

    @property
    def n_refused(self) -> int:
        """Number of records that MLflow refused for good; they are in ``refused.jsonl``."""
        return self._uploader.n_refused

    def key(self, number: int) -> str:
        """The newest run of a trial, as the outbox names it."""
        return self._keys.get(number, trial_key(number))

    def run_id(self, key: RunKey) -> str | None:
        """MLflow id of a run; None if MLflow does not have it or does not answer."""
        if self.trouble is not None:
            return None
        return self._uploader.run_id(self._key_of(key))

    def model_uri(self, key: RunKey) -> str | None:
        """URI of the model logged for a trial; None before it is uploaded."""
        try:
            return self._uploader.model_uri(self._key_of(key)) or None
        except Exception:  # MLflow, the network and databases raise many types; the study is complete without the URI
            return None

    def _key_of(self, key: RunKey) -> str:
        return self.key(key) if isinstance(key, int) else key

    def _append(self, key: RunKey, kind: str, **body: Any) -> None:
        if self._delivery.is_taken_over:
            raise StudyFailed("another driver has resumed this study; this driver stops")
        try:
            with self._lock:
                if not self._is_sealed:  # threads may still be running when the study ends
                    self._outbox.append(Record(self._key_of(key), kind, body))
        except OSError as error:
            is_full = error.errno in DISK_FULL
            path = self.folder if is_full else self._outbox.path
            problem = f"the disk of {path} is full" if is_full else f"cannot write to {path}"
            raise StudyFailed(f"{problem} ({error.strerror}); everything recorded so far is safe") from error


def _points(metrics: Mapping[str, float], step: int) -> list[list[Any]]:
    at = _now()
    return [[name, float(value), at, step] for name, value in metrics.items()]


def _now() -> int:
    return int(time.time() * 1000)
