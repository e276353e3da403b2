"""IMDB's film reviews as in ``keras.datasets.imdb``: from Keras's own cache, or by one checked download.

Maas et al. 2011, *Learning Word Vectors for Sentiment Analysis*.
"""

from __future__ import annotations

import numpy as np

from hpo.datasets.base import Dataset
from hpo.datasets.readers.keras_cache import CachedFile, fetch_files
from hpo.datasets.readers.texts import pad_rows
from hpo.errors import DatasetError

# The hash is that of keras.datasets.imdb.
FILE = CachedFile("imdb.npz", "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f")
# Keras's word numbers: 0 is padding, 1 the start of a text, 2 a rare word, 4 the most frequent word.
START, UNKNOWN, INDEX_FROM = 1, 2, 3
# Seed of the row order, as in Keras; the file has one class after the other.
ORDER_SEED = 113


def load(n_words: int | None = 10_000, length: int = 256, keep: str = "last") -> Dataset:
    """Load 25,000 training and 25,000 test reviews of shape (length,), labels 0 (negative) and 1 (positive).

    Words are numbered by frequency, as in Keras: 0 is padding (leading), 1 the start, 2 a rare word, and 4 to
    ``n_words - 1`` are the other words.

    Args:
        n_words: upper limit of the word numbers; rarer words become 2, as with Keras's ``num_words``. None keeps all.
        length: words kept of a review.
        keep: which words of a longer review are kept, ``last`` or ``first``.

    Raises:
        DatasetError: if the file in the cache is not Keras's, or an option cannot be used.
        DatasetUnavailable: if the file is not cached and cannot be downloaded.
    """
    if n_words is not None and (isinstance(n_words, bool) or not isinstance(n_words, int) or n_words <= INDEX_FROM + 1):
        expected = f"a whole number above {INDEX_FROM + 1}, or null for all words"
        raise DatasetError("dataset.n_words", n_words, expected, "dataset.n_words=10000")
    pad_rows([], length, keep)  # refuses unusable options before the file is read
    (path,) = fetch_files("imdb", [FILE], "dataset=text_csv, which reads texts of your own")
    # Rows of unequal length are pickled; unpickling is safe only because the hash of the file was checked.
    with np.load(path, allow_pickle=True) as file:
        arrays = dict(file)
    order = np.random.RandomState(ORDER_SEED)
    parts = {}
    for part in ("train", "test"):
        rows = np.arange(len(arrays[f"y_{part}"]))
        order.shuffle(rows)
        texts = arrays[f"x_{part}"]
        x = pad_rows([[START - INDEX_FROM, *texts[row]] for row in rows], length, keep)
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
