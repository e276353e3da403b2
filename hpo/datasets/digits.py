"""scikit-learn's digits: 1,797 real 8×8 images of handwritten digits, embedded in the library."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from hpo.datasets.base import Dataset

TEST_FRACTION = 0.2


def load() -> Dataset:
    """1,437 training and 360 test images of shape (8, 8, 1), pixels 0 to 255, labels 0 to 9.

    The set has no test split of its own, so a stratified fifth is set apart, always the same one.
    """
    images, labels = load_digits(return_X_y=True)
    # Pixels are 0 to 16 there; a model that was written for ordinary grey images expects 0 to 255.
    pixels = np.rint(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype("uint8")
    x, x_test, y, y_test = train_test_split(
        pixels, labels.astype("int64"), test_size=TEST_FRACTION, stratify=labels, random_state=0
    )
    return Dataset("digits", x, y, x_test, y_test, source="sklearn.datasets.load_digits")
