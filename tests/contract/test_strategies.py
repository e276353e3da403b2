"""What every strategy in ``conf/strategy`` keeps to, whatever library is behind it."""

import contextlib
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hpo import config as configs
from hpo.errors import SearchStopped
from hpo.space import SearchSpace
from hpo.strategies.base import Search, Strategy
from hpo.study import _build
from hpo.trial import (
    Decision,
    EarlyStoppingOutcome,
    FoldResult,
    Measurement,
    Objective,
    OnRung,
    Params,
    Proposal,
    StopReason,
    Trial,
)

from .test_configs import compose

STRATEGIES = list(configs.options("strategy"))
MAX_EPOCHS = 5
SPACES = {
    "all types": {
        "rate": {"type": "float", "low": 1e-4, "high": 1.0, "log": True},
        "drop": {"type": "float", "low": 0.0, "high": 0.6, "step": 0.2},
        "units": {"type": "int", "low": 16, "high": 48, "step": 16},
        "depth": {"type": "int", "low": 1, "high": 64, "log": True},
        "act": {"type": "categorical", "choices": ["relu", "elu", 3, None]},
        "opt": {"type": "categorical", "choices": ["adam", "sgd"]},
        "momentum": {"type": "float", "low": 0.0, "high": 0.9, "when": {"opt": ["sgd"]}},
    },
    "one float": {"x": {"type": "float", "low": -1.0, "high": 2.0}},
    "one value": {"x": {"type": "float", "low": 0.5, "high": 0.5}, "n": {"type": "int", "low": 3, "high": 3}},
    "categories": {
        "a": {"type": "categorical", "choices": [True, False]},
        "b": {"type": "categorical", "choices": ["x"]},
    },
}
Score = Callable[[Params], float]


class Evaluation:
    """Scores params by a formula, a curve an epoch, and ends the search after some trials."""

    def __init__(self, score: Score, n_trials: int, curve: Callable[[Params, int], float] | None = None) -> None:
        self.score, self.n_trials, self.curve = score, n_trials, curve
        self.trials: list[Trial] = []
        self.pruned: list[int] = []

    def __call__(self, proposal: Proposal, on_rung: OnRung | None = None) -> Trial:
        if len(self.trials) >= self.n_trials:
            raise SearchStopped
        number, reason = len(self.trials), StopReason.MAX_EPOCHS
        value: float | None = self.score(proposal.params)
        epochs = 0
        for epoch in range(MAX_EPOCHS):
            epochs += 1
            step_value = self.curve(proposal.params, epoch) if self.curve else value
            decision = on_rung(Measurement(epoch, step_value)) if on_rung else Decision.CONTINUE
            if decision is Decision.PRUNE and self.curve and epoch + 1 < MAX_EPOCHS:
                reason = StopReason.PRUNED
                self.pruned.append(number)
                break
        if not math.isfinite(value):
            value, reason = None, StopReason.DIVERGED
        outcome = EarlyStoppingOutcome("val_loss", None, 0.0, epochs, MAX_EPOCHS, None, None, None, False, reason)
        score = value if reason is StopReason.MAX_EPOCHS else None
        self.trials.append(Trial(number, dict(proposal.params), (FoldResult(0, 1, score, outcome, {}, {}),)))
        return self.trials[-1]


def build(name: str, *overrides: str) -> Strategy:
    built = _build(compose(f"strategy={name}", *overrides), "strategy", Strategy)
    assert isinstance(built, Strategy)
    return built


def search(
    name: str,
    space: SearchSpace,
    score: Score,
    n_trials: int = 20,
    seed: int = 0,
    metric: str = "val_loss",
    curve: Callable[[Params, int], float] | None = None,
    default: Params | None = None,
    overrides: tuple[str, ...] = (),
) -> Evaluation:
    evaluation = Evaluation(score, n_trials, curve)
    told = Search(space, Objective.of(metric), n_trials, MAX_EPOCHS, seed, default)
    with contextlib.suppress(SearchStopped):
        build(name, *overrides).search(told, evaluation)
    return evaluation


def bowl(params: Params) -> float:
    """Smallest at the middle of the numbers, 1 more for every text."""
    return sum(float(v) ** 2 if isinstance(v, int | float) else 1.0 for v in params.values())


@pytest.fixture(params=STRATEGIES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("space_name", list(SPACES))
def test_proposals_lie_in_the_space_and_have_python_types(name: str, space_name: str) -> None:
    space = SearchSpace.from_config(SPACES[space_name])
    before = space.to_config()
    found = search(name, space, bowl)
    assert found.trials
    for trial in found.trials:
        assert space.contains(trial.params), trial.params
        assert all(type(v) in (bool, int, float, str, type(None)) for v in trial.params.values())
    assert space.to_config() == before


def test_inactive_children_are_absent_and_active_ones_present(name: str) -> None:
    space = SearchSpace.from_config(SPACES["all types"])
    found = search(name, space, bowl, n_trials=30)
    with_child = [t for t in found.trials if "momentum" in t.params]
    without = [t for t in found.trials if "momentum" not in t.params]
    assert {t.params["opt"] for t in with_child} == {"sgd"}
    assert {t.params["opt"] for t in without} == {"adam"}


def test_both_ends_of_finite_ranges_are_reached(name: str) -> None:
    space = SearchSpace.from_config({"n": {"type": "int", "low": 1, "high": 3}, "d": SPACES["all types"]["drop"]})
    rewards: dict[str, Score] = {"low": lambda p: p["n"] + p["d"], "high": lambda p: -p["n"] - p["d"]}  # type: ignore[operator]
    for end, score in rewards.items():
        found = search(name, space, score, n_trials=40)
        best = min(found.trials, key=lambda t: t.value if t.value is not None else math.inf)
        assert best.params == ({"n": 1, "d": 0.0} if end == "low" else {"n": 3, "d": pytest.approx(0.6)})


def test_one_seed_gives_one_sequence_and_zero_is_a_seed(name: str) -> None:
    space = SearchSpace.from_config(SPACES["all types"])
    sequences = [[t.params for t in search(name, space, bowl, seed=seed).trials] for seed in (0, 0, 1)]
    assert sequences[0] == sequences[1]
    assert sequences[0] != sequences[2]


def test_global_random_state_is_neither_read_nor_changed(name: str) -> None:
    space = SearchSpace.from_config(SPACES["all types"])
    sequences = []
    for global_seed in (1, 2):
        random.seed(global_seed)
        np.random.seed(global_seed)
        before = random.getstate(), np.random.get_state()[1].tolist()
        sequences.append([t.params for t in search(name, space, bowl).trials])
        assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert sequences[0] == sequences[1]


def test_maximising_a_score_is_minimising_its_negative(name: str) -> None:
    space = SearchSpace.from_config(SPACES["all types"])
    down = search(name, space, bowl)
    up = search(name, space, lambda p: -bowl(p), metric="val_accuracy")
    assert [t.params for t in down.trials] == [t.params for t in up.trials]


def test_a_search_goes_on_after_trials_that_fail(name: str) -> None:
    space = SearchSpace.from_config(SPACES["one float"])
    found = search(name, space, lambda p: math.nan if float(str(p["x"])) > 0 else bowl(p), n_trials=25)
    assert len(found.trials) == 25
    assert 0 < sum(t.value is None for t in found.trials) < 25


def test_the_default_configuration_comes_first_where_there_is_one(name: str) -> None:
    space = SearchSpace.from_config(SPACES["all types"])
    default: dict[str, Any] = {"rate": 0.01, "drop": 0.2, "units": 32, "depth": 2, "act": "elu", "opt": "adam"}
    assert search(name, space, bowl, n_trials=2, default=default).trials[0].params == default


def test_bad_trials_are_pruned_and_good_ones_are_not(name: str) -> None:
    space = SearchSpace.from_config(SPACES["one float"])

    def curve(params: Params, epoch: int) -> float:
        return abs(float(str(params["x"]))) + 1 / (epoch + 1)

    found = search(name, space, lambda p: curve(p, MAX_EPOCHS - 1), n_trials=30, curve=curve)
    assert found.pruned
    kept = [abs(float(str(t.params["x"]))) for t in found.trials if t.number not in found.pruned]
    cut = [abs(float(str(found.trials[number].params["x"]))) for number in found.pruned]
    assert sum(cut) / len(cut) > sum(kept) / len(kept)


@pytest.mark.parametrize("pruner", list(configs.options("strategy/pruner")))
def test_every_pruner_lets_good_trials_finish(pruner: str) -> None:
    space = SearchSpace.from_config(SPACES["one float"])

    def curve(params: Params, epoch: int) -> float:
        return abs(float(str(params["x"]))) + 1 / (epoch + 1)

    overrides = (f"strategy/pruner={pruner}", f"max_epochs={MAX_EPOCHS}")
    found = search("optuna", space, lambda p: curve(p, MAX_EPOCHS - 1), n_trials=30, curve=curve, overrides=overrides)
    assert bool(found.pruned) is (pruner != "none")
    best = min(found.trials, key=lambda t: abs(float(str(t.params["x"]))))
    assert len(found.trials) - len(found.pruned) >= 3
    assert pruner == "hyperband" or best.number not in found.pruned


def test_it_learns(name: str) -> None:
    """On a bowl in two dimensions, the mean of the last trials beats uniform draws.

    Uniform draws over [-1, 2]² average 2.0; a strategy that only drew at random would have to average below 1.0 over
    20 trials of 5 seeds, more than 6 standard errors away: a false pass or failure is rarer than 1e-8.
    """
    config = {axis: {"type": "float", "low": -1.0, "high": 2.0} for axis in ("x", "y")}
    space = SearchSpace.from_config(config)
    last = [
        trial.value
        for seed in range(5)
        for trial in search(name, space, bowl, n_trials=40, seed=seed).trials[-20:]
        if trial.value is not None
    ]
    assert sum(last) / len(last) < 1.0
