from typing import Any

import keras_tuner as kt
import pytest

from hpo.core.space import SearchSpace
from hpo.errors import ConfigError
from hpo.models.keras.hyperparameters import GivenValues, named


def space_of(declare: Any) -> dict[str, dict[str, Any]]:
    hp = kt.HyperParameters()
    declare(hp)
    found = [each.parameter for _, each in named(hp.space) if each.parameter is not None]
    return SearchSpace(found).to_config()


@pytest.mark.parametrize(
    ("declare", "expected"),
    [
        (lambda hp: hp.Int("a", 6, 13, step=3), {"type": "int", "low": 6, "high": 12, "step": 3}),
        (lambda hp: hp.Int("a", 1, 9), {"type": "int", "low": 1, "high": 9}),
        (lambda hp: hp.Int("a", 1, 64, sampling="log"), {"type": "int", "low": 1, "high": 64, "log": True}),
        (lambda hp: hp.Int("a", 2, 32, step=2, sampling="log"), {"type": "categorical", "choices": [2, 4, 8, 16, 32]}),
        (lambda hp: hp.Float("a", 0, 1), {"type": "float", "low": 0.0, "high": 1.0}),
        (lambda hp: hp.Float("a", 0, 0.65, step=0.1), {"type": "float", "low": 0.0, "high": 0.6, "step": 0.1}),
        (
            lambda hp: hp.Float("a", 1e-4, 1e-2, sampling="log"),
            {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
        ),
        (
            lambda hp: hp.Float("a", 0.001, 10, step=10, sampling="log"),
            {"type": "categorical", "choices": [0.001, 0.01, 0.1, 1.0, 10.0]},
        ),
        (lambda hp: hp.Choice("a", ["x", "y", "x"]), {"type": "categorical", "choices": ["x", "y"]}),
        (lambda hp: hp.Boolean("a"), {"type": "categorical", "choices": [True, False]}),
    ],
)
def test_hyperparameter_becomes_the_equivalent_parameter(declare: Any, expected: dict[str, Any]) -> None:
    assert space_of(declare) == {"a": expected}


def test_sampling_without_counterpart_is_refused() -> None:
    with pytest.raises(ConfigError, match="the sampling linear or log"):
        space_of(lambda hp: hp.Float("a", 1, 9, sampling="reverse_log"))


def test_fixed_value_is_no_parameter() -> None:
    assert space_of(lambda hp: (hp.Fixed("a", 3), hp.Boolean("b"))) == {
        "b": {"type": "categorical", "choices": [True, False]}
    }


def test_names_fit_a_command_line_and_are_unique() -> None:
    def declare(hp: kt.HyperParameters) -> None:
        hp.Choice("schedule", ["a", "b"])
        with hp.name_scope("dense"):
            hp.Int("units 1", 1, 2)
        hp.Int("units", 1, 2, parent_name="schedule", parent_values=["a"])
        hp.Int("units", 1, 2, parent_name="schedule", parent_values=["b"])

    space = space_of(declare)
    assert list(space) == ["schedule_2", "dense_units_1", "units", "units_2"]
    assert [space[name].get("when") for name in ("units", "units_2")] == [{"schedule_2": ["a"]}, {"schedule_2": ["b"]}]


def test_conditions_on_fixed_values_are_decided() -> None:
    def declare(hp: kt.HyperParameters) -> None:
        hp.Fixed("n", 1)
        hp.Int("always", 1, 2, parent_name="n", parent_values=[1])
        with hp.conditional_scope("n", [2]):
            hp.Int("never", 1, 2)
            hp.Int("below", 1, 2, parent_name="never", parent_values=[1])

    assert {name: parameter.get("when") for name, parameter in space_of(declare).items()} == {"always": None}


def test_condition_on_a_name_declared_twice_is_refused() -> None:
    def declare(hp: kt.HyperParameters) -> None:
        hp.Choice("kind", ["a", "b"])
        hp.Int("units", 1, 2, parent_name="kind", parent_values=["a"])
        with hp.conditional_scope("kind", ["b"]):
            hp.Int("units", 1, 2)
            hp.Int("more", 1, 2, parent_name="units", parent_values=[1])

    with pytest.raises(ConfigError, match="declared once"):
        space_of(declare)


def test_given_values_are_returned_and_unknown_names_refused() -> None:
    given = GivenValues()
    given.values.update({"a": 3, "kind": "small", "b": True, "f": 0.5})
    assert given.Int("a", 1, 9) == given.Int("a", 1, 9) == 3
    assert (given.Choice("kind", ["small", "large"]), given.Boolean("b"), given.Float("f", 0.0, 1.0)) == (
        "small",
        True,
        0.5,
    )
    assert given.Fixed("fixed", 7) == 7
    assert given.Int("inactive", 1, 9, parent_name="kind", parent_values=["large"]) is None
    with pytest.raises(ValueError, match="asks for 'hidden', which was not found"):
        given.Int("hidden", 1, 3)
