"""Unmodified Optuna objectives as studies with complete records."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpo.tracking.reader import find_trial_runs, load_text


def objective(name: str, *arguments: str) -> tuple[str, ...]:
    return ("model=optuna_objective", f"model.objective=objectives.{name}", "executor.threads_per_trial=1", *arguments)


PRUNED = objective("simple_pruning", "objective.metric=val_error", "strategy/pruner=median", "study=mine")
SIMPLE = objective("sklearn_simple", "objective.metric=accuracy", "objective.direction=maximize", "study=mine")


@pytest.mark.parametrize("executor", ["inline", "local"])
@pytest.mark.parametrize("strategy", ["optuna", "optuna_random"])
def test_objective_with_conditional_params_runs_unmodified(
    strategy: str, executor: str, hpo: Callable[..., int], read: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    assert hpo(*SIMPLE, f"strategy={strategy}", f"executor={executor}", "limits.n_trials=8") == 0
    assert "no test score and no logged model" in capfd.readouterr().out
    client, study, trials = read("mine")
    assert [trial.state for trial in trials] == ["COMPLETE"] * 8
    names = {"SVC": "svc_c", "RandomForest": "rf_max_depth"}
    assert {trial.params["classifier"] for trial in trials} == set(names)
    for trial in trials:
        assert set(trial.params) == {"classifier", names[trial.params["classifier"]]}
        assert (
            set(json.loads(trial.tags["hpo.params"])) == set(json.loads(trial.tags["hpo.domains"])) == set(trial.params)
        )
        assert 0.3 < trial.value <= 1
    best = next(t for t in trials if str(t.number) == study.tags["hpo.best_trial"])
    assert best.value == max(trial.value for trial in trials)
    # The study has no data of its own: nothing is refitted or tested.
    assert (study.tags["hpo.dataset"], study.tags["hpo.resampling"], study.tags["hpo.n_folds"]) == ("own", "own", "1")
    assert not {"hpo.best_model_uri", "hpo.tested_trial", "hpo.problems"} & {k for k, v in study.tags.items() if v}
    assert not any(name.startswith(("test_", "refit_")) for name in study.metrics)
    found = yaml.safe_load(load_text(client, study, "search_space.yaml"))
    assert found["rf_max_depth"] == {"type": "int", "low": 2, "high": 32, "log": True}
    plots = {Path(file.path).stem for file in client.list_artifacts(study.run_id, "plots")}
    assert {"optimization_history", "parallel_coordinates", "param_importances"} <= plots


@pytest.mark.parametrize("executor", ["inline", "local"])
def test_reporting_objective_is_pruned_and_its_history_is_recorded(
    executor: str, hpo: Callable[..., int], read: Callable[..., Any]
) -> None:
    workers = ["executor.workers=2"] if executor == "local" else []
    assert hpo(*PRUNED, f"executor={executor}", *workers, "strategy=optuna", "limits.n_trials=14") == 0
    client, study, trials = read("mine")
    by_state = {state: [t for t in trials if t.state == state] for state in ("COMPLETE", "PRUNED")}
    assert sum(map(len, by_state.values())) == 14
    assert by_state["PRUNED"]
    for trial in trials:
        points = client.get_metric_history(trial.run_id, "val_error")
        (fold,) = trial.folds
        # Steps are those that the objective reports.
        steps = sorted(point.step for point in points)
        assert steps == list(range(0, 60, 5))[: fold["outcome"]["epochs_run"]]
        assert fold["outcome"]["monitor"] == "val_error"
        if trial.state == "COMPLETE":
            assert len(steps) == 12
            assert trial.value == max(points, key=lambda point: point.step).value
        else:
            assert (trial.value, trial.stop_reason, fold["outcome"]["epochs_saved"]) == (None, "pruned", 0)
    assert study.metrics["epochs_total"] == sum(len(client.get_metric_history(t.run_id, "at_step")) for t in trials)


def test_failures_have_different_reasons_and_the_search_continues(
    hpo: Callable[..., int], read: Callable[..., Any]
) -> None:
    limits = ("limits.n_trials=9", "limits.max_consecutive_failures=null")
    assert hpo(*objective("wrong", "strategy=optuna_random", "study=mine"), *limits) == 0
    client, _, trials = read("mine")
    errors = [trial.tags.get("hpo.error", "") for trial in trials]
    for text, expected in zip(
        errors, ["asked for", "trial.study is not there", "not None", "returned 2 values", "not finite"], strict=False
    ):
        assert expected in text
    assert [trial.state for trial in trials] == ["FAIL"] * 5 + ["PRUNED", "COMPLETE", "FAIL", "FAIL"]
    # A parameter that changes its type between trials is refused.
    assert all(text.startswith("SuggestionRefused") for text in errors[7:])
    for trial in (trials[0], trials[7]):
        assert [file.path for file in client.list_artifacts(trial.run_id)] == ["traceback_fold_0.txt"]


def test_user_attributes_and_several_objectives_are_recorded(hpo: Callable[..., int], read: Callable[..., Any]) -> None:
    assert hpo(*objective("layered", "strategy=optuna_random", "limits.n_trials=4", "study=notes")) == 0
    client, _, trials = read("notes")
    for trial in trials:
        n = int(trial.params["n"])
        assert set(trial.params) == {"n", *(f"y{i}" for i in range(n))}
        assert float(trial.tags["user.total"]) == trial.value
        (note,) = client.list_artifacts(trial.run_id, "user")
        assert note.file_size > 5000
    two = objective("two_values", "strategy=optuna_nsga2", "+objective.others={rest: minimize}", "study=two")
    assert hpo(*two, "limits.n_trials=3") == 0
    for trial in read("two")[2]:
        assert trial.metrics["objective_rest"] == pytest.approx(1 - trial.value)
        assert trial.tags["hpo.pareto"] == "true"


def test_study_supports_all_commands_but_compare(
    hpo: Callable[..., int], read: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    assert hpo("plan", *PRUNED) == 0
    assert "while it runs" in capfd.readouterr().out
    assert hpo(*PRUNED, "limits.n_trials=3") == 0
    assert hpo("resume", "mine") == 2
    assert "limits.n_trials=6, or study=another" in capfd.readouterr().err
    assert hpo("resume", "mine", "limits.n_trials=5") == 0
    assert hpo("list") == 0
    capfd.readouterr()
    assert hpo("trials", "mine") == 0
    shown = capfd.readouterr().out
    assert "does not train for a planned number of epochs" in shown
    assert "saved by early stopping" not in shown
    assert hpo("best", "mine") == 0
    (command,) = [line for line in capfd.readouterr().out.splitlines() if line.startswith("python -m hpo ")]
    words = [word for word in shlex.split(command)[3:] if not word.startswith("study=")]
    assert hpo(*words, "study=again") == 0
    _, study, trials = read("mine")
    (again,) = read("again")[2]
    best = next(t for t in trials if str(t.number) == study.tags["hpo.best_trial"])
    assert (again.params, again.value) == (best.params, best.value)
    capfd.readouterr()
    assert hpo("compare", "strategies=[optuna,optuna_random]", "seeds=2", *PRUNED[:-1]) == 2
    shown = capfd.readouterr()
    assert "an objective has no test data" in shown.err
    assert "study 1 of 4" not in shown.out


@pytest.mark.parametrize("n_workers", [1, 2])
def test_killed_study_resumes_with_the_same_values(
    n_workers: int, hpo: Callable[..., int], read: Callable[..., Any], workdir: Path
) -> None:
    local = ["executor=local", f"executor.workers={n_workers}", "strategy=optuna_random", "limits.n_trials=6"]
    arguments = objective("slow", *local)
    command = [sys.executable, "-m", "hpo", *arguments, "study=mine"]
    outbox = workdir / "hpo_runs" / "studies" / "mine" / "outbox.jsonl"
    with (workdir / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=workdir, stdout=log, stderr=log, env={**os.environ})
    try:
        # Kill it while the third trial trains, after its first parameter is recorded.
        while not (outbox.exists() and '["trial-0002", "batch", {"metrics"' in outbox.read_text()):
            assert process.poll() is None, (workdir / "log").read_text()
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    assert hpo("resume", "mine", "executor=local") == 0
    client, study, trials = read("mine")
    assert (study.state, len(trials)) == ("finished", 6)
    assert [trial.number for trial in trials] == list(range(6))
    runs = find_trial_runs(client, study.experiment_id, study.run_id)
    by_attempt = {(int(r.data.tags["hpo.trial"]), int(r.data.tags["hpo.attempt"])): r for r in runs}
    repeated = [number for number, attempt in by_attempt if attempt]
    assert 1 <= len(repeated) <= n_workers
    for number in repeated:
        cut, whole = by_attempt[number, 0], by_attempt[number, 1]
        assert cut.data.tags["hpo.superseded"] == "true"
        assert cut.data.params.items() <= whole.data.params.items()
    if n_workers == 1:
        assert cut.data.params == whole.data.params  # all params were requested before the kill
        assert hpo(*arguments, "study=whole") == 0
        assert [(t.params, t.value) for t in read("whole")[2]] == [(t.params, t.value) for t in trials]


def test_retried_trial_gets_the_same_params(hpo: Callable[..., int], read: Callable[..., Any]) -> None:
    assert hpo(*objective("killed_once", "executor=local", "limits.n_trials=2", "study=mine")) == 0
    client, study, trials = read("mine")
    assert [trial.state for trial in trials] == ["COMPLETE"] * 2
    runs = find_trial_runs(client, study.experiment_id, study.run_id)
    first = {r.data.tags["hpo.attempt"]: r.data.params for r in runs if r.data.tags["hpo.trial"] == "0"}
    assert set(first["0"]) == {"x"}
    assert first["1"]["x"] == first["0"]["x"]
    assert set(first["1"]) == {"x", "y"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("model=optuna_objective",), "model.objective"),
        (objective("nothing"), "model.objective = objectives.nothing"),
        (objective("takes_more"), "a trial and nothing else"),
        ((*SIMPLE, "strategy=grid"), "asks for its params while it runs"),
        ((*SIMPLE, "strategy=keras_hyperband"), "asks for its params while it runs"),
        ((*SIMPLE, "resampling=kfold"), "own, since model=optuna_objective loads and splits its data itself"),
        ((*SIMPLE, "dataset=iris"), "own, since model=optuna_objective loads its data itself"),
        ((*SIMPLE, "search_space=svm"), "asks for its own while it runs"),
        ((*SIMPLE, "early_stopping.patience=3"), "null, since model=optuna_objective trains by itself"),
        ((*SIMPLE, "objective.direction=minimize"), "objective.direction"),
        ((*SIMPLE, "+objective.others={rest: minimize}"), "strategy=optuna prunes"),
        (("model=svm", "dataset=own"), "data to train on, since model=svm loads none itself"),
        (("model=svm", "resampling=own"), "folds of the study, since model=svm does not split its data itself"),
    ],
)
def test_incompatible_option_is_refused_before_training(
    options: tuple[str, ...], message: str, hpo: Callable[..., int], capsys: pytest.CaptureFixture[str], workdir: Path
) -> None:
    assert hpo(*options) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("expected:") == 1
    assert not list((workdir / "hpo_runs" / "studies").glob("*/outbox.jsonl"))
