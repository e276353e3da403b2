"""A trained Keras model: metrics, predictions, weights, and its MLflow model folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from hpo.datasets.base import Array, DataSpec
from hpo.models import metrics
from hpo.models.base import FeatureMaps, FittedModel
from hpo.models.keras.callbacks import named_by_first_output
from hpo.models.saving import save_options, without_library_warnings

# Samples in a batch outside training, where the size changes nothing but speed.
EVALUATION_BATCH_SIZE = 512


class FittedKerasModel(FittedModel):
    """A trained ``keras.Model``.

    Args:
        model: the network; if it has several outputs, the first one is evaluated, predicted and saved.
        spec: the data, with the mean and standard deviation of the training targets.
    """

    def __init__(self, model: keras.Model, spec: DataSpec) -> None:
        self._model, self._spec = model, spec

    def targets(self, y: Array) -> Any:
        """Return ``y`` as the ``fit`` of the network takes it: once for every output."""
        n_outputs = len(self._model.outputs) if isinstance(self._model.outputs, list) else 1
        return y if n_outputs == 1 else [y] * n_outputs

    def evaluate(self, x: Array, y: Array, extra: Sequence[str] = ()) -> dict[str, float]:
        y_all = self.targets(y)
        values = self._model.evaluate(x, y_all, batch_size=EVALUATION_BATCH_SIZE, verbose=0, return_dict=True)
        found = named_by_first_output(self._model, {name: float(value) for name, value in values.items()})
        return found | self.measure([name for name in extra if name not in found], x, y)

    def measure(self, wanted: Sequence[str], x: Array, y: Array) -> dict[str, float]:
        """Return metrics of :mod:`hpo.models.metrics` by name."""
        if not wanted:
            return {}
        labels, scores = self.predict_targets(x)
        return metrics.measure(wanted, y, labels, self._spec, scores)

    def predict(self, x: Array) -> Array:
        predicted = self._model.predict(x, batch_size=EVALUATION_BATCH_SIZE, verbose=0)
        first: Array = predicted[0] if isinstance(predicted, list) else predicted
        return first

    def predict_targets(self, x: Array) -> tuple[Array, Array | None]:
        predicted = self.predict(x)
        if self._spec.is_regression:
            return predicted.reshape(len(x)), None
        if predicted.ndim == 1 or predicted.shape[1] == 1:  # a sigmoid: the probability of class 1
            of_one = predicted.reshape(len(x), 1)
            predicted = np.concatenate([1 - of_one, of_one], axis=1)
        return predicted.argmax(axis=1), predicted

    def feature_maps(self, x: Array) -> FeatureMaps | None:
        found = _first_convolution(self._model, x)
        if found is None:
            return None
        first, maps = found
        return FeatureMaps(np.asarray(first.get_weights()[0]), x, maps)

    def save_weights(self, path: Path) -> None:
        # Not keras.Model.save_weights, which adds the state of the optimizer: twice the size of the weights.
        partial = path.with_name(f"partial-{path.name}")
        targets = np.array([self._spec.target_mean, self._spec.target_std])
        np.savez(partial, *self._model.get_weights(), targets=targets)
        partial.replace(path)

    def save(self, path: Path, example: Array) -> None:
        import mlflow.keras

        keras.config.disable_interactive_logging()  # MLflow tries the model on its example
        path.mkdir(parents=True, exist_ok=True)  # mlflow.keras writes the example before it makes the folder
        with without_library_warnings():
            mlflow.keras.save_model(
                self.native, path=str(path), **save_options(example, self.predict(example), ("keras", "tensorflow"))
            )

    @property
    def native(self) -> keras.Model:
        """The network with its first output alone; further outputs only help training."""
        outputs = self._model.outputs
        is_single = not isinstance(outputs, list) or len(outputs) == 1
        return self._model if is_single else keras.Model(self._model.inputs, outputs[0])


def layers_of(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yield the layers of a network, including those of networks inside it."""
    for layer in model.layers:
        yield from layers_of(layer) if isinstance(layer, keras.Model) else [layer]


def _first_convolution(model: keras.Model, x: Array) -> tuple[keras.layers.Conv2D, Array] | None:
    """Return the first convolution and its output, also if it is in a network that ``model`` starts with."""
    before: Any = None
    for operation in getattr(model, "operations", model.layers):
        if isinstance(operation, keras.layers.Conv2D):
            return operation, keras.Model(model.inputs, operation.output).predict(x, verbose=0)
        if isinstance(operation, keras.Model):
            if before is not None:
                x = keras.Model(model.inputs, before.output).predict(x, verbose=0)
            return _first_convolution(operation, x)
        if before is not None and operation.input is not before.output:
            return None  # the network branches before its first convolution
        before = operation
    return None
