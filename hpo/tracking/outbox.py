"""The outbox of a study: a file to which everything that is to be recorded is appended before MLflow hears of it.

One JSON object a line. It is never shortened, so that it is also a complete copy of the record on this machine; a
second file holds how far it has been delivered. Delivering a part twice changes nothing, so neither file needs to be in
step with MLflow when a process is killed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STUDY = "study"
# Values that MLflow alone can tell, and that are known once a record is delivered.
RUN_ID, MODEL_URI = "$run_id", "$model_uri"


@dataclass(frozen=True)
class Record:
    """One line.

    Args:
        key: the run it belongs to: ``study``, or a trial with its attempt.
        kind: ``start``, ``batch``, ``text``, ``file``, ``model``, ``end`` or ``reopen``.
        body: what is recorded; see :class:`hpo.tracking.writer.Tracker`.
        end: position in the file after it, in bytes.
    """

    key: str
    kind: str
    body: Mapping[str, Any]
    end: int = 0


class Outbox:
    """The files ``outbox.jsonl`` and ``delivered`` in the folder of a study.

    Raises:
        OSError: from any method that writes, when the disk does not take it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "outbox.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab", buffering=0)
        self._cut_torn_line()

    def _cut_torn_line(self) -> None:
        """A line that a full disk or a power cut left incomplete was never said, nor was what follows it."""
        size = 0
        with self.path.open("rb") as file:
            for line in file:
                if not _is_whole(line):
                    break
                size += len(line)
        self._file.truncate(size)

    @property
    def size(self) -> int:
        """Bytes written."""
        return self.path.stat().st_size

    def append(self, record: Record) -> None:
        """Write a line; a line is there as a whole or, where the disk is full, not at all."""
        line = json.dumps([record.key, record.kind, record.body]).encode() + b"\n"
        before = os.fstat(self._file.fileno()).st_size  # not tell(), which a truncation leaves behind
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
        """Nothing more is said."""
        self._file.close()


def _is_whole(line: bytes) -> bool:
    return line.startswith(b"[") and line.endswith(b"]\n")


def read_outbox(path: Path, start: int = 0) -> Iterator[Record]:
    """The complete lines of an outbox from a position on."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(start)
        position = start
        for line in file:
            if not _is_whole(line):
                return
            position += len(line)
            key, kind, body = json.loads(line)
            yield Record(key, kind, body, position)


def delivered_bytes(folder: Path) -> int:
    """How much of the outbox in ``folder`` has been delivered."""
    path, outbox = folder / "delivered", folder / "outbox.jsonl"
    text = path.read_text() if path.exists() else ""
    position = int(text) if text.strip().isdigit() else 0
    size = outbox.stat().st_size if outbox.exists() else 0
    return position if position <= size else 0  # a mark that a power cut has left without its lines


def mark_delivered(folder: Path, position: int) -> None:
    """MLflow has everything up to ``position``; written in place, which works on a full disk too."""
    path = folder / "delivered"
    with path.open("r+b" if path.exists() else "wb") as file:
        file.write(f"{position:020d}\n".encode())


def undelivered(output_path: Path) -> list[Path]:
    """Folders of studies whose outbox holds records that MLflow does not have yet."""
    outboxes = sorted((output_path / "studies").glob("*/outbox.jsonl"))
    return [path.parent for path in outboxes if path.stat().st_size > delivered_bytes(path.parent)]


def run_id_of(key: str) -> dict[str, str]:
    """Stands for the MLflow id of a run in the value of a tag."""
    return {RUN_ID: key}


def model_uri_of(key: str) -> dict[str, str]:
    """Stands for the URI of the model that was logged for a run."""
    return {MODEL_URI: key}
