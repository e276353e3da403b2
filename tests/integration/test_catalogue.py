"""Every model on its own dataset, under three strategies, with hold-out and folds: its records in MLflow."""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas
import pytest
from conftest import real_data
from contract.test_configs import BEGIN_FROM_A_STUDY, NEEDED, compose

from hpo import config as configs
from hpo.core.objective import metric_direction
from hpo.core.states import State, StopReason

# Objectives load their own data; see test_optuna_objectives.py.
MODELS = [name for name in configs.options("model") if name != "optuna_objective"]
STRATEGIES = ("random", "optuna", "keras_random")
RESAMPLINGS = ("holdout", "folds")
# Models with data from a file, and the options that name it.
FILES = {"sequence_regressor": ("data/timeseries/daily-min-temperatures.csv", "dataset.target=Temp")}
# Models with data in order of time, and the resampling for it.
FOLDS = {"sequence_regressor": "time_series"}
N_ROWS = 240


def cases() -> list[Any]:
    """All combinations; only one strategy and one resampling per model are not marked slow."""
    made = []
    for place, model in enumerate(MODELS):
        for strategy in STRATEGIES:
            for resampling in RESAMPLINGS:
                is_quick = strategy == STRATEGIES[place % 3] and resampling == RESAMPLINGS[place // 3 % 2]
                marks = () if is_quick else (pytest.mark.slow,)
                name = f"{model}-{strategy}-{resampling}"
                made.append(pytest.param(model, strategy, resampling, marks=marks, id=name))
    return made


@pytest.mark.parametrize(("model", "strategy", "resampling"), cases())
def test_study_of_a_model_is_recorded_completely(
    model: str,
    strategy: str,
    resampling: str,
    hpo: Callable[..., int],
    read: Callable[..., Any],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    if model in BEGIN_FROM_A_STUDY:
        request.getfixturevalue("with_base")
    arguments = [f"model={model}", f"strategy={strategy}", "limits.n_trials=2", "limits.timeout_seconds=null"]
    arguments += ["max_epochs=2", "executor.threads_per_trial=1", "study=mine"]
    n_folds = 1
    if resampling == "folds":
        arguments += [f"resampling={FOLDS.get(model, 'kfold')}", "resampling.n_splits=2"]
        n_folds = 2
    assert hpo(*arguments, *reduced(model, request)) == 0
    client, study, trials = read("mine")
    assert [trial.state for trial in trials] == [State.COMPLETE] * 2, [t.tags.get("hpo.error") for t in trials]
    metric = study.tags["hpo.objective"].split()[1]
    for trial in trials:
        assert trial.params
        assert [fold["fold"] for fold in trial.folds] == list(range(n_folds))
        scores = [fold["score"] for fold in trial.folds]
        assert trial.metrics["objective"] == pytest.approx(statistics.fmean(scores))
        for fold in trial.folds:
            outcome = fold["outcome"]
            assert StopReason(outcome["stop_reason"]).state is State.COMPLETE
            assert 1 <= outcome["epochs_run"] <= 2
            assert outcome["best_epoch"] is not None
        curve = client.get_metric_history(trial.run_id, metric)
        assert len(curve) == min(fold["outcome"]["epochs_run"] for fold in trial.folds)
    values = [trial.metrics["objective"] for trial in trials]
    best = next(trial for trial in trials if trial.number == int(study.tags["hpo.best_trial"]))
    assert best.metrics["objective"] == (max if metric_direction(metric) == "maximize" else min)(values)
    assert study.tags["hpo.problems"] == ""
    assert f"test_{metric.removeprefix('val_')}" in study.metrics
    loaded = mlflow.pyfunc.load_model(study.tags["hpo.best_model_uri"])
    predicted = np.asarray(loaded.predict(loaded.input_example))
    assert len(predicted) == 2
    assert predicted.ndim <= 2  # one prediction per row, also for a network with several outputs
    folds = pandas.read_parquet(client.download_artifacts(study.run_id, "tables/folds.parquet", str(tmp_path)))
    assert len(folds) == 2 * n_folds
    folder = Path(client.download_artifacts(study.run_id, "test", str(tmp_path)))
    predictions = pandas.read_parquet(folder / "predictions.parquet")
    if "test_accuracy" in study.metrics:
        assert (predictions["target"] == predictions["predicted"]).mean() == pytest.approx(
            study.metrics["test_accuracy"], abs=1e-6
        )
    else:
        errors = (predictions["target"] - predictions["predicted"]).abs()
        assert errors.mean() == pytest.approx(study.metrics["test_mae"], rel=1e-4)


def reduced(model: str, request: pytest.FixtureRequest) -> list[str]:
    """Overrides that reduce the rows of a model's own dataset."""
    options = list(NEEDED.get(f"model={model}", ()))
    if model in FILES:
        path, *more = FILES[model]
        options += more
        options.append(f"dataset.path={real_data(path)}")
    dataset = dict(compose(f"model={model}", *options)["dataset"])
    target = dataset["_target_"]
    if any(name in target for name in ("mnist", "imdb")):
        request.getfixturevalue("keras_home_with_data")
    fewer = ["dataset._target_=small.load", f"+dataset.inner={target}", f"+dataset.n_rows={N_ROWS}"]
    return [*options, *fewer, *(["dataset.fallback=null"] if "fallback" in dataset else [])]
