import keras
import numpy as np
import pytest

from hpo.datasets.base import Column, DataSpec
from hpo.errors import ConfigError
from hpo.models.keras import two_input_mlp

DATA = DataSpec((5,), 3, (Column("a"), Column("b", ("x", "y", "z")), Column("c"), Column("d"), Column("e")))


def inner(model: keras.Model) -> keras.Model:
    (found,) = (layer for layer in model.layers if isinstance(layer, keras.Model))
    return found


@pytest.mark.parametrize(("first_columns", "widths"), [(None, [4, 3]), (1, [1, 6]), (4, [6, 1])])
def test_columns_are_distributed_to_two_inputs(first_columns: int | None, widths: list[int]) -> None:
    model = two_input_mlp.build_model(DATA, first_columns=first_columns)
    assert [tensor.shape[1] for tensor in inner(model).inputs] == widths
    assert model.predict(np.zeros((2, 5)), verbose=0).shape == (2, 3)


@pytest.mark.parametrize("first_columns", [0, 5, -1, 2.5, True])
def test_input_without_columns_is_refused(first_columns: object) -> None:
    with pytest.raises(ConfigError, match=r"first_columns=2"):
        two_input_mlp.build_model(DATA, first_columns=first_columns)  # type: ignore[arg-type]


@pytest.mark.parametrize("aux_weight", [-0.1, 1.0])
def test_aux_weight_outside_its_range_is_refused(aux_weight: float) -> None:
    with pytest.raises(ConfigError, match="aux_weight"):
        two_input_mlp.build_model(DATA, aux_weight=aux_weight)


def test_second_output_depends_on_the_second_input_only() -> None:
    model = two_input_mlp.build_model(DATA, first_columns=2, aux_weight=0.3)
    rows = np.zeros((2, 5))
    rows[1, 0] = 3.0
    main, aux = model.predict(rows, verbose=0)
    assert not np.array_equal(main[0], main[1])
    assert np.array_equal(aux[0], aux[1])
