"""The logged model reproduces the test score when it is loaded and when it is served."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from hpo.datasets import digits, embedded


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(np.argmax(probabilities, axis=1) == labels))


def serve(uri: str, workdir: Path) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri, "--env-manager", "local"]
    # `mlflow models serve` looks for uvicorn on PATH, which an environment that is not activated lacks
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{workdir}/hpo_runs/mlflow.db",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with (workdir / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    return process, f"http://127.0.0.1:{port}"


def wait_until_it_answers(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    for _ in range(240):
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(f"{address}/ping", timeout=2).close()
            return
        except (OSError, urllib.error.URLError):
            time.sleep(0.5)
    raise AssertionError(log.read_text())


def test_loaded_and_served_model_reproduces_the_test_score(
    hpo: Callable[..., int], small: tuple[str, ...], read: Callable[..., Any], workdir: Path
) -> None:
    assert hpo(*small, "model.filters=4", "limits.n_trials=2", "max_epochs=4", "study=mine") == 0
    _, study, _ = read("mine")
    uri, said = study.tags["hpo.best_model_uri"], study.metrics["test_accuracy"]
    data = digits.load().with_images_of((28, 28, 1))

    loaded = mlflow.pyfunc.load_model(uri)
    assert loaded.metadata.signature is not None
    assert loaded.input_example.shape == (2, 28, 28, 1)
    assert accuracy(loaded.predict(data.x_test), data.y_test) == pytest.approx(said, abs=1e-6)

    folder = mlflow.artifacts.download_artifacts(run_id=study.run_id, artifact_path="test")
    found = pd.read_parquet(Path(folder) / "predictions.parquet")
    assert (found["target"] == found["predicted"]).mean() == pytest.approx(said, abs=1e-6)
    assert {path.name for path in Path(folder).iterdir()} == {
        "predictions.parquet", "classification_report.txt", "confusion_matrix.csv", "confusion_matrix.png",
        "filters.png", "feature_maps.png",
    }  # fmt: skip

    process, address = serve(uri, workdir)
    try:
        wait_until_it_answers(process, address, workdir / "serve.log")
        request = urllib.request.Request(
            f"{address}/invocations",
            json.dumps({"inputs": data.x_test.tolist()}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            served = np.array(json.load(answer)["predictions"])
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 15)
            process.wait(30)
    assert accuracy(served, data.y_test) == pytest.approx(said, abs=1e-6)
    assert re.fullmatch(r"models:/m-\w+", uri)


@pytest.mark.parametrize("model", ["svm", "gradient_boosting"])
def test_refitted_model_is_logged_and_tested(
    model: str, hpo: Callable[..., int], read: Callable[..., Any], workdir: Path
) -> None:
    study = (
        f"model={model}",
        "strategy=random",
        "resampling=stratified_kfold",
        "resampling.n_splits=3",
        "max_epochs=3",
    )
    assert hpo(*study, "limits.n_trials=2", "study=mine", "executor.threads_per_trial=1") == 0
    _, found, _ = read("mine")
    data = embedded.breast_cancer()
    loaded = mlflow.pyfunc.load_model(found.tags["hpo.best_model_uri"])
    assert loaded.metadata.signature is not None
    assert np.mean(loaded.predict(data.x_test) == data.y_test) == pytest.approx(found.metrics["test_accuracy"])
