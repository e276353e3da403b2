"""Importance of parameters of a known function."""

import numpy as np
import pytest

from hpo.core.params import Params
from hpo.core.space import Float, Int, SearchSpace
from hpo.reporting.importance import MAX_TRIALS, importances, sampled

SPACE = SearchSpace([Float("x", low=0.0, high=1.0), Float("y", low=0.0, high=1.0), Int("z", low=1, high=9)])


def trials(n: int) -> list[tuple[Params, float]]:
    draw = np.random.default_rng(0)
    found: list[tuple[Params, float]] = []
    for _ in range(n):
        params: Params = {"x": draw.random(), "y": draw.random(), "z": int(draw.integers(1, 10))}
        found.append((params, 3 * float(params["x"]) + float(params["y"])))
    return found


def test_shares_are_those_of_the_variances() -> None:
    found = importances(SPACE, trials(200), "maximize")
    assert list(found) == ["x", "y", "z"]
    assert sum(found.values()) == pytest.approx(1.0)
    assert found["x"] == pytest.approx(0.9, abs=0.05)  # of a sum of variances in the ratio of 9 to 1
    assert found["z"] < 0.05


def test_many_trials_are_thinned_out_evenly() -> None:
    many = trials(10_500)
    assert len(sampled(many)) == MAX_TRIALS
    assert (sampled(many)[0], sampled(many)[-1]) == (many[0], many[-1])
    assert list(sampled(many[:7])) == many[:7]
    assert list(importances(SPACE, many[:1500], "minimize"))[:2] == ["x", "y"]


def test_trials_without_information_have_no_importances() -> None:
    assert importances(SPACE, [({"x": 0.1}, 1.0), ({"x": 0.9}, 1.0)], "minimize") == {}
    assert importances(SPACE, [({"x": 0.1}, 1.0), ({"y": 0.9}, 2.0)], "minimize") == {}
    assert importances(SPACE, [], "minimize") == {}
