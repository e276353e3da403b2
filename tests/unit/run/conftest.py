"""A tracker whose store does not answer: its records stay in the outbox, where tests read them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpo.tracking.outbox import Record, read_outbox
from hpo.tracking.writer import Tracker


def refuse() -> tuple[Any, str]:
    raise ConnectionError("refused")


@pytest.fixture
def tracker(tmp_path: Path) -> Iterator[Tracker]:
    tracker = Tracker(tmp_path / "study", "uid", refuse, lambda text: None)
    yield tracker
    tracker.close(0.0)


def records(tracker: Tracker, key: str | None = None) -> list[Record]:
    """The records of one run, or of all."""
    return [each for each in read_outbox(tracker.folder / "outbox.jsonl") if key in (None, each.key)]


def points(tracker: Tracker, key: str, metric: str) -> list[tuple[int, float]]:
    """Step and value of every point of a metric in a run."""
    found = []
    for record in records(tracker, key):
        found += [(step, value) for name, value, _, step in record.body.get("metrics") or () if name == metric]
    return found


def tags(tracker: Tracker, key: str) -> dict[str, str]:
    """The tags of a run."""
    found: dict[str, str] = {}
    for record in records(tracker, key):
        found |= record.body.get("tags") or {}
    return found
