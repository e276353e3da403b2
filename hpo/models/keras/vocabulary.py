"""Words of texts for Keras models: a vocabulary that is fitted on the training rows of a fold."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers, ops

from hpo.datasets.base import Array, DataSpec
from hpo.errors import ConfigError

# Ranks start here: 0 is padding, 1 is any word outside the vocabulary.
N_RESERVED = 2


def look_up_ranks(data: DataSpec, x: Any, max_words: int) -> Any:
    """Replace word numbers by their ranks.

    Args:
        data: texts as rows of word numbers.
        x: word numbers of shape ``(batch, length)``.
        max_words: size of the vocabulary.

    Returns:
        Ranks of shape ``(batch, length)``, integers below ``max_words + N_RESERVED``; see :func:`make_vocabulary`.

    Raises:
        ConfigError: if the samples are not texts or ``max_words`` is below 1.
    """
    return ops.cast(ops.squeeze(make_vocabulary(data, max_words)(x), axis=-1), "int32")


def make_vocabulary(data: DataSpec, max_words: int) -> layers.Embedding:
    """Create the layer that maps word numbers to ranks by frequency in the training rows of a fold.

    Rank 0 is padding, 1 is a word outside the ``max_words`` most frequent ones, 2 is the most frequent word. The layer
    is an embedding of one number that is not trained; its output of shape ``(batch, length, 1)`` has to be squeezed
    and cast.

    Raises:
        ConfigError: if the samples are not texts or ``max_words`` is below 1.
    """
    if not data.n_words or len(data.input_shape) != 1:
        expected = "texts as rows of word numbers, since the model has a vocabulary"
        raise ConfigError("dataset", f"samples of shape {data.input_shape}", expected, "dataset=imdb")
    if max_words < 1:
        raise ConfigError("model.max_words", max_words, "at least 1", "model.max_words=10000")
    layer = layers.Embedding(data.n_words, 1, trainable=False, embeddings_initializer="ones", name="vocabulary")
    layer.adapt = lambda rows: layer.set_weights([compute_ranks(rows, data.n_words, max_words)[:, None]])
    return layer


def compute_ranks(rows: Array, n_words: int, max_words: int) -> Array:
    """Rank all words by their frequency in ``rows``; words of equal frequency are ranked by number.

    Args:
        rows: word numbers below ``n_words``, 0 being padding.

    Returns:
        The rank of every word number, of shape ``(n_words,)``; see :func:`make_vocabulary`.
    """
    counts = np.bincount(np.asarray(rows, dtype="int64").ravel(), minlength=n_words)
    counts[0] = 0
    order = np.argsort(-counts, kind="stable")[:max_words]
    order = order[counts[order] > 0]
    found = np.ones(n_words, "float32")
    found[order] = np.arange(N_RESERVED, N_RESERVED + len(order))
    found[0] = 0
    return found
