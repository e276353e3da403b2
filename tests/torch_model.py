"""A model of a user's own: a PyTorch network for tables, by hpo's contract for models alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hpo.core.params import Params, ParamValue
from hpo.datasets.base import Array, DataSpec
from hpo.models import metrics
from hpo.models.base import Fit, FittedModel, Model
from hpo.models.fitting import EpochMonitor
from hpo.models.saving import save_options, without_library_warnings


class TorchClassifier(Model):
    """A network with one hidden layer.

    Args:
        units: default number of hidden units.
        learning_rate: default learning rate of Adam.
        batch_size: samples in a training step.
    """

    weights_suffix = ".pt"
    takes_rows = True

    def __init__(self, units: int = 16, learning_rate: float = 1e-2, batch_size: int = 16) -> None:
        self._defaults: dict[str, ParamValue] = {"units": units, "learning_rate": learning_rate}
        self._batch_size = batch_size

    @property
    def tunables(self) -> dict[str, ParamValue]:
        return dict(self._defaults)

    def metrics(self, spec: DataSpec) -> tuple[str, ...]:
        return ("loss", "accuracy", "val_loss", "val_accuracy")

    def _network(self, params: Params, spec: DataSpec) -> nn.Module:
        units = int(str({**self._defaults, **params}["units"]))
        return nn.Sequential(nn.Linear(spec.input_shape[0], units), nn.ReLU(), nn.Linear(units, spec.n_classes))

    def fit(self, fit: Fit) -> FittedModel:
        torch.manual_seed(fit.plan.seed)
        with fit.log.phase("build"):
            network = self._network(fit.params, fit.spec)
            fit.log.n_weights = sum(weights.numel() for weights in network.parameters())
        rate = float(str({**self._defaults, **fit.params}["learning_rate"]))
        optimizer = torch.optim.Adam(network.parameters(), rate)
        fitted = FittedTorchClassifier(network, fit.spec)
        x, y, data = torch.tensor(fit.data.x_train).float(), torch.tensor(fit.data.y_train).long(), fit.data
        monitor = EpochMonitor(fit, snapshot=lambda: copy.deepcopy(network.state_dict()))
        with fit.log.phase("train"):
            for epoch in monitor.epochs():
                for rows in torch.randperm(len(x)).split(self._batch_size):
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
                    optimizer.step()
                    if monitor.is_interrupted():
                        return fitted
                logs = fitted.evaluate(data.x_train, data.y_train)
                if data.x_watch is not None and data.y_watch is not None:
                    watched = fitted.evaluate(data.x_watch, data.y_watch, fit.plan.extra)
                    logs |= {f"val_{name}": value for name, value in watched.items()}
                monitor.end_epoch(epoch, logs)
        best = monitor.finish()
        if best is not None:
            network.load_state_dict(best)
        return fitted

    def restore(self, params: Params, spec: DataSpec, path: Path) -> FittedModel:
        network = self._network(params, spec)
        network.load_state_dict(torch.load(path, weights_only=True))
        return FittedTorchClassifier(network, spec)


class AsFloat(nn.Module):
    """Casts rows of any number type, which MLflow passes as they are."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float()


class FittedTorchClassifier(FittedModel):
    """A trained network; it predicts logits."""

    def __init__(self, network: nn.Module, spec: DataSpec) -> None:
        self._network, self._spec = network, spec

    def evaluate(self, x: Array, y: Array, extra: Sequence[str] = ()) -> dict[str, float]:
        logits = torch.tensor(self.predict(x))
        labels, scores = self.predict_targets(x)
        loss = float(nn.functional.cross_entropy(logits, torch.tensor(y).long()))
        own = {"loss": loss, "accuracy": float(np.mean(labels == y))}
        return own | metrics.measure([name for name in extra if name not in own], y, labels, self._spec, scores)

    def predict(self, x: Array) -> Array:
        with torch.no_grad():
            return self._network(torch.tensor(x).float()).numpy()

    def predict_targets(self, x: Array) -> tuple[Array, Array | None]:
        logits = self.predict(x)
        return logits.argmax(axis=1), torch.softmax(torch.tensor(logits), dim=1).numpy()

    def save_weights(self, path: Path) -> None:
        partial = path.with_name(f"partial-{path.name}")
        torch.save(self._network.state_dict(), partial)
        partial.replace(path)

    def save(self, path: Path, example: Array) -> None:
        import mlflow.pytorch

        with without_library_warnings():
            mlflow.pytorch.save_model(
                nn.Sequential(AsFloat(), self._network),
                path=str(path),
                **save_options(example, self.predict(example), ["torch"]),
            )
