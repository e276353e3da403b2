"""Names of new studies, and the store that a study belongs to."""

import json
from pathlib import Path

import pytest

from hpo.errors import ConfigError, TrackingError
from hpo.run import session
from hpo.run.location import StoreLocation
from hpo.tracking.outbox import mark_delivered


def location(tmp_path: Path) -> StoreLocation:
    return StoreLocation("sqlite:///x.db", "hpo", tmp_path)


def test_reserved_names_do_not_collide(tmp_path: Path) -> None:
    assert [session.reserve_name(location(tmp_path), "a") for _ in range(3)] == ["a", "a-2", "a-3"]
    assert location(tmp_path).folder("a-3").is_dir()


def test_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "studies").write_text("a file")
    with pytest.raises(TrackingError) as refused:
        session.reserve_name(location(tmp_path), "a")
    assert (refused.value.key, refused.value.value) == ("tracking.output_path", tmp_path)
    assert refused.value.expected == "a folder that can be written to (Not a directory)"
    assert refused.value.fix == "tracking.output_path=another"


def test_study_in_missing_store_has_no_tags(tmp_path: Path) -> None:
    store = StoreLocation(f"sqlite:///{tmp_path}/none.db", "hpo", tmp_path)
    assert session.find_tags(store, "mine") == {}
    assert not (tmp_path / "none.db").exists()


def test_outbox_is_delivered_to_its_own_store_only(workdir: Path) -> None:
    folder = workdir / "hpo_runs" / "studies" / "mine"
    folder.mkdir(parents=True)
    (folder / "study.json").write_text(json.dumps({"uid": "1", "store": "sqlite:///other.db hpo"}))
    (folder / "outbox.jsonl").write_text("[]\n")
    mark_delivered(folder, 3)
    here = StoreLocation("sqlite:///hpo_runs/mlflow.db", "hpo", workdir / "hpo_runs")
    with pytest.raises(ConfigError, match=r"other\.db"):
        session.deliver(here, folder)


def test_outbox_without_study_file_is_not_delivered(workdir: Path) -> None:
    folder = workdir / "hpo_runs" / "studies" / "mine"
    folder.mkdir(parents=True)
    here = StoreLocation("sqlite:///hpo_runs/mlflow.db", "hpo", workdir / "hpo_runs")
    with pytest.raises(ConfigError, match=r"study\.json"):
        session.deliver(here, folder)
