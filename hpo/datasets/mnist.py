"""MNIST as in ``keras.datasets``: from Keras's own cache, or by one download that is checked against its hash."""

from __future__ import annotations

import numpy as np

from hpo.datasets.base import Dataset
from hpo.datasets.readers.keras_cache import CachedFile, fetch_files

# The hash is that of keras.datasets.mnist.
FILE = CachedFile("mnist.npz", "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1")


def load(fallback: str | None = None) -> Dataset:
    """Load 60,000 training and 10,000 test images of shape (28, 28, 1), pixels 0 to 255, labels 0 to 9.

    Args:
        fallback: the dataset that the command line uses if this one is unavailable; not used here.

    Raises:
        DatasetError: if the file in the cache is not MNIST.
        DatasetUnavailable: if the file is not cached and the network does not answer within 20 s.
    """
    (path,) = fetch_files("mnist", [FILE], "dataset=digits, which ships with scikit-learn")
    with np.load(path, allow_pickle=False) as arrays:
        y, y_test = (arrays[name].astype("int64") for name in ("y_train", "y_test"))
        x, x_test = (arrays[name][..., None] for name in ("x_train", "x_test"))
    return Dataset("mnist", x, y, x_test, y_test, source="keras.datasets.mnist")
