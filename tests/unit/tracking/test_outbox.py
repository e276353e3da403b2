"""The file that everything goes through before MLflow hears of it."""

import errno
from pathlib import Path
from typing import Any

import pytest

from hpo.errors import StudyFailed
from hpo.tracking.outbox import Outbox, Record, delivered_bytes, find_pending_studies, mark_delivered, read_outbox
from hpo.tracking.writer import Tracker


def unreachable() -> Any:
    raise ConnectionError("refused")


def test_what_is_said_can_be_read_from_any_line_on(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    for number in range(3):
        outbox.append(Record("study", "text", {"name": f"{number}", "text": "two\nlines and ü"}))
    records = list(read_outbox(outbox.path))
    assert [record.body["name"] for record in records] == ["0", "1", "2"]
    assert records[-1].end == outbox.path.stat().st_size
    assert [record.body["name"] for record in read_outbox(outbox.path, records[0].end)] == ["1", "2"]
    outbox.close()


def test_values_that_json_has_not_survive(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.append(Record("study", "batch", {"metrics": [["loss", float("inf"), 1, 0], ["loss", float("nan"), 1, 1]]}))
    (record,) = read_outbox(outbox.path)
    assert str(record.body["metrics"]) == "[['loss', inf, 1, 0], ['loss', nan, 1, 1]]"
    outbox.close()


@pytest.mark.parametrize("torn", [b'["study", "te', b"\x00\x00", b"{"])
def test_a_line_that_was_cut_short_was_never_said(tmp_path: Path, torn: bytes) -> None:
    outbox = Outbox(tmp_path)
    outbox.append(Record("study", "text", {"name": "0", "text": ""}))
    outbox.close()
    with outbox.path.open("ab") as file:
        file.write(torn)
    assert len(list(read_outbox(outbox.path))) == 1
    again = Outbox(tmp_path)
    again.append(Record("study", "text", {"name": "1", "text": ""}))
    assert [record.body["name"] for record in read_outbox(again.path)] == ["0", "1"]
    again.close()


def test_several_failures_on_a_full_disk_leave_whole_lines(tmp_path: Path) -> None:
    """The file is shorter than it was after the first one: what follows must not go to where that has ended."""
    outbox = Outbox(tmp_path)
    outbox.append(Record("study", "text", {"name": "0", "text": ""}))
    whole = outbox.path.read_bytes()

    class Full:
        """Takes a part of a line, and then nothing."""

        def __init__(self) -> None:
            self.real, self.is_full = outbox._file, False

        def write(self, line: bytes) -> int:
            if self.is_full:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.is_full = True
            return self.real.write(line[:5])

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    for _ in range(3):
        outbox._file = Full()  # type: ignore[assignment]
        with pytest.raises(OSError, match="No space"):
            outbox.append(Record("study", "text", {"name": "1", "text": ""}))
        assert outbox.path.read_bytes() == whole
        outbox._file = outbox._file.real  # type: ignore[attr-defined]
    outbox.append(Record("study", "text", {"name": "2", "text": ""}))
    assert [record.body["name"] for record in read_outbox(outbox.path)] == ["0", "2"]
    outbox.close()


def test_a_mark_without_its_lines_counts_for_nothing(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.append(Record("study", "text", {"name": "0", "text": ""}))
    mark_delivered(tmp_path, 10 * outbox.size)
    assert delivered_bytes(tmp_path) == 0
    outbox.close()


def test_it_says_which_studies_have_something_that_mlflow_has_not(tmp_path: Path) -> None:
    folder = tmp_path / "studies" / "mine"
    outbox = Outbox(folder)
    assert find_pending_studies(tmp_path) == []
    outbox.append(Record("study", "text", {"name": "0", "text": ""}))
    assert find_pending_studies(tmp_path) == [folder]
    mark_delivered(folder, outbox.size)
    assert find_pending_studies(tmp_path) == []
    assert delivered_bytes(folder) == outbox.size
    outbox.close()


def test_a_full_disk_is_told_and_leaves_whole_lines(tmp_path: Path) -> None:
    """``/dev/full`` takes nothing, as a full disk does."""
    tracker = Tracker(tmp_path, "uid", unreachable, lambda text: None)
    tracker._outbox._file.close()
    tracker._outbox._file = Path("/dev/full").open("ab", buffering=0)  # noqa: SIM115
    with pytest.raises(StudyFailed, match="is full"):
        tracker.set_tags("study", {"a": "b"})
    assert list(read_outbox(tmp_path / "outbox.jsonl")) == []
