"""Dense networks for tables (classification and regression) and for small images."""

from __future__ import annotations

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
    """Build dense layers over the columns of a table, with a sigmoid for two classes or a softmax for more.

    Args:
        data: rows of numbers and categories, see :func:`hpo.models.keras.blocks.table`.
        n_layers: number of hidden layers; 0 is logistic regression.
        units: units of every hidden layer.
        l1, l2: weight penalties of the hidden layers.
        optimizer: one of :data:`hpo.models.keras.blocks.OPTIMIZERS`.
        momentum, weight_decay, clip_norm: see :func:`hpo.models.keras.blocks.make_optimizer`.

    Raises:
        ConfigError: if the samples are not rows of a table, or have real targets.
    """
    if data.is_regression:
        expected = "data with classes, since the model classifies"
        raise ConfigError("dataset", "real targets", expected, "model=mlp_regressor, or another dataset")
    hidden = blocks.Hidden(activation, kernel_initializer, l1, l2, batch_norm, dropout)
    how = blocks.make_optimizer(optimizer, learning_rate, momentum, weight_decay, clip_norm)
    return _over_table(data, [units] * n_layers, hidden, how)


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
    """Build dense layers over the columns of a table that predict a real value in the target's own unit.

    Args:
        data: rows of numbers and categories, see :func:`hpo.models.keras.blocks.table`.
        n_layers: number of hidden layers; 0 is linear regression.
        units: units of every hidden layer.
        l1, l2: weight penalties of the hidden layers.
        loss: ``mse``, ``mae`` or ``huber``, of the standardised target.
        optimizer: one of :data:`hpo.models.keras.blocks.OPTIMIZERS`.
        momentum, weight_decay, clip_norm: see :func:`hpo.models.keras.blocks.make_optimizer`.

    Raises:
        ConfigError: if the samples are not rows of a table, or have classes.
    """
    if not data.is_regression:
        expected = "data with a real target, since the model is a regression"
        raise ConfigError("dataset", f"{data.n_classes} classes", expected, "model=binary_mlp, or another dataset")
    hidden = blocks.Hidden(activation, kernel_initializer, l1, l2, batch_norm, dropout)
    how = blocks.make_optimizer(optimizer, learning_rate, momentum, weight_decay, clip_norm)
    return _over_table(data, [units] * n_layers, hidden, how, loss)


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
    """Build Flatten-Dense-…-softmax over pixels of 0 to 255.

    Args:
        data: images of shape (height, width, channels).
        n_layers: number of hidden layers.
        units: units of the first hidden layer.
        taper: ratio of the units of a hidden layer to those of the layer before it.
        dropout: after every hidden layer.
        l1, l2: weight penalties of the hidden layers.
        shift, rotation, zoom, flip: augmentation, see :func:`hpo.models.keras.blocks.augment`.
        optimizer: one of :data:`hpo.models.keras.blocks.OPTIMIZERS`.
        momentum, weight_decay, clip_norm: see :func:`hpo.models.keras.blocks.make_optimizer`.

    Raises:
        ConfigError: if the samples are not images, or have real targets.
    """
    inputs, x = blocks.images(data, shift=shift, rotation=rotation, zoom=zoom, flip=flip)
    hidden = blocks.Hidden(activation, kernel_initializer, l1, l2, batch_norm, dropout)
    x = hidden(layers.Flatten()(x), [max(1, round(units * taper**place)) for place in range(n_layers)])
    how = blocks.make_optimizer(optimizer, learning_rate, momentum, weight_decay, clip_norm)
    return blocks.finish(inputs, x, data, how)


def _over_table(
    data: DataSpec, sizes: list[int], hidden: blocks.Hidden, how: keras.optimizers.Optimizer, loss: str = "mse"
) -> keras.Model:
    blocks.require_rows(data)
    inputs = keras.Input(data.input_shape)
    return blocks.finish(inputs, hidden(blocks.table(data, inputs), sizes), data, how, loss=loss)
