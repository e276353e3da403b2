"""One driver for each study: a lock in its folder on this machine, and a heartbeat in its record for others."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from hpo.errors import ConfigError, TrackingError
from hpo.run.study_file import STUDY_FILE, read_json, write_json
from hpo.tracking.outbox import OUTBOX_FILE
from hpo.tracking.reader import StudyRecord
from hpo.tracking.schema import Tag

# A driver on another machine without a heartbeat for so long is dead; heartbeats come every quarter of it.
DEAD_SECONDS = 120.0
_LOCK, _DRIVER = "lock", "driver.json"


def this_driver() -> dict[str, Any]:
    """Identify this process: host, process id and start time, since process ids are reused."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "created": round(psutil.Process().create_time())}


@contextmanager
def lock_study(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock of a study; the operating system releases it when the process ends, however that happens.

    A folder in which no study was started is deleted at the end.

    Raises:
        ConfigError: when another process holds the lock, with its process id.
        TrackingError: when the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK, timeout=0)
        lock.acquire()
    except Timeout:
        raise _in_use(name, read_json(folder / _DRIVER)) from None
    except OSError as error:
        expected = f"a folder that can be written to ({error.strerror})"
        raise TrackingError("tracking.output_path", folder, expected, "tracking.output_path=another") from error
    try:
        write_json(folder / _DRIVER, this_driver())
        yield
    finally:
        if not any((folder / each).exists() for each in (STUDY_FILE, OUTBOX_FILE)):
            shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def is_locked(folder: Path) -> bool:
    """Whether a process of this machine holds the lock of the study in ``folder``."""
    if not (folder / _LOCK).exists():
        return False
    try:
        with FileLock(folder / _LOCK, timeout=0):
            return False
    except Timeout:
        return True


def require_no_live_driver(name: str, found: StudyRecord) -> None:
    """Check the record for a live driver, which may be in another folder or on another machine.

    Raises:
        ConfigError: when there is one.
    """
    if found.state != "running" or Tag.DRIVER not in found.tags:
        return
    holder = json.loads(found.tags[Tag.DRIVER])
    if holder["host"] == socket.gethostname():
        try:
            process = psutil.Process(holder["pid"])
            is_alive = round(process.create_time()) == holder["created"] and process.pid != os.getpid()
        except psutil.Error:
            is_alive = False
    else:
        seen = float(found.tags.get(Tag.DRIVER_SEEN, found.started))
        is_alive = time.time() - seen < DEAD_SECONDS
    if is_alive:
        raise _in_use(name, holder)


def _in_use(name: str, holder: Mapping[str, Any]) -> ConfigError:
    who = f"process {holder.get('pid', 'unknown')} on {holder.get('host', 'this machine')}"
    if "created" in holder:
        who += f", started {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(holder['created']))}"
    return ConfigError(
        "study",
        name,
        f"a study that no other process is running: {who} is running it",
        f"wait for it, end it (kill {holder.get('pid', 'PID')}), or study=another",
    )
