"""Every model in ``conf/model`` passes the contract suite."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpo import config as configs
from hpo.core.early_stopping import EarlyStopping
from hpo.core.states import Decision, State
from hpo.datasets import digits
from hpo.datasets.base import Dataset
from hpo.models.base import Fit, FitLog, FitPlan, FittedModel, FoldData, Model
from hpo.models.keras.model import KerasModel
from hpo.study.build import build_dataset, build_model, resolve_model
from hpo.testing import check_model

from .test_configs import BEGIN_FROM_A_STUDY, compose


def reviews() -> Dataset:
    """Digits as texts, with one word for the position of each dark pixel; the classes are even and odd."""
    loaded = digits.load()

    def words(images: np.ndarray) -> np.ndarray:
        dark = images.reshape(len(images), -1) > 100
        return np.where(dark, np.arange(1, dark.shape[1] + 1), 0).astype("int32")

    x, x_test = words(loaded.x), words(loaded.x_test)
    return Dataset("reviews", x, loaded.y % 2, x_test, loaded.y_test % 2, source="digits", n_words=65)


def series() -> Dataset:
    """Windows of a growing wave, ordered by time."""
    values = 50 + np.arange(1008) / 10 + 20 * np.sin(np.arange(1008) / 4)
    x = np.lib.stride_tricks.sliding_window_view(values[:-1], 8)[:, :, None].astype("float32")
    y = values[8:]
    return Dataset("series", x[:800], y[:800], x[800:], y[800:], source="a wave", gap=0)


# Datasets of models that take neither images nor rows of digits.
NATURAL: dict[str, Callable[[], Dataset]] = {
    "text_bow_mlp": reviews,
    "text_rnn": reviews,
    "sequence_regressor": series,
    "keras_tuner": digits.load,
}
NATURAL |= {name: lambda: build_dataset(compose("dataset=breast_cancer")) for name in ("binary_mlp", "two_input_mlp")}


class Control:
    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        return Decision.CONTINUE

    def poll(self) -> Decision:
        return Decision.CONTINUE


def cases() -> list[Any]:
    """Every model; networks, which are compiled for each training, are in the full tier except for two."""
    folder = configs.resource_dir("conf") / "model"

    def is_quick(name: str) -> bool:
        return name in QUICK_NETWORKS or "sklearn_model" in (folder / f"{name}.yaml").read_text(encoding="utf-8")

    # Objectives have a contract of their own: tests/unit/evaluation/test_objective_evaluator.py.
    names = [name for name in configs.options("model") if name != "optuna_objective"]
    return [n if is_quick(n) else pytest.param(n, marks=pytest.mark.slow) for n in names]


QUICK_NETWORKS = ("binary_mlp", "mnist_cnn")


@pytest.fixture(params=cases())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def config(name: str) -> dict[str, Any]:
    return compose(f"model={name}")


@pytest.fixture
def model(name: str, config: dict[str, Any], request: pytest.FixtureRequest) -> Model:
    built = build_model(config)
    if name in BEGIN_FROM_A_STUDY:
        request.getfixturevalue("with_base")
        resolve_model(built, config)
    return built


@pytest.fixture
def data(name: str, config: dict[str, Any], model: Model) -> Dataset:
    if name in NATURAL:
        return NATURAL[name]()
    # Digits are small and serve every other classifier; a regressor takes the data that its YAML names.
    loaded = digits.load() if "accuracy" in config["objective"]["metric"] else build_dataset(config)
    if model.takes_rows:
        return loaded.flat()
    return loaded.with_images_of(model.image_shape) if model.image_shape else loaded


def fit(model: Model, data: Dataset, seed: int) -> tuple[FitLog, np.ndarray, FittedModel]:
    log = FitLog()
    fold = FoldData(data.x[:300], data.y[:300], data.x[300:400], data.y[300:400])
    fitted = model.fit(Fit({}, data.spec, fold, FitPlan(2, seed, budget_fraction=0.5), log, Control()))
    return log, fitted.predict(data.x_test[:200]), fitted


def test_model_passes_the_contract_suite(model: Model, data: Dataset) -> None:
    check_model(model, data)


def test_refit_without_watched_rows_learns(name: str, model: Model, data: Dataset) -> None:
    log = FitLog()
    plan = FitPlan(2, 1, EarlyStopping(patience=None, restore_best_weights=False))
    fitted = model.fit(Fit({}, data.spec, FoldData(data.x, data.y, None, None), plan, log, Control()))
    assert log.stop_reason.state is State.COMPLETE
    assert not any(name.startswith("val_") for name in log.history)
    quality = "r2" if data.is_regression else "accuracy"
    # A network does not beat the mean of a real target after two epochs on 350 rows.
    least = -1.0 if name == "mlp_regressor" else 0.0 if data.is_regression else 0.5
    assert fitted.evaluate(data.x_test, data.y_test, [quality])[quality] > least


def test_different_seeds_give_different_results(model: Model, data: Dataset) -> None:
    (log, predicted, _), (unequal, other, _) = (fit(model, data, seed) for seed in (0, 1))
    # Some estimators use no random numbers, or none on so few rows.
    draws = "max_bins" not in model.tunables and getattr(model, "_takes_seed", True)
    if draws:
        assert unequal.history != log.history or not np.array_equal(predicted, other)


# Runs in a process in which hpo cannot be imported.
LOAD = """
import sys

import numpy as np

sys.modules["hpo"] = None
import mlflow.keras

model = mlflow.keras.load_model(sys.argv[1] + "/model")
np.save(sys.argv[1] + "/found.npy", model.predict(np.load(sys.argv[1] + "/x.npy"), batch_size=512, verbose=0))
"""


def test_saved_network_loads_without_hpo(model: Model, data: Dataset, tmp_path: Path) -> None:
    if not isinstance(model, KerasModel):
        return  # skops loads only classes that it knows, and none of hpo
    _, predicted, fitted = fit(model, data, 0)
    fitted.save(tmp_path / "model", data.x[:2])
    np.save(tmp_path / "x.npy", data.x_test[:200])
    subprocess.run([sys.executable, "-c", LOAD, str(tmp_path)], check=True, capture_output=True)
    # Another process may add numbers in another order.
    assert np.allclose(np.load(tmp_path / "found.npy"), predicted, rtol=1e-5, atol=1e-6)
