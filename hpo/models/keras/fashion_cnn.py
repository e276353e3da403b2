"""Convolutional network for images of single objects, such as clothes."""

from __future__ import annotations

import keras
from keras import layers

from hpo.datasets.base import DataSpec
from hpo.models.keras import blocks

N_BLOCKS = 3


def build_model(
    data: DataSpec,
    *,
    filters: int = 32,
    kernel_size: int = 3,
    dense_units: int = 128,
    conv_dropout: float = 0.0,
    dropout: float = 0.4,
    l1: float = 0.0,
    l2: float = 1e-5,
    batch_norm: bool = False,
    activation: str = "relu",
    kernel_initializer: str = "he_normal",
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
    """Build three Conv-Pool blocks, then Flatten-Dense-Dropout-softmax, over pixels of 0 to 255.

    Args:
        data: images of shape (height, width, channels), at least 8 pixels on each side.
        filters: filters of the first convolution; the second has twice, the third four times as many.
        conv_dropout: share of whole feature maps dropped after every pooling (Tompson et al. 2015).
        dropout: share of the dense layer's units dropped in training.
        l1, l2: weight penalties of every kernel except the output layer's.
        batch_norm: whether the sums of a layer are normalised over the batch before the activation.
        shift, rotation, zoom, flip: augmentation, see :func:`hpo.models.keras.blocks.augment`.
        optimizer: one of :data:`hpo.models.keras.blocks.OPTIMIZERS`.
        momentum, weight_decay, clip_norm: see :func:`hpo.models.keras.blocks.make_optimizer`.

    Raises:
        ConfigError: if the samples are not images, or have real targets.
    """
    inputs, x = blocks.images(data, shift=shift, rotation=rotation, zoom=zoom, flip=flip)
    for place in range(N_BLOCKS):
        x = layers.Conv2D(
            filters * 2**place,
            kernel_size,
            padding="same",
            use_bias=not batch_norm,
            kernel_initializer=kernel_initializer,
            kernel_regularizer=blocks.penalty(l1, l2),
        )(x)
        x = layers.MaxPooling2D()(blocks.activate(x, activation=activation, batch_norm=batch_norm))
        if conv_dropout:
            x = layers.SpatialDropout2D(conv_dropout)(x)
    hidden = blocks.Hidden(activation, kernel_initializer, l1, l2, batch_norm, dropout)
    x = hidden(layers.Flatten()(x), [dense_units])
    how = blocks.make_optimizer(optimizer, learning_rate, momentum, weight_decay, clip_norm)
    return blocks.finish(inputs, x, data, how)
