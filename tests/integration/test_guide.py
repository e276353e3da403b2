"""Every line of code in docs/your-own.md runs: the searches before, and the studies after."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "your-own.md").read_text(encoding="utf-8")
BEFORE = re.findall(r"^```python before\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
N_FILES = 12
COMMANDS = re.findall(r"^python -m hpo (.*)$", GUIDE, re.MULTILINE)
# Model of each command → the names of its params, and the number of its trials.
EXPECTED = {
    "digit_mlp": ({"units", "learning_rate", "batch_size"}, 2),
    "keras_tuner": ({"units", "optimizer"}, 2),
    "my_svc": ({"kernel", "C", "gamma"}, 6),
    "optuna_objective": ({"units", "optimizer", "momentum"}, 2),
    "my_mlp": ({"units", "optimizer", "momentum"}, 2),
}


@pytest.fixture
def folder(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the guide."""
    files = re.findall(r"^`([\w/]+\.\w+)`\n\n```\w+\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
    assert len(files) == N_FILES
    for name, text in files:
        path = workdir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(workdir)
    for name, _ in files:
        monkeypatch.delitem(sys.modules, Path(name).stem, raising=False)
    return workdir


def test_every_code_block_of_the_guide_is_tested() -> None:
    assert len(BEFORE) == 3
    assert len(COMMANDS) == len(EXPECTED)
    assert len(re.findall(r"^```\w+", GUIDE, re.MULTILINE)) == N_FILES + len(BEFORE) + len(COMMANDS)


@pytest.mark.parametrize("code", BEFORE, ids=["keras_tuner", "sklearn", "optuna"])
def test_search_before_runs_as_written(code: str, folder: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=EXPECTED)
def test_study_after_runs_as_written(
    command: str, folder: Path, hpo: Callable[..., int], read: Callable[..., Any]
) -> None:
    words = [word.replace("n_trials=20", "n_trials=2") for word in shlex.split(command)]
    assert hpo(*words, "max_epochs=3", "executor.threads_per_trial=1") == 0
    _, study, trials = read()
    names, n = EXPECTED[study.tags["hpo.model"]]
    assert len(trials) == n
    for trial in trials:
        assert set(trial.params) <= names
        assert trial.value is not None or trial.state == "PRUNED"
    if study.tags["hpo.model"] == "digit_mlp":
        assert study.metrics["test_accuracy"] > 0.5
    has_model = study.tags["hpo.model"] != "optuna_objective"
    assert any(name.startswith("test_") for name in study.metrics) is has_model
