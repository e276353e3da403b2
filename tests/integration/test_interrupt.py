"""Ctrl-C in a real process: once closes the study in good order, twice ends it at once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpo.trial import State

LONG = ("dataset=digits", "max_epochs=200", "early_stopping.patience=null", "study=mine")


def start(workdir: Path, *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-m", "hpo", *LONG, *overrides]
    with (workdir / "log").open("w") as log:
        return subprocess.Popen(command, cwd=workdir, stdout=log, stderr=log, text=True, env={**os.environ})


def wait_for_training(read: Callable[..., Any]) -> None:
    for _ in range(240):
        try:
            _, _, trials = read("mine")
        except StopIteration:
            trials = []
        if trials and "loss" in trials[0].metrics:
            return
        time.sleep(0.5)
    raise AssertionError("no epoch was recorded")


def test_once_closes_the_trial_and_prints_the_summary(workdir: Path, read: Callable[..., Any]) -> None:
    process = start(workdir)
    wait_for_training(read)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    shown = (workdir / "log").read_text()
    assert "Traceback" not in shown
    assert "stopping:" in shown
    assert "interrupted" in shown
    assert "python -m hpo ui" in shown
    client, study, (trial,) = read("mine")
    assert study.state == "interrupted"
    assert client.get_run(study.run_id).info.status == "KILLED"
    assert (trial.state, trial.stop_reason) == (State.WAITING, "interrupted")
    assert client.get_run(trial.run_id).info.status == "KILLED"
    n_epochs = trial.folds[0]["outcome"]["epochs_run"]
    assert len(client.get_metric_history(trial.run_id, "val_loss")) == n_epochs >= 1


def test_twice_ends_at_once(workdir: Path, read: Callable[..., Any]) -> None:
    # One batch of all images lasts, so that the first Ctrl-C finds no end of a batch before the second.
    process = start(workdir, "model.batch_size=2000", "search_space.batch_size={choices: [2000], grid: null}")
    wait_for_training(read)
    process.send_signal(signal.SIGINT)
    for _ in range(1000):
        if "stopping:" in (workdir / "log").read_text():
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    assert process.wait(30) == 130
    assert time.monotonic() - started < 10
    shown = (workdir / "log").read_text()
    assert "Traceback" not in shown
    assert "python -m hpo ui" not in shown  # no summary
    client, study, (trial,) = read("mine")
    assert study.state == "interrupted"
    assert [client.get_run(run).info.status for run in (study.run_id, trial.run_id)] == ["KILLED", "KILLED"]
    assert (trial.state, trial.stop_reason) == (State.WAITING, "interrupted")
