"""Parts that the Keras models of the catalogue share: inputs, layers with what holds over-fitting back, outputs.

All of it is Keras's own, so that a model that is logged loads without hpo.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from hpo.datasets.base import Array, DataSpec
from hpo.errors import ConfigError

OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop", "adagrad")
LOSSES = ("mse", "mae", "huber")
# Of Huber's loss, in standard deviations of the target (Huber 1964 has 1.345 for errors of that scale).
HUBER_DELTA = 1.345
# Numbers of words that are not ranks: 0 is padding, 1 a word that is not among the most frequent ones.
N_RESERVED = 2


def penalty(l1: float, l2: float) -> keras.regularizers.Regularizer | None:
    """Of a kernel; None where both are 0."""
    return keras.regularizers.L1L2(l1, l2) if l1 or l2 else None


def dense(
    x: Any,
    units: int,
    *,
    activation: str = "relu",
    kernel_initializer: str = "he_normal",
    l1: float = 0.0,
    l2: float = 0.0,
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> Any:
    """Dense, batch normalisation where asked for, activation, dropout; on a tensor of shape ``(batch, …, n)``."""
    x = layers.Dense(
        units,
        use_bias=not batch_norm,
        kernel_initializer=kernel_initializer,
        kernel_regularizer=penalty(l1, l2),
    )(x)
    if batch_norm:
        x = layers.BatchNormalization()(x)
    x = layers.Activation(activation)(x)
    return layers.Dropout(dropout)(x) if dropout else x


def output(x: Any, data: DataSpec, name: str = "output") -> Any:
    """The last layer: a sigmoid for two classes, a softmax for more, or a real value in the target's own unit."""
    if data.is_regression:
        # The network works on a standardised target; the mean and standard deviation are those of the training rows.
        return layers.Rescaling(data.target_std, data.target_mean, name=name)(layers.Dense(1)(x))
    if data.n_classes == 2:
        return layers.Dense(1, activation="sigmoid", name=name)(x)
    return layers.Dense(data.n_classes, activation="softmax", name=name)(x)


def make_optimizer(
    name: str, learning_rate: float, momentum: float = 0.9, weight_decay: float = 0.0, clip_norm: float | None = None
) -> keras.optimizers.Optimizer:
    """One of :data:`OPTIMIZERS`.

    Args:
        momentum: of ``sgd``; the others ignore it.
        weight_decay: of ``adamw``; the others ignore it.
        clip_norm: the most that the norm of all gradients together may be; None or 0 clips nothing.

    Raises:
        ConfigError: for another name.
    """
    if name not in OPTIMIZERS:
        raise ConfigError("model.optimizer", name, f"one of {', '.join(OPTIMIZERS)}", "model.optimizer=adam")
    options: dict[str, Any] = {"learning_rate": learning_rate}
    if name == "sgd":
        options["momentum"] = momentum
    if name == "adamw":
        options["weight_decay"] = weight_decay
    if clip_norm:
        options["global_clipnorm"] = clip_norm
    return keras.optimizers.get({"class_name": name, "config": options})


def compiled(
    model: keras.Model,
    data: DataSpec,
    optimizer: keras.optimizers.Optimizer,
    *,
    loss: str = "mse",
    output_weights: Sequence[float] = (1.0,),
) -> keras.Model:
    """``model`` with the loss and the metrics that its target calls for.

    A regression's loss is that of the standardised target, so that learning rates mean the same for all units; its
    metrics, ``mae`` and ``rmse``, are in the target's own.

    Args:
        loss: of a regression: ``mse``, ``mae`` or ``huber``.
        output_weights: of the losses of a model with several outputs, which all learn the same target.

    Raises:
        ConfigError: for another loss.
    """
    if loss not in LOSSES:
        raise ConfigError("model.loss", loss, f"one of {', '.join(LOSSES)}", "model.loss=mse")
    scale = 1.0
    if data.is_regression:
        std = data.target_std
        scale = 1 / std if loss == "mae" else 1 / std**2
        chosen: Any = {"mse": "mse", "mae": "mae", "huber": keras.losses.Huber(delta=HUBER_DELTA * std)}[loss]
    else:
        chosen = "binary_crossentropy" if data.n_classes == 2 else "sparse_categorical_crossentropy"
    metrics = ["mae", keras.metrics.RootMeanSquaredError(name="rmse")] if data.is_regression else ["accuracy"]
    n_outputs = len(model.outputs)
    weights = [scale * weight for weight in output_weights]
    model.compile(
        optimizer=optimizer,
        loss=chosen if n_outputs == 1 else [chosen] * n_outputs,
        loss_weights=weights[0] if n_outputs == 1 else weights,
        metrics=metrics if n_outputs == 1 else [metrics, *([[]] * (n_outputs - 1))],
        # XLA costs several times more on a CPU, and compiling anew for every trial rarely pays on a GPU.
        jit_compile=False,
    )
    return model


def finished(
    inputs: Any, x: Any, data: DataSpec, optimizer: keras.optimizers.Optimizer, *, loss: str = "mse"
) -> keras.Model:
    """The compiled model from ``inputs`` by ``x`` to one :func:`output`."""
    return compiled(keras.Model(inputs, output(x, data)), data, optimizer, loss=loss)


def table(data: DataSpec, x: Any, columns: Sequence[int] | None = None) -> Any:
    """The columns of a table as a network wants them, from ``x`` of shape ``(batch, n_columns)``.

    Numbers are standardised by the training rows, and the missing ones are 0, their mean; categories are one-hot, the
    missing ones all zeros. Data without column names are numbers.

    Args:
        columns: places of those to take; None takes all.
    """
    chosen = list(range(data.input_shape[0]) if columns is None else columns)
    kinds = {place: data.columns[place].categories if data.columns else None for place in chosen}
    numbers = [place for place in chosen if kinds[place] is None]
    parts = []
    if numbers:
        standard = layers.Normalization()(ops.take(x, ops.convert_to_tensor(numbers), axis=1))
        parts.append(ops.where(ops.isnan(standard), 0.0, standard))
    for place in chosen:
        categories = kinds[place]
        if categories is not None:
            code = x[:, place]
            known = ops.where(ops.isnan(code), -1.0, code)  # one_hot makes a row of zeros of -1
            parts.append(ops.one_hot(ops.cast(known, "int32"), len(categories)))
    return parts[0] if len(parts) == 1 else layers.Concatenate()(parts)


def vocabulary(data: DataSpec, max_words: int) -> layers.Embedding:
    """A layer from word numbers to ranks: 0 padding, 1 a word that is not among the most frequent ``max_words``, 2 …

    The ranks are those of the training rows of a fold. It is an embedding of one number that is not trained, whose
    output of shape ``(batch, length, 1)`` is to be squeezed and cast.

    Raises:
        ConfigError: for data that are no texts, or a vocabulary without words.
    """
    if not data.n_words or len(data.input_shape) != 1:
        expected = "texts as rows of word numbers, since the model chooses a vocabulary"
        raise ConfigError("dataset", f"samples of shape {data.input_shape}", expected, "dataset=imdb")
    if max_words < 1:
        raise ConfigError("model.max_words", max_words, "at least 1", "model.max_words=10000")
    layer = layers.Embedding(data.n_words, 1, trainable=False, embeddings_initializer="ones", name="vocabulary")
    layer.adapt = lambda rows: layer.set_weights([ranks(rows, data.n_words, max_words)[:, None]])
    return layer


def words(data: DataSpec, x: Any, max_words: int) -> Any:
    """Ranks of words, whole numbers below ``max_words + 2``; see :func:`vocabulary`."""
    return ops.cast(ops.squeeze(vocabulary(data, max_words)(x), axis=-1), "int32")


def ranks(rows: Array, n_words: int, max_words: int) -> Array:
    """Of every word number the rank by how often ``rows`` have it, ties by number; see :func:`vocabulary`."""
    counts = np.bincount(np.asarray(rows, dtype="int64").ravel(), minlength=n_words)
    counts[0] = 0
    order = np.argsort(-counts, kind="stable")[:max_words]
    order = order[counts[order] > 0]
    found = np.ones(n_words, "float32")
    found[order] = np.arange(N_RESERVED, N_RESERVED + len(order))
    found[0] = 0
    return found


def augmented(x: Any, *, shift: float = 0.0, rotation: float = 0.0, zoom: float = 0.0, flip: bool = False) -> Any:
    """Images, in training each moved, turned and scaled at random; elsewhere as they are.

    Args:
        shift: most, as a share of height and width.
        rotation: most, as a share of a full turn.
        zoom: most, as a share of the size.
        flip: whether half of the images are mirrored left to right.
    """
    for layer in augmentation(shift=shift, rotation=rotation, zoom=zoom, flip=flip):
        x = layer(x)
    return x


def augmentation(
    *, shift: float = 0.0, rotation: float = 0.0, zoom: float = 0.0, flip: bool = False
) -> list[layers.Layer]:
    """The layers of :func:`augmented`, those that do something."""
    steps: list[tuple[bool, Callable[[], layers.Layer]]] = [
        (shift > 0, lambda: layers.RandomTranslation(shift, shift, fill_mode="constant")),
        (rotation > 0, lambda: layers.RandomRotation(rotation, fill_mode="constant")),
        (zoom > 0, lambda: layers.RandomZoom(zoom, fill_mode="constant")),
        (flip, lambda: layers.RandomFlip("horizontal")),
    ]
    return [make() for is_wanted, make in steps if is_wanted]


def require_rows(data: DataSpec) -> None:
    """Refuse samples that are not rows of a table.

    Raises:
        ConfigError: naming their shape.
    """
    if len(data.input_shape) != 1 or data.n_words:
        found = "texts" if data.n_words else f"samples of shape {data.input_shape}"
        raise ConfigError("dataset", found, "rows of a table, which the model is for", "dataset=breast_cancer")


def require_images(data: DataSpec) -> None:
    """Refuse samples that are not images with classes.

    Raises:
        ConfigError: naming their shape.
    """
    if len(data.input_shape) != 3 or data.is_regression:
        found = "real targets" if data.is_regression else f"samples of shape {data.input_shape}"
        raise ConfigError("dataset", found, "images with classes, which the model is for", "dataset=digits")
