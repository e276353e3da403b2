"""Every library searches the same space, for random spaces with steps, scales and nested conditions."""

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hpo.core.params import canonical
from hpo.core.space import SearchSpace
from hpo.testing import run

from .test_strategies import build

# One strategy per mapping; model-based strategies of a library share its mapping.
MAPPINGS = {
    "random": (),
    "hyperopt": ("strategy.algorithm=rand",),
    "keras_random": (),
    "optuna_random": ("strategy/pruner=none",),
    "hill_climbing": (),
}
GRIDS = ("grid", "halving_grid", "keras_grid")
FEW = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@st.composite
def parameters(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["float", "log float", "step float", "int", "step int", "log int", "choice"]))
    low = draw(st.integers(-5, 5))
    wide = draw(st.integers(0, 4))
    match kind:
        case "float":
            return {"type": "float", "low": low / 2, "high": (low + wide) / 2, "grid": [low / 2]}
        case "log float":
            return {"type": "float", "low": 10.0**low, "high": 10.0 ** (low + wide), "log": True, "grid": [10.0**low]}
        case "step float":
            return {"type": "float", "low": round(low * 0.1, 1), "high": round((low + 2 * wide) * 0.1, 1), "step": 0.1}
        case "int":
            return {"type": "int", "low": low, "high": low + wide}
        case "step int":
            return {"type": "int", "low": low, "high": low + 3 * wide, "step": 3}
        case "log int":
            return {"type": "int", "low": abs(low) + 1, "high": (abs(low) + 1) * 2**wide, "log": True}
    values = ["a", "b", 3, 0.5, None, "3"]
    return {
        "type": "categorical",
        "choices": draw(st.lists(st.sampled_from(values), min_size=1, max_size=4, unique_by=repr)),
    }


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    config: dict[str, dict[str, Any]] = {}
    for index in range(draw(st.integers(1, 4))):
        spec = draw(parameters())
        finite = [name for name, other in config.items() if other["type"] == "categorical" or other.get("step") == 3]
        for parent in draw(st.lists(st.sampled_from(finite), max_size=2, unique=True)) if finite else []:
            points = list(SearchSpace.from_config({parent: {**config[parent], "when": None}})[parent].points() or ())
            wanted = draw(st.lists(st.sampled_from(points), min_size=1, max_size=2, unique_by=repr))
            spec.setdefault("when", {})[parent] = wanted
        config[f"p{index}"] = spec
    return SearchSpace.from_config(config)


@pytest.mark.parametrize("name", list(MAPPINGS))
@FEW
@given(space=spaces(), seed=st.integers(0, 2**31 - 1))
def test_draws_are_in_space(name: str, space: SearchSpace, seed: int) -> None:
    found = run(build(name, *MAPPINGS[name]), space, lambda p: 1.0, n_trials=4, seed=seed)
    assert found.trials
    for trial in found.trials:
        assert space.contains(trial.params), (trial.params, space.to_config())


@pytest.mark.parametrize("name", GRIDS)
@FEW
@given(space=spaces())
def test_grid_is_the_same_in_every_library(name: str, space: SearchSpace) -> None:
    assume(space.grid_size() <= 24)
    visited = [canonical(trial.params) for trial in run(build(name), space, lambda p: 1.0, n_trials=1).trials]
    assert sorted(visited) == sorted(canonical(params) for params in space.grid())
