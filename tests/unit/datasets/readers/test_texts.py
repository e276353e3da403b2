import numpy as np
import pytest

from hpo.datasets.readers.texts import pad_rows, tokenizer
from hpo.errors import DatasetError


@pytest.mark.parametrize(
    ("kind", "text", "tokens"),
    [
        ("words", "Don't stop_me, 2 times!", ["don", "t", "stop", "me", "2", "times"]),
        ("words", "아 더빙.. 진짜 ㅋㅋ", ["아", "더빙", "진짜", "ㅋㅋ"]),
        # Vowel signs are marks and belong to their word.
        ("words", "हिन्दी, ภาษาที่", ["हिन्दी", "ภาษาที่"]),
        ("characters", "더빙 A", ["더", "빙", "a"]),
        ("bigrams", "아 더빙을 ab", ["아", "더빙", "빙을", "ab"]),
        ("words", "...!?", []),
    ],
)
def test_tokens_of_a_text(kind: str, text: str, tokens: list[str]) -> None:
    assert tokenizer(kind)(text) == tokens


def test_decomposed_letters_equal_composed_ones() -> None:
    assert tokenizer("characters")("\u1103\u1165") == tokenizer("characters")("더") == ["더"]


def test_custom_expressions() -> None:
    assert tokenizer("regex", pattern=r"(\w)\w")("abcd e") == ["ab", "cd"]
    assert tokenizer("words", clean="[0-9]+")("a1b :)") == ["a", "b", ":)"]
    assert tokenizer("words", clean="")("A, b") == ["a,", "b"]
    assert tokenizer("words", lower=False)("Ab") == ["Ab"]


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"kind": "letters"}, "tokenizer"),
        ({"kind": "regex"}, "pattern"),
        ({"kind": "words", "pattern": "a"}, "pattern"),
        ({"kind": "words", "clean": "("}, "clean"),
        ({"kind": "regex", "pattern": "["}, "pattern"),
    ],
)
def test_unusable_option_is_refused(options: dict[str, str], key: str) -> None:
    with pytest.raises(DatasetError) as caught:
        tokenizer(**options)  # type: ignore[arg-type]
    assert caught.value.key == f"dataset.{key}"


def test_short_rows_are_padded_with_leading_zeros() -> None:
    rows = [[1, 2, 3], [], [4]]
    assert pad_rows(rows, 2).tolist() == [[2, 3], [0, 0], [0, 4]]
    assert pad_rows(rows, 2, "first").tolist() == [[1, 2], [0, 0], [0, 4]]
    assert pad_rows(rows, 2).dtype == np.int32
