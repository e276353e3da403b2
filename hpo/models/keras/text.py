"""Networks for texts, which are rows of word numbers padded with leading zeros.

The vocabulary is fitted on the training rows of a fold: the most frequent words. All other words count as unknown.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from hpo.datasets.base import DataSpec
from hpo.errors import ConfigError
from hpo.models.keras import blocks
from hpo.models.keras.vocabulary import N_RESERVED, look_up_ranks


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
    """Build dense layers over the set of words of a text, regardless of order and count (Chollet 2017, chapter 3.4).

    The first layer computes a dense layer over a multi-hot row of ``max_words`` numbers without creating that row: it
    sums the kernel's rows of the words in the text.

    Args:
        max_words: size of the vocabulary.
        units: units of every hidden layer.
        n_layers: number of hidden layers, at least 1.
        word_dropout: share of the words of a text dropped in training.
        dropout: share of the units of every hidden layer dropped in training.
        l1, l2: weight penalties of the hidden layers.
        optimizer: one of :data:`hpo.models.keras.blocks.OPTIMIZERS`.
        momentum, weight_decay, clip_norm: see :func:`hpo.models.keras.blocks.make_optimizer`.

    Raises:
        ConfigError: if the samples are not texts.
    """
    inputs = keras.Input(data.input_shape, dtype="int32")
    known, is_new = mark_distinct(look_up_ranks(data, inputs, max_words))
    if word_dropout:
        is_new = layers.Dropout(word_dropout)(is_new)
    kernel = layers.Embedding(
        max_words + N_RESERVED,
        units,
        embeddings_initializer=kernel_initializer,
        embeddings_regularizer=blocks.penalty(l1, l2),
        name="kernel",
    )
    x = sum_words(known, is_new, kernel)
    x = blocks.activate(x, activation=activation, batch_norm=batch_norm, dropout=dropout)
    x = blocks.Hidden(activation, kernel_initializer, l1, l2, batch_norm, dropout)(x, [units] * (n_layers - 1))
    how = blocks.make_optimizer(optimizer, learning_rate, momentum, weight_decay, clip_norm)
    return blocks.finish(inputs, x, data, how)


def mark_distinct(ranks: Any) -> tuple[Any, Any]:
    """Sort the ranks of every text and mark the first occurrence of every known word.

    Args:
        ranks: of shape ``(batch, length)``.

    Returns:
        The sorted ranks, and 1.0 for the first occurrence of a known word or 0.0, both of shape ``(batch, length)``.
    """
    ranks = ops.sort(ranks, axis=-1)
    is_known = ranks >= N_RESERVED
    differs = ops.concatenate([ops.ones_like(is_known[:, :1]), ranks[:, 1:] != ranks[:, :-1]], axis=1)
    return ranks, ops.cast(ops.logical_and(is_known, differs), "float32")


def sum_words(ranks: Any, weights: Any, kernel: layers.Embedding) -> Any:
    """Sum the rows of ``kernel`` for the words of every text, and add a bias.

    Args:
        ranks, weights: words and their weights, of shape ``(batch, length)``.
    """
    # Keras has no layer for a bias alone; an embedding of one row does the same.
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
    """Build an embedding and a recurrent layer over the words of a text; its last state is classified.

    Args:
        max_words: size of the vocabulary.
        embedding_dim: size of a word's embedding.
        cell: ``simple_rnn``, ``lstm`` or ``gru``.
        units: units of the recurrent layer, in each direction.
        bidirectional: whether a second layer reads from the end to the start.
        mask: whether padding is skipped; False treats it as a word, which is faster.
        spatial_dropout: share of the embedding's dimensions dropped in training, the same for all words of a text.
        dropout: share of the last state dropped in training.
        l1, l2: weight penalties of the recurrent layer's kernel.
        optimizer: one of :data:`hpo.models.keras.blocks.OPTIMIZERS`.
        momentum, weight_decay, clip_norm: see :func:`hpo.models.keras.blocks.make_optimizer`.

    Raises:
        ConfigError: if the samples are not texts, or ``cell`` is unknown.
    """
    if cell not in blocks.RECURRENT_LAYERS:
        raise ConfigError("model.cell", cell, f"one of {', '.join(blocks.RECURRENT_LAYERS)}", "model.cell=lstm")
    inputs = keras.Input(data.input_shape, dtype="int32")
    ranks = look_up_ranks(data, inputs, max_words)
    x = layers.Embedding(max_words + N_RESERVED, embedding_dim, mask_zero=mask)(ranks)
    if spatial_dropout:
        x = layers.SpatialDropout1D(spatial_dropout)(x)
    recurrent = blocks.RECURRENT_LAYERS[cell](
        units, kernel_initializer=kernel_initializer, kernel_regularizer=blocks.penalty(l1, l2)
    )
    x = (layers.Bidirectional(recurrent) if bidirectional else recurrent)(x)
    if dropout:
        x = layers.Dropout(dropout)(x)
    how = blocks.make_optimizer(optimizer, learning_rate, momentum, weight_decay, clip_norm)
    return blocks.finish(inputs, x, data, how)
