"""Texts of your own with a class each, from a CSV file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hpo.datasets.base import Array, Dataset
from hpo.datasets.readers import delimited, texts
from hpo.errors import DatasetError

# Training rows of every class: fewer cannot be split into parts that all have it.
LEAST_OF_CLASS = 5


def load(
    path: str,
    text: str = "text",
    target: str = "label",
    *,
    test_path: str | None = None,
    test_fraction: float = 0.2,
    separator: str = ",",
    encoding: str = "utf-8",
    quoted: bool = True,
    tokenizer: str = "words",
    pattern: str | None = None,
    clean: str | None = None,
    lower: bool = True,
    length: int = 64,
    keep: str = "last",
    n_rows: int | None = None,
) -> Dataset:
    """Texts of shape (length,), word numbers of int32 padded with zeros in front, and their classes.

    Every token of the files has a number of its own, in sorted order, so that a number says nothing of how frequent
    its token is or where; a model chooses its vocabulary from the training rows of a fold.

    Empty texts are left out, which ``source`` says; one without any token is all padding.

    Args:
        path: of a CSV file with a header.
        text: column with the texts.
        target: column with the classes, names or whole numbers.
        test_path: of another such file, whose rows are the test split; None sets apart ``test_fraction`` of the rows,
            stratified, always the same ones.
        quoted: whether ``"`` encloses values; False reads it as any other character.
        tokenizer: ``words``, ``characters``, ``bigrams`` (of the characters of a word) or ``regex``; see
            :func:`~.texts.tokenizer`. Of languages that inflect by appending to a word, such as Korean,
            or have no blanks between words, most words are rare: ``bigrams`` and ``characters`` serve better there.
        pattern, clean, lower: see :func:`~.texts.tokenizer`.
        length: tokens of a text that are kept.
        keep: of a longer text its ``last`` or its ``first`` tokens.
        n_rows: rows of ``path`` to take, a stratified sample, always the same one; None takes all.

    Raises:
        DatasetError: for a file that cannot be read, lacks a column, or has too few rows or classes.
    """
    cut = texts.tokenizer(tokenizer, clean=clean, lower=lower, pattern=pattern)
    texts.padded([], length, keep)  # refuses what it cannot use before the file is read
    if not 0 < test_fraction < 1:
        raise DatasetError(
            "dataset.test_fraction", test_fraction, "a share between 0 and 1", "dataset.test_fraction=0.2"
        )

    def read(key: str, name: str) -> tuple[list[str], list[str], int]:
        table = delimited.read(key, name, separator, encoding, quoted, [("text", text), ("target", target)])
        is_empty = table[text].str.strip() == ""
        kept = table[~is_empty]
        if not len(kept):
            raise DatasetError(
                f"dataset.{key}", name, f"a file with texts in the column {text}", f"dataset.{key}=/path/of/texts.csv"
            )
        return kept[text].tolist(), [label.strip() for label in kept[target]], int(is_empty.sum())

    documents, labels, n_empty = read("path", path)
    if len(labels) < 2 * LEAST_OF_CLASS:
        expected = f"at least {2 * LEAST_OF_CLASS} texts"
        raise DatasetError("dataset.path", f"{path}, with {len(labels)} texts", expected, "a file with more rows")
    names = _class_names(labels, target)
    y = _labels(labels, names, "path", path)
    if n_rows is not None:
        least = LEAST_OF_CLASS * len(names)
        if isinstance(n_rows, bool) or not isinstance(n_rows, int) or n_rows < least:
            expected = f"a whole number of at least {least}, or null for all rows"
            raise DatasetError("dataset.n_rows", n_rows, expected, "dataset.n_rows=null")
        kept = np.sort(_stratified(y, n_rows))
        documents, y = [documents[place] for place in kept], y[kept]
    _check_counts(y, names, target)
    if test_path is None:
        apart = _stratified(y, max(1, round(len(y) * test_fraction)))
        is_test = np.isin(np.arange(len(y)), apart)
        parts = [([documents[place] for place in np.flatnonzero(part)], y[part]) for part in (~is_test, is_test)]
    else:
        test_documents, test_labels, n_empty_test = read("test_path", test_path)
        parts = [(documents, y), (test_documents, _labels(test_labels, names, "test_path", test_path))]
        n_empty += n_empty_test
    said = ", ".join(Path(name).name for name in (path, test_path) if name is not None)
    tokens = [[cut(document) for document in part] for part, _ in parts]
    distinct = sorted({token for part in tokens for row in part for token in row})
    if not distinct:
        raise DatasetError("dataset.clean", clean, "what leaves texts with tokens", "'~dataset.clean'")
    number = {token: place for place, token in enumerate(distinct, 1)}
    x, x_test = (texts.padded([[number[token] for token in row] for row in part], length, keep) for part in tokens)
    return Dataset(
        "text_csv",
        x,
        parts[0][1],
        x_test,
        parts[1][1],
        source=f"{said}, without {n_empty} empty text{'s' * (n_empty != 1)}" if n_empty else said,
        n_words=len(number) + 1,
        class_names=tuple(names),
    )


def _class_names(labels: Sequence[str], target: str) -> list[str]:
    """Distinct labels, numbers in the order of numbers."""
    if "" in labels:
        missing = labels.count("")
        raise DatasetError(
            "dataset.target", f"{target}, {missing} of them empty", "a label for every text", "remove those rows"
        )
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


def _labels(labels: Sequence[str], names: Sequence[str], key: str, path: str) -> Array:
    unknown = sorted(set(labels) - set(names))
    if unknown:
        expected = f"the classes of the training file: {', '.join(names[:20])}"
        raise DatasetError(f"dataset.{key}", f"{path}, with the class {unknown[0]!r}", expected, "mend the file")
    place = {name: number for number, name in enumerate(names)}
    return np.array([place[label] for label in labels], "int64")


def _check_counts(y: Array, names: Sequence[str], target: str) -> None:
    counts = np.bincount(y, minlength=len(names))
    rarest = int(counts.argmin())
    if counts[rarest] < LEAST_OF_CLASS:
        given = f"{target}, with {counts[rarest]} of the class {names[rarest]!r}"
        expected = f"at least {LEAST_OF_CLASS} rows of every class"
        raise DatasetError("dataset.target", given, expected, "more rows, or remove the class")


def _stratified(y: Array, n: int) -> Array:
    """``n`` rows at random, always the same ones, with the classes in their shares."""
    order = np.random.default_rng(0).permutation(len(y))
    share = np.empty(len(y))
    for label in np.unique(y):
        members = order[y[order] == label]
        share[members] = (np.arange(len(members)) + 0.5) / len(members)
    chosen: Array = order[np.argsort(share[order], kind="stable")][:n]
    return chosen
