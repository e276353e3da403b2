"""Every strategy on real models with folds: the record in MLflow."""

import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pandas
import pytest

from hpo import config as configs
from hpo.core.states import State, StopReason
from hpo.tracking.reader import StudyRecord, TrialRecord

STRATEGIES = list(configs.options("strategy"))
# One strategy each with rungs, curves, and processes of its library; the full tier trains the network with all.
QUICK = ("keras_hyperband", "optuna", "ray_tune")
FOREST = (
    "model=random_forest",
    "dataset=breast_cancer",
    "model.grow_by=2",
    "search_space.max_features.grid=[0.3]",  # a grid of four
)
NETWORK = (
    "model=mnist_cnn",
    "dataset=digits",
    "search_space.filters={low: 2, high: 4, step: 2, grid: [2]}",
    "search_space.dense_units={low: 8, high: 16, step: 8, grid: [8]}",
    "search_space.batch_size={choices: [128, 256], grid: [256]}",
    "search_space.dropout.grid=[0.2]",
    "search_space.learning_rate.grid=[0.01]",  # a grid of two: adam, and sgd with its momentum
    "model.filters=4",
    "model.dense_units=16",
)
COMMON = ("resampling=stratified_kfold", "resampling.n_splits=3", "executor.threads_per_trial=1", "study=mine")
OUTCOME = {
    "monitor", "patience", "min_delta", "epochs_run", "max_epochs", "stopped_epoch", "best_epoch", "best_value",
    "restored_best_weights", "stop_reason", "epochs_saved",
}  # fmt: skip


def table(client: mlflow.MlflowClient, run_id: str, name: str, folder: Path) -> Path:
    return Path(client.download_artifacts(run_id, name, str(folder)))


def check_record(client: mlflow.MlflowClient, study: StudyRecord, trials: list[TrialRecord], folder: Path) -> None:
    """Check that every complete trial has three folds whose scores, outcomes and curves agree."""
    complete = [trial for trial in trials if trial.state is State.COMPLETE]
    assert complete
    for trial in trials:
        for fold in trial.folds:
            assert set(fold["outcome"]) == OUTCOME
            assert StopReason(fold["outcome"]["stop_reason"])
            assert fold["outcome"]["epochs_run"] >= 1
        curves = pandas.read_parquet(table(client, trial.run_id, "history.parquet", folder / str(trial.number)))
        lengths = curves.groupby("fold")["val_loss"].size()
        assert lengths.to_dict() == {fold["fold"]: fold["outcome"]["epochs_run"] for fold in trial.folds}
        means = curves.groupby("epoch")["val_loss"].mean().iloc[: lengths.min()]
        logged = sorted(client.get_metric_history(trial.run_id, "val_loss"), key=lambda point: point.step)
        assert [point.value for point in logged] == pytest.approx(means.tolist())
    for trial in complete:
        scores = [fold["score"] for fold in trial.folds]
        assert len(scores) == 3
        assert trial.metrics["objective"] == pytest.approx(statistics.fmean(scores))
        assert trial.metrics["objective_std"] == pytest.approx(statistics.stdev(scores))
        assert trial.metrics["objective_se"] == pytest.approx(statistics.stdev(scores) / math.sqrt(3))
        assert [trial.metrics[f"fold_{fold}/score"] for fold in range(3)] == scores
    best = next(t for t in trials if t.number == int(study.tags["hpo.best_trial"]))
    assert best.metrics["objective"] == max(t.metrics["objective"] for t in complete)
    kept = statistics.median(fold["outcome"]["best_epoch"] + 1 for fold in best.folds)
    assert study.metrics["refit_epochs"] == round(kept)
    assert study.tags["hpo.best_model_uri"].startswith("models:/")
    assert 0 < study.metrics["test_accuracy"] <= 1


def check_table(client: mlflow.MlflowClient, study: StudyRecord, trials: list[TrialRecord], folder: Path) -> None:
    """Check that scikit-learn's own results agree with the trials for every candidate and fold."""
    results = pandas.read_csv(table(client, study.run_id, "cv_results.csv", folder))
    names = [name for name in results if name.startswith("param_")]
    seen = []
    for _, row in results.iterrows():
        params = {name.removeprefix("param_"): str(row[name]) for name in names if not pandas.isna(row[name])}
        (trial,) = (t for t in trials if same(params, t.params))
        at_budget = [point_at(client, trial.run_id, fold, row.get("n_resources")) for fold in range(3)]
        assert [row[f"split{fold}_test_score"] for fold in range(3)] == pytest.approx(at_budget)
        seen.append(trial.number)
    assert set(seen) == {trial.number for trial in trials}


def same(params: dict[str, str], others: Any) -> bool:
    def close(a: str, b: str) -> bool:
        try:
            return math.isclose(float(a), float(b))
        except ValueError:
            return a == b

    return set(params) == set(others) and all(close(value, others[name]) for name, value in params.items())


def point_at(client: mlflow.MlflowClient, run_id: str, fold: int, budget: float | None) -> float:
    points = sorted(client.get_metric_history(run_id, f"fold_{fold}/score"), key=lambda point: point.step)
    return next(p.value for p in points if budget is None or p.step == budget)


FOLDS: dict[str, str] = {}


def run_and_check(
    name: str, arguments: tuple[str, ...], n_trials: int, n_expected: int, hpo: Any, read: Any, folder: Path
) -> None:
    assert (
        hpo(f"strategy={name}", *arguments, f"limits.n_trials={n_trials}", "limits.timeout_seconds=900", *COMMON) == 0
    )
    client, study, trials = read("mine")
    assert len(trials) == n_expected
    assert all(trial.state.is_finished for trial in trials)
    assert study.tags["hpo.n_folds"] == "3"
    # All strategies use the same folds.
    assert FOLDS.setdefault(arguments[0], study.tags["hpo.folds_digest"]) == study.tags["hpo.folds_digest"]
    check_record(client, study, trials, folder)
    if name in ("grid", "random", "halving_grid", "halving_random"):
        check_table(client, study, trials, folder)


@pytest.mark.parametrize("name", STRATEGIES)
def test_forest_with_every_strategy(
    name: str, hpo: Callable[..., int], read: Callable[..., Any], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if name.startswith("ray"):
        request.getfixturevalue("one_ray")
    run_and_check(name, (*FOREST, "max_epochs=3"), 4, 4, hpo, read, tmp_path)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in STRATEGIES])
def test_network_with_every_strategy(
    name: str, hpo: Callable[..., int], read: Callable[..., Any], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if name.startswith("ray"):
        request.getfixturevalue("one_ray")
    n_expected = 2 if "grid" in name else 3
    run_and_check(name, (*NETWORK, "max_epochs=3"), 3, n_expected, hpo, read, tmp_path)


def test_equal_params_have_equal_fold_scores_with_every_strategy(
    hpo: Callable[..., int], read: Callable[..., Any], tmp_path: Path
) -> None:
    found: dict[str, dict[str, list[float]]] = {}
    for name in ("grid", "keras_grid", "halving_grid"):
        arguments = ["model=svm", "dataset=breast_cancer", "limits.n_trials=28", "max_epochs=1"]
        assert hpo(f"strategy={name}", *arguments, *COMMON[:-1], f"study={name}") == 0
        _, _, trials = read(name)
        assert len(trials) == 28
        found[name] = {
            json.dumps(dict(sorted(trial.params.items()))): [fold["score"] for fold in trial.folds] for trial in trials
        }
    assert found["grid"] == found["keras_grid"] == found["halving_grid"]
    params = {"C": 1.0, "kernel": "rbf", "gamma": 0.03}
    for name in ("optuna", "hyperopt", "hill_climbing"):
        enqueued = "enqueue=[{C: 1.0, kernel: rbf, gamma: 0.03}]"
        arguments = ["model=svm", "dataset=breast_cancer", "limits.n_trials=1", "max_epochs=1", enqueued]
        assert hpo(f"strategy={name}", *arguments, *COMMON[:-1], f"study={name}") == 0
        _, _, (trial,) = read(name)
        key = json.dumps({name: str(params[name]) for name in sorted(params)})
        assert [fold["score"] for fold in trial.folds] == found["grid"][key]


def test_several_objectives_give_a_pareto_front(
    hpo: Callable[..., int], read: Callable[..., Any], tmp_path: Path
) -> None:
    arguments = ["strategy=optuna_nsga2", *FOREST, "max_epochs=3", "limits.n_trials=8", *COMMON]
    assert hpo(*arguments, "+objective.others.n_weights=minimize", "+objective.others.predict_seconds=minimize") == 0
    client, study, trials = read("mine")
    front = pandas.read_csv(table(client, study.run_id, "pareto_front.csv", tmp_path))
    tagged = {trial.number for trial in trials if trial.tags.get("hpo.pareto") == "true"}
    assert set(front["trial"]) == tagged != set()
    names = ("objective", "objective_n_weights", "objective_predict_seconds")
    values = {trial.number: [trial.metrics[name] for name in names] for trial in trials}
    assert all(value[1] >= 1 and value[2] > 0 for value in values.values())
    for number, own in values.items():
        beaten = any(
            other[0] >= own[0] and other[1] <= own[1] and other[2] <= own[2] and other != own
            for other in values.values()
        )
        assert beaten is (number not in tagged)
    assert study.tags["hpo.best_trial"] in map(str, tagged)
