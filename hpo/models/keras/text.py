"""Networks for texts, which are rows of word numbers padded with zeros in front.

The vocabulary, the most frequent words, is that of the training rows of a fold; all other words count as unknown.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from hpo.datasets.base import DataSpec
from hpo.errors import ConfigError
from hpo.models.keras import blocks

CELLS = {"simple_rnn": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}


def text_bow_mlp(
    data: DataSpec,
    *,
    max_words: int = 10_000,
    units: int = 16,
    n_layers: int = 2,
    activation: str = "relu",
    kernel_initializer: str = "glorot_uniform",
    word_dropout: float = 0.0,
    dropout: float = 0.3,
    batch_norm: bool = False,
    l1: float = 0.0,
    l2: float = 0.0,
    optimizer: str = "adam",
    learning_rate: float = 1e-3,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    clip_norm: float = 0.0,
) -> keras.Model:
    """Which words a text has, whatever their order and number, then dense layers (Chollet 2017, chapter 3.4).

    The first layer is what a dense one makes of a row of ``max_words`` zeros and ones, without that row: the sum of
    its kernel's rows for the words that a text has.

    Args:
        max_words: size of the vocabulary.
        units: of every hidden layer.
        n_layers: hidden layers, at least 1.
        word_dropout: share of a text's words that is left out in training.
        dropout: share of the units of every hidden layer that is left out in training.
        l1, l2: penalties of every hidden layer's kernel.
        momentum, weight_decay, clip_norm: see :func:`hpo.models.keras.blocks.make_optimizer`.
    """
    inputs = keras.Input(data.input_shape, dtype="int32")
    known, is_new = distinct(blocks.words(data, inputs, max_words))
    if word_dropout:
        is_new = layers.Dropout(word_dropout)(is_new)
    x = bag_of_words(
        known,
        is_new,
        layers.Embedding(
            max_words + blocks.N_RESERVED,
            units,
            embeddings_initializer=kernel_initializer,
            embeddings_regularizer=blocks.penalty(l1, l2),
            name="kernel",
        ),
    )
    if batch_norm:
        x = layers.BatchNormalization()(x)
    x = layers.Activation(activation)(x)
    if dropout:
        x = layers.Dropout(dropout)(x)
    for _ in range(n_layers - 1):
        x = blocks.dense(
            x,
            units,
            activation=activation,
            kernel_initializer=kernel_initializer,
            l1=l1,
            l2=l2,
            batch_norm=batch_norm,
            dropout=dropout,
        )
    how = blocks.make_optimizer(optimizer, learning_rate, momentum, weight_decay, clip_norm)
    return blocks.finished(inputs, x, data, how)


def distinct(ranks: Any) -> tuple[Any, Any]:
    """``ranks`` of shape ``(batch, length)`` sorted, and 1.0 where one is a known word's and not a repetition."""
    ranks = ops.sort(ranks, axis=-1)
    is_known = ranks >= blocks.N_RESERVED
    differs = ops.concatenate([ops.ones_like(is_known[:, :1]), ranks[:, 1:] != ranks[:, :-1]], axis=1)
    return ranks, ops.cast(ops.logical_and(is_known, differs), "float32")


def bag_of_words(ranks: Any, weights: Any, kernel: layers.Embedding) -> Any:
    """The sum of the rows of ``kernel`` for ``ranks`` of shape ``(batch, length)``, each weighted, and a bias."""
    # Keras has no layer for a bias alone: this is one of a single row.
    bias = layers.Embedding(1, kernel.output_dim, embeddings_initializer="zeros", name="bias")
    return ops.einsum("bl,blu->bu", weights, kernel(ranks)) + bias(ops.zeros_like(ranks[:, 0]))


def text_rnn(
    data: DataSpec,
    *,
    max_words: int = 10_000,
    embedding_dim: int = 32,
    cell: str = "lstm",
    units: int = 32,
    bidirectional: bool = False,
    mask: bool = True,
    kernel_initializer: str = "glorot_uniform",
    spatial_dropout: float = 0.2,
    dropout: float = 0.3,
    l1: float = 0.0,
    l2: float = 0.0,
    optimizer: str = "adam",
    learning_rate: float = 2e-3,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    clip_norm: float = 1.0,
) -> keras.Model:
    """Word by word: an embedding, a recurrent layer, and its state after the last word.

    Args:
        max_words: size of the vocabulary.
        embedding_dim: numbers that stand for a word.
        cell: ``simple_rnn``, ``lstm`` or ``gru``.
        units: of the recurrent layer, in each direction.
        bidirectional: whether another layer reads from the end to the beginning.
        mask: whether padding is passed over; without, it is a word of its own, which is quicker.
        spatial_dropout: share of the numbers that stand for a word that is left out in training, the same ones of all
            words of a text.
        dropout: share of the last state that is left out in training.
        l1, l2: penalties of the recurrent layer's kernel.
        momentum, weight_decay, clip_norm: see :func:`hpo.models.keras.blocks.make_optimizer`.

    Raises:
        ConfigError: for another cell.
    """
    if cell not in CELLS:
        raise ConfigError("model.cell", cell, f"one of {', '.join(CELLS)}", "model.cell=lstm")
    inputs = keras.Input(data.input_shape, dtype="int32")
    ranks = blocks.words(data, inputs, max_words)
    x = layers.Embedding(max_words + blocks.N_RESERVED, embedding_dim, mask_zero=mask)(ranks)
    if spatial_dropout:
        x = layers.SpatialDropout1D(spatial_dropout)(x)
    recurrent = CELLS[cell](units, kernel_initializer=kernel_initializer, kernel_regularizer=blocks.penalty(l1, l2))
    x = (layers.Bidirectional(recurrent) if bidirectional else recurrent)(x)
    if dropout:
        x = layers.Dropout(dropout)(x)
    how = blocks.make_optimizer(optimizer, learning_rate, momentum, weight_decay, clip_norm)
    return blocks.finished(inputs, x, data, how)
