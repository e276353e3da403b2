"""Recurrent and convolutional networks that forecast a real value from a window of a time series."""

from __future__ import annotations

from dataclasses import replace

import keras
from keras import layers

from hpo.datasets.base import DataSpec
from hpo.errors import ConfigError
from hpo.models.keras import blocks

KINDS = (*blocks.RECURRENT_LAYERS, "conv1d")


def sequence_regressor(
    data: DataSpec,
    *,
    kind: str = "lstm",
    n_layers: int = 1,
    units: int = 32,
    kernel_size: int = 3,
    residual: bool = True,
    kernel_initializer: str = "glorot_uniform",
    dropout: float = 0.0,
    l1: float = 0.0,
    l2: float = 0.0,
    loss: str = "mse",
    optimizer: str = "adam",
    learning_rate: float = 3e-3,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    clip_norm: float = 1.0,
) -> keras.Model:
    """Build recurrent or causal convolutional layers over standardised features that forecast a real value.

    Args:
        data: windows of shape (steps, features) with real targets.
        kind: ``simple_rnn``, ``lstm``, ``gru`` or ``conv1d``.
        n_layers: number of layers of that kind, at least 1.
        units: units of every layer; filters of ``conv1d``.
        kernel_size: steps of a convolution; recurrent layers ignore it.
        residual: whether the network predicts the change from the last step of feature 0 instead of the value. Feature
            0 then has to be the target, which holds for ``timeseries_csv`` unless its ``features`` omit the target.
        dropout: share of the units of every layer dropped in training.
        l1, l2: weight penalties of the kernel of every layer.
        loss: ``mse``, ``mae`` or ``huber``.
        optimizer: one of :data:`hpo.models.keras.blocks.OPTIMIZERS`.
        momentum, weight_decay, clip_norm: see :func:`hpo.models.keras.blocks.make_optimizer`.

    Raises:
        ConfigError: if ``kind`` is unknown, or the samples are not windows with real targets.
    """
    if kind not in KINDS:
        raise ConfigError("model.kind", kind, f"one of {', '.join(KINDS)}", "model.kind=lstm")
    if not data.is_regression or len(data.input_shape) != 2:
        given = f"samples of shape {data.input_shape} and {data.n_classes or 'no'} classes"
        expected = "windows of shape (steps, features) with real targets"
        raise ConfigError("dataset", given, expected, "dataset=timeseries_csv")
    inputs = keras.Input(data.input_shape)
    x = layers.Normalization(axis=-1)(inputs)
    common = {"kernel_initializer": kernel_initializer, "kernel_regularizer": blocks.penalty(l1, l2)}
    for place in range(n_layers):
        if kind == "conv1d":
            x = layers.Conv1D(units, kernel_size, padding="causal", activation="relu", **common)(x)
        else:
            x = blocks.RECURRENT_LAYERS[kind](units, return_sequences=place < n_layers - 1, **common)(x)
        if dropout:
            x = layers.Dropout(dropout)(x)
    if kind == "conv1d":
        x = layers.Flatten()(x)
    if residual:
        # The last value already contains the mean of the target, so none is added to the change.
        x = inputs[:, -1, :1] + blocks.output(x, replace(data, target_mean=0.0), name="change")
    else:
        x = blocks.output(x, data)
    chosen = blocks.make_optimizer(optimizer, learning_rate, momentum, weight_decay, clip_norm)
    return blocks.compiled(keras.Model(inputs, x), data, chosen, loss=loss)
