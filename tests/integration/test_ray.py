"""A study continues when processes of Ray Tune die."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from hpo.core.states import State
from hpo.executors.inline import InlineExecutor


def proxies() -> list[int]:
    """Return the processes of Tune's trials that this process started."""
    command = ["ps", "-eo", "pid,ppid,args"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [(int(pid), int(parent), args) for pid, parent, args in (line.split(None, 2) for line in lines[1:])]
    family = {os.getpid()}
    for _ in range(6):
        family |= {pid for pid, parent, _ in rows if parent in family}
    return [pid for pid, _, args in rows if pid in family and args.startswith("ray::ResourceTrainable")]


@pytest.mark.usefixtures("one_ray")
def test_trial_continues_without_scheduler_when_its_tune_process_dies(
    hpo: Callable[..., int], read: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, killed = InlineExecutor.run, list[int]()

    def run_after_kill(self: InlineExecutor, *args: Any) -> Any:
        if not killed:
            killed.extend(proxies())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
        return real(self, *args)

    monkeypatch.setattr(InlineExecutor, "run", run_after_kill)
    study = ("model=random_forest", "model.grow_by=2", "max_epochs=4", "limits.n_trials=3", "study=mine")
    assert hpo("strategy=ray_tune", *study, "executor.threads_per_trial=1") == 0
    assert len(killed) == 1
    _, _, trials = read("mine")
    assert trials[0].state is State.COMPLETE
    assert all(trial.state.is_finished for trial in trials)
    assert len(trials) == 3


OTHER_USER = "import ray, sys; ray.init(address=sys.argv[1], logging_level=50)"


def test_other_users_cannot_connect_to_our_ray(one_ray: None) -> None:
    """Ray listens on every interface and runs what a client sends."""
    import ray

    address = ray.get_runtime_context().gcs_address
    theirs = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    environment = theirs | {"RAY_gcs_rpc_server_reconnect_timeout_s": "1", "RAY_AUTH_MODE": "token"}
    command = [sys.executable, "-c", OTHER_USER, address]
    for token, expected in (("0" * 64, 1), (os.environ["RAY_AUTH_TOKEN"], 0)):
        done = subprocess.run(command, env=environment | {"RAY_AUTH_TOKEN": token}, capture_output=True, text=True)
        assert done.returncode == expected, done.stderr
