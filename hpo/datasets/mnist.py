"""MNIST as ``keras.datasets`` has it: from Keras's own cache, or by one download that is checked against its hash."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import urllib.request
from pathlib import Path

import numpy as np

from hpo.datasets.base import Array, Dataset, DatasetUnavailable
from hpo.errors import DatasetError

URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
# The hash that keras.datasets.mnist checks a download against.
SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
CONNECT_SECONDS = 15.0
_WAYS = (
    f"connect to the network once, or put {URL} into {{path}} (KERAS_HOME moves that folder), "
    "or dataset=digits, which ships with scikit-learn"
)


def cache_path() -> Path:
    """Where Keras keeps the file: ``$KERAS_HOME/datasets/mnist.npz``, by default below ``~/.keras``."""
    home = os.environ.get("KERAS_HOME") or str(Path.home() / ".keras")
    return Path(home).expanduser() / "datasets" / "mnist.npz"


def load(fallback: str | None = None) -> Dataset:
    """60,000 training and 10,000 test images of shape (28, 28, 1), pixels 0 to 255, labels 0 to 9.

    Args:
        fallback: the dataset that ``hpo.cli`` takes when this one cannot be had; not used here.

    Raises:
        DatasetError: for a file in the cache that is not MNIST.
        DatasetUnavailable: without a cached file, when the network does not answer within 20 s.
    """
    path = cache_path()
    arrays = _read(path) if path.exists() else _download(path)
    y, y_test = (arrays[name].astype("int64") for name in ("y_train", "y_test"))
    x, x_test = (arrays[name][..., None] for name in ("x_train", "x_test"))
    return Dataset("mnist", x, y, x_test, y_test, source="keras.datasets.mnist")


def _read(path: Path) -> dict[str, Array]:
    # Not by Keras: it would replace a corrupt file, and does not look into a cache that it cannot write to.
    found = _sha256(path)
    if found != SHA256:
        raise DatasetError(
            "dataset=mnist",
            f"{path} with SHA-256 {found[:12]}…",
            f"the file of Keras, SHA-256 {SHA256[:12]}…",
            f"delete {path}, then {_WAYS.format(path=path)}",
        )
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _download(path: Path) -> dict[str, Array]:
    ways = _WAYS.format(path=path)
    _require_network(ways)
    from keras.datasets import mnist  # Keras is slow to import, and only needed here

    before = socket.getdefaulttimeout()
    # Keras gives urllib no timeout; this bounds every single read, not the download.
    socket.setdefaulttimeout(CONNECT_SECONDS)
    try:
        (x, y), (x_test, y_test) = mnist.load_data()
    except Exception as error:  # Keras wraps every download error in a bare Exception
        if path.exists() and _sha256(path) != SHA256:
            path.unlink()  # Keras leaves what it has just downloaded and found to be wrong
            expected = f"the file of Keras, SHA-256 {SHA256[:12]}…"
            raise DatasetError("dataset=mnist", f"a download that is not MNIST, from {URL}", expected, ways) from error
        raise DatasetUnavailable("dataset=mnist", f"not downloaded ({error})", f"a file at {path}", ways) from error
    finally:
        socket.setdefaulttimeout(before)
    return {"x_train": x, "y_train": y, "x_test": x_test, "y_test": y_test}


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DatasetError("dataset=mnist", path, "a file that can be read", f"mend it: {error}") from error


def _require_network(ways: str) -> None:
    """Ask for the file's header in a thread of its own, since looking up a name has no timeout."""
    problems: list[str] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(URL, method="HEAD")
            urllib.request.build_opener().open(request, timeout=CONNECT_SECONDS).close()
            problems.append("")
        except Exception as error:  # urllib and http.client have no common base
            problems.append(str(getattr(error, "reason", error)))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    problem = problems[0] if problems else f"no answer within {CONNECT_SECONDS:.0f} s"
    if problem:
        raise DatasetUnavailable(
            "dataset=mnist", f"not in Keras's cache, and the download failed ({problem})", "MNIST in one of them", ways
        )
