"""scikit-learn's breast cancer data: 569 rows of 30 measurements, benign or malignant, embedded in the library."""

from __future__ import annotations

from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from hpo.datasets.base import Dataset

TEST_FRACTION = 0.2


def load() -> Dataset:
    """455 training and 114 test rows of 30 real numbers, labels 0 (malignant) and 1 (benign).

    The set has no test split of its own, so a stratified fifth is set apart, always the same one.
    """
    features, labels = load_breast_cancer(return_X_y=True)
    x, x_test, y, y_test = train_test_split(
        features, labels.astype("int64"), test_size=TEST_FRACTION, stratify=labels, random_state=0
    )
    return Dataset("breast_cancer", x, y, x_test, y_test, source="sklearn.datasets.load_breast_cancer")
