import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.core.space import Categorical, Float, Int, Numeric, Parameter, SearchSpace, united
from hpo.errors import ConfigError
from hpo.testing import SPACES

CONDITIONAL: dict[str, dict[str, Any]] = {
    "momentum": {"type": "float", "low": 0.0, "high": 0.9, "grid": [0.5, 0.9], "when": {"optimizer": ["sgd"]}},
    "optimizer": {"type": "categorical", "choices": ["adam", "sgd"]},
    "nesterov": {"type": "categorical", "choices": [True, False], "when": {"momentum": 0.9}},
    "layers": {"type": "int", "low": 1, "high": 2},
}


def test_parents_come_before_their_children() -> None:
    names = list(SearchSpace.from_config(CONDITIONAL))
    assert names.index("optimizer") < names.index("momentum") < names.index("nesterov")


def test_child_is_active_only_under_the_values_of_its_parents() -> None:
    space = SearchSpace.from_config(CONDITIONAL)
    assert space.contains({"optimizer": "adam", "layers": 1})
    assert not space.contains({"optimizer": "adam", "momentum": 0.5, "layers": 1})
    assert not space.contains({"optimizer": "sgd", "layers": 1})
    assert space.contains({"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "layers": 2})
    assert space.select({"optimizer": "adam", "momentum": 0.5, "layers": 1, "other": 3}) == {
        "optimizer": "adam",
        "layers": 1,
    }


def test_condition_on_a_float_accepts_a_whole_number() -> None:
    config = {
        "d": {"type": "float", "low": 0, "high": 2, "step": 0.5},
        "n": {"type": "int", "low": 1, "high": 3, "when": {"d": [0, 1]}},
    }
    space = SearchSpace.from_config(config)
    assert space.is_active("n", {"d": 1.0})
    assert not space.is_active("n", {"d": 0.5})


def test_grid_visits_every_active_combination_once() -> None:
    points = list(SearchSpace.from_config(CONDITIONAL).grid())
    # adam; sgd with momentum 0.5; sgd with momentum 0.9 and two values of nesterov; each with two numbers of layers
    assert len(points) == 2 * (1 + 1 + 2)
    assert len({tuple(sorted(p.items())) for p in points}) == len(points)
    assert all(SearchSpace.from_config(CONDITIONAL).contains(p) for p in points)


def test_grid_over_a_continuous_range_is_refused_with_a_fix() -> None:
    space = SearchSpace.from_config({"rate": {"type": "float", "low": 0.0, "high": 1.0}})
    with pytest.raises(ConfigError) as caught:
        space.grid()
    assert "search_space.rate" in str(caught.value)
    assert "grid" in caught.value.fix
    assert "step" in caught.value.fix


def test_stepped_range_includes_both_bounds() -> None:
    space = SearchSpace.from_config({"d": {"type": "float", "low": 0.1, "high": 0.7, "step": 0.2}})
    assert space["d"].points() == (0.1, 0.3, 0.5, 0.7)
    assert space["d"].contains(0.30000000000000004)
    assert not space["d"].contains(0.4)


@given(low=st.integers(-100, 100), steps=st.integers(0, 20), step=st.integers(1, 9))
def test_int_points_are_inclusive_typed_and_in_the_domain(low: int, steps: int, step: int) -> None:
    high = low + steps * step
    parameter = SearchSpace.from_config({"n": {"type": "int", "low": low, "high": high, "step": step}})["n"]
    points = parameter.points()
    assert points is not None
    assert (points[0], points[-1], len(points)) == (low, high, steps + 1)
    assert all(type(p) is int and parameter.contains(p) for p in points)
    assert not parameter.contains(high + step)


@given(low=st.floats(-1e6, 1e6), width=st.floats(0, 1e6))
def test_float_bounds_are_in_the_domain(low: float, width: float) -> None:
    parameter = Float("x", low=low, high=low + width)
    assert parameter.contains(low)
    assert parameter.contains(low + width)
    assert not parameter.contains(low + width + 1)


def test_values_of_another_type_are_not_in_the_domain() -> None:
    assert not Int("n", low=0, high=3).contains(True)
    assert not Int("n", low=0, high=3).contains(1.0)
    assert not Categorical("c", choices=(1, "1")).contains(True)
    assert Categorical("c", choices=(True, False)).contains(True)
    assert not Float("x", low=0, high=1).contains("0.5")


def test_space_round_trips_through_its_config() -> None:
    space = SearchSpace.from_config(CONDITIONAL)
    again = SearchSpace.from_config(space.to_config())
    assert dict(again) == dict(space)


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"a": {"low": 0, "high": 1}}, "a.type", "float, int or categorical"),
    ({"a": {"type": "flaot", "low": 0, "high": 1}}, "a.type", "float, int or categorical"),
    ({"a": {"type": "float", "high": 1}}, "a.low", "a number"),
    ({"a": {"type": "float", "low": 2, "high": 1}}, "a.low", "at most high"),
    ({"a": {"type": "float", "low": 0, "high": 1, "log": True}}, "a.low", "more than 0"),
    ({"a": {"type": "int", "low": -1, "high": 1, "log": True}}, "a.low", "more than 0"),
    ({"a": {"type": "float", "low": 0, "high": 1, "step": 0}}, "a.step", "more than 0"),
    ({"a": {"type": "float", "low": 0, "high": 1, "step": 0.3}}, "a.high", "steps"),
    ({"a": {"type": "int", "low": 1, "high": 8, "step": 2, "log": True}}, "a.step", "no step"),
    ({"a": {"type": "int", "low": 1.5, "high": 8}}, "a.low", "whole"),
    ({"a": {"type": "float", "low": "x", "high": 8}}, "a.low", "a number"),
    ({"a": {"type": "float", "low": True, "high": 8}}, "a.low", "finite number"),
    ({"a": {"type": "float", "low": 0, "high": float("inf")}}, "a.high", "finite"),
    ({"a": {"type": "float", "low": 0, "high": 1, "choices": [1]}}, "a.choices", "only"),
    ({"a": {"type": "float", "low": 0, "high": 1, "grid": [2]}}, "a.grid", "inside"),
    ({"a": {"type": "float", "low": 0, "high": 1, "grid": [0.5, 0.5]}}, "a.grid", "once"),
    ({"a": {"type": "float", "low": 0, "high": 1, "grid": 3}}, "a.grid", "list"),
    ({"a": {"type": "float", "low": 0, "high": 1, "log": "yes"}}, "a.log", "true or false"),
    ({"a": {"type": "categorical"}}, "a.choices", "at least one"),
    ({"a": {"type": "categorical", "choices": [True, "off"]}}, "a.choices", "boolean"),
    ({"a": {"type": "categorical", "choices": ["x", "x"]}}, "a.choices", "once"),
    ({"a": {"type": "categorical", "choices": [[1]]}}, "a.choices", "text"),
    ({"a": {"type": "int", "low": 0, "high": 1, "when": {"b": [1]}}}, "a.when", "another parameter"),
    ({"a": {"type": "int", "low": 0, "high": 1, "when": []}}, "a.when", "mapping"),
    (
        {"a": {"type": "int", "low": 0, "high": 1, "when": {"b": [7]}}, "b": {"type": "int", "low": 0, "high": 3}},
        "a.when.b",
        "values that 'b' can take",
    ),
    (
        {
            "a": {"type": "int", "low": 0, "high": 1, "when": {"b": [1]}},
            "b": {"type": "int", "low": 0, "high": 1, "when": {"a": [1]}},
        },
        "a.when",
        "without a cycle",
    ),
]


@pytest.mark.parametrize(("config", "key", "expected"), BAD, ids=[f"{key}-{text}" for _, key, text in BAD])
def test_invalid_space_is_refused_by_key(config: dict[str, Any], key: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SearchSpace.from_config(config)
    assert caught.value.key == f"search_space.{key}"
    assert expected in caught.value.expected
    assert caught.value.fix


def test_grid_size_is_known_without_visiting_the_grid() -> None:
    for space in SPACES.values():
        assert space.grid_size() == len(list(space.grid()))
    huge = SearchSpace.from_config({f"n{i}": {"type": "int", "low": 1, "high": 1000} for i in range(8)})
    assert huge.grid_size() == huge.size() == 10**24


def test_size_of_a_finite_space_does_not_depend_on_its_grid() -> None:
    assert SPACES["all_types"].size() is None
    finite = SearchSpace.from_config(
        {
            "n": {"type": "int", "low": 1, "high": 4, "grid": [1]},
            "c": {"type": "categorical", "choices": ["a", "b"]},
            "k": {"type": "int", "low": 1, "high": 3, "when": {"c": ["b"]}},
        }
    )
    assert finite.size() == 4 * (1 + 3)
    assert finite.grid_size() == 1 * (1 + 3)


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "float", "low": -2.0, "high": 3.0},
        {"type": "float", "low": 1e-4, "high": 1.0, "log": True},
        {"type": "float", "low": 0.0, "high": 0.6, "step": 0.2},
        {"type": "int", "low": 16, "high": 64, "step": 16},
        {"type": "int", "low": 1, "high": 64, "log": True},
        {"type": "int", "low": 3, "high": 3},
    ],
)
def test_place_and_at_are_inverse(spec: dict[str, Any]) -> None:
    parameter = SearchSpace.from_config({"x": spec})["x"]
    assert isinstance(parameter, Numeric)
    assert (parameter.at(0), parameter.at(1)) == (spec["low"], spec["high"])
    assert (parameter.at(-5), parameter.at(9)) == (spec["low"], spec["high"])
    for place in (0.0, 0.2, 0.37, 0.5, 0.81, 1.0):
        value = parameter.at(place)
        assert parameter.contains(value)
        assert parameter.at(parameter.place(value)) == pytest.approx(value)


def test_space_is_read_back_from_its_record() -> None:
    space = SearchSpace.from_config(CONDITIONAL)
    odd = SearchSpace([Float("x", low=0.0, high=0.95, step=0.1), Categorical("c", choices=(True, "auto", None))])
    for each in (space, odd):
        assert SearchSpace.from_record(json.loads(json.dumps(each.to_config()))) == each
    assert SearchSpace.from_record({}) == SearchSpace([])


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (Float("x", low=0.0, high=1.0), Float("x", low=0.5, high=2.0), Float("x", low=0.0, high=2.0)),
        (Int("x", low=2, high=4, step=2), Int("x", low=2, high=8, step=2), Int("x", low=2, high=8, step=2)),
        (Int("x", low=2, high=4, step=2), Int("x", low=1, high=3, step=2), Int("x", low=1, high=4)),
        (Float("x", low=0.1, high=1.0, log=True), Float("x", low=0.0, high=1.0), Float("x", low=0.0, high=1.0)),
        (Int("x", low=1, high=2), Float("x", low=0.0, high=9.0), Int("x", low=1, high=2)),
        (Categorical("x", choices=(1, 2)), Int("x", low=3, high=4), Categorical("x", choices=(1, 2))),
    ],
)
def test_domains_of_one_parameter_are_united(one: Parameter, other: Parameter, both: Parameter) -> None:
    assert united(one, other) == both
