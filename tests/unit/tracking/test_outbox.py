"""The file that receives every record before MLflow does."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo.tracking.outbox import (
    Outbox,
    Record,
    delivered_bytes,
    find_pending_studies,
    mark_delivered,
    model_uri_of,
    read_outbox,
    run_id_of,
    trial_key,
)

from .records import files_up_to


def text_record(name: str) -> Record:
    return Record("study", "text", {"name": name, "text": "two\nlines and ü"})


def names_in(path: Path, start: int = 0) -> list[str]:
    return [record.body["name"] for record in read_outbox(path, start)]


def test_records_are_read_from_any_line(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    for number in range(3):
        outbox.append(text_record(f"{number}"))
    outbox.close()
    records = list(read_outbox(outbox.path))
    assert [record.body["name"] for record in records] == ["0", "1", "2"]
    assert (records[0].key, records[0].kind, records[0].body["text"]) == ("study", "text", "two\nlines and ü")
    assert records[-1].end == outbox.path.stat().st_size == outbox.size
    assert names_in(outbox.path, records[0].end) == ["1", "2"]
    assert list(read_outbox(outbox.path, records[0].end))[-1].end == outbox.size
    assert names_in(outbox.path, records[-1].end) == []


def test_missing_outbox_has_no_records(tmp_path: Path) -> None:
    assert list(read_outbox(tmp_path / "outbox.jsonl")) == []
    assert delivered_bytes(tmp_path) == 0


def test_nan_and_infinity_survive(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.append(Record("study", "batch", {"metrics": [["loss", float("inf"), 1, 0], ["loss", float("nan"), 1, 1]]}))
    outbox.close()
    (record,) = read_outbox(outbox.path)
    assert str(record.body["metrics"]) == "[['loss', inf, 1, 0], ['loss', nan, 1, 1]]"


@pytest.mark.parametrize("torn", [b'["study", "te', b"\x00\x00", b"{", b'["study"]'])
def test_incomplete_last_line_is_ignored_and_removed(tmp_path: Path, torn: bytes) -> None:
    outbox = Outbox(tmp_path)
    outbox.append(text_record("0"))
    outbox.close()
    with outbox.path.open("ab") as file:
        file.write(torn)
    assert names_in(outbox.path) == ["0"]
    again = Outbox(tmp_path)
    again.append(text_record("1"))
    again.close()
    assert names_in(again.path) == ["0", "1"]


def test_lines_after_an_incomplete_line_are_removed(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.append(text_record("0"))
    outbox.close()
    line = outbox.path.read_bytes()
    outbox.path.write_bytes(line + b"\x00\x00\n" + line)
    assert names_in(outbox.path) == ["0"]
    Outbox(tmp_path).close()
    assert outbox.path.read_bytes() == line


def test_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    """A failed write shortens the file; the next one must not start where the failed one ended."""
    outbox = Outbox(tmp_path)
    outbox.append(text_record("0"))
    whole = outbox.path.read_bytes()
    for _ in range(3):
        with files_up_to(len(whole) + 5), pytest.raises(OSError, match="File too large"):
            outbox.append(text_record("1"))
        assert outbox.path.read_bytes() == whole
    outbox.append(text_record("2"))
    outbox.close()
    assert names_in(outbox.path) == ["0", "2"]


def test_position_beyond_the_file_is_ignored(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.append(text_record("0"))
    mark_delivered(tmp_path, outbox.size)
    assert delivered_bytes(tmp_path) == outbox.size
    mark_delivered(tmp_path, outbox.size + 1)
    assert delivered_bytes(tmp_path) == 0
    outbox.close()


@pytest.mark.parametrize("text", ["", "\n", "x", "-1"])
def test_unreadable_position_counts_as_nothing_delivered(tmp_path: Path, text: str) -> None:
    Outbox(tmp_path).close()
    (tmp_path / "delivered").write_text(text)
    assert delivered_bytes(tmp_path) == 0


def test_shorter_position_replaces_a_longer_one(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.append(text_record("0"))
    mark_delivered(tmp_path, outbox.size)
    mark_delivered(tmp_path, 3)
    assert delivered_bytes(tmp_path) == 3
    outbox.close()


def test_studies_with_pending_records_are_found(tmp_path: Path) -> None:
    folders = [tmp_path / "studies" / name for name in ("a", "b")]
    outboxes = [Outbox(folder) for folder in folders]
    assert find_pending_studies(tmp_path) == []
    for outbox in outboxes:
        outbox.append(text_record("0"))
        outbox.close()
    assert find_pending_studies(tmp_path) == folders
    mark_delivered(folders[0], outboxes[0].size)
    assert find_pending_studies(tmp_path) == folders[1:]
    mark_delivered(folders[1], outboxes[1].size)
    assert find_pending_studies(tmp_path) == []


def test_each_attempt_at_a_trial_has_its_own_key() -> None:
    assert (trial_key(7), trial_key(12345), trial_key(7, 2)) == ("trial-0007", "trial-12345", "trial-0007.2")


def test_placeholders_are_unchanged() -> None:
    """Outboxes of earlier versions hold them."""
    assert (run_id_of("study"), model_uri_of("trial-0001")) == ({"$run_id": "study"}, {"$model_uri": "trial-0001"})
