"""Some faults of ``benchmarks/faults.py``: no trial may be lost or repeated."""

from pathlib import Path

import pytest

from benchmarks import faults

pytestmark = pytest.mark.xdist_group("faults")  # the tests share the studies without faults


@pytest.fixture(scope="module")
def without_faults() -> dict[str, faults.Reference]:
    """The results of every study without faults."""
    return {}


def check(
    strategy: str,
    fault: str,
    moment: float,
    store: Path,
    without_faults: dict[str, faults.Reference],
    tmp_path: Path,
    kills: int = 1,
) -> None:
    if strategy not in without_faults:
        without_faults[strategy] = faults.reference(strategy, "", True, store)
    audit = faults.one(strategy, fault, without_faults[strategy], moment, store, tmp_path, kills)
    assert audit.total == 0, audit.remarks


@pytest.mark.parametrize("strategy", ["optuna", "keras_random", pytest.param("grid", marks=pytest.mark.slow)])
def test_driver_killed_twice_loses_and_repeats_nothing(
    strategy: str, prepared_store: Path, without_faults: dict[str, faults.Reference], tmp_path: Path
) -> None:
    check(strategy, "kill_driver", 0.5, prepared_store, without_faults, tmp_path, kills=2)


def test_killed_worker_costs_only_time(
    prepared_store: Path, without_faults: dict[str, faults.Reference], tmp_path: Path
) -> None:
    check("optuna", "kill_worker", 0.4, prepared_store, without_faults, tmp_path)


def test_restarted_server_receives_every_record_once(
    prepared_store: Path, without_faults: dict[str, faults.Reference], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "DOWN_SECONDS", 5.0)
    check("optuna", "server_down_30s", 0.3, prepared_store, without_faults, tmp_path)
