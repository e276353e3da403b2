"""Files of ``keras.datasets``: from Keras's own cache, or by one download, checked against their hashes."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpo.datasets.base import DatasetUnavailable
from hpo.errors import DatasetError

ORIGIN = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"
CONNECT_SECONDS = 15.0


@dataclass(frozen=True)
class CachedFile:
    """One file.

    Args:
        name: at :data:`ORIGIN` and in the cache.
        sha256: hash of its contents, in hexadecimal.
        folder: subfolder of ``$KERAS_HOME/datasets``; empty for that folder itself.
    """

    name: str
    sha256: str
    folder: str = ""

    @property
    def url(self) -> str:
        """Address that Keras downloads it from."""
        return f"{ORIGIN}/{self.name}"

    @property
    def path(self) -> Path:
        """Path in Keras's cache: below ``$KERAS_HOME``, by default ``~/.keras``."""
        return _home() / "datasets" / self.folder / self.name


def fetch_files(dataset: str, files: Sequence[CachedFile], instead: str) -> list[Path]:
    """Return the paths of the files of a dataset; missing files are downloaded.

    Args:
        dataset: name of the dataset's option, for messages.
        instead: another way for the user, for messages.

    Raises:
        DatasetError: if a file in the cache is not Keras's; the file is not changed.
        DatasetUnavailable: if a file is not cached and the network does not answer within 20 s.
    """
    missing = [file for file in files if not file.path.exists()]
    for file in files:
        if file not in missing:
            _check(dataset, file, _ways([file], instead))
    if missing:
        _require_network(dataset, missing, _ways(missing, instead))
    return [_download(dataset, file, _ways(missing, instead)) if file in missing else file.path for file in files]


def _home() -> Path:
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras").expanduser()


def _ways(files: Sequence[CachedFile], instead: str) -> str:
    urls = " and ".join(file.url for file in files)
    place = files[0].path if len(files) == 1 else files[0].path.parent
    return f"connect to the network once, or put {urls} into {place} (KERAS_HOME moves that folder), or {instead}"


def _check(dataset: str, file: CachedFile, ways: str) -> None:
    # Keras itself would replace a corrupt file, and does not use a cache that it cannot write to.
    found = _sha256(dataset, file.path)
    if found != file.sha256:
        raise DatasetError(
            f"dataset={dataset}",
            f"{file.path} with SHA-256 {found[:12]}…",
            f"the file of Keras, SHA-256 {file.sha256[:12]}…",
            f"delete {file.path}, then {ways}",
        )


def _download(dataset: str, file: CachedFile, ways: str) -> Path:
    from keras.utils import get_file  # slow to import, and only needed here

    before = socket.getdefaulttimeout()
    # Keras downloads without a timeout; this one limits every single read, not the download.
    socket.setdefaulttimeout(CONNECT_SECONDS)
    try:
        folder = str(Path("datasets", file.folder))
        return Path(get_file(file.name, file.url, cache_dir=str(_home()), cache_subdir=folder, file_hash=file.sha256))
    except Exception as error:  # Keras wraps every download error in a bare Exception
        if file.path.exists() and _sha256(dataset, file.path) != file.sha256:
            file.path.unlink()  # Keras keeps a download with the wrong hash
            expected = f"the file of Keras, SHA-256 {file.sha256[:12]}…"
            raise DatasetError(
                f"dataset={dataset}", f"a download that is not {file.name}, from {file.url}", expected, ways
            ) from error
        raise DatasetUnavailable(
            f"dataset={dataset}", f"not downloaded ({error})", f"a file at {file.path}", ways
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def _sha256(dataset: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DatasetError(f"dataset={dataset}", path, "a file that can be read", f"correct it: {error}") from error


def _require_network(dataset: str, files: Sequence[CachedFile], ways: str) -> None:
    """Request the header of a file, in a thread since name resolution has no timeout."""
    problems: list[str] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(files[0].url, method="HEAD")
            urllib.request.build_opener().open(request, timeout=CONNECT_SECONDS).close()
            problems.append("")
        except Exception as error:  # urllib and http.client have no common base
            problems.append(str(getattr(error, "reason", error)))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    problem = problems[0] if problems else f"no answer within {CONNECT_SECONDS:.0f} s"
    if problem:
        found = f"not in Keras's cache, and the download failed ({problem})"
        expected = f"{', '.join(file.name for file in files)} in the cache or from the network"
        raise DatasetUnavailable(f"dataset={dataset}", found, expected, ways)
