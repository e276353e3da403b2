"""Dense network with two branches, one for each group of columns: an example of Keras's functional API."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from hpo.datasets.base import DataSpec
from hpo.errors import ConfigError
from hpo.models.keras import blocks


def build_model(
    data: DataSpec,
    *,
    first_columns: int | None = None,
    first_units: int = 16,
    second_units: int = 32,
    second_layers: int = 2,
    units: int = 16,
    aux_weight: float = 0.0,
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
    """Build a wide and a deep branch and concatenate them (after Cheng et al. 2016); for classes or real targets.

    The branches are a model of two inputs, ``branches``, inside a model that takes all columns and distributes them.

    Args:
        data: rows of numbers and categories, see :func:`hpo.models.keras.blocks.table`.
        first_columns: number of leading columns in the first input; None takes half.
        first_units: units of the first branch, which has one layer.
        second_units, second_layers: units of every layer of the second branch, and the number of its layers.
        units: units of the layer after both branches.
        aux_weight: weight in the loss of a second output directly after the second branch; the first output has the
            rest. 0 removes the second output.
        l1, l2: weight penalties of the hidden layers.
        loss: of a regression: ``mse``, ``mae`` or ``huber``, of the standardised target.
        optimizer: one of :data:`hpo.models.keras.blocks.OPTIMIZERS`.
        momentum, weight_decay, clip_norm: see :func:`hpo.models.keras.blocks.make_optimizer`.

    Raises:
        ConfigError: if the samples are not rows of a table, or a value is out of range.
    """
    blocks.require_rows(data)
    groups = _groups(data, first_columns)
    if not 0 <= aux_weight < 1:
        raise ConfigError("model.aux_weight", aux_weight, "a share of at least 0 and below 1", "model.aux_weight=0.2")
    hidden = blocks.Hidden(activation, kernel_initializer, l1, l2, batch_norm, dropout)
    inputs = keras.Input(data.input_shape)
    prepared = [blocks.table(data, inputs, group) for group in groups]
    first, second = (
        keras.Input(part.shape[1:], name=name) for part, name in zip(prepared, ("first", "second"), strict=True)
    )
    wide, deep = hidden(first, [first_units]), hidden(second, [second_units] * second_layers)
    merged = hidden(layers.Concatenate()([wide, deep]), [units])
    branches = keras.Model([first, second], [merged, deep], name="branches")
    merged, deep = branches(prepared)
    outputs = [blocks.output(merged, data, "main")]
    if aux_weight:
        outputs.append(blocks.output(deep, data, "aux"))
    model = keras.Model(inputs, outputs if aux_weight else outputs[0])
    return blocks.compiled(
        model,
        data,
        blocks.make_optimizer(optimizer, learning_rate, momentum, weight_decay, clip_norm),
        loss=loss,
        output_weights=(1 - aux_weight, aux_weight) if aux_weight else (1.0,),
    )


def _groups(data: DataSpec, first_columns: int | None) -> tuple[Sequence[int], Sequence[int]]:
    n_columns = data.input_shape[0]
    n_first = n_columns // 2 if first_columns is None else first_columns
    if type(n_first) is not int or not 0 < n_first < n_columns:
        expected = f"fewer than the {n_columns} columns of the table, and at least 1"
        raise ConfigError("model.first_columns", n_first, expected, f"model.first_columns={max(1, n_columns // 2)}")
    return range(n_first), range(n_first, n_columns)
