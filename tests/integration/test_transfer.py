"""A study that starts from the best model of another: in workers, resumed, and logged."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from contract.test_configs import compose

from hpo.core.states import State
from hpo.models.base import Origin
from hpo.study.build import build_dataset, build_model, resolve_model
from hpo.tracking.store import absolute

# A few rows of Fashion-MNIST, and trials that fine-tune.
SMALL = (
    "model=transfer_cnn",
    "dataset._target_=small.load",
    "+dataset.inner=hpo.datasets.fashion_mnist.load",
    "+dataset.n_rows=300",
    "strategy=random",
    "max_epochs=3",
    "limits.timeout_seconds=null",
    "executor.threads_per_trial=1",
    "search_space.unfreeze={low: 1, grid: [1]}",
    "search_space.head_epochs.high=2",
    "search_space.batch_size={choices: [32, 64, 128]}",
)


def origin(*overrides: str) -> Origin:
    model = build_model(compose("model=transfer_cnn", *overrides))
    resolve_model(model, compose("model=transfer_cnn", *overrides))
    assert model.origin is not None
    return model.origin


def test_study_starts_from_the_best_model_of_another(
    hpo: Callable[..., int],
    read: Callable[..., Any],
    with_base: Path,
    keras_home_with_data: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    client, base, _ = read("mnist-base")
    assert hpo(*SMALL, "executor=local", "limits.n_trials=1", "study=clothes") == 0
    assert hpo("resume", "clothes", "executor=local", "limits.n_trials=2") == 0
    client, study, trials = read("clothes")
    assert [trial.state for trial in trials] == [State.COMPLETE] * 2, [t.tags.get("hpo.error") for t in trials]
    assert study.tags["hpo.n_resumed"] == "1"
    assert study.tags["hpo.problems"] == ""
    assert study.tags["hpo.base_uri"] == base.tags["hpo.best_model_uri"]
    assert study.tags["hpo.base_digest"] == origin().digest
    assert study.params["model.base"] == "mnist-base"

    loaded = mlflow.keras.load_model(study.tags["hpo.best_model_uri"])
    answers = Path(client.download_artifacts(study.run_id, "test", str(tmp_path))) / "predictions.parquet"
    recorded = pd.read_parquet(answers)
    config = compose(*SMALL)
    data = build_dataset(config)
    predicted = loaded.predict(data.x_test, verbose=0)
    assert [data.class_names[label] for label in predicted.argmax(axis=1)] == list(recorded["predicted"])
    found = np.mean(predicted.argmax(axis=1) == data.y_test)
    assert found == pytest.approx(study.metrics["test_accuracy"], abs=1e-6)
    assert study.metrics["test_accuracy"] > 0.2

    # The first convolution is inside the base.
    files = {Path(file.path).name for file in client.list_artifacts(study.run_id, "test")}
    assert {"filters.png", "feature_maps.png"} <= files

    # The other study now has another best model; the resumed study keeps the one that it started from.
    client.set_tag(base.run_id, "hpo.best_model_uri", study.tags["hpo.best_model_uri"])
    assert hpo("resume", "clothes", "executor=local", "limits.n_trials=3") == 0
    _, again, trials = read("clothes")
    assert len(trials) == 3
    assert [again.tags[f"hpo.base{end}"] for end in ("", "_uri", "_digest")] == [
        study.tags[f"hpo.base{end}"] for end in ("", "_uri", "_digest")
    ]
    # Another network at the recorded address is refused.
    client.set_tag(study.run_id, "hpo.base_uri", study.tags["hpo.best_model_uri"])
    capsys.readouterr()
    assert hpo("resume", "clothes", "executor=local", "limits.n_trials=4") == 2
    assert "base_digest" in capsys.readouterr().err
    client.set_tag(base.run_id, "hpo.best_model_uri", base.tags["hpo.best_model_uri"])


def test_base_can_be_an_address_of_mlflow(read: Callable[..., Any], with_base: Path) -> None:
    _, base, _ = read("mnist-base")
    by_name = origin()
    assert by_name.uri == base.tags["hpo.best_model_uri"]
    run_id = base.tags["hpo.best_trial_run_id"]
    uri = absolute("sqlite:///hpo_runs/mlflow.db")
    client = mlflow.MlflowClient(uri, uri)
    client.create_registered_model("digits")
    client.create_model_version("digits", by_name.uri)
    client.set_registered_model_alias("digits", "best", "1")
    names = (by_name.uri, f"runs:/{run_id}/model", "models:/digits/1", "models:/digits@best")
    for name in names:
        assert origin(f"model.base={name}") == Origin(name, name, by_name.digest)
    assert not (with_base / "mlflow.db").exists()
    # An experiment that does not exist yet finds it, too.
    assert origin("tracking.experiment=another") == by_name


def test_plan_names_the_base_and_trains_nothing(
    hpo: Callable[..., int],
    with_base: Path,
    keras_home_with_data: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/another.db")  # as if set by an earlier study of the process
    assert hpo("plan", *SMALL) == 0
    shown = capsys.readouterr().out
    assert f"mnist-base ({origin().uri})" in shown
    assert "fine_tune_factor" in shown
    assert not (with_base / "hpo_runs" / "studies").exists()


def test_unavailable_base_is_refused_before_training(
    hpo: Callable[..., int], read: Callable[..., Any], with_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("model=svm", "dataset=iris", "strategy=random", "limits.n_trials=1", "executor.threads_per_trial=1")
    assert hpo(*small, "study=no-network") == 0
    client, base, _ = read("mnist-base")
    client.delete_tag(base.run_id, "hpo.best_model_uri")
    for given, message in (
        ("missing", "python -m hpo model=mnist_cnn study=missing"),
        ("no-network", "a network saved by Keras"),
        ("mnist-base", "a study that has logged its best model"),
        ("applications:vgg99", "applications:mobilenet_v2"),
        ("models:/m-00000000000000000000000000000000", "a model in the store"),
        ("runs:/00000000000000000000000000000000/model", "a model in the store"),
    ):
        capsys.readouterr()
        assert hpo("model=transfer_cnn", f"model.base={given}", "study=refused") == 2
        error = capsys.readouterr().err
        assert f"model.base = {given}" in error
        assert message in error
    assert not (with_base / "hpo_runs" / "studies" / "refused").exists()


def test_error_without_store_names_command_for_base(
    hpo: Callable[..., int], workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workdir / "hpo_runs" / "mlflow.db").unlink()
    assert hpo("plan", "model=transfer_cnn") == 2
    assert "`python -m hpo model=mnist_cnn study=mnist-base`" in capsys.readouterr().err
    assert not (workdir / "hpo_runs" / "mlflow.db").exists()
