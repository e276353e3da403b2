"""Runs and logged models of a study in a real store."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException

from hpo.tracking.outbox import STUDY, model_uri_of, run_id_of
from hpo.tracking.study_runs import StudyRuns

from .records import Store, runs_by_key

TRIAL = "trial-0000"


class Echo(mlflow.pyfunc.PythonModel):
    """A model that returns its input."""

    def predict(self, context: object, model_input: list[str]) -> list[str]:
        return model_input


@pytest.fixture
def runs(store: Store) -> StudyRuns:
    """A study and a trial that MLflow has."""
    runs = StudyRuns("uid", lambda: store)
    for key in (STUDY, TRIAL):
        runs.create(key, key, {"hpo.kind": "x"}, 1)
    return runs


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "model"
    mlflow.pyfunc.save_model(str(path), python_model=Echo(), pip_requirements=["mlflow"])
    return path


def test_run_is_created_once(store: Store, runs: StudyRuns) -> None:
    runs.create(STUDY, "again", {}, 2)
    assert set(runs_by_key(store)) == {STUDY, TRIAL}
    assert runs_by_key(store)[STUDY].info.run_name == STUDY
    again = StudyRuns("uid", lambda: store)
    again.load()
    again.create(STUDY, "again", {}, 2)
    assert set(runs_by_key(store)) == {STUDY, TRIAL}


def test_placeholders_are_filled_in(store: Store, runs: StudyRuns) -> None:
    run_id = runs_by_key(store)[STUDY].info.run_id
    assert (runs.fill_in(run_id_of(STUDY)), runs.fill_in(model_uri_of(TRIAL)), runs.fill_in(3)) == (run_id, "", "3")
    assert runs.can_fill_in("text")
    assert runs.can_fill_in(run_id_of(STUDY))
    assert not runs.can_fill_in(run_id_of("trial-0009"))
    assert not runs.can_fill_in(model_uri_of("trial-0009"))


def test_id_of_a_missing_run_is_an_error(runs: StudyRuns) -> None:
    assert runs.find_id("trial-0009") is None
    with pytest.raises(MlflowException, match="trial-0009 of this study has been deleted") as caught:
        runs.get_id("trial-0009")
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_store_is_connected_once(store: Store) -> None:
    calls: list[int] = []

    def connect() -> Store:
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionError("refused")
        return store

    runs = StudyRuns("uid", connect)
    with pytest.raises(ConnectionError):
        _ = runs.store
    assert runs.store == store
    assert runs.client is store[0]
    assert len(calls) == 2


def test_logged_model_belongs_to_trial_and_study(store: Store, runs: StudyRuns, model_folder: Path) -> None:
    runs.log_model(TRIAL, model_folder, may_exist=False)
    uri = runs.model_uri(TRIAL)
    assert mlflow.pyfunc.load_model(uri).predict(["a"]) == ["a"]
    found = runs_by_key(store)
    (model,) = store[0].search_logged_models([store[1]])
    assert (f"models:/{model.model_id}", model.name) == (uri, "model")
    assert model.source_run_id == found[TRIAL].info.run_id
    outputs = store[0].get_run(found[STUDY].info.run_id).outputs.model_outputs
    assert [output.model_id for output in outputs] == [model.model_id]
    assert StudyRuns("uid", lambda: store).model_uri(TRIAL) == uri


def test_model_is_not_uploaded_again(store: Store, runs: StudyRuns, model_folder: Path) -> None:
    """After a kill between the upload and the update of the stored position."""
    runs.log_model(TRIAL, model_folder, may_exist=False)
    again = StudyRuns("uid", lambda: store)
    again.log_model(TRIAL, model_folder, may_exist=True)
    assert again.model_uri(TRIAL) == runs.model_uri(TRIAL)
    assert len(store[0].search_logged_models([store[1]])) == 1
    outputs = store[0].get_run(runs_by_key(store)[STUDY].info.run_id).outputs.model_outputs
    assert len(outputs) == 1


def test_incomplete_model_is_replaced(store: Store, runs: StudyRuns, model_folder: Path) -> None:
    client, experiment = store
    half = client.create_logged_model(experiment, "model", source_run_id=runs.get_id(TRIAL))
    assert half.status is LoggedModelStatus.PENDING
    assert runs.model_uri(STUDY) == ""
    runs.log_model(TRIAL, model_folder, may_exist=True)
    (model,) = client.search_logged_models([experiment])
    assert model.model_id != half.model_id
    assert model.status is LoggedModelStatus.READY
