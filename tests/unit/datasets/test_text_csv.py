from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import real_data

from hpo.datasets import text_csv
from hpo.errors import DatasetError

ROWS = [(f"good film number {n}", "yes") for n in range(20)] + [(f"bad plot {n}", "no") for n in range(10)]


def write(path: Path, rows: list[tuple[str, str]], separator: str = ",", encoding: str = "utf-8") -> str:
    lines = [separator.join(row) for row in [("text", "label"), *rows]]
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return str(path)


def words_of(data: Any, rows: np.ndarray, texts: list[str]) -> list[list[str]]:
    """Return the tokens of the numbers, which follow alphabetical order."""
    tokens = sorted({token for text in texts for token in text.split()})
    return [[tokens[number - 1] for number in row if number] for row in rows]


def test_tokens_are_numbered_alphabetically_and_the_test_split_is_stratified(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ROWS)
    data = text_csv.load(path, length=4)
    assert data.name == "text_csv"
    assert data.x.dtype == np.int32
    assert (data.x.shape, data.x_test.shape) == ((24, 4), (6, 4))
    assert np.bincount(data.y_test).tolist() == [2, 4]
    assert data.class_names == ("no", "yes")
    texts = [text for text, _ in ROWS]
    found = words_of(data, np.concatenate([data.x, data.x_test]), texts)
    assert sorted(map(" ".join, found)) == sorted(texts)
    label_of = dict(ROWS)
    read = zip(words_of(data, data.x, texts), data.y, strict=True)
    assert all(data.class_names[label] == label_of[" ".join(words)] for words, label in read)
    assert data.x.max() < data.n_words == len({t for text in texts for t in text.split()}) + 1
    assert text_csv.load(path, length=4).digest == data.digest


def test_numbers_do_not_reveal_which_rows_have_a_word(tmp_path: Path) -> None:
    train, test = write(tmp_path / "a.csv", ROWS), tmp_path / "b.csv"
    first = text_csv.load(train, test_path=write(test, [("good", "yes"), ("bad", "no")]))
    second = text_csv.load(train, test_path=write(test, [("aa good zz", "yes"), ("bad mm", "no")]))
    order = [np.unique(data.x, return_inverse=True)[1] for data in (first, second)]
    assert np.array_equal(*order)
    assert not np.array_equal(first.x, second.x)


def test_sample_is_stratified_and_reproducible(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ROWS)
    data = text_csv.load(path, test_path=path, n_rows=15)
    assert np.bincount(data.y).tolist() == [5, 10]
    assert np.bincount(data.y_test).tolist() == [10, 20]
    assert text_csv.load(path, test_path=path, n_rows=15).digest == data.digest
    assert len(text_csv.load(path, test_path=path, n_rows=1000).y) == 30


def test_empty_texts_are_left_out_but_not_those_of_symbols(tmp_path: Path) -> None:
    data = text_csv.load(write(tmp_path / "a.csv", [*ROWS, ("", "yes"), ("  ", "no"), ("!!", "no")]))
    assert len(data.y) + len(data.y_test) == 31
    assert data.source == "a.csv, without 2 empty texts"


def test_numeric_classes_are_in_numerical_order(tmp_path: Path) -> None:
    rows = [(f"text {n}", str((2, 10, 1)[n % 3])) for n in range(30)]
    assert text_csv.load(write(tmp_path / "a.tsv", rows, "\t"), separator=r"\t").class_names == ("1", "2", "10")


def test_quotes_enclose_values_unless_quoted_is_false(tmp_path: Path) -> None:
    rows = [('"a, b"', "yes"), *ROWS]
    assert text_csv.load(write(tmp_path / "a.csv", rows)).n_words
    rows = [('"open', "yes"), *ROWS]
    with pytest.raises(DatasetError, match=r"dataset\.path"):
        text_csv.load(write(tmp_path / "a.csv", rows))
    data = text_csv.load(write(tmp_path / "a.csv", rows), quoted=False)
    assert len(data.y) + len(data.y_test) == 31


@pytest.mark.parametrize(
    ("options", "key", "message"),
    [
        ({"text": "review"}, "text", "text, label"),
        ({"target": "class"}, "target", "text, label"),
        ({"separator": ";"}, "text", "text,label"),
        ({"separator": ";;"}, "separator", "single"),
        ({"encoding": "ascii"}, "encoding", "encoding of"),
        ({"encoding": "utf-99"}, "encoding", "encoding of"),
        ({"target": "text"}, "target", "classes"),
        ({"n_rows": 3}, "n_rows", "at least 10"),
        ({"test_fraction": 1.5}, "test_fraction", "between 0 and 1"),
        ({"length": 0}, "length", "at least 1"),
        ({"tokenizer": "x"}, "tokenizer", "one of"),
        ({"clean": "."}, "clean", "leaves tokens"),
        ({"test_path": "absent.csv"}, "test_path", "can be read"),
    ],
)
def test_unusable_option_is_refused(tmp_path: Path, options: dict[str, Any], key: str, message: str) -> None:
    path = write(tmp_path / "a.csv", [("한글 é", "yes"), *ROWS])
    with pytest.raises(DatasetError, match=message) as caught:
        text_csv.load(path, **options)
    assert caught.value.key == f"dataset.{key}"


@pytest.mark.parametrize(
    ("rows", "key", "message"),
    [
        ([(text, "yes") for text, _ in ROWS], "target", "two classes"),
        (ROWS[:3] + ROWS[-3:], "path", "6 texts"),
        ([*ROWS, ("text", "maybe")], "target", "'maybe'"),
        ([*ROWS, ("text", "")], "target", "1 of them empty"),
        ([(f"t {n}", f"{n % 3}.5") for n in range(30)], "target", "0.5"),
        ([("", "yes")] * 30, "path", "with texts"),
    ],
)
def test_file_without_usable_classes_is_refused(
    tmp_path: Path, rows: list[tuple[str, str]], key: str, message: str
) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        text_csv.load(write(tmp_path / "a.csv", rows))
    assert caught.value.key == f"dataset.{key}"


def test_class_in_the_test_file_only_is_refused(tmp_path: Path) -> None:
    path, test = write(tmp_path / "a.csv", ROWS), write(tmp_path / "b.csv", [("good", "perhaps")])
    with pytest.raises(DatasetError, match="perhaps") as caught:
        text_csv.load(path, test_path=test)
    assert caught.value.key == "dataset.test_path"


def test_real_reviews_in_korean(tmp_path: Path) -> None:
    lines = real_data("data/nsmc/ratings_train.txt").read_text(encoding="utf-8").splitlines()
    few = [*lines[:3001], *(line for line in lines if "\t\t" in line)]
    path = tmp_path / "few.txt"
    path.write_text("\n".join(few) + "\n", encoding="utf-8")
    data = text_csv.load(str(path), "document", "label", separator="\t", tokenizer="bigrams")
    assert (data.x.shape, data.x_test.shape) == ((2400, 64), (600, 64))
    assert data.source == "few.txt, without 5 empty texts"
    # Most bigrams of the test split occur in training, unlike most words.
    words = text_csv.load(str(path), "document", "label", separator="\t")
    unseen = [len(np.setdiff1d(d.x_test, d.x)) / len(np.unique(d.x_test)) for d in (data, words)]
    assert unseen[0] < 0.4 < 0.6 < unseen[1]
