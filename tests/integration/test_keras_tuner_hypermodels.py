"""Unmodified Keras Tuner hypermodels as studies with complete records."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpo.tracking.reader import load_config

STUDY = (
    "model=keras_tuner",
    "model.hypermodel=hypermodels.build_model",
    "dataset=digits",
    "dataset._target_=hypermodels.diabetes",
    "objective.metric=val_mae",
    "max_epochs=2",
    "executor.threads_per_trial=1",
)
SPACE = {
    "units": {"type": "int", "low": 32, "high": 512, "step": 32},
    "optimizer": {"type": "categorical", "choices": ["adam", "sgd"]},
}


@pytest.mark.parametrize("strategy", ["optuna", "keras_random", "grid"])
def test_keras_tuner_example_runs_unmodified(strategy: str, hpo: Callable[..., int], read: Callable[..., Any]) -> None:
    part = ["strategy.oversize=shuffle"] if strategy == "grid" else []  # of 32 combinations
    assert hpo(*STUDY, f"strategy={strategy}", *part, "limits.n_trials=3", "study=mine") == 0
    client, study, trials = read("mine")
    assert len(trials) == 3
    assert len({json.dumps(trial.params, sort_keys=True) for trial in trials}) == 3
    for trial in trials:
        assert set(trial.params) == {"units", "optimizer"}
        assert int(trial.params["units"]) % 32 == 0
    best = next(t for t in trials if str(t.number) == study.tags["hpo.best_trial"])
    assert best.value == min(trial.value for trial in trials if trial.value is not None)
    assert {"loss", "val_loss", "mae", "val_mae"} <= set(client.get_run(best.run_id).data.metrics)
    assert study.metrics["test_mae"] > 0
    recorded = yaml.safe_load(load_config(client, study))
    assert {
        name: {key: value for key, value in parameter.items() if value is not None}
        for name, parameter in recorded["search_space"].items()
    } == SPACE
    assert study.params["search_space.units.high"] == "512"


def test_study_can_be_planned_resumed_and_repeated(
    hpo: Callable[..., int], read: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert hpo("plan", *STUDY) == 0
    assert "units" in capsys.readouterr().out
    assert hpo(*STUDY, "strategy=random", "limits.n_trials=1", "study=mine") == 0
    assert hpo("resume", "mine", "limits.n_trials=2") == 0
    _, study, trials = read("mine")
    assert len(trials) == 2
    capsys.readouterr()
    assert hpo("best", "mine") == 0
    (command,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("python -m hpo ")]
    assert hpo(*shlex.split(command)[3:], "study=again") == 0
    assert read("again")[2][0].params == next(t.params for t in trials if str(t.number) == study.tags["hpo.best_trial"])


def test_search_space_file_narrows_the_space_of_the_model(
    hpo: Callable[..., int], workdir: Path, read: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = workdir / "conf" / "search_space"
    folder.mkdir(parents=True)
    (folder / "narrow.yaml").write_text(
        "defaults: [from_model]\nunits: {type: int, low: 8, high: 8}\n"
        "batch_size: {type: categorical, choices: [32, 64]}\n"
    )
    narrow = ("--config-dir=conf", "search_space=narrow")
    assert hpo(*STUDY, *narrow, "strategy=random", "limits.n_trials=1", "max_epochs=1") == 0
    _, _, (trial,) = read()
    assert trial.params["units"] == "8"
    assert set(trial.params) == {"units", "optimizer", "batch_size"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("model=svm", "search_space=from_model"), "the model has none of its own"),
        (("model=keras_tuner",), "model.hypermodel"),
        (("model=keras_tuner", "model.hypermodel=nowhere.build"), "nowhere"),
        ((*STUDY, "enqueue=[{units: 33, optimizer: adam}]"), "enqueue[0].units"),
        ((*STUDY, "objective.metric=val_mse2", "objective.direction=minimize"), "val_mse2"),
    ],
)
def test_unusable_option_is_refused(
    options: tuple[str, ...], message: str, hpo: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert hpo(*options) == 2
    assert message in capsys.readouterr().err
