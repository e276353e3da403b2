"""Class labels as numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hpo.datasets.base import Array
from hpo.errors import DatasetError


def find_class_names(labels: Sequence[str], target: str) -> list[str]:
    """Return the distinct labels in order: numbers by value, names alphabetically.

    Args:
        target: the column of the labels, for messages.

    Raises:
        DatasetError: if a label is empty, there is a single class, or the labels are not classes.
    """
    if "" in labels:
        given = f"{target}, {labels.count('')} of them empty"
        raise DatasetError("dataset.target", given, "a label for every text", "remove those rows")
    names = sorted(set(labels))
    try:
        numbers = {name: float(name) for name in names}
    except ValueError:
        numbers = {}
    fractions = [name for name, number in numbers.items() if not number.is_integer()]
    if fractions or len(names) > len(labels) / 2:
        given = f"{target}, with {len(names)} values such as {(fractions or names)[0]}"
        raise DatasetError("dataset.target", given, "classes: names or whole numbers that repeat", "another column")
    if len(names) < 2:
        raise DatasetError("dataset.target", f"{target}, always {names[0]}", "at least two classes", "another column")
    return sorted(names, key=lambda name: numbers.get(name, math.inf))


def number_classes(labels: Sequence[str], names: Sequence[str], key: str, path: str) -> Array:
    """Return the index in ``names`` of every label.

    Args:
        key, path: the option that names the file of the labels, and the file, for messages.

    Raises:
        DatasetError: if a label is not in ``names``.
    """
    unknown = sorted(set(labels) - set(names))
    if unknown:
        expected = f"the classes of the training file: {', '.join(names[:20])}"
        raise DatasetError(f"dataset.{key}", f"{path}, with the class {unknown[0]!r}", expected, "correct the file")
    place = {name: number for number, name in enumerate(names)}
    return np.array([place[label] for label in labels], "int64")


def require_rows_of_every_class(y: Array, names: Sequence[str], target: str, least: int) -> None:
    """Refuse classes with fewer than ``least`` rows.

    Raises:
        DatasetError: naming the rarest class.
    """
    counts = np.bincount(y, minlength=len(names))
    rarest = int(counts.argmin())
    if counts[rarest] < least:
        given = f"{target}, with {counts[rarest]} rows of the class {names[rarest]!r}"
        raise DatasetError("dataset.target", given, f"at least {least} rows of every class", "more rows, or remove it")
