"""Studies of cheap objectives, for the benchmark of error rates."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import datasets
from sklearn.tree import DecisionTreeClassifier

from benchmarks.populations import (
    Function,
    Pair,
    Population,
    Table,
    branin,
    check_draws,
    populate,
    tpe,
)


def sphere() -> Function:
    return Function("sphere", [(-1.0, 1.0)], noise=0.1)


@pytest.mark.parametrize("at", [(-np.pi, 12.275), (np.pi, 2.275), (9.42478, 2.475)])
def test_branin_has_three_equal_minima(at: tuple[float, float]) -> None:
    assert branin(*at) == pytest.approx(0.397887, abs=1e-5)


def test_noise_depends_on_seed_and_params_only() -> None:
    function, params = sphere(), {"x0": 0.5}
    assert function.validation(0, params) == function.validation(0, params)
    assert function.validation(0, params) != function.validation(1, params)
    assert function.validation(0, params) != function.test(0, params)


def test_table_holds_scores_of_every_configuration_and_split() -> None:
    grid = {"max_depth": [1, 3], "criterion": ["gini"]}
    table = Table("iris tree", datasets.load_iris, DecisionTreeClassifier(random_state=0), grid, 30).trained()
    scores = [[table.test(seed, {"max_depth": depth, "criterion": "gini"}) for depth in (1, 3)] for seed in range(5)]
    assert all(shallow < 0.75 < deep for shallow, deep in scores)
    assert 0.8 < table.validation(0, {"max_depth": 3, "criterion": "gini"}) <= 1.0


def test_random_trials_are_those_of_the_strategy() -> None:
    check_draws(sphere())


@pytest.mark.parametrize("strategy", ["random", "tpe"])
def test_population_has_a_score_for_each_label_and_seed(strategy: str) -> None:
    made = populate(sphere(), strategy, 3, 2, 4)
    assert made.name == f"sphere, {strategy} 3"
    assert made.scores.shape == (2, 4)
    assert not np.array_equal(made.scores[0], made.scores[1])
    np.testing.assert_array_equal(made.scores, populate(sphere(), strategy, 3, 2, 4).scores)


def test_tpe_has_no_pruner() -> None:
    assert not tpe().tags.pruning


def test_fresh_populations_share_no_seed_between_repeats() -> None:
    scores = np.arange(24.0).reshape(2, 12)
    fresh = Population("fresh", True, scores, is_fresh=True)
    rng = np.random.default_rng(0)
    drawn = [fresh.draw(rng, repeat, 4) for repeat in range(3)]
    np.testing.assert_array_equal(np.concatenate(drawn, axis=1), scores)


def test_pair_draws_the_same_seeds_from_both() -> None:
    first = Population("a", False, np.arange(5.0)[None], is_fresh=False)
    second = Population("b", False, np.arange(5.0)[None] + 9, is_fresh=False)
    pair = Pair(first, second)
    drawn = pair.draw(np.random.default_rng(0), 0, 3)
    np.testing.assert_array_equal(drawn[1] - drawn[0], [9.0] * 3)
    # A lower score is better.
    np.testing.assert_array_equal(pair.differences, np.full((1, 1, 5), 9.0))
