"""Convolutional network for small grey images."""

from __future__ import annotations

import keras
from keras import layers

from hpo.datasets.base import DataSpec
from hpo.models.keras import blocks


def build_model(
    data: DataSpec,
    *,
    filters: int = 32,
    dense_units: int = 256,
    dropout: float = 0.3,
    l1: float = 0.0,
    l2: float = 1e-5,
    batch_norm: bool = False,
    activation: str = "relu",
    kernel_initializer: str = "he_normal",
    shift: float = 0.0,
    rotation: float = 0.0,
    zoom: float = 0.0,
    optimizer: str = "adam",
    learning_rate: float = 1e-3,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
) -> keras.Model:
    """Build Conv-Pool-Conv-Pool-Conv-Flatten-Dropout-Dense-softmax over pixels of 0 to 255.

    Args:
        data: images of shape (height, width, channels), at least 18 pixels on each side.
        filters: filters of the first convolution; the second has twice, the third four times as many.
        dropout: share of the flattened features dropped in training.
        l1, l2: weight penalties of every kernel except the output layer's.
        batch_norm: whether the sums of a layer are normalised over the batch before the activation.
        shift, rotation, zoom: augmentation, see :func:`hpo.models.keras.blocks.augment`.
        optimizer: one of :data:`hpo.models.keras.blocks.OPTIMIZERS`.
        momentum, weight_decay, clip_norm: see :func:`hpo.models.keras.blocks.make_optimizer`.

    Raises:
        ConfigError: if the samples are not images, or have real targets.
    """
    blocks.require_images(data)

    def activated(kind: type[layers.Layer], *size: int) -> list[layers.Layer]:
        options = {"kernel_initializer": kernel_initializer, "kernel_regularizer": blocks.penalty(l1, l2)}
        if not batch_norm:
            return [kind(*size, activation=activation, **options)]
        return [kind(*size, use_bias=False, **options), layers.BatchNormalization(), layers.Activation(activation)]

    model = keras.Sequential(
        [
            keras.Input(data.input_shape, dtype="uint8"),
            layers.Rescaling(1 / 255),
            *blocks.augmentation_layers(shift=shift, rotation=rotation, zoom=zoom),
            *activated(layers.Conv2D, filters, 3),
            layers.MaxPooling2D(),
            *activated(layers.Conv2D, filters * 2, 3),
            layers.MaxPooling2D(),
            *activated(layers.Conv2D, filters * 4, 3),
            layers.Flatten(),
            layers.Dropout(dropout),
            *activated(layers.Dense, dense_units),
            layers.Dense(data.n_classes, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=blocks.make_optimizer(optimizer, learning_rate, momentum, weight_decay, clip_norm),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        # XLA is several times slower on a CPU, and compiling once per trial rarely pays on a GPU.
        jit_compile=False,
    )
    return model
