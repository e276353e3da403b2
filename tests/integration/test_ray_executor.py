"""Studies on the nodes of a Ray cluster: their results, and what the loss of a node costs."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from waiting import wait_until

from hpo.core.states import State

from .test_interrupt import wait_for

FOREST = ("model=random_forest", "model.grow_by=2", "dataset=breast_cancer", "max_epochs=4")
ON_RAY = ("executor=ray", "executor.workers=4")
LOCALLY = ("executor=local", "executor.threads_per_trial=1")


def nodes() -> dict[str, float]:
    """Return the cores of every node that is alive."""
    import ray

    return {node["NodeID"]: node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]}


class Node:
    """A second node of the tests' Ray, with two cores, on this machine."""

    def __init__(self) -> None:
        import ray

        before = set(nodes())
        address = ray.get_runtime_context().gcs_address
        command = [
            str(Path(sys.executable).with_name("ray")),
            "start",
            f"--address={address}",
            "--num-cpus=2",
            "--block",
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: set(nodes()) - before)
        (self.id,) = set(nodes()) - before

    def kill(self) -> None:
        """End all its processes, as if the machine were switched off."""
        command = psutil.Process(self.process.pid)
        for process in (command, *command.children(recursive=True)):
            process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def second_node(one_ray: None) -> Iterator[Node]:
    node = Node()
    yield node
    node.kill()


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The node of every actor that became ready."""
    from hpo.executors.ray.handle import ActorHandle

    real, found = ActorHandle.complete_start, list[str]()

    def complete_start(self: ActorHandle) -> None:
        real(self)
        assert self.site is not None
        found.append(self.site.node_id)

    monkeypatch.setattr(ActorHandle, "complete_start", complete_start)
    return found


def values(trials: list[Any]) -> dict[str, float | None]:
    return {str(sorted(trial.params.items())): trial.value for trial in trials}


@pytest.mark.usefixtures("second_node")
def test_parallel_trials_use_both_nodes_and_are_pruned(
    hpo: Callable[..., int], read: Callable[..., Any], used: list[str]
) -> None:
    study = ("strategy=optuna", "limits.n_trials=16", "strategy/pruner=successive_halving", "study=mine")
    assert hpo(*study, *FOREST, "max_epochs=9", *ON_RAY) == 0
    assert set(used) == set(nodes())
    client, record, trials = read("mine")
    assert len(trials) == 16
    assert {trial.state for trial in trials} == {State.COMPLETE, State.PRUNED}
    tags = client.get_run(record.run_id).data.tags
    assert tags["hpo.workers"] == "4"
    assert '"hpo.executors.ray.executor.RayExecutor"' in tags["hpo.executor"]
    for trial in trials:
        assert len(client.get_metric_history(trial.run_id, "val_loss")) == trial.folds[0]["outcome"]["epochs_run"]


@pytest.mark.slow
@pytest.mark.usefixtures("second_node")
def test_grid_on_ray_equals_grid_on_local_workers(hpo: Callable[..., int], read: Callable[..., Any]) -> None:
    study = ("strategy=grid", "model=logistic_regression", "dataset=iris", "resampling=stratified_kfold")
    found = []
    for name, executor in (("local", LOCALLY), ("ray", ON_RAY)):
        assert hpo(*study, *executor, f"study={name}") == 0
        client, record, trials = read(name)
        metrics = client.get_run(record.run_id).data.metrics
        tests = {name: value for name, value in metrics.items() if name.startswith("test_")}
        assert tests
        found.append((values(trials), tests))
    assert found[0] == found[1]
    assert len(found[0][0]) == 8


@pytest.mark.usefixtures("second_node")
@pytest.mark.parametrize(
    "strategy",
    [
        "ray_tune",
        pytest.param("keras_random", marks=pytest.mark.slow),
        pytest.param("halving_random", marks=pytest.mark.slow),
    ],
)
def test_other_strategies_train_on_the_cluster(
    strategy: str, hpo: Callable[..., int], read: Callable[..., Any]
) -> None:
    assert hpo(f"strategy={strategy}", *FOREST, *ON_RAY, "limits.n_trials=5", "study=mine") == 0
    _, _, trials = read("mine")
    assert len(trials) == 5
    assert all(trial.state.is_finished for trial in trials)


@pytest.mark.slow
@pytest.mark.usefixtures("one_ray")
def test_lost_node_changes_no_result(
    hpo: Callable[..., int], read: Callable[..., Any], used: list[str], workdir: Path
) -> None:
    node = Node()
    killed: list[float] = []

    def kill() -> None:
        outbox = workdir / "hpo_runs" / "studies" / "ray" / "outbox.jsonl"
        wait_until(
            lambda: outbox.exists() and '["trial-0003", "start"' in outbox.read_text() and node.id in used, timeout=300
        )
        node.kill()
        killed.append(time.monotonic())

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    study = ("strategy=random", "limits.n_trials=6", *FOREST, "max_epochs=40", "early_stopping.patience=null")
    retries = ("executor.retries=0",)  # the loss of a node does not count as a retry
    assert hpo(*study, *ON_RAY, *retries, "study=ray") == 0
    killer.join(1)
    assert killed
    assert hpo(*study, *LOCALLY, "study=local") == 0
    client, record, trials = read("ray")
    assert [trial.state for trial in trials] == [State.COMPLETE] * 6
    assert values(trials) == values(read("local")[2])
    study_run = client.get_run(record.run_id)
    lost = client.search_runs([study_run.info.experiment_id], "tags.`hpo.superseded` = 'true'")
    assert {run.data.tags["hpo.stop_reason"] for run in lost} == {"node_lost"}


@pytest.mark.slow
def test_study_resumes_after_killed_driver_without_orphans(workdir: Path, read: Callable[..., Any]) -> None:
    """With a Ray of its own."""
    study = ("strategy=random", "limits.n_trials=6", *FOREST, "max_epochs=100", "early_stopping.patience=null")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    command = [sys.executable, "-m", "hpo"]
    with (workdir / "log").open("w") as log:
        options: dict[str, Any] = {"stdout": log, "stderr": log, "env": environment}
        driver = subprocess.Popen([*command, *study, "executor=ray", "study=mine"], **options)
        wait_for(workdir, driver, '["trial-0003", "start"')
        below = psutil.Process(driver.pid).children(recursive=True)
        assert any("raylet" in process.name() for process in below)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        _, alive = psutil.wait_procs(below, timeout=10)
        assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
        before = (workdir / "hpo_runs" / "studies" / "mine" / "outbox.jsonl").read_text()
        assert subprocess.run([*command, "resume", "mine"], **options).returncode == 0
    _, _, trials = read("mine")
    assert [(trial.number, trial.state) for trial in trials] == [(n, State.COMPLETE) for n in range(6)]
    after = (workdir / "hpo_runs" / "studies" / "mine" / "outbox.jsonl").read_text()
    ended = [n for n in range(6) if f'["trial-{n:04d}", "end"' in before]
    assert ended
    assert all(after.count(f'["trial-{n:04d}", "start"') == 1 for n in ended)
