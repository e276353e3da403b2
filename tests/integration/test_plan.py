"""``plan`` and ``strategies``: what people see before a trial."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hpo import config as configs
from hpo.tracking.reader import list_studies
from hpo.tracking.store import open_store


@pytest.fixture
def planned(hpo: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def plan(*arguments: str) -> str:
        assert hpo("plan", *arguments) == 0
        return capsys.readouterr().out

    return plan


def test_plan_shows_grid_cost_without_training(planned: Callable[..., str]) -> None:
    out = planned(
        "strategy=grid", "dataset=digits", "resampling=stratified_kfold", "limits.n_trials=40", "max_epochs=7"
    )
    for line in (
        r"space +continuous",
        r"grid +32",
        r"trials +at most 32",
        r"folds +5 per trial",
        r"fits +at most 160, plus the refit of the winner",
        r"epochs +at most 1,120",
        r"momentum +0 … 0.95 +0.9 +optimizer is sgd",
    ):
        assert re.search(line, out), out
    client, experiment = open_store("sqlite:///hpo_runs/mlflow.db", "hpo", Path("hpo_runs"))
    assert list_studies(client, experiment) == []


def test_plan_shows_the_rungs_that_the_study_uses(
    planned: Callable[..., str], hpo: Callable[..., int], read: Callable[..., object]
) -> None:
    arguments = ("model=random_forest", "dataset=breast_cancer", "model.grow_by=2", "max_epochs=9", "limits.n_trials=9")
    out = planned("strategy=halving_random", *arguments)
    rungs = [tuple(map(int, found)) for found in re.findall(r"^ +0 +(\d+) +(\d+) trees +\d+ *$", out, re.M)]
    assert rungs == [(9, 2), (3, 6), (1, 18)]
    assert hpo("strategy=halving_random", *arguments, "study=mine", "executor.threads_per_trial=1") == 0
    _, _, trials = read("mine")  # type: ignore[misc]
    epochs = sorted((fold["outcome"]["epochs_run"] for trial in trials for fold in trial.folds), reverse=True)
    assert epochs == [9, 3, 3, 1, 1, 1, 1, 1, 1]
    states = [trial.state.value for trial in trials]
    assert (states.count("COMPLETE"), states.count("PRUNED")) == (1, 8)


def test_budget_of_models_without_epochs_is_in_rows(planned: Callable[..., str]) -> None:
    out = planned("strategy=halving_random", "model=svm", "limits.n_trials=9")
    assert re.search(r"9 +11% of the training rows", out)
    assert re.search(r"1 +all training rows", out)


def test_strategies_command_lists_every_strategy(hpo: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert hpo("strategies", "--markdown") == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [re.match(r"\| `(\w+)` \|", row).group(1) for row in rows] == list(configs.options("strategy"))  # type: ignore[union-attr]
    assert not any("not installed" in row for row in rows)
    assert hpo("strategies") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in configs.options("strategy"))
