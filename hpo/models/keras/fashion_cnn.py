"""Convolutional networks for pictures of single things, such as pieces of clothing."""

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
    """Three times Conv-Pool, then Flatten-Dense-Dropout-softmax, over pixels of 0 to 255.

    Args:
        data: images of shape (height, width, channels), at least 8 pixels a side.
        filters: of the first convolution; the second has twice, the third four times as many.
        conv_dropout: share of the feature maps dropped whole after every pooling (Tompson et al. 2015).
        dropout: share of the dense layer's units dropped in training.
        l1, l2: weight penalties of every kernel but the last.
        batch_norm: whether what a layer sums up is normalised over the batch before it is activated.
        shift, rotation, zoom, flip: augmentation, see :func:`hpo.models.keras.blocks.augmented`.
        optimizer: one of :data:`hpo.models.keras.blocks.OPTIMIZERS`; see there also for what follows it.

    Raises:
        ConfigError: for samples that are no images, or real targets.
    """
    blocks.require_images(data)
    inputs = keras.Input(data.input_shape, dtype="uint8")
    x = layers.Rescaling(1 / 255)(inputs)
    x = blocks.augmented(x, shift=shift, rotation=rotation, zoom=zoom, flip=flip)
    for place in range(N_BLOCKS):
        x = layers.Conv2D(
            filters * 2**place,
            kernel_size,
            padding="same",
            use_bias=not batch_norm,
            kernel_initializer=kernel_initializer,
            kernel_regularizer=blocks.penalty(l1, l2),
        )(x)
        if batch_norm:
            x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D()(layers.Activation(activation)(x))
        if conv_dropout:
            x = layers.SpatialDropout2D(conv_dropout)(x)
    x = blocks.dense(
        layers.Flatten()(x),
        dense_units,
        activation=activation,
        kernel_initializer=kernel_initializer,
        l1=l1,
        l2=l2,
        batch_norm=batch_norm,
        dropout=dropout,
    )
    how = blocks.make_optimizer(optimizer, learning_rate, momentum, weight_decay, clip_norm)
    return blocks.finished(inputs, x, data, how)
