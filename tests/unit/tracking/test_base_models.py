"""The network that a transfer model starts from, fetched from a store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
import sqlalchemy
from mlflow.models import Model

from hpo.errors import ConfigError, TrackingError
from hpo.tracking.base_models import fetch_network
from hpo.tracking.store import open_store
from hpo.tracking.writer import Tracker

from .records import DATA, Store, ignore

URI = "sqlite:///hpo_runs/mlflow.db"


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """An MLflow model folder that holds what the Keras flavor would write."""
    folder = tmp_path / "model"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "model.keras").write_bytes(b"a network")
    Model().save(str(folder / "MLmodel"))
    return folder


def record_study(store: Store, folder: Path, name: str, model: Path | None) -> Tracker:
    tracker = Tracker(folder / name, f"uid-{name}", lambda: store, ignore)
    tracker.start_study(name, {"hpo.state": "finished"}, {}, DATA, {})
    tracker.start_trial(0, {})
    if model is not None:
        saved = model.rename(folder / name / "model-0000")
        tracker.log_model(0, saved)
        assert tracker.flush()
        tracker.set_tags("study", {"hpo.best_model_uri": str(tracker.model_uri(0))})
    assert tracker.close()
    return tracker


def test_best_model_of_a_study_is_fetched(store: Store, model_folder: Path, tmp_path: Path) -> None:
    uri = record_study(store, tmp_path / "studies", "mine", model_folder).model_uri(0)
    found = fetch_network(URI, "hpo", "mine", tmp_path / "here")
    assert (found.path.read_bytes(), found.uri) == (b"a network", uri)
    assert fetch_network(URI, "hpo", str(uri), tmp_path / "there").path.read_bytes() == b"a network"


def test_given_experiment_is_searched_first(store: Store, model_folder: Path, tmp_path: Path) -> None:
    record_study(store, tmp_path / "1", "mine", model_folder)
    other = open_store(URI, "another", Path("hpo_runs"))
    record_study(other, tmp_path / "2", "mine", None)
    assert fetch_network(URI, "hpo", "mine", tmp_path / "here").path.exists()
    with pytest.raises(ConfigError, match="a study that has logged its best model; this one is finished"):
        fetch_network(URI, "another", "mine", tmp_path / "there")


def test_study_in_another_experiment_is_found(store: Store, model_folder: Path, tmp_path: Path) -> None:
    record_study(store, tmp_path / "1", "mine", model_folder)
    assert fetch_network(URI, "empty", "mine", tmp_path / "here").path.exists()


@pytest.fixture
def other_registry() -> Iterator[None]:
    """A registry that is set for the whole process, and must not be used."""
    mlflow.set_registry_uri("sqlite:///nothing.db")
    yield
    mlflow.set_registry_uri("")


@pytest.mark.usefixtures("other_registry")
def test_registered_version_and_alias_are_resolved(store: Store, model_folder: Path, tmp_path: Path) -> None:
    client = mlflow.MlflowClient(URI, URI)
    uri = record_study(store, tmp_path / "1", "mine", model_folder).model_uri(0)
    client.create_registered_model("net")
    client.create_model_version("net", str(uri))
    client.set_registered_model_alias("net", "best", "1")
    for number, address in enumerate(("models:/net/1", "models:/net@best")):
        assert fetch_network(URI, "hpo", address, tmp_path / str(number)).path.read_bytes() == b"a network"
    with pytest.raises(ConfigError, match="a model in the store"):
        fetch_network(URI, "hpo", "models:/net/2", tmp_path / "missing")


def test_model_without_a_network_is_refused(store: Store, model_folder: Path, tmp_path: Path) -> None:
    (model_folder / "data" / "model.keras").unlink()
    record_study(store, tmp_path / "1", "mine", model_folder)
    with pytest.raises(ConfigError, match="a network saved by Keras"):
        fetch_network(URI, "hpo", "mine", tmp_path / "here")


@pytest.mark.parametrize("base", ["missing", "runs:/00000000000000000000000000000000/model", "not a name"])
def test_missing_model_is_refused_with_a_command(store: Store, tmp_path: Path, base: str) -> None:
    with pytest.raises(ConfigError, match=r"model=mnist_cnn study=(missing|mnist-base)`, then use") as caught:
        fetch_network(URI, "hpo", base, tmp_path)
    assert (caught.value.key, caught.value.value) == ("model.base", base)


def test_store_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="which is empty"):
        fetch_network(f"sqlite:///{tmp_path}/missing.db", "hpo", "mine", tmp_path)


def test_store_that_does_not_answer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="answers"):
        fetch_network("http://127.0.0.1:9", "hpo", "mine", tmp_path)


@pytest.mark.usefixtures("store")
def test_database_of_another_mlflow_version_is_reported(tmp_path: Path) -> None:
    shutil.copyfile("hpo_runs/mlflow.db", "hpo_runs/other.db")
    engine = sqlalchemy.create_engine("sqlite:///hpo_runs/other.db")
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("update alembic_version set version_num = 'earlier'"))
    engine.dispose()
    with pytest.raises(TrackingError, match="out-of-date database schema"):
        fetch_network("sqlite:///hpo_runs/other.db", "hpo", "mine", tmp_path / "here")
