"""Commands as users type them, on small real studies."""

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpo.tracking.reader import list_studies, load_config
from hpo.tracking.store import open_store


def test_list_shows_study_and_best_reproduces_winner(
    hpo: Callable[..., int],
    small: tuple[str, ...],
    read: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert hpo(*small, "limits.n_trials=4", "study=first", "seed=2") == 0
    _, study, trials = read("first")
    best = next(t for t in trials if t.number == int(study.tags["hpo.best_trial"]))
    capsys.readouterr()

    assert hpo("list") == 0
    shown = capsys.readouterr().out
    for text in ("first", "optuna", "mnist_cnn", "digits", "finished", f"{best.value:.5f}"):
        assert text in shown

    assert hpo("best", "first") == 0
    (command,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("python -m hpo ")]
    words = shlex.split(command)[3:]
    assert hpo(*words, "limits.n_trials=1", "study=again") == 0
    _, _, (again,) = read("again")
    assert again.params == best.params
    assert again.value == best.value


def test_best_reproduces_winner_without_enqueued_trials(
    hpo: Callable[..., int], read: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    study = (
        "model=svm",
        "strategy=halving_random",
        "resampling=stratified_kfold",
        "resampling.n_splits=3",
        "max_epochs=3",
    )
    assert hpo(*study, "limits.n_trials=3", "study=first", "executor.threads_per_trial=1") == 0
    _, found, trials = read("first")
    best = next(t for t in trials if t.number == int(found.tags["hpo.best_trial"]))
    capsys.readouterr()
    assert hpo("best", "first") == 0
    (command,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("python -m hpo ")]
    assert hpo(*shlex.split(command)[3:], "study=again") == 0
    _, _, (again,) = read("again")
    assert (again.params, again.value) == (best.params, best.value)
    assert [fold["score"] for fold in again.folds] == [fold["score"] for fold in best.folds]


def test_summary_shows_trials_scores_and_next_commands(
    hpo: Callable[..., int], small: tuple[str, ...], read: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert hpo(*small, "limits.n_trials=2", "study=mine") == 0
    shown = capsys.readouterr().out
    _, study, trials = read("mine")
    for text in (
        "2 trials or 2 min 00 s, whichever comes first",
        "all trials are done",
        "test (360 digits samples, scored once)",
        "python -m hpo ui",
        "python -m hpo best mine",
        f'mlflow.pyfunc.load_model("{study.tags["hpo.best_model_uri"]}"); model.predict',
        "mlflow models serve",
    ):
        assert text in shown
    for trial in trials:
        assert f"trial {trial.number:>3}" in shown
        assert trial.value is None or f"{trial.value:.5f}" in shown


def test_fallback_from_implied_mnist_is_recorded(
    hpo: Callable[..., int], small: tuple[str, ...], read: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    without_dataset = [o for o in small if not o.startswith("dataset")]
    assert hpo(*without_dataset, "limits.n_trials=1", "max_epochs=1") == 0
    shown = capsys.readouterr().out
    assert shown.count("warning:") == 2  # at the start and in the summary
    assert "training on digits instead" in shown
    client, study, _ = read()
    assert "mnist_cnn-digits-optuna" in study.name
    assert study.tags["hpo.dataset"] == "digits"
    assert study.params["dataset._target_"] == "hpo.datasets.digits.load"
    (data,) = client.get_run(study.run_id).inputs.dataset_inputs
    assert data.dataset.name == "digits"
    assert "dataset=digits" in json.loads(study.tags["hpo.overrides"])
    assert "mnist.load" not in load_config(client, study)


def test_multirun_runs_one_study_for_each_seed(
    hpo: Callable[..., int], small: tuple[str, ...], workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hpo("-m", "strategy=optuna", "seed=0,1", *small, "limits.n_trials=1", "max_epochs=1") == 0
    client, experiment = open_store("sqlite:///hpo_runs/mlflow.db", "hpo", Path("hpo_runs"))
    studies = list_studies(client, experiment)
    assert sorted(s.tags["hpo.seed"] for s in studies) == ["0", "1"]
    assert {s.state for s in studies} == {"finished"}
    assert [p.name for p in workdir.iterdir()] == ["hpo_runs"]


def test_own_model_needs_one_function_and_two_files(
    hpo: Callable[..., int],
    workdir: Path,
    read: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (workdir / "my_models.py").write_text(
        "import keras\n\n\n"
        "def build_model(data, *, units=8, learning_rate=0.01):\n"
        "    layers = [keras.Input(data.input_shape), keras.layers.Flatten(), keras.layers.Dense(units, 'relu'),\n"
        "              keras.layers.Dense(data.n_classes, 'softmax')]\n"
        "    model = keras.Sequential(layers)\n"
        "    optimizer, loss = keras.optimizers.Adam(learning_rate), 'sparse_categorical_crossentropy'\n"
        "    model.compile(optimizer, loss, metrics=['accuracy'])\n"
        "    return model\n"
    )
    for group, text in (
        (
            "model",
            "# @package _global_\ndefaults: [override /dataset: digits, override /search_space: my_mlp]\n"
            "model: {_target_: my_models.build_model}\n",
        ),
        (
            "search_space",
            "units: {type: int, low: 4, high: 16}\nbatch_size: {type: categorical, choices: [32, 64]}\n",
        ),
    ):
        (workdir / "my_conf" / group).mkdir(parents=True)
        (workdir / "my_conf" / group / "my_mlp.yaml").write_text(text)
    monkeypatch.syspath_prepend(workdir)
    monkeypatch.delitem(sys.modules, "my_models", raising=False)
    assert hpo("--config-dir", "my_conf", "model=my_mlp", "limits.n_trials=2", "max_epochs=2") == 0
    _, study, trials = read()
    assert (study.tags["hpo.model"], study.tags["hpo.dataset"]) == ("my_mlp", "digits")
    assert trials[0].params == {"units": "8", "batch_size": "32"}
    capsys.readouterr()
    assert hpo("best", study.name, "--config-dir", "my_conf") == 0
    (command,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("python -m hpo ")]
    assert hpo(*shlex.split(command)[3:], "limits.n_trials=1", "study=again") == 0
    assert read("again")[2][0].params == next(t.params for t in trials if str(t.number) == study.tags["hpo.best_trial"])


def test_reading_a_missing_experiment_creates_none(
    hpo: Callable[..., int], workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hpo("list", "tracking.experiment=typo") == 2
    assert "tracking.experiment" in capsys.readouterr().err
    client, _ = open_store("sqlite:///hpo_runs/mlflow.db", "prepared", workdir, create=False)
    assert client.get_experiment_by_name("typo") is None


def test_shipped_fallback_dataset_can_be_set_explicitly(
    hpo: Callable[..., int], small: tuple[str, ...], read: Callable[..., Any]
) -> None:
    without_dataset = [o for o in small if not o.startswith("dataset")]
    assert hpo(*without_dataset, "dataset.fallback=digits", "limits.n_trials=1", "max_epochs=1") == 0
    assert read()[1].tags["hpo.dataset"] == "digits"


@pytest.mark.parametrize("command", [["list"], ["best", "none"], ["ui"]])
def test_reading_creates_no_store(
    command: list[str], hpo: Callable[..., int], workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hpo(*command, "tracking.uri=sqlite:///nowhere.db") == 2
    assert "run a study first" in capsys.readouterr().err
    assert not (workdir / "nowhere.db").exists()


def test_unknown_study_is_refused_with_the_known_ones(
    hpo: Callable[..., int], small: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert hpo(*small, "study=mine", "limits.n_trials=1", "max_epochs=1") == 0
    assert hpo("best", "yours") == 2
    assert "mine" in capsys.readouterr().err


def test_early_stopping_ledger_covers_models_that_train_in_epochs(
    hpo: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    study = ("dataset=iris", "strategy=random", "limits.n_trials=2", "executor=inline", "max_epochs=4")
    assert hpo(*study, "model=random_forest", "model.grow_by=2", "study=grown", "early_stopping.patience=2") == 0
    assert hpo("trials", "grown") == 0
    said = capsys.readouterr().out
    assert "early stopping monitors val_loss with patience=2" in said
    assert re.search(r"[0-8] of 8 allowed epochs run", said)
    assert hpo(*study, "model=svm", "study=fitted") == 0
    said = capsys.readouterr().out
    assert "2 fits trained\n" in said
    assert hpo("trials", "fitted") == 0
    assert "early stopping saves none" in capsys.readouterr().out
