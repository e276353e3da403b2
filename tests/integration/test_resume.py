"""Resuming studies from the command line."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FOREST = (
    "model=random_forest",
    "max_epochs=4",
    "resampling=stratified_kfold",
    "resampling.n_splits=2",
    "executor.threads_per_trial=1",
)


def test_finished_study_is_resumed_only_with_a_higher_limit(
    hpo: Callable[..., int], read: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    assert hpo(*FOREST, "limits.n_trials=3", "study=whole", "seed=1") == 0
    assert hpo(*FOREST, "limits.n_trials=2", "study=mine", "seed=1") == 0
    capfd.readouterr()
    for again in (("resume", "mine"), (*FOREST, "limits.n_trials=2", "study=mine", "seed=1")):
        assert hpo(*again) == 2
        assert "limits.n_trials=4, or study=another" in capfd.readouterr().err
    assert hpo("resume", "mine", "limits.n_trials=3") == 0
    shown = capfd.readouterr().out
    assert "resumed: 2 trials of the record are done" in shown
    _, study, trials = read("mine")
    _, _, whole = read("whole")
    assert [(t.params, t.value) for t in trials] == [(t.params, t.value) for t in whole]
    assert study.tags["hpo.limits.n_trials"] == "3"
    assert study.tags["hpo.first_n_trials"] == "2"
    assert study.tags["hpo.n_resumed"] == "1"


def test_same_command_resumes_a_failed_study(
    hpo: Callable[..., int], read: Callable[..., Any], workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", "exception")
    arguments = (*FOREST, "model._target_=benchmarks.faulty.FaultyForest", "strategy=random", "study=mine")
    arguments = (*arguments, "limits.n_trials=12", "limits.max_consecutive_failures=1")
    assert hpo(*arguments) == 1
    n_before = len(read("mine")[2])
    assert n_before < 12
    monkeypatch.delenv("FAULT")
    assert hpo(*arguments) == 0
    _, study, trials = read("mine")
    assert study.state == "finished"
    assert len(trials) == 12
    assert [trial.state for trial in trials].count("FAIL") == 1


def test_another_definition_is_refused_with_the_differences_unless_forced(
    hpo: Callable[..., int], read: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    assert hpo(*FOREST, "limits.n_trials=2", "study=mine") == 0
    capfd.readouterr()
    changed = (*FOREST, "limits.n_trials=3", "study=mine", "search_space.max_depth.high=12", "seed=4")
    assert hpo(*changed) == 2
    err = capfd.readouterr().err
    assert "seed: 0 before, 4 now" in err
    assert "search_space.max_depth.high: 24 before, 12 now" in err
    assert "folds_digest" in err
    assert "--force-resume" in err
    assert hpo(*changed, "--force-resume") == 0
    _, study, trials = read("mine")
    assert len(trials) == 3
    assert "seed: 0 before, 4 now" in study.tags["hpo.forced_resume"]


def test_threads_per_trial_are_independent_of_workers(
    hpo: Callable[..., int], read: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("model=svm", "limits.n_trials=2", "study=mine", "executor=local")
    assert hpo(*arguments) == 0
    monkeypatch.setattr("hpo.executors.local.executor.usable_cores", lambda: 8)
    assert hpo("resume", "mine", "limits.n_trials=4", "executor=local", "executor.workers=2") == 0
    _, study, trials = read("mine")
    assert (study.tags["hpo.threads_per_trial"], study.tags["hpo.workers"]) == ("1", "2")
    assert len(trials) == 4


def test_resume_needs_the_name_of_a_local_study(hpo: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> None:
    assert hpo("resume", "nothing") == 2
    assert "with study=nothing" in capfd.readouterr().err
    for wrong in (("resume",), ("resume", "a", "b"), ("resume", "a", "--multirun")):
        assert hpo(*wrong) == 2
        assert "python -m hpo resume STUDY" in capfd.readouterr().err


def test_running_study_is_refused_and_killed_one_is_stopped(
    hpo: Callable[..., int], workdir: Path, read: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    long = ["model=random_forest", "max_epochs=100000", "model.grow_by=1", "limits.timeout_seconds=3600", "study=mine"]
    command = [sys.executable, "-m", "hpo", *long, "executor.threads_per_trial=1", "early_stopping.patience=null"]
    with (workdir / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=workdir, stdout=log, stderr=log, env={**os.environ})
    try:
        outbox = workdir / "hpo_runs" / "studies" / "mine" / "outbox.jsonl"
        while not (outbox.exists() and '"metrics": [["loss"' in outbox.read_text()):
            assert process.poll() is None, (workdir / "log").read_text()
            time.sleep(0.1)
        assert hpo("resume", "mine") == 2
        assert f"process {process.pid}" in capfd.readouterr().err
        listed = ""
        while "running" not in listed:  # the records are delivered every few seconds
            assert process.poll() is None, (workdir / "log").read_text()
            assert hpo("list") == 0
            listed = capfd.readouterr().out
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert hpo("list") == 0
    assert "stopped" in capfd.readouterr().out
    assert hpo("resume", "mine", "limits.max_epochs_total=1") == 1  # no trial finishes within one epoch
    _, study, trials = read("mine")
    assert study.state == "finished"
    assert len(trials) == 1


def test_sync_delivers_pending_records_and_list_shows_them(
    hpo: Callable[..., int], workdir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A study runs while its store does not answer; the store is available later."""
    assert hpo("model=svm", "limits.n_trials=1") == 0
    capfd.readouterr()
    closed = ("tracking.uri=http://127.0.0.1:9", "tracking.output_path=offline")
    arguments = ("model=svm", "limits.n_trials=2", "study=mine", *closed)
    assert hpo(*arguments) == 2
    assert "tracking.offline=allow" in capfd.readouterr().err
    assert not (workdir / "offline" / "studies" / "mine").exists()
    assert hpo(*arguments, "tracking.offline=allow") == 0
    shown = capfd.readouterr()
    assert "python -m hpo sync tracking.uri=http://127.0.0.1:9" in shown.out
    assert "Traceback" not in shown.out + shown.err
    assert hpo("sync", *closed) == 2
    assert "mine: not delivered" in capfd.readouterr().err
    # Another URI of the store, as of a server that was moved.
    here = ("tracking.output_path=offline", "tracking.uri=sqlite:///hpo_runs/mlflow.db")
    assert hpo("list", *here) == 0
    assert "mine: records wait on disk; python -m hpo sync" in capfd.readouterr().out
    assert hpo("sync", *here) == 0
    assert "records delivered" in capfd.readouterr().out
    assert hpo("sync", *here) == 0
    assert "nothing waits" in capfd.readouterr().out
    assert hpo("list", *here) == 0
    shown_again = capfd.readouterr().out
    assert "finished" in shown_again
    assert "wait" not in shown_again
    assert hpo("resume", "mine", *here, "limits.n_trials=3") == 0
