"""The one writer of a study: what it is told is queued, and delivered by a thread of its own, in batches.

A batch a trial costs a twentieth of a call a metric, and nothing of it is on the training path.
"""

from __future__ import annotations

import json
import math
import queue
import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import sqlalchemy
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from hpo.errors import StudyFailed, redact
from hpo.tracking.store import quiet
from hpo.trial import State, StopReason, Trial

STUDY = "study"
FLUSH_SECONDS = 2.0
METRICS_A_BATCH, OTHERS_A_BATCH = 800, 100  # MLflow takes 1000 in one call, of which 100 params and 100 tags
ATTEMPTS = 4
RunKey = int | str
"""A trial's number, or ``STUDY``."""


@dataclass(frozen=True)
class DatasetRecord:
    """What is recorded of the data: name, digest (at most 36 characters), source, and rows by part."""

    name: str
    digest: str
    source: str
    n_samples: Mapping[str, int]


@dataclass
class _Batch:
    metrics: list[Metric] = field(default_factory=list)
    params: list[Param] = field(default_factory=list)
    tags: list[RunTag] = field(default_factory=list)


@dataclass(frozen=True)
class _Start:
    key: RunKey
    name: str
    tags: Mapping[str, str]
    at: int


@dataclass(frozen=True)
class _Entry:
    key: RunKey
    batch: _Batch


@dataclass(frozen=True)
class _Text:
    key: RunKey
    text: str
    name: str


@dataclass(frozen=True)
class _File:
    key: RunKey
    path: Path
    folder: str


@dataclass(frozen=True)
class _End:
    key: RunKey
    status: str
    at: int


@dataclass(frozen=True)
class _Flush:
    done: threading.Event


_Item = _Start | _Entry | _Text | _File | _End | _Flush


class Tracker:
    """Writes one study to MLflow.

    Args:
        client: of the store, as :func:`open_store` returns it.
        experiment_id: the experiment to write to.

    Raises:
        StudyFailed: from any method, once the store has refused a write several times.
    """

    def __init__(self, client: mlflow.MlflowClient, experiment_id: str) -> None:
        self.experiment_id = experiment_id
        self._client = client
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._run_ids: dict[RunKey, str] = {}
        self._pending: dict[RunKey, _Batch] = {}
        self._running: set[int] = set()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._deliver, name="hpo-tracker", daemon=True)
        self._thread.start()

    # What the driver says; none of it waits for MLflow, but for flush, run_id and log_model.

    def start_study(self, name: str, tags: Mapping[str, str], params: Mapping[str, object], data: DatasetRecord) -> str:
        """Make the study's run and return its id."""
        self._put(_Start(STUDY, name, {"hpo.kind": "study", **tags}, _now()))
        self._put(_Entry(STUDY, _Batch(params=[Param(key, str(value)) for key, value in params.items()])))
        run_id = self.run_id(STUDY)
        profile = json.dumps({f"n_{part}": rows for part, rows in data.n_samples.items()})
        dataset = Dataset(data.name, data.digest, "code", json.dumps({"source": data.source}), profile=profile)
        inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", "train")])]
        with _store_errors():
            self._attempt(lambda: self._client.log_inputs(run_id, inputs))
        return run_id

    def start_trial(self, number: int, params: Mapping[str, object]) -> None:
        """Make the run of a trial, with its hyperparameters."""
        tags = {
            "hpo.kind": "trial",
            "hpo.trial": str(number),
            "hpo.state": State.RUNNING.value,
            MLFLOW_PARENT_RUN_ID: self._run_ids[STUDY],
        }
        self._put(_Start(number, f"trial-{number:04d}", tags, _now()))
        self._running.add(number)
        self._put(_Entry(number, _Batch(params=[Param(key, str(value)) for key, value in params.items()])))

    def log_metrics(self, key: RunKey, metrics: Mapping[str, float], step: int = 0) -> None:
        """One point a metric."""
        at = _now()
        points = [Metric(name, float(value), at, step) for name, value in metrics.items()]
        self._put(_Entry(key, _Batch(metrics=points)))

    def set_tags(self, key: RunKey, tags: Mapping[str, object]) -> None:
        """Set tags, replacing earlier values."""
        self._put(_Entry(key, _Batch(tags=[RunTag(name, str(value)) for name, value in tags.items()])))

    def end_trial(self, trial: Trial) -> None:
        """Record how a trial ended: state, outcome of every fold, seconds by phase, traceback."""
        self.log_metrics(trial.number, _final_metrics(trial))
        self.set_tags(trial.number, _final_tags(trial))
        for fold in trial.folds:
            if fold.traceback:
                self.log_text(trial.number, fold.traceback, f"traceback_fold_{fold.fold}.txt")
        failed = "FAILED" if trial.state is State.FAIL else "KILLED" if trial.state is State.WAITING else "FINISHED"
        self._put(_End(trial.number, failed, _now()))
        self._running.discard(trial.number)

    def close_running_trials(self, numbers: Sequence[int] | None = None) -> None:
        """Close trials that nobody will end any more as interrupted, all or some; their epochs stay."""
        for number in sorted(self._running if numbers is None else numbers):
            state, reason = StopReason.INTERRUPTED.state, StopReason.INTERRUPTED
            self.set_tags(number, {"hpo.state": state.value, "hpo.stop_reason": reason.value})
            self._put(_End(number, "KILLED", _now()))
            self._running.discard(number)

    def log_text(self, key: RunKey, text: str, name: str) -> None:
        """A text file among the artifacts."""
        self._put(_Text(key, text, name))

    def log_file(self, key: RunKey, path: Path, folder: str = "") -> None:
        """A file among the artifacts; it must stay until :meth:`flush`."""
        self._put(_File(key, path, folder))

    def end_study(self, status: str) -> None:
        """Close the study's run as ``FINISHED``, ``FAILED`` or ``KILLED`` and deliver everything."""
        self._put(_End(STUDY, status, _now()))
        self.flush()

    def flush(self) -> None:
        """Wait until everything said so far is in the store."""
        done = threading.Event()
        self._put(_Flush(done))
        done.wait()
        self._raise()

    def run_id(self, key: RunKey) -> str:
        """The MLflow id of a run that was started."""
        if key not in self._run_ids:
            self.flush()
        return self._run_ids[key]

    def log_model(self, key: RunKey, flavor: str, model: Any, example: Any, predictions: Any) -> str:
        """Log a trained model to a trial's run, link it from the study's, and return its URI.

        Args:
            flavor: ``keras`` or ``sklearn``, MLflow's words for the kind of ``model``.
            example: input of shape ``(n, …)``, kept with the model.
            predictions: the model's output on it, for the signature.
        """
        from mlflow.models import Model, infer_signature

        self.flush()
        with quiet(), _store_errors():
            mlflow.set_experiment(experiment_id=self.experiment_id)
            info = Model.log(
                artifact_path=None,
                name="model",
                flavor=_FLAVORS[flavor],
                run_id=self.run_id(key),
                model=model,
                signature=infer_signature(example, predictions),
                input_example=example,
                # Said here, since MLflow finds them out by loading the model in another process.
                pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", *_REQUIREMENTS[flavor])],
            )
            self._client.log_outputs(self.run_id(STUDY), [LoggedModelOutput(info.model_id, step=0)])
        return str(info.model_uri)

    def close(self) -> None:
        """End the writer, delivering what it can."""
        self._queue.put(None)
        self._thread.join()

    # The writer's side.

    def _put(self, item: _Item) -> None:
        self._raise()
        self._queue.put(item)

    def _raise(self) -> None:
        if self._error is not None:
            said = redact(str(self._error))
            raise StudyFailed(f"the tracking store no longer takes records: {said}") from self._error

    def _deliver(self) -> None:
        due = time.monotonic() + FLUSH_SECONDS
        while True:
            item: _Item | None
            try:
                item = self._queue.get(timeout=max(0.01, due - time.monotonic()))
            except queue.Empty:
                item = _Flush(threading.Event())
            try:
                if self._error is None:
                    self._take(item)
            except Exception as error:  # reported by the next call of the driver
                self._error = error
            if isinstance(item, _Flush):
                item.done.set()
                due = time.monotonic() + FLUSH_SECONDS
            if item is None:
                return

    def _take(self, item: _Item | None) -> None:
        match item:
            case _Start():
                tags = {**item.tags, "mlflow.runName": item.name}
                run = self._attempt(
                    lambda: self._client.create_run(self.experiment_id, item.at, tags, run_name=item.name)
                )
                self._run_ids[item.key] = run.info.run_id
            case _Entry():
                pending = self._pending.setdefault(item.key, _Batch())
                pending.metrics += item.batch.metrics
                pending.params += item.batch.params
                pending.tags += item.batch.tags
            case _Text():
                run_id = self._run_ids[item.key]
                self._attempt(lambda: self._client.log_text(run_id, item.text, item.name))
            case _File():
                run_id = self._run_ids[item.key]
                self._attempt(lambda: self._client.log_artifact(run_id, str(item.path), item.folder or None))
            case _End():
                self._write(item.key)
                run_id = self._run_ids[item.key]
                self._attempt(lambda: self._client.set_terminated(run_id, item.status, item.at))
            case _:
                for key in list(self._pending):
                    self._write(key)

    def _write(self, key: RunKey) -> None:
        batch = self._pending.pop(key, _Batch())
        run_id = self._run_ids[key]
        while batch.metrics or batch.params or batch.tags:
            metrics, batch.metrics = batch.metrics[:METRICS_A_BATCH], batch.metrics[METRICS_A_BATCH:]
            params, batch.params = batch.params[:OTHERS_A_BATCH], batch.params[OTHERS_A_BATCH:]
            tags, batch.tags = batch.tags[:OTHERS_A_BATCH], batch.tags[OTHERS_A_BATCH:]
            self._attempt(lambda m=metrics, p=params, t=tags: self._client.log_batch(run_id, m, p, t))

    def _attempt(self, call: Any) -> Any:
        for attempt in range(ATTEMPTS):
            try:
                return call()
            except (MlflowException, OSError, sqlalchemy.exc.SQLAlchemyError):
                if attempt + 1 == ATTEMPTS:
                    raise
                time.sleep(2.0**attempt)
        return None


@contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except (MlflowException, OSError, sqlalchemy.exc.SQLAlchemyError) as error:
        raise StudyFailed(f"the tracking store does not take records: {redact(str(error))}") from error


class _KerasFlavor:
    """``mlflow.keras`` for ``Model.log``: its own ``save_model`` writes the example to a folder that nobody made."""

    @staticmethod
    def save_model(path: str, **options: Any) -> None:
        import keras
        import mlflow.keras

        keras.config.disable_interactive_logging()  # MLflow tries the model on its example
        Path(path).mkdir(parents=True, exist_ok=True)
        mlflow.keras.save_model(path=path, **options)


class _SklearnFlavor:
    """``mlflow.sklearn`` for ``Model.log``, in a format that runs no code when it is loaded."""

    @staticmethod
    def save_model(path: str, **options: Any) -> None:
        import mlflow.sklearn
        from skops.io import dumps, get_untrusted_types

        model = options.pop("model")
        trusted = get_untrusted_types(data=dumps(model))  # of the model that this study has trained
        options |= {"serialization_format": "skops", "skops_trusted_types": trusted}
        mlflow.sklearn.save_model(sk_model=model, path=path, **options)


_FLAVORS = {"keras": _KerasFlavor, "sklearn": _SklearnFlavor}
_REQUIREMENTS = {"keras": ("keras", "tensorflow"), "sklearn": ("scikit-learn", "skops")}


def _now() -> int:
    return int(time.time() * 1000)


def _final_metrics(trial: Trial) -> dict[str, float]:
    """The scalars that people sort trials by; with several folds, means over them (of epochs, medians)."""
    outcomes = [fold.outcome for fold in trial.folds]
    metrics: dict[str, float] = {
        "epochs_run": trial.epochs_run,
        "epochs_saved": trial.epochs_saved,
        "total_seconds": trial.seconds,
    }
    if trial.values is not None:
        metrics["objective"] = trial.values[0]
        others = zip(trial.folds[0].others, trial.values[1:], strict=True)
        metrics |= {f"objective_{name}": value for name, value in others}
    elif trial.mean_score is not None:  # at the budget at which it was dropped
        metrics["rung_objective"] = trial.mean_score
    if trial.std is not None and trial.standard_error is not None:
        metrics |= {"objective_std": trial.std, "objective_se": trial.standard_error}
    for phase in {phase for fold in trial.folds for phase in fold.seconds}:
        metrics[f"{phase}_seconds"] = sum(fold.seconds.get(phase, 0.0) for fold in trial.folds)
    if trial.best_epochs:
        metrics["best_epoch"] = statistics.median(trial.best_epochs)
    stopped = [outcome.stopped_epoch for outcome in outcomes if outcome.stopped_epoch is not None]
    if stopped and len(stopped) == len(outcomes):
        metrics["stopped_epoch"] = statistics.median(stopped)
    best_values = [outcome.best_value for outcome in outcomes if outcome.best_value is not None]
    if best_values:
        metrics[f"best_{outcomes[0].monitor}"] = statistics.fmean(best_values)
    if trial.folds and trial.folds[0].n_weights is not None:
        metrics["n_weights"] = trial.folds[0].n_weights
    return metrics


def _final_tags(trial: Trial) -> dict[str, str]:
    tags = {"hpo.state": trial.state.value, "hpo.stop_reason": str(trial.stop_reason or "")}
    if trial.error:
        tags["hpo.error"] = trial.error
    for fold in trial.folds:
        tags[f"hpo.fold_{fold.fold}"] = json.dumps(_finite(fold.summary()))
    return tags


def _finite(value: Any) -> Any:
    """``value`` with NaN and infinities as text, since JSON has none."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return value
