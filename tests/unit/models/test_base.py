import time

import pytest

from hpo.models.base import FitLog


def test_seconds_of_a_phase_add_up() -> None:
    log = FitLog()
    for _ in range(2):
        with log.phase("train"):
            started = time.perf_counter()
            while time.perf_counter() < started + 0.002:
                pass
    assert log.seconds["train"] >= 0.004
    assert log.shared_by == {}


def test_shared_seconds_are_divided_among_the_trials() -> None:
    log = FitLog()
    log.add_seconds("build", 1.0)
    log.add_seconds("train", 8.0, shared_by=4)
    log.add_seconds("train", 8.0, shared_by=8)
    with log.phase("score", shared_by=2):
        pass
    assert log.seconds["train"] == pytest.approx(3.0)
    assert log.shared_by == {"train": 8, "score": 2}
    with pytest.raises(ValueError, match="at least 1"):
        log.add_seconds("train", 1.0, shared_by=0)


def test_seconds_of_a_phase_are_kept_when_it_fails() -> None:
    log = FitLog()
    with pytest.raises(RuntimeError), log.phase("train"):
        raise RuntimeError
    assert set(log.seconds) == {"train"}
