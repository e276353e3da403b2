"""Texts as rows of numbers: what they are cut into, and how rows get equal length."""

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
# What is no letter, digit or blank; and marks, which \w lacks, and without which Hindi or Thai would fall to pieces.
_SYMBOL = re.compile(r"[^\w\s]|_")


def tokenizer(
    kind: str, *, clean: str | None = None, lower: bool = True, pattern: str | None = None
) -> Callable[[str], list[str]]:
    """A function from a text to its tokens. Texts are brought to Unicode's composed form (NFC) first.

    Args:
        kind: ``words``, between blanks; ``characters``, each that is not blank; ``bigrams``, each two neighbouring
            characters of a word, and words of one; ``regex``, whatever ``pattern`` matches.
        clean: regular expression, whose matches become a blank; None takes all but letters, their marks and digits
            of any script; an empty one leaves texts as they are.
        lower: whether upper and lower case are the same.
        pattern: of ``regex``.

    Raises:
        DatasetError: for another kind, or for an expression that is none.
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


def padded(rows: Sequence[Sequence[int]], length: int, keep: str = "last") -> Array:
    """Rows of word numbers as an int32 array of shape ``(n, length)``, short ones with zeros in front.

    As ``keras.utils.pad_sequences`` has it.

    Args:
        keep: of a longer row its ``last`` or its ``first`` numbers.

    Raises:
        DatasetError: for a length below 1 or another ``keep``.
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
