from pathlib import Path

import pytest

from hpo.datasets.readers.delimited import parse_separator, read
from hpo.errors import DatasetError


@pytest.mark.parametrize(("given", "expected"), [(",", ","), ("tab", "\t"), (r"\t", "\t"), ("\t", "\t")])
def test_separator_is_one_character_or_tab(given: str, expected: str) -> None:
    assert parse_separator(given) == expected


@pytest.mark.parametrize("given", ["", "::", None])
def test_other_separators_are_refused(given: str) -> None:
    with pytest.raises(DatasetError, match="a single character"):
        parse_separator(given)


def test_values_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('a;b\n01;NA\n"x;y";\n')
    table = read("path", str(path), ";", "utf-8", True, [("text", "a")])
    assert table.to_numpy().tolist() == [["01", "NA"], ["x;y", ""]]


@pytest.mark.parametrize(
    ("content", "encoding", "key", "message"),
    [
        (b"", "utf-8", "path", "a table"),
        (b"a,b\n1,2,3\n", "utf-8", "path", "same number of values"),
        (b'a,b\n"1,2\n', "utf-8", "path", "same number of values"),
        ("é,b\n".encode("latin-1"), "utf-8", "encoding", "latin-1"),
        (b"a,b\n", "utf-99", "encoding", "a name that Python knows"),
        (b"a,c\n", "utf-8", "text", "a column of"),
        (None, "utf-8", "path", "No such file"),
    ],
)
def test_error_names_the_option_to_change(
    content: bytes | None, encoding: str, key: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=message) as caught:
        read("path", str(path), ",", encoding, True, [("text", "b")])
    assert caught.value.key == f"dataset.{key}"
