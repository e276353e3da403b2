"""scikit-learn's digits: 1,797 images of handwritten digits, 8×8, included in the library."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from hpo.datasets.base import Dataset
from hpo.datasets.splits import split_off_test


def load() -> Dataset:
    """Load 1,437 training and 360 test images of shape (8, 8, 1), pixels 0 to 255, labels 0 to 9.

    The test split is a stratified fifth, the same rows every time, since the data has none of its own.
    """
    images, labels = load_digits(return_X_y=True)
    # scikit-learn has pixels of 0 to 16; models for grey images expect 0 to 255.
    pixels = np.rint(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype("uint8")
    x, y, x_test, y_test = split_off_test(pixels, labels.astype("int64"))
    return Dataset("digits", x, y, x_test, y_test, source="sklearn.datasets.load_digits")
