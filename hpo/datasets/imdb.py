"""IMDB's film reviews as ``keras.datasets.imdb`` has them: from Keras's own cache, or by one checked download.

Maas et al. 2011, *Learning Word Vectors for Sentiment Analysis*.
"""

from __future__ import annotations

import hashlib
import os
import urllib.request
from pathlib import Path

import numpy as np

from hpo.datasets.base import Array, Dataset, DatasetUnavailable
from hpo.datasets.texts import padded
from hpo.errors import DatasetError

URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/imdb.npz"
# The hash that keras.datasets.imdb checks a download against.
SHA256 = "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"
CONNECT_SECONDS = 15.0
# Keras's word numbers: 0 is padding, 1 the start of a text, 2 a word that is too rare, 4 the most frequent word.
START, UNKNOWN, INDEX_FROM = 1, 2, 3
# Of the order of the rows, as in Keras; the file has one class after the other.
ORDER_SEED = 113


def cache_path() -> Path:
    """Where Keras keeps the file: ``$KERAS_HOME/datasets/imdb.npz``, by default below ``~/.keras``."""
    home = os.environ.get("KERAS_HOME") or str(Path.home() / ".keras")
    return Path(home).expanduser() / "datasets" / "imdb.npz"


def load(n_words: int | None = 10_000, length: int = 256, keep: str = "last") -> Dataset:
    """25,000 training and 25,000 test reviews of shape (length,), labels 0 (negative) and 1 (positive).

    Words are numbered as in Keras, by how frequent they are: 0 padding (in front), 1 start, 2 a rarer word, 4 to
    ``n_words - 1`` the others.

    Args:
        n_words: all numbers lie below it, rarer words becoming 2, as with Keras's ``num_words``; None keeps all words.
        length: words of a review that are kept.
        keep: of a longer review its ``last`` or its ``first`` words.

    Raises:
        DatasetError: for a file in the cache that is not Keras's, or an option that cannot be used.
        DatasetUnavailable: without a cached file, when it cannot be downloaded.
    """
    if n_words is not None and (isinstance(n_words, bool) or not isinstance(n_words, int) or n_words <= INDEX_FROM + 1):
        expected = f"a whole number above {INDEX_FROM + 1}, or null for all words"
        raise DatasetError("dataset.n_words", n_words, expected, "dataset.n_words=10000")
    padded([], length, keep)  # refuses what it cannot use before the file is read
    path = cache_path()
    if not path.exists():
        _download(path)
    arrays = _read(path)
    order = np.random.RandomState(ORDER_SEED)
    parts = {}
    for part in ("train", "test"):
        rows = np.arange(len(arrays[f"y_{part}"]))
        order.shuffle(rows)
        texts = arrays[f"x_{part}"]
        x = padded([[START - INDEX_FROM, *texts[row]] for row in rows], length, keep)
        x[x != 0] += INDEX_FROM
        if n_words is not None:
            x[x >= n_words] = UNKNOWN
        parts[part] = x, arrays[f"y_{part}"][rows].astype("int64")
    (x, y), (x_test, y_test) = parts["train"], parts["test"]
    return Dataset(
        "imdb",
        x,
        y,
        x_test,
        y_test,
        source="keras.datasets.imdb",
        n_words=int(max(x.max(), x_test.max())) + 1 if n_words is None else n_words,
        class_names=("negative", "positive"),
    )


def _read(path: Path) -> dict[str, Array]:
    # Not by Keras: it would replace a corrupt file, and does not look into a cache that it cannot write to.
    try:
        found = _sha256(path)
    except OSError as error:
        raise DatasetError("dataset=imdb", path, "a file that can be read", f"mend it: {error}") from error
    if found != SHA256:
        expected = f"the file of Keras, SHA-256 {SHA256[:12]}…"
        fix = f"delete {path}, and connect to the network or put {URL} there"
        raise DatasetError("dataset=imdb", f"{path} with SHA-256 {found[:12]}…", expected, fix)
    # Rows of unequal length are pickled, which is safe in this file only because its hash was checked.
    with np.load(path, allow_pickle=True) as arrays:
        return dict(arrays)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(path: Path) -> None:
    partial = path.with_name(f"partial-{os.getpid()}-{path.name}")
    ways = f"connect to the network once, or put {URL} into {path} (KERAS_HOME moves that folder)"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(URL, timeout=CONNECT_SECONDS) as answer, partial.open("wb") as file:
            while block := answer.read(1 << 20):
                file.write(block)
        if _sha256(partial) != SHA256:
            expected = f"the file of Keras, SHA-256 {SHA256[:12]}…"
            raise DatasetError("dataset=imdb", f"a download that is not IMDB, from {URL}", expected, ways)
        partial.replace(path)
    except OSError as error:  # urllib's errors are
        problem = f"not in Keras's cache, and the download failed ({getattr(error, 'reason', error)})"
        raise DatasetUnavailable("dataset=imdb", problem, "IMDB in one of them", ways) from error
    finally:
        partial.unlink(missing_ok=True)
