"""From a study's outbox to MLflow, each record once, whatever is killed or does not answer in between."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, LoggedModelStatus, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from hpo.tracking.outbox import MODEL_URI, RUN_ID, STUDY, Record, delivered_bytes, mark_delivered, read_outbox
from hpo.tracking.schema import Artifact, Tag

METRICS_A_BATCH, OTHERS_A_BATCH = 800, 100  # MLflow takes 1000 in one call, of which 100 params and 100 tags
RUNS_A_PAGE = 1000
# What MLflow will never take, however often it is asked.
_REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST")

Connect = Callable[[], tuple[mlflow.MlflowClient, str]]
"""Returns a client and the id of an experiment, or raises while the store does not answer."""


@dataclass
class _Batch:
    metrics: list[Metric] = field(default_factory=list)
    params: list[Param] = field(default_factory=list)
    tags: dict[str, Any] = field(default_factory=dict)

    def add(self, body: Mapping[str, Any]) -> None:
        """What a record says of metrics, params and tags."""
        self.metrics += [Metric(*metric) for metric in body.get("metrics", ())]
        self.params += [Param(name, value) for name, value in body.get("params", {}).items()]
        self.tags |= body.get("tags", {})


class OutboxUploader:
    """Delivers the outbox in the folder of a study; not for several threads at once.

    A run is made once: it carries the study's uid and its own key as tags, by which it is found again when it is in
    doubt whether MLflow made it. Everything else is the same when it is said twice; of metrics the SQL stores see to
    that.

    Args:
        folder: of the study.
        uid: of the study, as in its tag ``hpo.study_uid``.
        connect: called until it succeeds once.
    """

    def __init__(self, folder: Path, uid: str, connect: Connect) -> None:
        self._folder, self._uid, self._connect = folder, uid, connect
        self._store: tuple[mlflow.MlflowClient, str] | None = None
        self._run_ids: dict[str, str] = {}
        self._model_uris: dict[str, str] = {}
        self._in_doubt, self._has_looked = True, False
        self.n_refused = 0

    @property
    def store(self) -> tuple[mlflow.MlflowClient, str]:
        """The client and the experiment's id.

        Raises:
            Exception: whatever MLflow or the network raises while the store does not answer.
        """
        self._store = self._store or self._connect()
        return self._store

    def deliver(self) -> int:
        """Deliver everything that is in the outbox and return the number of records.

        Raises:
            Exception: whatever MLflow or the network raises; what was not delivered stays in the outbox.
        """
        outbox, n_records = self._folder / "outbox.jsonl", 0
        position = delivered_bytes(self._folder)
        self._has_looked = not self._in_doubt
        try:
            pending: dict[str, _Batch] = {}
            for record in read_outbox(outbox, position):
                self._take(record, pending)
                position, n_records = record.end, n_records + 1
                if sum(len(batch.metrics) for batch in pending.values()) >= 10 * METRICS_A_BATCH:
                    self._write_all(pending, position)
            self._write_all(pending, position)
        except BaseException:
            self._in_doubt = True
            raise
        self._in_doubt = False
        return n_records

    def _write_all(self, pending: dict[str, _Batch], position: int) -> None:
        for key in list(pending):
            self._write(key, pending.pop(key))
        if position > delivered_bytes(self._folder):
            mark_delivered(self._folder, position)

    def _find_runs(self) -> None:
        """Learn which runs MLflow has made: all at once, since one search costs as much as the study has runs."""
        client, experiment_id = self.store
        self._has_looked = True
        token: str | None = ""
        while token is not None:
            mine = f"tags.`{Tag.STUDY_UID}` = '{self._uid}'"
            page = client.search_runs([experiment_id], mine, max_results=RUNS_A_PAGE, page_token=token or None)
            self._run_ids |= {run.data.tags[Tag.RUN_KEY]: run.info.run_id for run in page}
            token = page.token or None

    def run_id(self, key: str) -> str | None:
        """The MLflow id of a run, if MLflow has it."""
        if key not in self._run_ids:
            client, experiment_id = self.store
            text = f"tags.`{Tag.STUDY_UID}` = '{self._uid}' and tags.`{Tag.RUN_KEY}` = '{key}'"
            found = client.search_runs([experiment_id], text, max_results=1)
            if not found:
                return None
            self._run_ids[key] = found[0].info.run_id
        return self._run_ids[key]

    def _id(self, key: str) -> str:
        run_id = self.run_id(key)
        if run_id is None:
            raise MlflowException(f"the run {key} of this study has been deleted", RESOURCE_DOES_NOT_EXIST)
        return run_id

    def _take(self, record: Record, pending: dict[str, _Batch]) -> None:
        body, key = record.body, record.key
        client, _ = self.store
        match record.kind:
            case "start":
                self._try(record, lambda: self._start(record))
                pending.setdefault(key, _Batch()).add({"params": body.get("params", {})})
                for name, text in body.get("texts", {}).items():
                    self._try(record, partial(self._log_text, key, text, name))
                if "inputs" in body:
                    self._try(record, lambda: self._log_inputs(key, body["inputs"]))
            case "batch":
                pending.setdefault(key, _Batch()).add(body)
            case "end":
                pending.setdefault(key, _Batch()).add(body)
                pending.setdefault(STUDY, _Batch()).add(body.get("study", {}))
                self._write(key, pending.pop(key))
                self._try(record, lambda: client.set_terminated(self._id(key), body["status"], body["at"]))
            case "reopen":
                self._try(record, lambda: client.update_run(self._id(key), "RUNNING"))
            case "text":
                self._try(record, lambda: self._log_text(key, body["text"], body["name"]))
            case "file":
                path = self._folder / body["path"]
                if path.exists():  # else it was deleted by hand: nothing to wait for
                    self._try(record, lambda: client.log_artifact(self._id(key), str(path), body["folder"] or None))
            case "model":
                self._try(record, lambda: self._log_model(key, self._folder / body["path"]))

    def _start(self, record: Record) -> None:
        """Make a run, unless MLflow has made it already."""
        key, body = record.key, record.body
        if not self._has_looked:
            self._find_runs()
        if key in self._run_ids:
            return
        client, experiment_id = self.store
        tags = {name: self._value(value) for name, value in body["tags"].items()}
        tags |= {Tag.STUDY_UID: self._uid, Tag.RUN_KEY: key, Tag.RUN_NAME: body["name"]}
        run = client.create_run(experiment_id, body["at"], tags, run_name=body["name"])
        self._run_ids[key] = run.info.run_id

    def _log_text(self, key: str, text: str, name: str) -> None:
        self.store[0].log_text(self._id(key), text, name)

    def _log_inputs(self, key: str, body: Mapping[str, str]) -> None:
        dataset = Dataset(body["name"], body["digest"], "code", body["source"], profile=body["profile"])
        inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", "train")])]
        self.store[0].log_inputs(self._id(key), inputs)

    def _write(self, key: str, batch: _Batch) -> None:
        tags = [RunTag(name, self._value(value)) for name, value in batch.tags.items() if not self._is_lost(value)]
        parts = [
            *[(chunk, [], []) for chunk in _chunks(batch.metrics, METRICS_A_BATCH)],
            *[([], chunk, []) for chunk in _chunks(batch.params, OTHERS_A_BATCH)],
            *[([], [], chunk) for chunk in _chunks(tags, OTHERS_A_BATCH)],
        ]
        if len(batch.metrics) <= METRICS_A_BATCH and max(len(batch.params), len(tags)) <= OTHERS_A_BATCH:
            parts = [(batch.metrics, batch.params, tags)] if batch.metrics or batch.params or tags else []
        for metrics, params, some_tags in parts:
            try:
                self._log_batch(key, metrics, params, some_tags)
            except MlflowException as error:
                if error.error_code not in _REFUSALS:
                    raise
                self._write_singly(key, metrics, params, some_tags)

    def _write_singly(self, key: str, metrics: list[Metric], params: list[Param], tags: list[RunTag]) -> None:
        """What a refused batch holds that is not refused by itself."""
        for metric in metrics:
            record = Record(key, "batch", {"metrics": [[metric.key, metric.value, metric.timestamp, metric.step]]})
            self._try(record, partial(self._log_batch, key, [metric], [], []))
        for param in params:
            record = Record(key, "batch", {"params": {param.key: param.value}})
            self._try(record, partial(self._log_batch, key, [], [param], []))
        for tag in tags:
            record = Record(key, "batch", {"tags": {tag.key: tag.value}})
            self._try(record, partial(self._log_batch, key, [], [], [tag]))

    def _log_batch(self, key: str, metrics: list[Metric], params: list[Param], tags: list[RunTag]) -> None:
        client, run_id = self.store[0], self._id(key)
        if len(tags) == 1 and not metrics and not params:  # half the work of a batch
            client.set_tag(run_id, tags[0].key, tags[0].value)
        else:
            client.log_batch(run_id, metrics, params, tags)

    def _is_lost(self, value: Any) -> bool:
        """Whether a value names a run that somebody has deleted."""
        return isinstance(value, Mapping) and self.run_id(value.get(RUN_ID) or value[MODEL_URI]) is None

    def _try(self, record: Record, call: Callable[[], object]) -> None:
        """Deliver, or set aside what MLflow refuses for good, so that it holds up nothing else."""
        try:
            call()
        except MlflowException as error:
            if error.error_code not in _REFUSALS:
                raise
            self.n_refused += 1
            line = [record.key, record.kind, record.body, str(error)]
            with (self._folder / "refused.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def _value(self, value: Any) -> str:
        if isinstance(value, Mapping):
            return self._id(value[RUN_ID]) if RUN_ID in value else self.model_uri(value[MODEL_URI])
        return str(value)

    def model_uri(self, key: str) -> str:
        """The URI of the model that was logged for a run; empty where there is none."""
        if key not in self._model_uris:
            ready = [model for model in self._models(key) if model.status is LoggedModelStatus.READY]
            self._model_uris[key] = f"models:/{ready[0].model_id}" if ready else ""
        return self._model_uris[key]

    def _models(self, key: str) -> list[Any]:
        client, experiment_id = self.store
        return list(client.search_logged_models([experiment_id], f"source_run_id = '{self._id(key)}'"))

    def _log_model(self, key: str, path: Path) -> None:
        client, experiment_id = self.store
        model_id = None
        for model in self._models(key) if self._in_doubt else ():
            if model.status is LoggedModelStatus.READY:
                model_id = model.model_id
            else:
                client.delete_logged_model(model.model_id)  # one that was left half done
        if model_id is None:
            mlflow.set_experiment(experiment_id=experiment_id)
            options = {"validate_serving_input": False}  # was tried when it was saved
            logged = Model.log(None, _Saved(path), run_id=self._id(key), name=Artifact.MODEL, **options)
            model_id = logged.model_id
        self._model_uris[key] = f"models:/{model_id}"
        outputs = client.get_run(self._id(STUDY)).outputs
        if all(output.model_id != model_id for output in (outputs.model_outputs if outputs else ())):
            client.log_outputs(self._id(STUDY), [LoggedModelOutput(model_id, step=0)])


class _Saved:
    """A flavor for ``Model.log`` whose model lies on disk already, saved by its own flavor."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def save_model(self, path: str, mlflow_model: Model, **options: Any) -> None:
        shutil.copytree(self._path, path, dirs_exist_ok=True)
        saved = Model.load(str(Path(path) / MLMODEL_FILE_NAME))
        given = ("artifact_path", "run_id", "model_uuid", "model_id")
        vars(mlflow_model).update({name: value for name, value in vars(saved).items() if name not in given})
        mlflow_model.save(str(Path(path) / MLMODEL_FILE_NAME))


def _chunks(items: list[Any], size: int) -> list[list[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
