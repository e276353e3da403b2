"""Where studies are recorded."""

from pathlib import Path

import pytest

from hpo.errors import ConfigError, TrackingError
from hpo.run.location import StoreLocation

UNREACHABLE = "http://127.0.0.1:9"


def test_location_is_read_from_the_config(tmp_path: Path) -> None:
    options = {"uri": "u", "experiment": "e", "output_path": str(tmp_path), "offline": "allow"}
    location = StoreLocation.of(options)
    assert location == StoreLocation("u", "e", tmp_path, "allow")
    assert location.folder("mine") == tmp_path / "studies" / "mine"
    assert StoreLocation.of({**options, "offline": "refuse"}).offline == "refuse"
    with pytest.raises(ConfigError, match="refuse or allow") as refused:
        StoreLocation.of({**options, "offline": "yes"})
    assert (refused.value.key, refused.value.value, refused.value.fix) == (
        "tracking.offline", "yes", "tracking.offline=allow",
    )  # fmt: skip


def test_store_in_words_has_no_password() -> None:
    location = StoreLocation("https://me:correct-horse@host/", "exp", Path("out"))
    assert location.store == "https://me:***@host/ exp"


def test_unreachable_store_error_names_recording_on_disk(tmp_path: Path) -> None:
    with pytest.raises(TrackingError) as refused:
        StoreLocation(UNREACHABLE, "e", tmp_path).connect()
    assert refused.value.fix.endswith("or tracking.offline=allow, which records on disk until the store answers")
    with pytest.raises(TrackingError) as allowed:
        StoreLocation(UNREACHABLE, "e", tmp_path, "allow").connect()
    assert "tracking.offline" not in allowed.value.fix
    assert refused.value.key == allowed.value.key == "tracking.uri"
