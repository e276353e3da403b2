"""Comparing real studies with one command: the report, recovery from a kill, and refusals."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report import all_runs, check_report, read_page

from hpo.tracking.store import open_store

QUICK = ("dataset=breast_cancer", "model=random_forest", "model.grow_by=2", "max_epochs=5", "early_stopping.patience=1")
LIMITS = ("limits.n_trials=4", "limits.timeout_seconds=null", "executor.threads_per_trial=1")


@pytest.fixture
def store(workdir: Path) -> tuple[Any, str]:
    return open_store("sqlite:///hpo_runs/mlflow.db", "hpo", Path("hpo_runs"))


def test_every_number_of_report_follows_from_runs(
    hpo: Callable[..., int], workdir: Path, store: tuple[Any, str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("compare", "strategies=[grid,random,hyperopt]", "name=mine", "executor=inline", *QUICK, *LIMITS)
    assert hpo(*command, "seeds=3", "min_effect=0.02") == 0
    folder = workdir / "hpo_runs" / "comparisons" / "mine" / "grid-hyperopt-random"
    check_report(*store, folder, "hpo.strategy", min_effect=0.02)

    said = capsys.readouterr().out
    page = read_page(folder / "report.html")
    assert page.verdict in " ".join(said.split())
    assert page.verdict in (folder / "report.md").read_text()
    for cell in (cell for row in page.tables["pairs"] for cell in row):
        assert cell in (folder / "report.md").read_text()

    # The comparison is an MLflow run with the report as artifacts.
    (run,) = [r for r in all_runs(*store) if r.data.tags["hpo.kind"] == "comparison"]
    assert run.data.tags["hpo.verdict"] == page.verdict
    analysis = {
        "seeds": [0, 1, 2],
        "levels": ["grid", "hyperopt", "random"],
        "spent": 0.05,
        "max_seeds": None,
        "min_effect": 0.02,
        "alpha": 0.05,
    }
    assert json.loads(run.data.tags["hpo.look"]) == analysis
    linked = {key.removeprefix("hpo.study."): value for key, value in run.data.tags.items() if "hpo.study." in key}
    assert linked == {row[2]: row[3] for row in page.tables["studies"][1:]}
    artifacts = {file.path for file in store[0].list_artifacts(run.info.run_id)}
    assert {"report.html", "report.md", "trials.parquet", "folds.csv", "epochs.parquet"} <= artifacts

    # A repeated command trains nothing and concludes the same.
    assert hpo(*command, "seeds=3", "min_effect=0.02") == 0
    assert "9 of 9 studies have already finished" in capsys.readouterr().out
    assert read_page(folder / "report.html").verdict == page.verdict
    assert len([r for r in all_runs(*store) if r.data.tags["hpo.kind"] == "comparison"]) == 1
    # Finished studies of the same name have other settings.
    assert hpo(*command, "seeds=3", "min_effect=0.02", "max_epochs=6") == 2
    assert "it differs in max_epochs (5, not 6)" in capsys.readouterr().err
    # min_effect cannot change once results are known.
    assert hpo(*command, "seeds=3", "min_effect=0.2") == 2
    assert "min_effect = 0.2" in capsys.readouterr().err
    # Another number of seeds without max_seeds is exploratory.
    assert hpo(*command, "min_effect=0.02", "seeds=[0,1]") == 0
    assert "Exploratory" in capsys.readouterr().out
    # So is another analysis of a pair without the third level; it has a report of its own.
    said_before = (folder / "report.md").read_text()
    fewer = [word.replace("grid,random,hyperopt", "random,hyperopt") for word in command]
    assert hpo(*fewer, "min_effect=0.02", "seeds=3") == 0
    assert "Exploratory" in capsys.readouterr().out
    assert (folder / "report.md").read_text() == said_before
    assert (folder.parent / "hyperopt-random" / "report.html").exists()


def test_levels_are_ranked_over_tasks(
    hpo: Callable[..., int], workdir: Path, store: tuple[Any, str], capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = ("iris", "wine", "diabetes")
    command = ("compare", "strategies=[grid,random]", f"tasks=[{','.join(tasks)}]", "seeds=2", "executor=inline")
    study = ("model=knn", "limits.n_trials=2", "limits.timeout_seconds=null", "executor.threads_per_trial=1")
    assert hpo(*command, *study) == 2  # a classifier cannot predict a real target; refused before training
    assert not (workdir / "hpo_runs" / "studies").exists()
    command = (*command[:2], "tasks=[iris,wine]", *command[3:])
    capsys.readouterr()
    assert hpo(*command, *study) == 0
    said = capsys.readouterr().out
    means: dict[str, dict[str, list[float]]] = {}
    for run in (run for run in all_runs(*store) if run.data.tags["hpo.kind"] == "study"):
        of_task = means.setdefault(run.data.tags["hpo.dataset"], {})
        of_task.setdefault(run.data.tags["hpo.strategy"], []).append(run.data.metrics["test_accuracy"])
    assert {task: {level: len(of) for level, of in levels.items()} for task, levels in means.items()} == {
        task: {"grid": 2, "random": 2} for task in ("iris", "wine")
    }
    (folder,) = (workdir / "hpo_runs" / "comparisons").glob("*-over-dataset/iris-wine")
    page = read_page(folder / "report.html")
    headings, *rows = page.tables["ranks"]
    ranks: dict[str, list[float]] = {}
    for task, _, *cells in rows[:-1]:
        for level, cell in zip(headings[2:], cells, strict=True):
            mean = sum(means[task][level]) / 2
            other = sum(means[task]["random" if level == "grid" else "grid"]) / 2
            rank = 1.5 if mean == pytest.approx(other) else 1 if mean > other else 2
            assert cell == f"{mean:.4f} ({rank:g})"
            ranks.setdefault(level, []).append(rank)
    assert rows[-1][2:] == [f"{sum(ranks[level]) / 2:.2f}" for level in headings[2:]]
    assert page.verdict in " ".join(said.split())
    assert page.verdict in (folder / "report.md").read_text()
    capsys.readouterr()
    assert hpo(*command, *study) == 0
    assert capsys.readouterr().out.count("4 of 4 studies have already finished") == 2


def test_missing_studies_are_named_with_their_command(
    hpo: Callable[..., int], store: tuple[Any, str], capsys: pytest.CaptureFixture[str]
) -> None:
    def refused() -> str:
        assert hpo("compare", "experiment=hpo") == 2
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return captured.err

    study = ("model=svm", "dataset=breast_cancer", "limits.n_trials=2", "executor.threads_per_trial=1")
    assert "no studies" in refused()
    assert hpo(*study, "strategy=random", "seed=0", "study=a") == 0
    said = refused()
    assert "at least two levels of strategy; all comparable studies have random" in said
    assert "python -m hpo compare by=strategy 'levels=[random,…]' model=svm dataset=breast_cancer" in said
    assert hpo(*study, "strategy=optuna", "seed=0", "study=b") == 0
    said = refused()
    assert "present: optuna: 0; random: 0" in said
    # A study with another budget does not count.
    assert hpo(*study, "strategy=optuna", "seed=1", "study=c", "limits.n_trials=3") == 0
    said = refused()
    assert re.search(r"left out: c: it differs in .*limits.n_trials \(3, not 2\)", said)
    # Nor does an unfinished study, as a killed driver leaves it.
    assert hpo(*study, "strategy=random", "seed=1", "study=d") == 0
    (run,) = [run for run in all_runs(*store) if run.info.run_name == "d"]
    store[0].set_tag(run.info.run_id, "hpo.state", "running")
    said = refused()
    assert "left out: d: it is running; python -m hpo resume d" in said
    # The suggested commands work.
    commands = re.search(r"(python -m hpo .*)", said.splitlines()[-1])
    assert commands is not None
    for command in commands.group(1).split("; "):
        assert hpo(*shlex.split(command)[3:]) == 0
    capsys.readouterr()
    assert hpo("compare", "experiment=hpo") == 0
    captured = capsys.readouterr()
    assert "left out: c" in captured.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("by=model.dropout", "levels=[0.0,0.5]", "model=mnist_cnn"), "'~search_space.dropout'"),
        (("by=max_epochs", "levels=[3,9]", "model=mnist_cnn"), "strategy.pruner.n_warmup_steps"),
        (("by=executor.workers", "levels=[1,2]", "model=svm"), "a key that defines a study"),
        (("by=objective.metric", "levels=[val_loss,val_accuracy]", "model=svm"), "the same score"),
    ],
)
def test_incomparable_levels_are_refused_before_training(
    words: tuple[str, ...], said: str, hpo: Callable[..., int], workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hpo("compare", *words, "dataset=digits") == 2
    assert said in capsys.readouterr().err
    assert not (workdir / "hpo_runs" / "studies").exists()


def wait_for(condition: Callable[[], bool], seconds: float = 1800.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.timeout(600)
def test_killed_comparison_is_resumed(workdir: Path, store: tuple[Any, str]) -> None:
    study = ("model=svm", "dataset=digits", "limits.n_trials=4", "executor.threads_per_trial=1")
    kill_and_resume(workdir, store, ["strategies=[random,optuna]", "seeds=2", *study], "mine-optuna-s0", 4 * 4)
    ledger = json.loads((workdir / "hpo_runs" / "comparisons" / "looks.json").read_text())
    assert [[each["seeds"] for each in own] for own in ledger.values()] == [[[0, 1]]]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_four_strategies_on_a_cnn_with_five_seeds(workdir: Path, store: tuple[Any, str]) -> None:
    study = ("model=mnist_cnn", "dataset=digits", "max_epochs=6", "limits.n_trials=6", "limits.timeout_seconds=null")
    words = ["strategies=[grid,random,optuna,hyperopt]", "seeds=5", *study]
    kill_and_resume(workdir, store, words, "mine-optuna-s2", 20 * 6)


def kill_and_resume(workdir: Path, store: tuple[Any, str], words: list[str], during: str, n_trials: int) -> None:
    """Kill a comparison when a trial of the study ``during`` has ended, run the command again, and check everything."""
    command = [sys.executable, "-m", "hpo", "compare", "name=mine", *words]
    outbox = workdir / "hpo_runs" / "studies" / during / "outbox.jsonl"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    wait_for(lambda: outbox.exists() and '"end"' in outbox.read_text())
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "studies have already finished" in done.stdout
    runs = all_runs(*store)
    kinds = Counter(run.data.tags["hpo.kind"] for run in runs)
    names = {run.info.run_name for run in runs if run.data.tags["hpo.kind"] == "study"}
    assert kinds["study"] == len(names)
    assert kinds["comparison"] == 1
    finished = [
        (run.data.tags["mlflow.parentRunId"], run.data.tags["hpo.trial"])
        for run in runs
        if run.data.tags["hpo.kind"] == "trial" and "hpo.superseded" not in run.data.tags
    ]
    assert len(finished) == len(set(finished)) == n_trials
    assert all(run.info.status in ("FINISHED", "FAILED", "KILLED") for run in runs)
    (folder,) = (path for path in (workdir / "hpo_runs" / "comparisons" / "mine").iterdir() if path.is_dir())
    check_report(*store, folder, "hpo.strategy", min_effect=0.01)
