"""A folder on a node for the actors of one driver, which nothing outlives."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

PREFIX = "hpo-ray-"
DATA = "evaluator.joblib"


class NodeFolder:
    """Holds the data, which all actors of a driver share, and a folder for this actor.

    Whoever uses the folder holds a lock that ends with its process. A folder that nobody holds belongs to processes
    that were killed, and is removed.

    Args:
        name: unique to the driver's session.
        fetch: returns the content of the data file as an array of bytes.

    Attributes:
        folder: of this actor.
        data_path: the data.
    """

    def __init__(self, name: str, fetch: Callable[[], Any]) -> None:
        self._shared = shared_path(name)
        for abandoned in self._shared.parent.glob(f"{PREFIX}*"):
            if abandoned != self._shared:
                _remove_if_unused(abandoned)
        self._lock = self._enter()
        self.folder = Path(tempfile.mkdtemp(prefix="actor-", dir=self._shared))
        self.data_path = self._shared / DATA
        with (self._shared / "fetching").open("a") as one:
            fcntl.flock(one, fcntl.LOCK_EX)
            if not self.data_path.exists():
                new = self.data_path.with_suffix(".new")
                fetch().tofile(new)
                new.replace(self.data_path)

    def _enter(self) -> TextIO:
        path = self._shared / "lock"
        while True:
            with suppress(FileNotFoundError):  # the last user has just removed the folder
                self._shared.mkdir(mode=0o700, exist_ok=True)
                lock = path.open("a")
                fcntl.flock(lock, fcntl.LOCK_SH)
                if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                    return lock

    def leave(self) -> None:
        """Remove this actor's folder, and the shared one if no other actor uses it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()
        _remove_if_unused(self._shared)


def shared_path(name: str) -> Path:
    """Return the folder that the actors of the session ``name`` share on their node."""
    return Path(tempfile.gettempdir()) / f"{PREFIX}{name}"


def _remove_if_unused(folder: Path) -> None:
    """Remove ``folder`` unless a process holds its lock or it belongs to another user."""
    with suppress(OSError), (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
