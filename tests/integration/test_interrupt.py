"""Signals to a real process: it is closed in good order by Ctrl-C, a shutdown, or a terminal that goes away."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from hpo.core.states import State

# A forest that never comes to its end, but to the end of an epoch many times a second.
LONG = (
    "model=random_forest",
    "max_epochs=100000",
    "early_stopping.patience=null",
    "limits.timeout_seconds=3600",
    "model.grow_by=1",
    "study=mine",
)
# An epoch that does not end while the test runs, so that the model never looks at what the driver wants.
DEAF = ("model.grow_by=1000000",)
COMMAND = [sys.executable, "-u", "-m", "hpo", *LONG]
MAX_SECONDS = 10.0


@pytest.fixture
def start(workdir: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def run(*overrides: str, **options: Any) -> subprocess.Popen[bytes]:
        with (workdir / "log").open("w") as log:
            given = {"stdout": log, "stderr": log, **options}
            started.append(subprocess.Popen([*COMMAND, *overrides], cwd=workdir, env={**os.environ}, **given))
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_for(workdir: Path, process: subprocess.Popen[bytes], said: str) -> None:
    """Until the study's outbox says something."""
    outbox = workdir / "hpo_runs" / "studies" / "mine" / "outbox.jsonl"
    for _ in range(1200):
        if outbox.exists() and said in outbox.read_text():
            return
        assert process.poll() is None, (workdir / "log").read_text()
        time.sleep(0.1)
    raise AssertionError(f"{said} was never said")


EPOCH, TRIAL = '"metrics": [["loss"', '["trial-0000", "start"'


def workers_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return [each for each in psutil.Process(process.pid).children() if "spawn_main" in " ".join(each.cmdline())]


def check_closed(read: Callable[..., Any], workers: list[psutil.Process], n_least: int) -> None:
    assert workers
    assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)
    client, study, (trial,) = read("mine")
    assert study.state == "interrupted"
    assert client.get_run(study.run_id).info.status == "KILLED"
    assert (trial.state, trial.stop_reason) == (State.WAITING, "interrupted")
    assert client.get_run(trial.run_id).info.status == "KILLED"
    n_epochs = trial.folds[0]["outcome"]["epochs_run"] if trial.folds else 0
    assert len(client.get_metric_history(trial.run_id, "val_loss")) == n_epochs >= n_least


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_once_closes_the_trial_and_prints_the_summary(
    number: signal.Signals, workdir: Path, start: Callable[..., Any], read: Callable[..., Any]
) -> None:
    process = start()
    wait_for(workdir, process, EPOCH)
    workers, began = workers_of(process), time.monotonic()
    process.send_signal(number)
    assert process.wait(60) == 130
    assert time.monotonic() - began < MAX_SECONDS
    shown = (workdir / "log").read_text()
    assert "Traceback" not in shown
    assert "stopping:" in shown
    assert "python -m hpo resume mine" in shown
    check_closed(read, workers, 1)


def test_a_training_that_does_not_listen_is_closed_as_quickly(
    workdir: Path, start: Callable[..., Any], read: Callable[..., Any]
) -> None:
    process = start(*DEAF)
    wait_for(workdir, process, TRIAL)
    workers, began = workers_of(process), time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    assert time.monotonic() - began < MAX_SECONDS
    assert "Traceback" not in (workdir / "log").read_text()
    check_closed(read, workers, 0)


def test_twice_ends_at_once(workdir: Path, start: Callable[..., Any], read: Callable[..., Any]) -> None:
    process = start(*DEAF)
    wait_for(workdir, process, TRIAL)
    workers = workers_of(process)
    process.send_signal(signal.SIGINT)
    for _ in range(1000):
        if "stopping:" in (workdir / "log").read_text():
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert process.wait(30) == 130
    assert time.monotonic() - began < MAX_SECONDS / 2
    shown = (workdir / "log").read_text()
    assert "Traceback" not in shown
    assert "python -m hpo ui" not in shown  # no summary
    check_closed(read, workers, 0)


def test_a_terminal_that_is_closed_closes_the_study(
    workdir: Path, start: Callable[..., Any], read: Callable[..., Any]
) -> None:
    ours, theirs = pty.openpty()
    process = start(stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=lambda: os.login_tty(theirs))
    os.close(theirs)
    # Somebody has to read, or the terminal would be full before the study has begun.
    os.set_blocking(ours, False)
    for _ in range(1200):
        try:
            os.read(ours, 65536)
        except BlockingIOError:
            time.sleep(0.1)
        outbox = workdir / "hpo_runs" / "studies" / "mine" / "outbox.jsonl"
        if outbox.exists() and EPOCH in outbox.read_text():
            break
    workers, began = workers_of(process), time.monotonic()
    os.close(ours)
    assert process.wait(60) == 130
    assert time.monotonic() - began < MAX_SECONDS
    check_closed(read, workers, 1)


def test_a_machine_that_sleeps_costs_nothing(
    workdir: Path, start: Callable[..., Any], read: Callable[..., Any]
) -> None:
    process = start("max_epochs=60", "limits.n_trials=2")
    wait_for(workdir, process, EPOCH)
    everything = [psutil.Process(process.pid), *workers_of(process)]
    for each in everything:
        each.suspend()
    time.sleep(5)
    for each in everything:
        each.resume()
    assert process.wait(120) == 0, (workdir / "log").read_text()
    client, study, trials = read("mine")
    assert study.state == "finished"
    assert [trial.state for trial in trials] == [State.COMPLETE] * 2
    for trial in trials:
        assert len(client.get_metric_history(trial.run_id, "val_loss")) == 60
