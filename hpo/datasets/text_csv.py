"""Labelled texts of your own from a CSV file."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from hpo.datasets.base import Array, Dataset
from hpo.datasets.readers import delimited, texts
from hpo.datasets.readers.labels import find_class_names, number_classes, require_rows_of_every_class
from hpo.datasets.splits import check_test_fraction, stratified_sample
from hpo.errors import DatasetError

# Training rows per class: fewer cannot be split into parts that all have the class.
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
    """Load texts of shape (length,), as word numbers of int32 padded with leading zeros, and their classes.

    Every token of the files has its own number, in alphabetical order, so that a number says nothing about the token's
    frequency or rows. A model chooses its vocabulary from the training rows of a fold.

    Empty texts are left out and counted in ``source``. A text without any token is all padding.

    Args:
        path: a CSV file with a header.
        text: column of the texts.
        target: column of the classes, names or whole numbers.
        test_path: file with the rows of the test split; None splits off ``test_fraction`` of the rows, stratified, the
            same rows every time.
        quoted: whether ``"`` encloses values; False treats it as any other character.
        tokenizer: ``words``, ``characters``, ``bigrams`` (of the characters of a word) or ``regex``; see
            :func:`~.texts.tokenizer`. In languages with many suffixes, such as Korean, or without spaces between words,
            most words are rare: use ``bigrams`` or ``characters``.
        pattern, clean, lower: see :func:`~.texts.tokenizer`.
        length: tokens kept of a text.
        keep: which tokens of a longer text are kept, ``last`` or ``first``.
        n_rows: size of a stratified sample of the rows of ``path``, the same rows every time; None takes all.

    Raises:
        DatasetError: if a file cannot be read, lacks a column, or has too few rows or classes.
    """
    cut = texts.tokenizer(tokenizer, clean=clean, lower=lower, pattern=pattern)
    texts.pad_rows([], length, keep)  # refuses unusable options before the file is read
    check_test_fraction(test_fraction)
    read = partial(_read, text=text, target=target, separator=separator, encoding=encoding, quoted=quoted)
    documents, labels, n_empty = read("path", path)
    if len(labels) < 2 * LEAST_OF_CLASS:
        expected = f"at least {2 * LEAST_OF_CLASS} texts"
        raise DatasetError("dataset.path", f"{path}, with {len(labels)} texts", expected, "a file with more rows")
    names = find_class_names(labels, target)
    y = number_classes(labels, names, "path", path)
    if n_rows is not None:
        kept = _sample(y, n_rows, len(names))
        documents, y = [documents[place] for place in kept], y[kept]
    require_rows_of_every_class(y, names, target, LEAST_OF_CLASS)
    if test_path is None:
        test = stratified_sample(y, max(1, round(len(y) * test_fraction)))
        is_test = np.isin(np.arange(len(y)), test)
        parts = [([documents[place] for place in np.flatnonzero(part)], y[part]) for part in (~is_test, is_test)]
    else:
        test_documents, test_labels, n_empty_test = read("test_path", test_path)
        parts = [(documents, y), (test_documents, number_classes(test_labels, names, "test_path", test_path))]
        n_empty += n_empty_test
    tokens = [[cut(document) for document in part] for part, _ in parts]
    distinct = sorted({token for part in tokens for row in part for token in row})
    if not distinct:
        raise DatasetError("dataset.clean", clean, "an expression that leaves tokens in the texts", "'~dataset.clean'")
    number = {token: place for place, token in enumerate(distinct, 1)}
    x, x_test = (texts.pad_rows([[number[token] for token in row] for row in part], length, keep) for part in tokens)
    files = ", ".join(Path(name).name for name in (path, test_path) if name is not None)
    return Dataset(
        "text_csv",
        x,
        parts[0][1],
        x_test,
        parts[1][1],
        source=f"{files}, without {n_empty} empty text{'s' * (n_empty != 1)}" if n_empty else files,
        n_words=len(number) + 1,
        class_names=tuple(names),
    )


def _read(
    key: str, path: str, *, text: str, target: str, separator: str, encoding: str, quoted: bool
) -> tuple[list[str], list[str], int]:
    """Return the texts of a file that are not empty, their labels, and the number of empty texts."""
    table = delimited.read(key, path, separator, encoding, quoted, [("text", text), ("target", target)])
    is_empty = table[text].str.strip() == ""
    kept = table[~is_empty]
    if not len(kept):
        expected = f"a file with texts in the column {text}"
        raise DatasetError(f"dataset.{key}", path, expected, f"dataset.{key}=/path/of/texts.csv")
    return kept[text].tolist(), [label.strip() for label in kept[target]], int(is_empty.sum())


def _sample(y: Array, n_rows: int, n_classes: int) -> Array:
    """Return the indices of a stratified sample, in order of the rows."""
    least = LEAST_OF_CLASS * n_classes
    if isinstance(n_rows, bool) or not isinstance(n_rows, int) or n_rows < least:
        expected = f"a whole number of at least {least}, or null for all rows"
        raise DatasetError("dataset.n_rows", n_rows, expected, "dataset.n_rows=null")
    return np.sort(stratified_sample(y, n_rows))
