"""Tables included in scikit-learn: https://scikit-learn.org/stable/datasets/toy_dataset.html

The test split is a fifth, stratified by class, the same rows every time, since none of them has one of its own.
"""

from __future__ import annotations

from typing import Any

from sklearn import datasets

from hpo.datasets.base import Array, Column, Dataset
from hpo.datasets.splits import split_off_test


def breast_cancer() -> Dataset:
    """Load 455 training and 114 test rows of 30 measurements, labels 0 (malignant) and 1 (benign)."""
    return _classes("breast_cancer", datasets.load_breast_cancer())


def wine() -> Dataset:
    """Load 142 training and 36 test rows of 13 measurements, labels 0 to 2."""
    return _classes("wine", datasets.load_wine())


def iris() -> Dataset:
    """Load 120 training and 30 test rows of 4 measurements in centimetres, labels 0 to 2."""
    return _classes("iris", datasets.load_iris())


def diabetes() -> Dataset:
    """Load 353 training and 89 test rows of 10 measurements; target: disease progression in a year, 25 to 346."""
    return _split("diabetes", datasets.load_diabetes(), "float64")


def _classes(name: str, bunch: Any) -> Dataset:
    return _split(name, bunch, "int64", tuple(str(label) for label in bunch.target_names))


def _split(name: str, bunch: Any, kind: str, class_names: tuple[str, ...] = ()) -> Dataset:
    target: Array = bunch.target.astype(kind)
    x, y, x_test, y_test = split_off_test(bunch.data, target, is_stratified=bool(class_names))
    columns = tuple(Column(str(column)) for column in bunch.feature_names)
    source = f"sklearn.datasets.load_{name}"
    return Dataset(name, x, y, x_test, y_test, source, columns=columns, class_names=class_names)
