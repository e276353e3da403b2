"""The record of a trial in MLflow, compared with Keras's own objects of the same training."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import pytest

from hpo.tracking.reader import load_history

KERAS_METRICS = {"loss", "accuracy", "val_loss", "val_accuracy"}


@dataclass
class Training:
    """Keras's own objects of one call of ``fit``."""

    history: dict[str, list[float]]
    stopping: keras.callbacks.EarlyStopping


# What Keras's own callback is given, beside the study's; a test may change it.
STOPPING: dict[str, Any] = {"patience": 3, "min_delta": 0.0, "mode": "min"}


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Training]]:
    """Keras's own ``History`` and ``EarlyStopping`` of every training, in order."""
    kept: list[Training] = []
    fit = keras.Model.fit

    def spy(model: keras.Model, *args: Any, **options: Any) -> keras.callbacks.History:
        stopping = keras.callbacks.EarlyStopping(restore_best_weights=True, **STOPPING)
        history = fit(model, *args, **{**options, "callbacks": [*options["callbacks"], stopping]})
        kept.append(Training({k: [float(v) for v in values] for k, values in history.history.items()}, stopping))
        return history

    monkeypatch.setattr(keras.Model, "fit", spy)
    yield kept


def same(recorded: float, kept: float) -> bool:
    return recorded == kept or (math.isnan(recorded) and math.isnan(kept))


def check(read: Callable[..., Any], trainings: list[Training], overrides: dict[str, Any]) -> list[Any]:
    client, _, trials = read()
    assert len(trials) == len(trainings)
    for trial, training in zip(trials, trainings, strict=True):
        stopping = training.stopping
        n_epochs = len(training.history["loss"])
        assert set(training.history) == KERAS_METRICS
        for metric, kept in training.history.items():
            recorded = load_history(client, trial.run_id, metric)
            assert len(recorded) == n_epochs
            assert all(map(same, recorded, kept)), (metric, recorded, kept)
        (fold,) = trial.folds
        outcome = fold["outcome"]
        assert outcome["monitor"] == stopping.monitor
        assert outcome["patience"] == overrides["patience"] == stopping.patience
        assert outcome["min_delta"] == overrides["min_delta"] == abs(stopping.min_delta)
        assert outcome["epochs_run"] == n_epochs == trial.metrics["epochs_run"]
        assert outcome["max_epochs"] == overrides["max_epochs"]
        assert outcome["best_epoch"] == stopping.best_epoch == trial.metrics["best_epoch"]
        assert same(float(outcome["best_value"]), float(stopping.best))
        assert same(trial.metrics[f"best_{stopping.monitor}"], float(stopping.best))
        # Keras has 0 if it did not stop; the record has no value.
        assert (outcome["stopped_epoch"] or 0) == stopping.stopped_epoch
        assert trial.metrics.get("stopped_epoch", 0) == stopping.stopped_epoch
        assert outcome["restored_best_weights"] is (stopping.best_weights is not None)
        saved = overrides["max_epochs"] - n_epochs if outcome["stop_reason"] in ("early_stopped", "pruned") else 0
        assert outcome["epochs_saved"] == saved == trial.metrics["epochs_saved"]
        assert trial.tags["hpo.stop_reason"] == outcome["stop_reason"] == trial.stop_reason
        assert {f"{phase}_seconds" for phase in ("build", "first_step", "train", "total")} <= set(trial.metrics)
        assert set(trial.params) - {"momentum"} == {
            *("filters", "dense_units", "dropout", "l2", "activation", "kernel_initializer", "optimizer"),
            *("learning_rate", "batch_size"),
        }
        assert ("momentum" in trial.params) is (trial.params["optimizer"] == "sgd")
    return trials


def test_early_stopped_and_whole_trials_are_recorded(
    hpo: Callable[..., int],
    small: tuple[str, ...],
    read: Callable[..., Any],
    trainings: list[Training],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(STOPPING, "patience", 1)
    monkeypatch.setitem(STOPPING, "min_delta", 0.02)
    stopping = ("early_stopping.patience=1", "early_stopping.min_delta=0.02", "strategy/pruner=none")
    assert hpo(*small, *stopping, "max_epochs=6", "limits.n_trials=5", "seed=1") == 0
    trials = check(read, trainings, {"patience": 1, "min_delta": 0.02, "max_epochs": 6})
    assert {t.stop_reason for t in trials} == {"early_stopped", "max_epochs"}
    for trial, training in zip(trials, trainings, strict=True):
        assert trial.state == "COMPLETE"
        kept = training.history["val_accuracy"][training.stopping.best_epoch]
        assert trial.value == trial.folds[0]["score"] == kept


def test_pruned_trials_are_recorded(
    hpo: Callable[..., int], small: tuple[str, ...], read: Callable[..., Any], trainings: list[Training]
) -> None:
    pruner = (
        "strategy.pruner.n_startup_trials=1",
        "strategy.pruner.n_min_trials=1",
        "strategy.pruner.n_warmup_steps=0",
    )
    assert hpo(*small, *pruner, "max_epochs=4", "limits.n_trials=6") == 0
    trials = check(read, trainings, {"patience": 3, "min_delta": 0.0, "max_epochs": 4})
    pruned = [t for t in trials if t.state == "PRUNED"]
    assert pruned
    assert all(t.stop_reason == "pruned" and t.value is None and t.metrics["epochs_run"] < 4 for t in pruned)


def test_diverged_trials_are_recorded(
    hpo: Callable[..., int], small: tuple[str, ...], read: Callable[..., Any], trainings: list[Training]
) -> None:
    absurd = (
        "search_space.learning_rate={low: 1e6, high: 1e6, grid: null}",
        "search_space.optimizer={choices: [sgd], grid: null}",
        "model.learning_rate=1e6",
        "model.optimizer=sgd",
    )
    # Without a complete trial the study has failed.
    assert hpo(*small, *absurd, "limits.n_trials=2", "limits.max_consecutive_failures=null") == 1
    trials = check(read, trainings, {"patience": 3, "min_delta": 0.0, "max_epochs": 3})
    assert [t.state for t in trials] == ["FAIL", "FAIL"]
    assert [t.stop_reason for t in trials] == ["diverged", "diverged"]
    assert all("not finite" in t.tags["hpo.error"] for t in trials)


def test_study_run_has_its_definition_and_its_results(
    hpo: Callable[..., int], small: tuple[str, ...], read: Callable[..., Any]
) -> None:
    assert hpo(*small, "limits.n_trials=3", "study=mine", "seed=0") == 0
    client, study, trials = read("mine")
    best = max((t for t in trials if t.value is not None), key=lambda t: t.value)
    assert study.state == "finished"
    assert study.tags["hpo.strategy"] == "optuna"
    assert (study.tags["hpo.model"], study.tags["hpo.dataset"]) == ("mnist_cnn", "digits")
    assert study.params["search_space.filters.high"] == "4"
    assert study.params["seed"] == "0"
    assert not any(key.startswith(("limits", "executor", "tracking")) for key in study.params)
    assert study.metrics["best_objective"] == best.value
    assert study.metrics["n_complete"] + study.metrics["n_pruned"] + study.metrics["n_failed"] == 3
    assert study.metrics["epochs_total"] == sum(t.metrics["epochs_run"] for t in trials)
    for metric in ("test_accuracy", "test_loss"):
        assert len(client.get_metric_history(study.run_id, metric)) == 1
        assert all(metric not in t.metrics for t in trials)
    run = client.get_run(study.run_id)
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("digits", study.tags["hpo.data_digest"])
    (model,) = run.outputs.model_outputs
    assert study.tags["hpo.best_model_uri"] == f"models:/{model.model_id}"
    assert client.get_logged_model(model.model_id).source_run_id == best.run_id
    names = {a.path for a in client.list_artifacts(study.run_id)}
    assert {"config.yaml", "search_space.yaml", "fingerprint.json", "trials.csv", "best.json", "plots"} <= names
    plots = {a.path.removeprefix("plots/") for a in client.list_artifacts(study.run_id, "plots")}
    assert {"optimization_history.png", "learning_curves.png"} <= plots


def test_same_seed_gives_the_same_trials_and_values(
    hpo: Callable[..., int], small: tuple[str, ...], read: Callable[..., Any]
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert hpo(*small, "limits.n_trials=4", f"study={name}", f"seed={seed}") == 0
    a, b, c = (read(name)[2] for name in "abc")
    assert [t.params for t in a] == [t.params for t in b]
    assert [t.folds[0]["score"] for t in a] == [t.folds[0]["score"] for t in b]
    assert [t.state for t in a] == [t.state for t in b]
    assert [t.params for t in a] != [t.params for t in c]
    assert a[0].params == c[0].params  # the model's defaults come first
    studies = [read(name)[1] for name in "abc"]
    assert (
        studies[0].tags["hpo.fingerprint"] == studies[1].tags["hpo.fingerprint"] != studies[2].tags["hpo.fingerprint"]
    )
    assert studies[0].tags["hpo.folds_digest"] == studies[1].tags["hpo.folds_digest"]
