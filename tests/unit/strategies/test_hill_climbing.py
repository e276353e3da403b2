import math

import pytest

from hpo.core.params import Params
from hpo.core.space import SearchSpace
from hpo.errors import ConfigError
from hpo.strategies.hill_climbing import HillClimbingStrategy
from hpo.testing import bowl, run

SPACE = SearchSpace.from_config(
    {
        "rate": {"type": "float", "low": 1e-4, "high": 1.0, "log": True},
        "units": {"type": "int", "low": 16, "high": 64, "step": 16},
        "opt": {"type": "categorical", "choices": ["adam", "sgd", "rmsprop"]},
        "momentum": {"type": "float", "low": 0.0, "high": 0.9, "when": {"opt": ["sgd"]}},
    }
)
START: Params = {"rate": 1e-2, "units": 32, "opt": "adam"}


def changed(a: Params, b: Params) -> set[str]:
    return {name for name in a.keys() | b.keys() if a.get(name) != b.get(name)}


def test_each_move_changes_one_parameter_and_its_children() -> None:
    found = run(HillClimbingStrategy(), SPACE, lambda p: 1.0, 8, default=START)
    for trial in found.trials[1:]:  # nothing improves: all are one move away from the start
        assert changed(START, trial.params) in ({"rate"}, {"units"}, {"opt"}, {"opt", "momentum"})


def test_improvements_are_kept() -> None:
    def score(params: Params) -> float:
        return abs(math.log10(float(str(params["rate"]))) + 4) + float(str(params["units"])) / 16

    found = run(HillClimbingStrategy(), SPACE, score, 25, default=START)
    best = min(found.trials, key=lambda trial: score(trial.params))
    assert best.params["units"] == 16
    assert float(str(best.params["rate"])) < 2e-4


def test_step_size_is_range_fraction_of_at_least_one_step() -> None:
    found = run(HillClimbingStrategy(first_step=0.25), SPACE, lambda p: 1.0, 8, default=START)
    rates = [float(str(t.params["rate"])) for t in found.trials if changed(START, t.params) == {"rate"}]
    assert sorted(rates) == pytest.approx([1e-3, 1e-1])
    units = {t.params["units"] for t in found.trials if changed(START, t.params) == {"units"}}
    assert units == {16, 48}


def test_search_restarts_without_repeating_params() -> None:
    space = SearchSpace.from_config({"n": {"type": "int", "low": 1, "high": 6}})
    found = run(HillClimbingStrategy(), space, lambda p: 1.0, 100)
    assert sorted(int(str(t.params["n"])) for t in found.trials) == [1, 2, 3, 4, 5, 6]


def test_climb_starts_from_the_best_enqueued_params() -> None:
    space = SearchSpace.from_config({"x": {"type": "float", "low": -10.0, "high": 10.0}})
    enqueued: tuple[Params, ...] = ({"x": 9.0}, {"x": 1.0}, {"x": -8.0})
    found = run(HillClimbingStrategy(first_step=0.05, last_step=0.05), space, bowl, 5, enqueued=enqueued)
    assert [t.params["x"] for t in found.trials[:3]] == [9.0, 1.0, -8.0]
    assert all(abs(float(str(t.params["x"]))) <= 2.001 for t in found.trials[3:])  # steps of 1 from 1.0


def test_failed_start_is_abandoned() -> None:
    space = SearchSpace.from_config({"x": {"type": "float", "low": -1.0, "high": 1.0}})
    found = run(HillClimbingStrategy(), space, lambda p: math.nan if p["x"] == 0.5 else bowl(p), 6, default={"x": 0.5})
    assert len(found.trials) == 6
    assert found.trials[0].value is None
    assert any(trial.value is not None for trial in found.trials)


@pytest.mark.parametrize("options", [{"first_step": 0}, {"first_step": 1.5}, {"last_step": 0.5}, {"last_step": True}])
def test_invalid_step_sizes_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError) as caught:
        HillClimbingStrategy(**options)  # type: ignore[arg-type]
    assert caught.value.key == f"strategy.{next(iter(options))}"
