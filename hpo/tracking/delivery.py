"""Upload of a study's outbox to MLflow: each record has effect once, whatever is killed or does not answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, RunTag
from mlflow.exceptions import MlflowException

from hpo.tracking.batches import METRICS_PER_CALL, Batch, PendingValues
from hpo.tracking.outbox import (
    OUTBOX_FILE,
    REFUSED_FILE,
    STUDY,
    Record,
    delivered_bytes,
    mark_delivered,
    read_outbox,
)
from hpo.tracking.study_runs import Connect, StudyRuns

MAX_PENDING_METRICS = 10 * METRICS_PER_CALL
# Error codes of calls that MLflow will refuse every time.
_REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST")


class OutboxUploader:
    """Uploads the outbox in the folder of a study. Not thread-safe.

    Runs are created once, see :class:`hpo.tracking.study_runs.StudyRuns`. Everything else may be uploaded twice without
    effect; MLflow's SQL stores drop a metric's point that they already have.

    Args:
        folder: of the study.
        uid: of the study, as in ``Tag.STUDY_UID``.
        connect: called until it succeeds once.
    """

    def __init__(self, folder: Path, uid: str, connect: Connect) -> None:
        self._folder = folder
        self._runs = StudyRuns(uid, connect)
        self._in_doubt = True  # whether MLflow may have more than the stored position says
        self._has_loaded_runs = False
        self.n_refused = 0

    @property
    def store(self) -> tuple[mlflow.MlflowClient, str]:
        """The client and the experiment's id; see :attr:`StudyRuns.store`."""
        return self._runs.store

    def run_id(self, key: str) -> str | None:
        """Id of a run; None if MLflow does not have it."""
        return self._runs.find_id(key)

    def model_uri(self, key: str) -> str:
        """URI of the model logged for a run; empty if there is none."""
        return self._runs.model_uri(key)

    def deliver(self) -> int:
        """Upload all pending records and return their number.

        Raises:
            Exception: any that MLflow or the network raises; what is not uploaded stays in the outbox.
        """
        position, n_records = delivered_bytes(self._folder), 0
        self._has_loaded_runs = not self._in_doubt
        try:
            pending: dict[str, PendingValues] = {}
            for record in read_outbox(self._folder / OUTBOX_FILE, position):
                self._upload(record, pending)
                position, n_records = record.end, n_records + 1
                if sum(len(values.metrics) for values in pending.values()) >= MAX_PENDING_METRICS:
                    self._upload_values(pending, position)
            self._upload_values(pending, position)
        except BaseException:
            self._in_doubt = True
            raise
        self._in_doubt = False
        return n_records

    def _upload(self, record: Record, pending: dict[str, PendingValues]) -> None:
        """Upload a record; values of a run are collected in ``pending`` first."""
        key, body = record.key, record.body
        client = self._runs.client
        match record.kind:
            case "start":
                self._start_run(record)
                pending.setdefault(key, PendingValues()).add({"params": body.get("params", {})})
            case "batch":
                pending.setdefault(key, PendingValues()).add(body)
            case "end":
                pending.setdefault(key, PendingValues()).add(body)
                pending.setdefault(STUDY, PendingValues()).add(body.get("study", {}))
                self._upload_values_of(key, pending.pop(key))
                self._try(record, lambda: client.set_terminated(self._runs.get_id(key), body["status"], body["at"]))
            case "reopen":
                self._try(record, lambda: client.update_run(self._runs.get_id(key), "RUNNING"))
            case "text":
                self._try(record, lambda: client.log_text(self._runs.get_id(key), body["text"], body["name"]))
            case "file":
                self._log_file(record)
            case "model":
                path = self._folder / body["path"]
                self._try(record, lambda: self._runs.log_model(key, path, may_exist=self._in_doubt))

    # Runs, files and inputs.

    def _start_run(self, record: Record) -> None:
        body = record.body
        self._try(record, lambda: self._create_run(record))
        for name, text in body.get("texts", {}).items():
            self._try(record, partial(self._log_text, record.key, text, name))
        if "inputs" in body:
            self._try(record, lambda: self._log_inputs(record.key, body["inputs"]))

    def _create_run(self, record: Record) -> None:
        if not self._has_loaded_runs:
            self._has_loaded_runs = True
            self._runs.load()
        self._runs.create(record.key, record.body["name"], record.body["tags"], record.body["at"])

    def _log_text(self, key: str, text: str, name: str) -> None:
        self._runs.client.log_text(self._runs.get_id(key), text, name)

    def _log_inputs(self, key: str, body: Mapping[str, str]) -> None:
        dataset = Dataset(body["name"], body["digest"], "code", body["source"], profile=body["profile"])
        inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", "train")])]
        self._runs.client.log_inputs(self._runs.get_id(key), inputs)

    def _log_file(self, record: Record) -> None:
        path, folder = self._folder / record.body["path"], record.body["folder"] or None
        if path.exists():  # a user may have deleted it; waiting for it would block all that follows
            run_id = partial(self._runs.get_id, record.key)
            self._try(record, lambda: self._runs.client.log_artifact(run_id(), str(path), folder))

    # Metrics, params and tags.

    def _upload_values(self, pending: dict[str, PendingValues], position: int) -> None:
        for key in list(pending):
            self._upload_values_of(key, pending.pop(key))
        if position > delivered_bytes(self._folder):
            mark_delivered(self._folder, position)

    def _upload_values_of(self, key: str, values: PendingValues) -> None:
        # A tag that names a deleted run is dropped.
        known = {name: value for name, value in values.tags.items() if self._runs.can_fill_in(value)}
        tags = [RunTag(name, self._runs.fill_in(value)) for name, value in known.items()]
        for batch in Batch(values.metrics, values.params, tags).split():
            try:
                self._log_batch(key, batch)
            except MlflowException as error:
                if error.error_code not in _REFUSALS:
                    raise
                for single, body in batch.singles():
                    self._try(Record(key, "batch", body), partial(self._log_batch, key, single))

    def _log_batch(self, key: str, batch: Batch) -> None:
        client, run_id = self._runs.client, self._runs.get_id(key)
        if len(batch.tags) == 1 and not batch.metrics and not batch.params:  # half the work of a batch
            client.set_tag(run_id, batch.tags[0].key, batch.tags[0].value)
        else:
            client.log_batch(run_id, batch.metrics, batch.params, batch.tags)

    def _try(self, record: Record, upload: Callable[[], object]) -> None:
        """Upload; a record that MLflow refuses for good goes to the file of refused records and blocks nothing."""
        try:
            upload()
        except MlflowException as error:
            if error.error_code not in _REFUSALS:
                raise
            self.n_refused += 1
            line: list[Any] = [record.key, record.kind, record.body, str(error)]
            with (self._folder / REFUSED_FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
