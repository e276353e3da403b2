"""Tokens of texts, and rows of token numbers of equal length."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

from hpo.datasets.base import Array
from hpo.errors import DatasetError

TOKENIZERS = ("words", "characters", "bigrams", "regex")
KEEPS = ("last", "first")
# Anything but letters, digits and spaces. It includes marks, which \w does not match; Hindi and Thai need them.
_SYMBOL = re.compile(r"[^\w\s]|_")


def tokenizer(
    kind: str, *, clean: str | None = None, lower: bool = True, pattern: str | None = None
) -> Callable[[str], list[str]]:
    """Return a function that splits a text into tokens, after normalising it to Unicode's composed form (NFC).

    Args:
        kind: ``words``, separated by spaces; ``characters``, without spaces; ``bigrams``, all pairs of neighbouring
            characters of a word, and words of one character; ``regex``, the matches of ``pattern``.
        clean: regular expression to replace by a space; None replaces everything but letters, their marks and digits
            of any script; an empty one replaces nothing.
        lower: whether texts are converted to lower case.
        pattern: regular expression of a token, for ``regex``.

    Raises:
        DatasetError: if ``kind`` is unknown or an expression is invalid.
    """
    if kind not in TOKENIZERS:
        known = ", ".join(TOKENIZERS)
        raise DatasetError("dataset.tokenizer", kind, f"one of {known}", "dataset.tokenizer=words")
    if (pattern is not None) != (kind == "regex"):
        expected = "an expression that matches a token, with tokenizer=regex, and null with any other"
        raise DatasetError("dataset.pattern", pattern, expected, r"dataset.tokenizer=regex 'dataset.pattern=\w+'")
    unwanted = _expression("clean", clean or "")
    wanted = _expression("pattern", pattern or "")

    def tokens(text: str) -> list[str]:
        text = unicodedata.normalize("NFC", text)
        if clean is None:
            text = _blank_for_symbols(text)
        elif clean:
            text = unwanted.sub(" ", text)
        if lower:
            text = text.lower()
        if kind == "regex":
            return [found.group() for found in wanted.finditer(text) if found.group()]
        words = text.split()
        if kind == "words":
            return words
        if kind == "characters":
            return [character for word in words for character in word]
        return [word[place : place + 2] for word in words for place in range(max(1, len(word) - 1))]

    return tokens


def _blank_for_symbols(text: str) -> str:
    return _SYMBOL.sub(lambda found: found.group() if _is_mark(found.group()) else " ", text)


@functools.cache
def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def _expression(key: str, text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        expected = f"a regular expression of Python's re ({error})"
        raise DatasetError(f"dataset.{key}", text, expected, f"'~dataset.{key}'") from error


def pad_rows(rows: Sequence[Sequence[int]], length: int, keep: str = "last") -> Array:
    """Return rows of word numbers as an int32 array of shape ``(n, length)``, short rows with leading zeros.

    The result equals that of ``keras.utils.pad_sequences``.

    Args:
        keep: which numbers of a longer row are kept, ``last`` or ``first``.

    Raises:
        DatasetError: if ``length`` is below 1 or ``keep`` is unknown.
    """
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise DatasetError("dataset.length", length, "a whole number of at least 1", "dataset.length=64")
    if keep not in KEEPS:
        raise DatasetError("dataset.keep", keep, f"one of {', '.join(KEEPS)}", "dataset.keep=last")
    made = np.zeros((len(rows), length), "int32")
    for place, row in enumerate(rows):
        kept = row[-length:] if keep == "last" else row[:length]
        if len(kept):
            made[place, -len(kept) :] = kept
    return made
