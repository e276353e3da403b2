"""Studies of a user's PyTorch model, which hpo has no code for, through the command line."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch_model
import yaml

from hpo.datasets import embedded
from hpo.testing import check_model

STUDY = ("--config-dir=conf", "model=torch_net", "max_epochs=6", "executor.threads_per_trial=1", "study=mine")

# In a process in which hpo and the module of the model cannot be imported.
PREDICT = """
import sys

import numpy as np

sys.modules["hpo"] = sys.modules["torch_model"] = None
import mlflow

model = mlflow.pyfunc.load_model(sys.argv[1])
np.save("predicted.npy", model.predict(np.load("x.npy")))
"""


@pytest.fixture
def model_config(workdir: Path) -> None:
    """A config group ``model`` of the user's own, with ``torch_net``, and its search space."""
    model = {"_target_": "torch_model.TorchClassifier", "units": 8}
    space = {
        "units": {"type": "int", "low": 4, "high": 16},
        "learning_rate": {"type": "float", "low": 1e-3, "high": 1e-1, "log": True},
    }
    config = {
        "defaults": [{"override /dataset": "iris"}, {"override /search_space": "torch_net"}],
        "objective": {"metric": "val_accuracy"},
        "model": model,
    }
    for group, content in (("model", config), ("search_space", space)):
        folder = workdir / "conf" / group
        folder.mkdir(parents=True)
        header = "# @package _global_\n" if group == "model" else ""
        (folder / "torch_net.yaml").write_text(header + yaml.safe_dump(content))


def predict_in_another_process(uri: str, x: np.ndarray) -> np.ndarray:
    np.save("x.npy", x)
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{Path.cwd()}/hpo_runs/mlflow.db", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", PREDICT, uri]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    predicted: np.ndarray = np.load("predicted.npy")
    return predicted


def test_own_model_passes_the_contract_suite() -> None:
    check_model(torch_model.TorchClassifier(), embedded.iris())


@pytest.mark.parametrize("resampling", ["holdout", pytest.param("stratified_kfold", marks=pytest.mark.slow)])
def test_own_model_is_trained_tested_logged_and_resumed(
    resampling: str, hpo: Callable[..., int], read: Callable[..., Any], model_config: None
) -> None:
    folds = [f"resampling={resampling}", *(["resampling.n_splits=2"] if resampling != "holdout" else [])]
    assert hpo(*STUDY, *folds, "strategy=optuna", "limits.n_trials=2") == 0
    data = embedded.iris()
    for n_trials in (2, 3):
        _, study, trials = read("mine")
        assert [str(trial.state) for trial in trials] == ["COMPLETE"] * n_trials
        assert {"units", "learning_rate"} == set(trials[0].params)
        logits = predict_in_another_process(study.tags["hpo.best_model_uri"], data.x_test)
        assert logits.shape == (len(data.x_test), 3)
        assert np.mean(logits.argmax(axis=1) == data.y_test) == pytest.approx(study.metrics["test_accuracy"])
        if n_trials == 2:
            # The weights of the best trial are restored from their file if no later trial is better.
            assert hpo("resume", "mine", "limits.n_trials=3", "--config-dir=conf") == 0
