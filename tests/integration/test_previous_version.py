"""Studies that the previous version recorded can still be listed, shown, compared and resumed.

``tests/data/previous_version.tar.gz`` is such a store: of Keras's binary MLP, and of a comparison of two strategies,
without plots and models. Its database is a dump, with ``@FOLDER@`` in the place of the working folder.
"""

import importlib.metadata
import json
import re
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PACKED = Path(__file__).resolve().parent.parent / "data" / "previous_version.tar.gz"
COMPARED = (
    "strategies=[random,optuna]",
    "seeds=2",
    "model=decision_tree",
    "dataset=iris",
    "resampling=stratified_kfold",
    "resampling.n_splits=3",
    "limits.n_trials=3",
    "executor.threads_per_trial=1",
)
STUDIES = {"mlp", *(f"cmp-1029c3057b-{strategy}-s{seed}" for strategy in ("random", "optuna") for seed in (0, 1))}


@pytest.fixture
def earlier(workdir: Path) -> Path:
    """A working folder with the store of the previous version."""
    folder = workdir / "hpo_runs"
    (folder / "mlflow.db").unlink()
    with tarfile.open(PACKED) as packed:
        packed.extractall(workdir, filter="data")
    dump = (folder / "mlflow.sql").read_text(encoding="utf-8").replace("@FOLDER@", str(workdir))
    with sqlite3.connect(folder / "mlflow.db") as connection:
        connection.executescript(dump)
    connection.close()
    for path in folder.glob("artifacts/*/artifacts/fingerprint.json"):
        _take_installed_versions(path, '"')
    for path in folder.glob("studies/*/outbox.jsonl"):
        _take_installed_versions(path, r"\"")
        path.with_name("delivered").write_text(f"{path.stat().st_size:020}")
    return workdir


def _take_installed_versions(path: Path, quote: str) -> None:
    """The tests are about the form of an identity, whatever versions they run with."""
    text = path.read_text(encoding="utf-8")
    for name in ("hpo", "keras", "tensorflow", "numpy", "scikit-learn", "optuna"):
        pattern = re.escape(f"{quote}{name}{quote}: {quote}") + r"\d[\w.]*"
        installed = f"{quote}{name}{quote}: {quote}{importlib.metadata.version(name)}"
        text, n_replaced = re.subn(pattern, installed.replace("\\", r"\\"), text)
        assert n_replaced
    path.write_text(text, encoding="utf-8")


@pytest.mark.usefixtures("earlier")
def test_earlier_studies_are_listed_and_shown(hpo: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> None:
    assert hpo("list") == 0
    listed = capfd.readouterr().out
    assert {name for name in STUDIES if name in listed} == STUDIES
    for name, n_trials in (("mlp", 2), ("cmp-1029c3057b-optuna-s1", 3)):
        assert hpo("trials", name) == 0
        shown = capfd.readouterr().out
        assert all(re.search(rf"(?m)^\W*{number}\b", shown) for number in range(n_trials)), shown
    assert hpo("best", "cmp-1029c3057b-random-s0") == 0
    assert "max_depth" in capfd.readouterr().out


def test_earlier_comparison_trains_nothing_and_keeps_its_interim_analyses(
    earlier: Path, hpo: Callable[..., int], read: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    before = json.loads((earlier / "hpo_runs/comparisons/looks.json").read_text(encoding="utf-8"))
    assert hpo("compare", *COMPARED) == 0
    shown = capfd.readouterr().out
    assert "4 of 4 studies have already finished" in shown
    after = json.loads((earlier / "hpo_runs/comparisons/looks.json").read_text(encoding="utf-8"))
    assert after == before  # the same seeds and levels were looked at before
    studies = read()[0].search_runs(["1"], "tags.`hpo.kind` = 'study'")
    assert {study.info.run_name for study in studies} == STUDIES


def test_earlier_and_new_studies_are_compared_together(
    earlier: Path, hpo: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    wanted = [each.replace("seeds=2", "seeds=3") for each in COMPARED]
    assert hpo("compare", *wanted, "executor=inline", "name=cmp-1029c3057b") == 0
    shown = capfd.readouterr().out
    assert "4 of 6 studies have already finished" in shown
    looks = json.loads((earlier / "hpo_runs/comparisons/looks.json").read_text(encoding="utf-8"))
    spent = {(tuple(look["seeds"]), look["spent"]) for found in looks.values() for look in found}
    assert spent == {((0, 1), 0.05), ((0, 1, 2), 0.0)}  # the earlier analysis has spent all of alpha


@pytest.mark.usefixtures("earlier")
def test_earlier_study_is_resumed(
    hpo: Callable[..., int], read: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    name = "cmp-1029c3057b-optuna-s0"
    recorded = {trial.number: trial.params for trial in read(name)[2]}
    assert hpo("resume", name, "limits.n_trials=5") == 0
    assert "3 trials of the record are done" in capfd.readouterr().out
    _, study, trials = read(name)
    assert (len(trials), study.state, "hpo.forced_resume" in study.tags) == (5, "finished", False)
    assert {trial.number: trial.params for trial in trials if trial.number < 3} == recorded
    assert hpo("resume", name, "limits.n_trials=6", "early_stopping.patience=9") == 2
    assert "early_stopping.patience: 3 before, 9 now" in capfd.readouterr().err
