"""A few of the faults of ``benchmarks/faults.py``, which has them all; each must cost nothing."""

from pathlib import Path

import pytest

from benchmarks import faults

pytestmark = pytest.mark.xdist_group("faults")  # which share the studies left alone


@pytest.fixture(scope="module")
def left_alone() -> dict[str, faults.Reference]:
    """What every study comes to when nothing happens to it."""
    return {}


def check(
    strategy: str,
    fault: str,
    moment: float,
    store: Path,
    left_alone: dict[str, faults.Reference],
    tmp_path: Path,
    kills: int = 1,
) -> None:
    if strategy not in left_alone:
        left_alone[strategy] = faults.reference(strategy, "", True, store)
    audit = faults.one(strategy, fault, left_alone[strategy], moment, store, tmp_path, kills)
    assert audit.total == 0, audit.remarks


@pytest.mark.parametrize("strategy", ["optuna", "keras_random", pytest.param("grid", marks=pytest.mark.slow)])
def test_a_driver_that_is_killed_twice_loses_and_repeats_nothing(
    strategy: str, prepared_store: Path, left_alone: dict[str, faults.Reference], tmp_path: Path
) -> None:
    check(strategy, "kill_driver", 0.5, prepared_store, left_alone, tmp_path, kills=2)


def test_a_worker_that_is_killed_costs_nothing_but_time(
    prepared_store: Path, left_alone: dict[str, faults.Reference], tmp_path: Path
) -> None:
    check("optuna", "kill_worker", 0.4, prepared_store, left_alone, tmp_path)


def test_a_server_that_is_killed_and_started_again_gets_every_record_once(
    prepared_store: Path, left_alone: dict[str, faults.Reference], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "DOWN_SECONDS", 5.0)
    check("optuna", "server_down_30s", 0.3, prepared_store, left_alone, tmp_path)
