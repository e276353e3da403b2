"""A network that begins from the winner of an earlier study, from the command line to the model that is logged."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pandas
import pytest
import small as small_data

TRANSFER = (
    "model=transfer_cnn",
    "dataset=fashion_mnist",
    "dataset._target_=small.load",
    "+dataset.inner=hpo.datasets.fashion_mnist.load",
    "+dataset.n_rows=200",
    "model.base=base",
    "max_epochs=3",
    "strategy=random",
    "limits.timeout_seconds=null",
    "executor.threads_per_trial=1",
    "study=mine",
)


@pytest.fixture
def base(hpo: Callable[..., int], small: tuple[str, ...], keras_home_with_data: Path) -> None:
    """A study of a CNN on digits, whose winner is logged."""
    assert hpo(*small, "limits.n_trials=1", "study=base") == 0


def test_a_study_begins_from_the_winner_of_another_and_goes_on_without_its_driver(
    base: None, hpo: Callable[..., int], read: Callable[..., Any], workdir: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "hpo", *TRANSFER, "limits.n_trials=4"]
    process = subprocess.Popen(command, cwd=workdir, env={**os.environ}, start_new_session=True)
    outbox = workdir / "hpo_runs" / "studies" / "mine" / "outbox.jsonl"
    end = time.monotonic() + 120
    while not (outbox.exists() and '"end"' in outbox.read_text()):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert hpo("resume", "mine", "executor=local") == 0

    client, study, trials = read("mine")
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert {trial.tags["hpo.state"] for trial in trials} == {"COMPLETE"}
    _, first, _ = read("base")
    assert study.tags["hpo.base_uri"] == first.tags["hpo.best_model_uri"]
    network = mlflow.keras.load_model(study.tags["hpo.best_model_uri"])
    answers = Path(client.download_artifacts(study.run_id, "test", str(tmp_path)))
    said = pandas.read_parquet(answers / "predictions.parquet")
    data = small_data.load("hpo.datasets.fashion_mnist.load", 200)
    found = network.predict(data.x_test.reshape(-1, 28, 28, 1), verbose=0).argmax(axis=1)
    assert data.class_names
    assert [data.class_names[label] for label in found] == said["predicted"].tolist()


def test_another_base_of_that_name_is_another_study(
    base: None, hpo: Callable[..., int], small: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    assert hpo(*TRANSFER, "limits.n_trials=1") == 0
    assert hpo(*small, "limits.n_trials=1", "study=other", "seed=3") == 0
    capfd.readouterr()
    assert hpo(*TRANSFER, "limits.n_trials=2", "model.base=other") == 2
    assert "base_digest" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("given", "fix"),
    [
        ("nothing", "python -m hpo model=mnist_cnn study=nothing"),
        ("runs:/0123456789abcdef0123456789abcdef/model", "model=mnist_cnn"),
        ("models:/m-0123456789abcdef0123456789abcdef", "model=mnist_cnn"),
        ("applications:vgg99", "applications:mobilenet_v2"),
        ("forest", "model=mnist_cnn"),
    ],
)
def test_a_base_that_cannot_be_had_is_refused(
    given: str,
    fix: str,
    hpo: Callable[..., int],
    keras_home_with_data: Path,
    workdir: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if given == "forest":
        assert hpo("model=random_forest", "dataset=digits", "limits.n_trials=1", "max_epochs=1", "study=forest") == 0
    capfd.readouterr()
    assert hpo(*TRANSFER, "limits.n_trials=1", f"model.base={given}") == 2
    err = capfd.readouterr().err
    assert f"error: model.base = {given}" in err
    assert fix in err
    assert "Traceback" not in err
    assert not (workdir / "hpo_runs" / "studies" / "mine").exists()
