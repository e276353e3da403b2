"""``study.json``: what this machine knows about a study."""

import json
from pathlib import Path

import pytest

from hpo.errors import ConfigError, TrackingError
from hpo.run.location import StoreLocation
from hpo.run.study_file import StudyFile, read_json, saved_overrides, write_json


def test_file_is_read_as_it_was_written_without_secrets(tmp_path: Path) -> None:
    assert StudyFile.read(tmp_path) is None
    StudyFile("1", "sqlite:///a.db hpo", ["seed=3", "tracking.uri=https://me:secret@host/"]).write(tmp_path)
    assert StudyFile.read(tmp_path) == StudyFile(
        "1", "sqlite:///a.db hpo", ["seed=3", "tracking.uri=https://me:***@host/"]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["study.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"uid": "1"}', '{"store": "s"}', "{"])
def test_unreadable_file_is_no_study(text: str, tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text(text)
    assert StudyFile.read(tmp_path) is None


def test_json_that_is_no_object_reads_as_empty(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    assert read_json(path) == {}
    for text, found in (("[1]", {}), ("{", {}), ('{"a": 1}', {"a": 1})):
        path.write_text(text)
        assert read_json(path) == found


def test_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"No such file or directory") as refused:
        write_json(tmp_path / "missing" / "file.json", {})
    assert (refused.value.key, refused.value.value) == ("tracking.output_path", tmp_path / "missing")


def test_overrides_are_known_only_of_studies_started_here(tmp_path: Path) -> None:
    location = StoreLocation("sqlite:///x.db", "hpo", tmp_path)
    with pytest.raises(ConfigError, match="there is none"):
        saved_overrides(location, "mine")
    folder = location.folder("mine")
    folder.mkdir(parents=True)
    (folder / "study.json").write_text(json.dumps({"uid": "1", "store": "s", "overrides": ["seed=3"]}))
    assert saved_overrides(location, "mine") == ["seed=3"]
    with pytest.raises(ConfigError, match=f"started in {tmp_path}: mine") as refused:
        saved_overrides(location, "other")
    assert "study=other" in refused.value.fix
