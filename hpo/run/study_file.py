"""``study.json`` in the folder of a study: its id, its store, and the command line for ``resume``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpo.errors import ConfigError, TrackingError, redact
from hpo.run.location import StoreLocation

STUDY_FILE = "study.json"


@dataclass(frozen=True)
class StudyFile:
    """The content of ``study.json``.

    Args:
        uid: permanent identifier of the study, independent of its name and store.
        store: where the study is recorded; see :attr:`hpo.run.location.StoreLocation.store`.
        overrides: the command line that defines it, without secrets.
    """

    uid: str
    store: str
    overrides: Sequence[str] = ()

    @classmethod
    def read(cls, folder: Path) -> StudyFile | None:
        """Read the file of the study in ``folder``; None if there is no readable one."""
        found = read_json(folder / STUDY_FILE)
        if not {"uid", "store"} <= found.keys():
            return None
        return cls(str(found["uid"]), str(found["store"]), [str(each) for each in found.get("overrides", ())])

    def write(self, folder: Path) -> None:
        """Replace the file of the study in ``folder``.

        Raises:
            TrackingError: when the disk does not take it.
        """
        write_json(folder / STUDY_FILE, {**asdict(self), "overrides": [redact(each) for each in self.overrides]})


def saved_overrides(location: StoreLocation, name: str) -> Sequence[str]:
    """The command line that defines a study of this output folder.

    Raises:
        ConfigError: when there is no such study here.
    """
    saved = StudyFile.read(location.folder(name))
    if saved is None:
        here = sorted(path.parent.name for path in (location.output_path / "studies").glob(f"*/{STUDY_FILE}"))
        raise ConfigError(
            "study",
            name,
            f"a study that was started in {location.output_path}: {', '.join(here[:5]) or 'there is none'}",
            f"the full command line of the study with study={name}, which resumes it from the store",
        )
    return saved.overrides


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is none, or if it is not readable."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a JSON file in one step.

    Raises:
        TrackingError: when the disk does not take it.
    """
    partial = path.with_name(f"partial-{path.name}")
    try:
        partial.write_text(json.dumps(value, indent=2), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        expected = f"a folder on a disk with free space ({error.strerror})"
        raise TrackingError("tracking.output_path", path.parent, expected, "free some space") from error
