"""Dense networks: for tables, of classes or of real targets, and for small images."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from hpo.datasets.base import DataSpec
from hpo.errors import ConfigError
from hpo.models.keras import blocks


def classify_table(
    data: DataSpec,
    *,
    n_layers: int = 1,
    units: int = 16,
    activation: str = "relu",
    kernel_initializer: str = "he_normal",
    dropout: float = 0.0,
    batch_norm: bool = False,
    l1: float = 0.0,
    l2: float = 0.0,
    optimizer: str = "adam",
    learning_rate: float = 1e-2,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
) -> keras.Model:
    """Dense layers over the columns of a table, then a sigmoid, or a softmax where there are more than two classes.

    Args:
        data: rows of numbers and categories, see :func:`hpo.models.keras.blocks.table`.
        n_layers: hidden layers; 0 is a logistic regression.
        units: of every hidden layer.
        l1, l2: penalties of the hidden layers' weights.
        optimizer: one of :data:`hpo.models.keras.blocks.OPTIMIZERS`; see there also for what follows it.

    Raises:
        ConfigError: for samples that are no rows, or real targets.
    """
    if data.is_regression:
        expected = "data with classes, since the model classifies"
        raise ConfigError("dataset", "real targets", expected, "model=mlp_regressor, or another dataset")
    blocks.require_rows(data)
    inputs = keras.Input(data.input_shape)
    x = _hidden(
        blocks.table(data, inputs),
        [units] * n_layers,
        activation=activation,
        kernel_initializer=kernel_initializer,
        l1=l1,
        l2=l2,
        batch_norm=batch_norm,
        dropout=dropout,
    )
    how = blocks.make_optimizer(optimizer, learning_rate, momentum, weight_decay, clip_norm)
    return blocks.finished(inputs, x, data, how)


def regress_table(
    data: DataSpec,
    *,
    n_layers: int = 2,
    units: int = 64,
    activation: str = "relu",
    kernel_initializer: str = "he_normal",
    dropout: float = 0.0,
    batch_norm: bool = False,
    l1: float = 0.0,
    l2: float = 0.0,
    loss: str = "mse",
    optimizer: str = "adam",
    learning_rate: float = 3e-3,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
) -> keras.Model:
    """Dense layers over the columns of a table, then a real value in the target's own unit.

    Args:
        data: rows of numbers and categories, see :func:`hpo.models.keras.blocks.table`.
        n_layers: hidden layers; 0 is a linear regression.
        units: of every hidden layer.
        l1, l2: penalties of the hidden layers' weights.
        loss: ``mse``, ``mae`` or ``huber``, of the standardised target.
        optimizer: one of :data:`hpo.models.keras.blocks.OPTIMIZERS`; see there also for what follows it.

    Raises:
        ConfigError: for samples that are no rows, or classes.
    """
    if not data.is_regression:
        expected = "data with a real target, since the model regresses"
        raise ConfigError("dataset", f"{data.n_classes} classes", expected, "model=binary_mlp, or another dataset")
    blocks.require_rows(data)
    inputs = keras.Input(data.input_shape)
    x = _hidden(
        blocks.table(data, inputs),
        [units] * n_layers,
        activation=activation,
        kernel_initializer=kernel_initializer,
        l1=l1,
        l2=l2,
        batch_norm=batch_norm,
        dropout=dropout,
    )
    how = blocks.make_optimizer(optimizer, learning_rate, momentum, weight_decay, clip_norm)
    return blocks.finished(inputs, x, data, how, loss=loss)


def classify_images(
    data: DataSpec,
    *,
    n_layers: int = 2,
    units: int = 256,
    taper: float = 0.5,
    activation: str = "relu",
    kernel_initializer: str = "he_normal",
    dropout: float = 0.2,
    batch_norm: bool = False,
    l1: float = 0.0,
    l2: float = 0.0,
    shift: float = 0.0,
    rotation: float = 0.0,
    zoom: float = 0.0,
    flip: bool = False,
    optimizer: str = "adam",
    learning_rate: float = 1e-3,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
) -> keras.Model:
    """Flatten-Dense-…-softmax over pixels of 0 to 255.

    Args:
        data: images of shape (height, width, channels).
        n_layers: hidden layers.
        units: of the first hidden layer.
        taper: every further one has so many times the units of the one before.
        dropout: after every hidden layer.
        l1, l2: penalties of the hidden layers' weights.
        shift, rotation, zoom, flip: augmentation, see :func:`hpo.models.keras.blocks.augmented`.
        optimizer: one of :data:`hpo.models.keras.blocks.OPTIMIZERS`; see there also for what follows it.

    Raises:
        ConfigError: for samples that are no images, or real targets.
    """
    blocks.require_images(data)
    inputs = keras.Input(data.input_shape, dtype="uint8")
    x = layers.Rescaling(1 / 255)(inputs)
    x = blocks.augmented(x, shift=shift, rotation=rotation, zoom=zoom, flip=flip)
    x = layers.Flatten()(x)
    x = _hidden(
        x,
        [max(1, round(units * taper**place)) for place in range(n_layers)],
        activation=activation,
        kernel_initializer=kernel_initializer,
        l1=l1,
        l2=l2,
        batch_norm=batch_norm,
        dropout=dropout,
    )
    how = blocks.make_optimizer(optimizer, learning_rate, momentum, weight_decay, clip_norm)
    return blocks.finished(inputs, x, data, how)


def _hidden(x: Any, sizes: list[int], **options: Any) -> Any:
    for units in sizes:
        x = blocks.dense(x, units, **options)
    return x
