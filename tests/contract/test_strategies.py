"""The contract suite of ``hpo.testing``, for every strategy in ``conf/strategy``."""

import functools
from typing import Any

import pytest

from hpo import config as configs
from hpo import testing
from hpo.core.params import Params
from hpo.strategies.base import Strategy
from hpo.study.build import build_part
from hpo.testing import SPACES, Check, bowl, run

from .test_configs import compose

STRATEGIES = list(configs.options("strategy"))


@functools.cache
def composed(name: str, *overrides: str) -> dict[str, Any]:
    return compose(f"strategy={name}", f"max_epochs={testing.MAX_EPOCHS}", *overrides)


def build(name: str, *overrides: str) -> Strategy:
    built = build_part(composed(name, *overrides), "strategy", Strategy)
    assert isinstance(built, Strategy)
    return built


# Keras Tuner's Gaussian process takes seconds per proposal, and Ray to start and end a search.
SLOW = {
    ("ray_tune", "resumed_search_repeats_nothing"),
    ("keras_bayesian", "resumed_search_repeats_nothing"),
    ("ray_tune", "log_scale_is_used"),
    ("ray_tune", "proposals_are_in_space"),
    ("keras_bayesian", "proposals_are_in_space"),
    ("keras_bayesian", "search_beats_random"),
    ("keras_bayesian", "seed_determines_proposals"),
    ("keras_bayesian", "maximizing_equals_minimizing_the_negative"),
    ("keras_bayesian", "inactive_params_are_absent"),
    ("keras_bayesian", "global_random_state_is_untouched"),
}
CASES = [
    pytest.param(name, check, id=f"{name}-{check}", marks=[pytest.mark.slow] if (name, str(check)) in SLOW else [])
    for name in STRATEGIES
    for check in testing.strategy_checks(build(name).tags)
]


@pytest.mark.parametrize(("name", "check"), CASES)
def test_strategy_passes_check(name: str, check: Check, request: pytest.FixtureRequest) -> None:
    if name.startswith("ray"):
        request.getfixturevalue("one_ray")
    check(lambda: build(name))


@pytest.mark.parametrize("name", [n for n in STRATEGIES if "default_first" in compose(f"strategy={n}")["strategy"]])
def test_default_configuration_comes_first_if_configured(name: str, request: pytest.FixtureRequest) -> None:
    if name.startswith("ray"):
        request.getfixturevalue("one_ray")
    default: dict[str, Any] = {"rate": 0.01, "drop": 0.2, "units": 32, "depth": 2, "act": "elu", "opt": "adam"}
    wanted, unwanted = (
        run(build(name, f"strategy.default_first={first}"), SPACES["all_types"], bowl, 2, default=default).trials[0]
        for first in ("true", "false")
    )
    assert wanted.params == pytest.approx(default)
    assert unwanted.params != pytest.approx(default)


@pytest.mark.parametrize("pruner", list(configs.options("strategy/pruner")))
def test_pruner_lets_good_trials_finish(pruner: str) -> None:
    def curve(params: Params, fold: int, epoch: int) -> float:
        return abs(float(str(params["x"]))) + 1 / (epoch + 1)

    strategy = build("optuna", f"strategy/pruner={pruner}")
    score = lambda p: curve(p, 0, testing.MAX_EPOCHS - 1)  # noqa: E731
    found = run(strategy, SPACES["one_float"], score, n_trials=30, curve=curve)
    pruned = [t.number for t in found.trials if t.value is None]
    assert bool(pruned) is (pruner != "none")
    best = min(found.trials, key=lambda t: abs(float(str(t.params["x"]))))
    assert len(found.trials) - len(pruned) >= 3
    assert pruner == "hyperband" or best.number not in pruned
