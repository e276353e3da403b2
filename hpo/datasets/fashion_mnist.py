"""Fashion-MNIST as in ``keras.datasets`` (Xiao, Rasul and Vollgraf 2017): images of clothes in ten classes."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from hpo.datasets.base import Array, Dataset
from hpo.datasets.readers.keras_cache import CachedFile, fetch_files

_FOLDER = "fashion-mnist"
# Hashes of the files that the authors publish; Keras does not check any.
FILES = (
    CachedFile(
        "train-images-idx3-ubyte.gz", "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", _FOLDER
    ),
    CachedFile(
        "train-labels-idx1-ubyte.gz", "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", _FOLDER
    ),
    CachedFile(
        "t10k-images-idx3-ubyte.gz", "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", _FOLDER
    ),
    CachedFile(
        "t10k-labels-idx1-ubyte.gz", "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", _FOLDER
    ),
)
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
# Size in bytes of the header of an idx file: a magic number and the sizes, four bytes each.
_IMAGES_OFFSET, _LABELS_OFFSET = 16, 8


def load() -> Dataset:
    """Load 60,000 training and 10,000 test images of shape (28, 28, 1), pixels 0 to 255, labels 0 to 9.

    Raises:
        DatasetError: if a file in the cache is not the published one.
        DatasetUnavailable: if a file is not cached and the network does not answer within 20 s.
    """
    paths = fetch_files("fashion_mnist", FILES, "dataset=digits, which ships with scikit-learn")
    x, x_test = (_bytes(path, _IMAGES_OFFSET).reshape(-1, 28, 28, 1) for path in paths[::2])
    y, y_test = (_bytes(path, _LABELS_OFFSET).astype("int64") for path in paths[1::2])
    return Dataset("fashion_mnist", x, y, x_test, y_test, source="keras.datasets.fashion_mnist", class_names=CLASSES)


def _bytes(path: Path, offset: int) -> Array:
    with gzip.open(path, "rb") as file:
        return np.frombuffer(file.read(), np.uint8, offset=offset)
