"""Convolutional networks for small grey images."""

from __future__ import annotations

import keras
from keras import layers

from hpo.datasets.base import DataSpec


def build_model(
    data: DataSpec,
    *,
    filters: int = 32,
    dense_units: int = 256,
    dropout: float = 0.3,
    l2: float = 1e-5,
    activation: str = "relu",
    kernel_initializer: str = "he_normal",
    optimizer: str = "adam",
    learning_rate: float = 1e-3,
    momentum: float = 0.9,
) -> keras.Model:
    """Conv-Pool-Conv-Pool-Conv-Flatten-Dropout-Dense-softmax over pixels of 0 to 255.

    Args:
        data: images of shape (height, width, channels), at least 18 pixels a side.
        filters: of the first convolution; the second has twice, the third four times as many.
        dropout: share of the flattened features dropped in training.
        l2: weight penalty of every kernel.
        optimizer: ``adam``, ``rmsprop`` or ``sgd``.
        momentum: of ``sgd``; the others ignore it.
    """

    def kernel() -> dict[str, object]:
        return {
            "activation": activation,
            "kernel_initializer": kernel_initializer,
            "kernel_regularizer": keras.regularizers.L2(l2),
        }

    model = keras.Sequential(
        [
            keras.Input(data.input_shape, dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(filters, 3, **kernel()),
            layers.MaxPooling2D(),
            layers.Conv2D(filters * 2, 3, **kernel()),
            layers.MaxPooling2D(),
            layers.Conv2D(filters * 4, 3, **kernel()),
            layers.Flatten(),
            layers.Dropout(dropout),
            layers.Dense(dense_units, **kernel()),
            layers.Dense(data.n_classes, activation="softmax"),
        ]
    )
    options = {"momentum": momentum} if optimizer == "sgd" else {}
    model.compile(
        optimizer=keras.optimizers.get(
            {"class_name": optimizer, "config": {"learning_rate": learning_rate, **options}}
        ),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        # XLA costs several times more on a CPU, and compiling anew for every trial rarely pays on a GPU.
        jit_compile=False,
    )
    return model
