"""An MLflow store for each test of tracking."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpo.tracking.store import open_store
from hpo.tracking.writer import Tracker

from .records import Store, ignore

MakeTracker = Callable[..., Tracker]


@pytest.fixture
def store(workdir: Path) -> Store:
    """An SQLite store with the experiment ``hpo``, in the working folder."""
    return open_store("sqlite:///hpo_runs/mlflow.db", "hpo", Path("hpo_runs"))


@pytest.fixture
def make_tracker(tmp_path: Path) -> Iterator[MakeTracker]:
    """Makes trackers of one study, in the folder ``tmp_path / "mine"``; they are closed after the test."""
    trackers: list[Tracker] = []

    def make(connect: Callable[[], Store], say: Callable[[str], None] = ignore, driver: str | None = None) -> Tracker:
        trackers.append(Tracker(tmp_path / "mine", "uid", connect, say, driver))
        return trackers[-1]

    yield make
    for tracker in trackers:
        tracker.close(0)
