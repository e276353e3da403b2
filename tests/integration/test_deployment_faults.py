"""Studies on all services of ``docker-compose.yml`` with two Ray nodes, also while services are killed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from composed import POSTGRES, ROOT, Composition, until
from deployed import FOREST, HPO, filled_in, require_complete, require_no_secret

from benchmarks import faults

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not POSTGRES.exists(), reason="PostgreSQL's server is not installed (apt-get install postgresql)"
    ),
    pytest.mark.xdist_group("deployment"),
]
N_WORKERS = 4
ON_CLUSTER = ("tracking=server", "executor=ray", f"executor.workers={N_WORKERS}", "executor.threads_per_trial=1")
N_TRIALS = {"grid": 4}
SAME_VALUES = ("grid", "random")
"""Strategies whose proposals do not depend on the number of workers."""
DOWN_SECONDS = 10.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Composition]:
    """Start all services, with two Ray worker nodes of two cores each."""
    with Composition(filled_in() | {"RAY_WORKER_CPUS": "2"}, {"ray-worker": 2}) as composition:
        composition.up()
        yield composition


@pytest.fixture(scope="module")
def locally(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., faults.Stored]:
    """Run a study without the services, once per command, and read its record."""
    done: dict[tuple[str, ...], faults.Stored] = {}

    def run(*options: str) -> faults.Stored:
        if options not in done:
            folder = tmp_path_factory.mktemp("laptop")
            command = [sys.executable, "-m", "hpo", *options, "executor.workers=2", "study=mine"]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            alone = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
            assert alone.returncode == 0, alone.stdout + alone.stderr
            done[options] = faults.Stored.read(folder)
        return done[options]

    return run


def study(strategy: str, n_trials: int, *options: str) -> list[str]:
    return [f"strategy={strategy}", f"limits.n_trials={n_trials}", *FOREST, *options]


def folds(stored: faults.Stored) -> str:
    (digest,) = {tags["hpo.folds_digest"] for tags in stored.tags.values() if tags["hpo.kind"] == "study"}
    return digest


def by_params(stored: faults.Stored) -> list[tuple[str, ...]]:
    """Return sorted results without trial numbers, since trials that start together are numbered in any order."""
    return sorted(tuple(map(str, result)) for result in stored.results.values())


@pytest.mark.parametrize("strategy", ["optuna", "grid", "random", "keras_random", "ray_tune"])
def test_study_on_the_cluster_equals_a_local_study(
    cluster: Composition, locally: Callable[..., faults.Stored], strategy: str, tmp_path: Path
) -> None:
    n_trials = N_TRIALS.get(strategy, 8)
    options, name = study(strategy, n_trials), f"whole-{strategy}"
    driver = cluster.run("study", *HPO, *options, *ON_CLUSTER, f"study={name}")
    assert driver.wait() == 0, driver.text
    stored = require_complete(cluster, name, n_trials, driver)
    assert list(cluster.folder.glob("ray/session_*/logs/raylet*")), "Ray's logs are not in the expected folder"
    require_no_secret(cluster, tmp_path)
    alone = locally(*options)
    assert folds(stored) == folds(alone)
    if strategy in SAME_VALUES:
        assert by_params(stored) == by_params(alone)


@pytest.mark.parametrize("part", ["ray-worker", "mlflow", "postgres"])
def test_restarted_service_loses_no_record_and_repeats_no_trial(
    cluster: Composition, locally: Callable[..., faults.Stored], part: str, tmp_path: Path
) -> None:
    n_trials, name = 16, f"without-{part}"
    options = study("random", n_trials, "max_epochs=24")
    driver = cluster.run("study", *HPO, *options, *ON_CLUSTER, f"study={name}")
    work, (victim, *_) = cluster.volume("work"), cluster.containers[part]
    until(lambda: len(faults.finished_in_outbox(work, name)) >= 2, 180, driver.text)
    victim.kill()
    assert len(faults.finished_in_outbox(work, name)) < n_trials, "the study ended before the fault"
    time.sleep(DOWN_SECONDS)
    victim.start()
    assert driver.main is not None
    assert driver.main.poll() is None, driver.text
    victim.wait_healthy()
    assert driver.wait() == 0, driver.text
    # A finished study does not wait for a server that is still starting.
    sync = cluster.run("study", "sync", "tracking=server", entrypoint=HPO)
    assert sync.wait() == 0, sync.text
    stored = require_complete(cluster, name, n_trials, driver)
    require_no_secret(cluster, tmp_path)
    assert by_params(stored) == by_params(locally(*options))


def test_study_is_resumed_after_its_cluster_died(cluster: Composition) -> None:
    n_trials, name = 16, "without-ray-head"
    options = study("random", n_trials, "max_epochs=24")
    driver = cluster.run("study", *HPO, *options, *ON_CLUSTER, f"study={name}")
    work = cluster.volume("work")
    until(lambda: len(faults.finished_in_outbox(work, name)) >= 2, 180, driver.text)
    cluster.containers["ray-head"][0].kill()
    assert driver.wait() != 0
    known = faults.finished_in_outbox(work, name)
    # Without the head, the other Ray nodes end too and are restarted.
    for service in ("ray-head", "ray-worker"):
        cluster.restart(service)
    again = cluster.run("study", *HPO, "resume", name, "tracking=server")
    assert again.wait() == 0, again.text
    stored = require_complete(cluster, name, n_trials, again)
    assert known <= stored.results.keys()


def test_default_command_runs_a_study(cluster: Composition) -> None:
    driver = cluster.run("study")
    assert driver.wait() == 0, driver.text
    # On a busy machine the time limit of two minutes may come before the 20 trials.
    assert re.search("(all trials are done|the time limit was reached): .* 0 failed", driver.text), driver.text
    assert re.search("best: trial .* scored once", driver.text)


def test_wrong_token_is_refused_before_training(cluster: Composition) -> None:
    driver = cluster.run("study", *HPO, *study("random", 2), *ON_CLUSTER, RAY_AUTH_TOKEN="0" * 64)
    assert driver.wait() == 2, driver.text
    assert "expected: a Ray cluster whose token this process has" in driver.text
    assert "Traceback" not in driver.text
    assert "complete" not in driver.text
