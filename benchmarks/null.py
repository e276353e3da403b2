"""A model that computes nothing or sleeps, to measure the overhead per trial."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.dummy import DummyClassifier

from hpo.core.params import Params, ParamValue
from hpo.datasets.base import Array, Dataset, DataSpec
from hpo.models.base import Fit, FittedModel, Model
from hpo.models.fitting import EpochMonitor
from hpo.models.sklearn.fitted import FittedSklearnModel

NAMES = ("a", "b", "c", "d", "e")


def value(params: Params) -> float:
    """Return the objective of a trial: 0 where every parameter is 0.3."""
    return sum((float(params.get(name, 0.5)) - 0.3) ** 2 for name in NAMES)


def dataset() -> Dataset:
    """Return 100 unused rows."""
    x = np.zeros((110, 4), "float32")
    y = np.arange(110) % 2
    return Dataset("null", x[:100], y[:100], x[100:], y[100:], source="made")


class NullModel(Model):
    """Reports one epoch after ``seconds``."""

    weights_suffix = ".npz"

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds

    @property
    def tunables(self) -> dict[str, ParamValue]:
        return dict.fromkeys(NAMES, 0.5)

    def metrics(self, spec: DataSpec) -> tuple[str, ...]:
        return ("loss", "val_loss")

    def fit(self, fit: Fit) -> FittedModel:
        with fit.log.phase("train"):
            time.sleep(self._seconds)
            loss = value(fit.params)
            EpochMonitor(fit).end_epoch(0, {"loss": loss, "val_loss": loss}, is_last=True)
        return _Nothing(loss)

    def restore(self, params: Params, spec: DataSpec, path: Path) -> FittedModel:
        return _Nothing(value(params))


class _Nothing(FittedModel):
    def __init__(self, loss: float) -> None:
        self._loss = loss

    def evaluate(self, x: Array, y: Array, extra: Sequence[str] = ()) -> dict[str, float]:
        return {"loss": self._loss}

    def predict(self, x: Array) -> Array:
        return np.zeros(len(x), int)

    def predict_targets(self, x: Array) -> tuple[Array, Array | None]:
        return self.predict(x), None

    def save_weights(self, path: Path) -> None:
        np.savez(path, self._loss)

    def save(self, path: Path, example: Array) -> None:
        constant = DummyClassifier(strategy="constant", constant=0).fit(np.zeros((2, 4)), [0, 1])
        FittedSklearnModel(None, constant, dataset().spec).save(path, example)
