"""Adapts preprocessing layers, such as ``keras.layers.Normalization``, to the training rows of a fold."""

from __future__ import annotations

import keras
import numpy as np

from hpo.datasets.base import Array
from hpo.models.keras.fitted import EVALUATION_BATCH_SIZE, layers_of


def adapt_layers(model: keras.Model, x: Array) -> None:
    """Adapt every layer that has an ``adapt`` method, in the order in which data flow through the network.

    Args:
        x: training rows, ``(n, *input_shape)``; missing values are ignored.
    """
    adaptable = [layer for layer in layers_of(model) if callable(getattr(layer, "adapt", None))]
    for layer in adaptable:
        before = keras.Model(model.inputs, layer.input) if layer.input is not model.inputs[0] else None
        received = x if before is None else before.predict(x, batch_size=EVALUATION_BATCH_SIZE, verbose=0)
        layer.adapt(_impute_means(np.asarray(received)))


def _impute_means(x: Array) -> Array:
    """Return ``x`` with missing values replaced by the mean of their column, which does not change that mean."""
    if x.dtype.kind != "f" or not np.isnan(x).any():
        return x
    flat = x.reshape(-1, x.shape[-1])
    known = ~np.isnan(flat)
    means = np.where(known, flat, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(np.isnan(x), means, x)
