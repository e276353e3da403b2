"""Two groups of columns, each with a branch of its own: Keras's functional API for models that are no single chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    """A wide and a deep branch, concatenated (after Cheng et al. 2016), of classes or of real targets.

    The branches are a model of two inputs, ``branches``, inside one that takes all columns and hands them out.

    Args:
        data: rows of numbers and categories, see :func:`hpo.models.keras.blocks.table`.
        first_columns: how many of the leading columns are the first input; None takes half.
        first_units: of the first input's branch, a single layer.
        second_units, second_layers: of each layer of the second input's branch, and how many there are.
        units: of the layer after both.
        aux_weight: share of a second output, straight from the second branch, in the loss; the first has the rest.
            0 is without one.
        l1, l2: penalties of the hidden layers' weights.
        loss: of a regression: ``mse``, ``mae`` or ``huber``, of the standardised target.
        optimizer: one of :data:`hpo.models.keras.blocks.OPTIMIZERS`; see there also for what follows it.

    Raises:
        ConfigError: for samples that are no rows, and values that cannot be.
    """
    blocks.require_rows(data)
    groups = _groups(data, first_columns)
    if not 0 <= aux_weight < 1:
        raise ConfigError("model.aux_weight", aux_weight, "a share of at least 0 and below 1", "model.aux_weight=0.2")
    how: dict[str, Any] = {
        "activation": activation,
        "kernel_initializer": kernel_initializer,
        "l1": l1,
        "l2": l2,
        "batch_norm": batch_norm,
        "dropout": dropout,
    }
    inputs = keras.Input(data.input_shape)
    prepared = [blocks.table(data, inputs, group) for group in groups]
    first, second = (
        keras.Input(part.shape[1:], name=name) for part, name in zip(prepared, ("first", "second"), strict=True)
    )
    wide, deep = blocks.dense(first, first_units, **how), second
    for _ in range(second_layers):
        deep = blocks.dense(deep, second_units, **how)
    merged = blocks.dense(layers.Concatenate()([wide, deep]), units, **how)
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
