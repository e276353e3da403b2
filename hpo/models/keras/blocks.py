"""Building blocks shared by the Keras models: inputs, regularised layers, outputs, optimizers and losses.

Only layers of Keras itself are used, so that a logged model loads without hpo. Every model function lists all its
keyword parameters itself, since a search space may name every parameter of its signature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from hpo.datasets.base import DataSpec
from hpo.errors import ConfigError

OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop", "adagrad")
LOSSES = ("mse", "mae", "huber")
# Delta of the Huber loss, in standard deviations of the target (Huber 1964 uses 1.345 for errors of that scale).
HUBER_DELTA = 1.345
RECURRENT_LAYERS = {"simple_rnn": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}


def penalty(l1: float, l2: float) -> keras.regularizers.Regularizer | None:
    """Return the weight penalty of a kernel; None if both strengths are 0."""
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
    """Apply a dense layer, optional batch normalisation, the activation and dropout.

    Args:
        x: tensor of shape ``(batch, …, n)``.
        l1, l2: weight penalties of the kernel.
        dropout: share of the units that is dropped in training.
    """
    x = layers.Dense(
        units,
        use_bias=not batch_norm,
        kernel_initializer=kernel_initializer,
        kernel_regularizer=penalty(l1, l2),
    )(x)
    return activate(x, activation=activation, batch_norm=batch_norm, dropout=dropout)


def activate(x: Any, *, activation: str, batch_norm: bool = False, dropout: float = 0.0) -> Any:
    """Apply optional batch normalisation, the activation and dropout to the sums of a layer without activation."""
    if batch_norm:
        x = layers.BatchNormalization()(x)
    x = layers.Activation(activation)(x)
    return layers.Dropout(dropout)(x) if dropout else x


@dataclass(frozen=True)
class Hidden:
    """Options of :func:`dense` that all hidden layers of a model share."""

    activation: str
    kernel_initializer: str
    l1: float
    l2: float
    batch_norm: bool
    dropout: float

    def __call__(self, x: Any, sizes: Sequence[int]) -> Any:
        """Apply one :func:`dense` layer after another, with ``sizes`` units each."""
        for units in sizes:
            x = dense(x, units, **vars(self))
        return x


def output(x: Any, data: DataSpec, name: str = "output") -> Any:
    """Apply the output layer: a sigmoid for two classes, a softmax for more, or a real value in the target's unit."""
    if data.is_regression:
        # The network predicts a standardised target; mean and standard deviation come from the training rows.
        return layers.Rescaling(data.target_std, data.target_mean, name=name)(layers.Dense(1)(x))
    if data.n_classes == 2:
        return layers.Dense(1, activation="sigmoid", name=name)(x)
    return layers.Dense(data.n_classes, activation="softmax", name=name)(x)


def make_optimizer(
    name: str, learning_rate: float, momentum: float = 0.9, weight_decay: float = 0.0, clip_norm: float | None = None
) -> keras.optimizers.Optimizer:
    """Create an optimizer.

    Args:
        name: one of :data:`OPTIMIZERS`.
        momentum: of ``sgd``; the others ignore it.
        weight_decay: of ``adamw``; the others ignore it.
        clip_norm: upper limit of the norm of all gradients together; None or 0 disables clipping.

    Raises:
        ConfigError: if ``name`` is unknown.
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
    """Compile ``model`` with the loss and the metrics of its kind of target.

    The loss of a regression is that of the standardised target, so that a learning rate means the same in every unit.
    Its metrics, ``mae`` and ``rmse``, are in the target's own unit.

    Args:
        loss: of a regression: ``mse``, ``mae`` or ``huber``.
        output_weights: weights of the losses of a model with several outputs, which all learn the same target.

    Raises:
        ConfigError: if ``loss`` is unknown.
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
        # XLA is several times slower on a CPU, and compiling once per trial rarely pays on a GPU.
        jit_compile=False,
    )
    return model


def finish(
    inputs: Any, x: Any, data: DataSpec, optimizer: keras.optimizers.Optimizer, *, loss: str = "mse"
) -> keras.Model:
    """Return the compiled model from ``inputs`` through ``x`` to one :func:`output`."""
    return compiled(keras.Model(inputs, output(x, data)), data, optimizer, loss=loss)


def table(data: DataSpec, x: Any, columns: Sequence[int] | None = None) -> Any:
    """Encode the columns of a table for a network.

    Numbers are standardised by the training rows, and missing ones become 0, the mean. Categories are one-hot encoded,
    and missing ones become all zeros. Columns without names are numbers.

    Args:
        x: rows of shape ``(batch, n_columns)``.
        columns: indices of the columns to take; None takes all.
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
            known = ops.where(ops.isnan(code), -1.0, code)  # one_hot encodes -1 as zeros
            parts.append(ops.one_hot(ops.cast(known, "int32"), len(categories)))
    return parts[0] if len(parts) == 1 else layers.Concatenate()(parts)


def images(
    data: DataSpec, *, shift: float = 0.0, rotation: float = 0.0, zoom: float = 0.0, flip: bool = False
) -> tuple[Any, Any]:
    """Create the input of an image model and scale its pixels from 0-255 to 0-1.

    Args:
        data: images of shape ``(height, width, channels)``.
        shift, rotation, zoom, flip: see :func:`augment`.

    Returns:
        The input tensor, and the scaled pixels after augmentation.

    Raises:
        ConfigError: if the samples are not images, or have real targets.
    """
    require_images(data)
    inputs = keras.Input(data.input_shape, dtype="uint8")
    x = layers.Rescaling(1 / 255)(inputs)
    return inputs, augment(x, shift=shift, rotation=rotation, zoom=zoom, flip=flip)


def augment(x: Any, *, shift: float = 0.0, rotation: float = 0.0, zoom: float = 0.0, flip: bool = False) -> Any:
    """Shift, rotate, zoom and flip images at random in training; outside training they are unchanged.

    Args:
        shift: largest shift, as a fraction of height and width.
        rotation: largest rotation, as a fraction of a full turn.
        zoom: largest zoom, as a fraction of the size.
        flip: whether half of the images are mirrored left to right.
    """
    for layer in augmentation_layers(shift=shift, rotation=rotation, zoom=zoom, flip=flip):
        x = layer(x)
    return x


def augmentation_layers(
    *, shift: float = 0.0, rotation: float = 0.0, zoom: float = 0.0, flip: bool = False
) -> list[layers.Layer]:
    """Return the layers of :func:`augment`, without those that would do nothing."""
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
        raise ConfigError("dataset", found, "rows of a table, since the model is for tables", "dataset=breast_cancer")


def require_images(data: DataSpec) -> None:
    """Refuse samples that are not images with classes.

    Raises:
        ConfigError: naming their shape.
    """
    if len(data.input_shape) != 3 or data.is_regression:
        found = "real targets" if data.is_regression else f"samples of shape {data.input_shape}"
        raise ConfigError("dataset", found, "images with classes, since the model classifies images", "dataset=digits")
