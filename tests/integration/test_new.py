"""The folder that `hpo new` writes: its test passes and the commands of its README work."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=600)


@pytest.fixture
def project(hpo: Callable[..., int], workdir: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert hpo("new", "my_project") == 0
    shown = capsys.readouterr().out
    folder = workdir / "my_project"
    written = {str(path.relative_to(workdir)) for path in folder.rglob("*") if path.is_file()}
    assert {line.removeprefix("wrote ") for line in shown.splitlines() if line.startswith("wrote ")} == written
    assert written == {
        "my_project/README.md",
        "my_project/conf/dataset/my_data.yaml",
        "my_project/conf/model/my_mlp.yaml",
        "my_project/conf/search_space/my_mlp.yaml",
        "my_project/my_data.py",
        "my_project/my_models.py",
        "my_project/test_my_models.py",
    }
    assert "cd my_project && python -m hpo --config-dir=conf model=my_mlp" in shown
    return folder


def commands(folder: Path) -> list[str]:
    (block,) = re.findall(r"```sh\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    return [line for line in block.splitlines() if line.startswith("python")]


def test_test_of_the_project_passes(project: Path) -> None:
    assert commands(project)[0] == "python -m pytest"
    ran = python(project, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 passed" in ran.stdout


def test_commands_of_the_readme_run(
    project: Path,
    hpo: Callable[..., int],
    read: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = {shlex.split(command)[3]: shlex.split(command)[3:] for command in commands(project)[1:]}
    assert list(known) == ["plan", "--config-dir=conf", "resume", "compare", "list", "best", "ui"]
    (project / "hpo_runs").symlink_to(project.parent / "hpo_runs")  # a store with its tables
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(project)
    for name in ("my_models", "my_data"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    short = ("max_epochs=2", "executor.threads_per_trial=1")
    assert hpo(*known["plan"]) == 0
    assert hpo(*(word.replace("n_trials=10", "n_trials=2") for word in known["--config-dir=conf"]), *short) == 0
    assert hpo(*(word.replace("n_trials=20", "n_trials=3") for word in known["resume"])) == 0
    _, study, trials = read("my_project")
    assert (study.tags["hpo.model"], study.tags["hpo.dataset"], len(trials)) == ("my_mlp", "my_data", 3)
    assert study.metrics["test_accuracy"] > 0
    for name in ("list", "best"):
        capsys.readouterr()
        assert hpo(*known[name]) == 0
        assert "my_project" in capsys.readouterr().out
    changed = {"seeds=3": "seeds=2", "limits.n_trials=10": "limits.n_trials=1"}
    words = [changed.get(word, word) for word in known["compare"]]
    assert hpo(*words, *short, "executor=inline") == 0
    assert "random" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("my-project", "new my_project"),
        ("my project", "new my_project"),
        ("class", "new my_class"),
        ("1st", "new my_1st"),
        ("übung", "new bung"),
        ("...", "new my_project"),
        ("under/my-project", "new under/my_project"),
    ],
)
def test_invalid_package_name_is_refused_with_a_valid_one(
    name: str, fix: str, hpo: Callable[..., int], workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hpo("new", name) == 2
    assert fix in capsys.readouterr().err
    assert [path.name for path in workdir.iterdir()] == ["hpo_runs"]


def test_existing_files_are_not_overwritten(
    hpo: Callable[..., int], workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workdir / "mine").mkdir()
    (workdir / "mine" / "notes").write_text("keep")
    (workdir / "a_file").write_text("keep")
    for name in ("mine", "a_file", "a_file/inside"):
        assert hpo("new", name) == 2
        assert "error: new =" in capsys.readouterr().err
    assert [path.name for path in (workdir / "mine").iterdir()] == ["notes"]
    (workdir / "empty").mkdir()
    assert hpo("new", str(workdir / "empty")) == 0
    assert (workdir / "empty" / "my_models.py").exists()
