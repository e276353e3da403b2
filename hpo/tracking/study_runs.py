"""The MLflow runs and logged models of one study, found by the keys that its outbox uses."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from hpo.tracking.outbox import MODEL_URI, RUN_ID, STUDY
from hpo.tracking.schema import Artifact, Tag

RUNS_PER_PAGE = 1000

Connect = Callable[[], tuple[mlflow.MlflowClient, str]]
"""Returns a client and the id of an experiment; raises while the store does not answer."""


class StudyRuns:
    """Creates and finds the runs of a study.

    Each run is created once: it carries the study's uid and its own key as tags, and is searched by them whenever it is
    uncertain whether MLflow created it.

    Args:
        uid: of the study, as in ``Tag.STUDY_UID``.
        connect: called until it succeeds once.
    """

    def __init__(self, uid: str, connect: Connect) -> None:
        self._uid, self._connect = uid, connect
        self._store: tuple[mlflow.MlflowClient, str] | None = None
        self._run_ids: dict[str, str] = {}
        self._model_uris: dict[str, str] = {}

    @property
    def store(self) -> tuple[mlflow.MlflowClient, str]:
        """The client and the experiment's id.

        Raises:
            Exception: any that MLflow or the network raises while the store does not answer.
        """
        self._store = self._store or self._connect()
        return self._store

    @property
    def client(self) -> mlflow.MlflowClient:
        """The client."""
        return self.store[0]

    def load(self) -> None:
        """Load the ids of all runs of the study, in one search: MLflow scans every run of the study in each search."""
        client, experiment_id = self.store
        token: str | None = ""
        while token is not None:
            matches = f"tags.`{Tag.STUDY_UID}` = '{self._uid}'"
            page = client.search_runs([experiment_id], matches, max_results=RUNS_PER_PAGE, page_token=token or None)
            self._run_ids |= {run.data.tags[Tag.RUN_KEY]: run.info.run_id for run in page}
            token = page.token or None

    def create(self, key: str, name: str, tags: Mapping[str, Any], started: int) -> None:
        """Create a run, unless its id is known.

        Args:
            started: in milliseconds since 1970.
        """
        if key in self._run_ids:
            return
        client, experiment_id = self.store
        values = {tag: self.fill_in(value) for tag, value in tags.items()}
        values |= {Tag.STUDY_UID: self._uid, Tag.RUN_KEY: key, Tag.RUN_NAME: name}
        run = client.create_run(experiment_id, started, values, run_name=name)
        self._run_ids[key] = run.info.run_id

    def find_id(self, key: str) -> str | None:
        """Id of a run; None if MLflow does not have it."""
        if key not in self._run_ids:
            client, experiment_id = self.store
            matches = f"tags.`{Tag.STUDY_UID}` = '{self._uid}' and tags.`{Tag.RUN_KEY}` = '{key}'"
            found = client.search_runs([experiment_id], matches, max_results=1)
            if not found:
                return None
            self._run_ids[key] = found[0].info.run_id
        return self._run_ids[key]

    def get_id(self, key: str) -> str:
        """Id of a run.

        Raises:
            MlflowException: RESOURCE_DOES_NOT_EXIST, if somebody deleted the run.
        """
        run_id = self.find_id(key)
        if run_id is None:
            raise MlflowException(f"the run {key} of this study has been deleted", RESOURCE_DOES_NOT_EXIST)
        return run_id

    # Values that only MLflow knows.

    def fill_in(self, value: Any) -> str:
        """A tag's value as text, with the run id or model URI in place of a placeholder."""
        if isinstance(value, Mapping):
            return self.get_id(value[RUN_ID]) if RUN_ID in value else self.model_uri(value[MODEL_URI])
        return str(value)

    def can_fill_in(self, value: Any) -> bool:
        """Whether a value is no placeholder, or the run that it names exists."""
        return not isinstance(value, Mapping) or self.find_id(value.get(RUN_ID) or value[MODEL_URI]) is not None

    # Logged models.

    def model_uri(self, key: str) -> str:
        """URI of the model logged for a run; empty if there is none."""
        if key not in self._model_uris:
            ready = [model for model in self._models(key) if model.status is LoggedModelStatus.READY]
            self._model_uris[key] = f"models:/{ready[0].model_id}" if ready else ""
        return self._model_uris[key]

    def log_model(self, key: str, path: Path, may_exist: bool) -> None:
        """Upload the MLflow model folder ``path`` as the model of a run, and add it to the outputs of the study's run.

        Args:
            may_exist: whether an earlier attempt may have uploaded it, completely or in part.
        """
        model_id = self._complete_model(key) if may_exist else None
        if model_id is None:
            mlflow.set_experiment(experiment_id=self.store[1])
            options = {"validate_serving_input": False}  # validated when the model was saved
            logged = Model.log(None, _SavedModelFlavor(path), run_id=self.get_id(key), name=Artifact.MODEL, **options)
            model_id = logged.model_id
        self._model_uris[key] = f"models:/{model_id}"
        outputs = self.client.get_run(self.get_id(STUDY)).outputs
        if all(output.model_id != model_id for output in (outputs.model_outputs if outputs else ())):
            self.client.log_outputs(self.get_id(STUDY), [LoggedModelOutput(model_id, step=0)])

    def _complete_model(self, key: str) -> str | None:
        """Id of a complete model of a run; incomplete ones are deleted."""
        model_id = None
        for model in self._models(key):
            if model.status is LoggedModelStatus.READY:
                model_id = str(model.model_id)
            else:
                self.client.delete_logged_model(model.model_id)
        return model_id

    def _models(self, key: str) -> list[Any]:
        client, experiment_id = self.store
        return list(client.search_logged_models([experiment_id], f"source_run_id = '{self.get_id(key)}'"))


class _SavedModelFlavor:
    """A flavor for ``Model.log`` that copies a saved model folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def save_model(self, path: str, mlflow_model: Model, **options: Any) -> None:
        shutil.copytree(self._path, path, dirs_exist_ok=True)
        saved = Model.load(str(Path(path) / MLMODEL_FILE_NAME))
        set_by_mlflow = ("artifact_path", "run_id", "model_uuid", "model_id")
        vars(mlflow_model).update({name: value for name, value in vars(saved).items() if name not in set_by_mlflow})
        mlflow_model.save(str(Path(path) / MLMODEL_FILE_NAME))
