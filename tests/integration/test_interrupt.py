"""A real process records its trial and ends on Ctrl-C, SIGTERM, or a terminal that closes."""

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from waiting import wait_until

from hpo.core.states import State

# A forest that does not end during a test, but ends an epoch many times a second.
LONG = (
    "model=random_forest",
    "max_epochs=100000",
    "early_stopping.patience=null",
    "limits.timeout_seconds=3600",
    "model.grow_by=1",
    "study=mine",
)
# An epoch that does not end during a test, so that the model never polls its control.
UNRESPONSIVE = ("model.grow_by=1000000",)
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


def wait_for(workdir: Path, process: subprocess.Popen[bytes], text: str) -> None:
    """Wait until the outbox of the study contains ``text``."""
    outbox = workdir / "hpo_runs" / "studies" / "mine" / "outbox.jsonl"

    def is_there() -> bool:
        assert process.poll() is None, (workdir / "log").read_text()
        return outbox.exists() and text in outbox.read_text()

    wait_until(is_there, timeout=120)


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
def test_one_signal_closes_the_trial_and_prints_the_summary(
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


def test_unresponsive_training_is_closed_as_quickly(
    workdir: Path, start: Callable[..., Any], read: Callable[..., Any]
) -> None:
    process = start(*UNRESPONSIVE)
    wait_for(workdir, process, TRIAL)
    workers, began = workers_of(process), time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    assert time.monotonic() - began < MAX_SECONDS
    assert "Traceback" not in (workdir / "log").read_text()
    check_closed(read, workers, 0)


def test_second_signal_ends_at_once(workdir: Path, start: Callable[..., Any], read: Callable[..., Any]) -> None:
    process = start(*UNRESPONSIVE)
    wait_for(workdir, process, TRIAL)
    workers = workers_of(process)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: "stopping:" in (workdir / "log").read_text(), timeout=20)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert process.wait(30) == 130
    assert time.monotonic() - began < MAX_SECONDS / 2
    shown = (workdir / "log").read_text()
    assert "Traceback" not in shown
    assert "python -m hpo ui" not in shown  # no summary
    check_closed(read, workers, 0)


def test_closed_terminal_closes_the_study(workdir: Path, start: Callable[..., Any], read: Callable[..., Any]) -> None:
    ours, theirs = pty.openpty()
    process = start(stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=lambda: os.login_tty(theirs))
    os.close(theirs)
    os.set_blocking(ours, False)
    outbox = workdir / "hpo_runs" / "studies" / "mine" / "outbox.jsonl"

    def has_epoch() -> bool:
        with suppress(BlockingIOError):
            os.read(ours, 65536)  # otherwise the terminal's buffer fills up before the study starts
        return outbox.exists() and EPOCH in outbox.read_text()

    wait_until(has_epoch, timeout=120)
    workers, began = workers_of(process), time.monotonic()
    os.close(ours)
    assert process.wait(60) == 130
    assert time.monotonic() - began < MAX_SECONDS
    check_closed(read, workers, 1)


def test_suspended_machine_loses_nothing(workdir: Path, start: Callable[..., Any], read: Callable[..., Any]) -> None:
    process = start("max_epochs=60", "limits.n_trials=2")
    wait_for(workdir, process, EPOCH)
    everything = [psutil.Process(process.pid), *workers_of(process)]
    for each in everything:
        each.suspend()
    threading.Event().wait(5)  # the time that the machine sleeps
    for each in everything:
        each.resume()
    assert process.wait(120) == 0, (workdir / "log").read_text()
    client, study, trials = read("mine")
    assert study.state == "finished"
    assert [trial.state for trial in trials] == [State.COMPLETE] * 2
    for trial in trials:
        assert len(client.get_metric_history(trial.run_id, "val_loss")) == 60
