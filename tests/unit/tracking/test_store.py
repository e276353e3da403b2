"""Opening an MLflow store, and the errors of stores that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo.errors import TrackingError
from hpo.tracking.store import absolute, open_store, require_reachable, store_exists

URI = "sqlite:///hpo_runs/mlflow.db"


def test_experiment_is_created_once(workdir: Path) -> None:
    client, experiment = open_store(URI, "mine", Path("hpo_runs"))
    assert open_store(URI, "mine", Path("hpo_runs"))[1] == experiment
    location = client.get_experiment(experiment).artifact_location
    assert location == (workdir / "hpo_runs" / "artifacts").as_uri()


def test_reading_creates_no_experiment(workdir: Path) -> None:
    with pytest.raises(TrackingError, match=r"tracking.experiment = mine\n.*Default") as caught:
        open_store(URI, "mine", Path("elsewhere"), create=False)
    assert caught.value.key == "tracking.experiment"
    assert not Path("elsewhere").exists()


def test_deleted_experiment_is_refused(workdir: Path) -> None:
    client, experiment = open_store(URI, "mine", Path("hpo_runs"))
    client.delete_experiment(experiment)
    with pytest.raises(TrackingError, match="an experiment that has not been deleted"):
        open_store(URI, "mine", Path("hpo_runs"))


def test_output_folder_that_is_a_file_is_refused(workdir: Path) -> None:
    Path("taken").write_text("")
    with pytest.raises(TrackingError, match="a folder that can be written to") as caught:
        open_store(URI, "mine", Path("taken"))
    assert caught.value.key == "tracking.output_path"


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:9", "ftp://host/x", "sqlite://", "sqlite:///:memory:", "nonsense", "http://[broken"]
)
def test_store_that_cannot_answer_is_refused(uri: str) -> None:
    with pytest.raises(TrackingError, match="an MLflow store that answers") as caught:
        require_reachable(uri)
    assert caught.value.key == "tracking.uri"


def test_password_is_not_shown() -> None:
    with pytest.raises(TrackingError) as caught:
        require_reachable("http://me:battery-staple@127.0.0.1:9")
    assert "battery-staple" not in str(caught.value)


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("no database" * 100)
    with pytest.raises(TrackingError, match="not a database"):
        require_reachable(f"sqlite:///{tmp_path}/x.db")


def test_sqlite_paths_become_absolute(workdir: Path) -> None:
    assert absolute(URI) == f"sqlite:///{workdir}/hpo_runs/mlflow.db"
    assert absolute("sqlite+pysqlite:///a.db?x=1") == f"sqlite+pysqlite:///{workdir}/a.db?x=1"
    for unchanged in ("sqlite:////tmp/a.db", "http://host:5000", "postgresql://host/db"):
        assert absolute(unchanged) == unchanged


def test_sqlite_store_exists_once_its_file_does(workdir: Path) -> None:
    assert store_exists(URI)
    assert not store_exists("sqlite:///missing.db")
    assert store_exists("http://127.0.0.1:9")
