"""The outbox of a study: a file on disk that receives every record before it is uploaded to MLflow.

One JSON array a line: run, kind and body of a record. The file is never shortened, so it is also a complete copy of the
study on this machine. A second file holds the position up to which records are uploaded. Uploading a record twice
changes nothing, so neither file has to agree with MLflow when a process is killed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OUTBOX_FILE = "outbox.jsonl"
POSITION_FILE = "delivered"  # up to which byte of the outbox records are uploaded
REFUSED_FILE = "refused.jsonl"  # records that MLflow refuses for good

STUDY = "study"
"""Key of the study's run; the keys of trials come from :func:`trial_key`."""

# Values that only MLflow knows; they are filled in when a record is uploaded.
RUN_ID, MODEL_URI = "$run_id", "$model_uri"


@dataclass(frozen=True)
class Record:
    """One line of the outbox.

    Args:
        key: of the run, ``STUDY`` or a :func:`trial_key`.
        kind: ``start``, ``batch``, ``text``, ``file``, ``model``, ``end`` or ``reopen``.
        body: the fields of this kind; see :class:`hpo.tracking.writer.Tracker`, which writes them.
        end: position after the line in the file, in bytes.
    """

    key: str
    kind: str
    body: Mapping[str, Any]
    end: int = 0


class Outbox:
    """Appends records to the outbox in the folder of a study, which is created if it is missing.

    An incomplete last line, from a full disk or a power cut, is removed.

    Raises:
        OSError: from any method that writes, if the disk refuses it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / OUTBOX_FILE
        folder.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab", buffering=0)
        self._file.truncate(_size_of_complete_lines(self.path))

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.path.stat().st_size

    def append(self, record: Record) -> None:
        """Write a record as a whole line, or nothing if the disk is full. The end of a run is synced to disk."""
        line = json.dumps([record.key, record.kind, record.body]).encode() + b"\n"
        before = os.fstat(self._file.fileno()).st_size  # tell() is wrong after a truncation
        try:
            written = self._file.write(line)
            if written != len(line):
                self._file.write(line[written:])
            if record.kind == "end":
                os.fsync(self._file.fileno())  # a finished trial survives a power cut
        except OSError:
            with suppress(OSError):
                self._file.truncate(before)
            raise

    def close(self) -> None:
        """Close the file; nothing can be appended afterwards."""
        self._file.close()


def read_outbox(path: Path, start: int = 0) -> Iterator[Record]:
    """Read the complete lines of an outbox file, from a position in bytes; a missing file has none."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(start)
        position = start
        for line in file:
            if not _is_complete(line):
                return
            position += len(line)
            key, kind, body = json.loads(line)
            yield Record(key, kind, body, position)


def delivered_bytes(folder: Path) -> int:
    """Position up to which the outbox in ``folder`` is uploaded; 0 if none is stored or it lies beyond the file."""
    path, outbox = folder / POSITION_FILE, folder / OUTBOX_FILE
    text = path.read_text() if path.exists() else ""
    position = int(text) if text.strip().isdigit() else 0
    size = outbox.stat().st_size if outbox.exists() else 0
    return position if position <= size else 0  # after a power cut the position may survive without its lines


def mark_delivered(folder: Path, position: int) -> None:
    """Store the position up to which MLflow has everything. Overwrites in place, which also works on a full disk."""
    path = folder / POSITION_FILE
    with path.open("r+b" if path.exists() else "wb") as file:
        file.write(f"{position:020d}\n".encode())


def find_pending_studies(output_path: Path) -> list[Path]:
    """Folders of studies with pending records, which MLflow does not have yet."""
    outboxes = sorted((output_path / "studies").glob(f"*/{OUTBOX_FILE}"))
    return [path.parent for path in outboxes if path.stat().st_size > delivered_bytes(path.parent)]


def trial_key(number: int, attempt: int = 0) -> str:
    """Key of a trial's run; each attempt has its own: ``trial-0007``, ``trial-0007.1``."""
    return f"trial-{number:04d}" + (f".{attempt}" if attempt else "")


def run_id_of(key: str) -> dict[str, str]:
    """Value of a tag that becomes the MLflow id of a run when it is uploaded."""
    return {RUN_ID: key}


def model_uri_of(key: str) -> dict[str, str]:
    """Value of a tag that becomes the URI of a run's logged model when it is uploaded."""
    return {MODEL_URI: key}


def _size_of_complete_lines(path: Path) -> int:
    size = 0
    with path.open("rb") as file:
        for line in file:
            if not _is_complete(line):
                break
            size += len(line)
    return size


def _is_complete(line: bytes) -> bool:
    return line.startswith(b"[") and line.endswith(b"]\n")
