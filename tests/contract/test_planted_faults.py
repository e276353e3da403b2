"""The contract suite catches wrong mappings: each fault, planted in each strategy, fails its check."""

from collections.abc import Callable
from dataclasses import replace

import optuna
import pytest

from hpo import testing
from hpo.core.params import Params, ParamValue
from hpo.core.space import Categorical, Float, Numeric, Parameter, SearchSpace
from hpo.core.trial import Proposal
from hpo.errors import ConfigError
from hpo.strategies.base import Evaluate, Plan, SearchProblem, Strategy, StrategyTags
from hpo.strategies.optuna import OptunaStrategy
from hpo.testing import MakeStrategy

from .test_strategies import STRATEGIES, build

Fault = Callable[[Parameter], Parameter]


def drops_the_top_value(parameter: Parameter) -> Parameter:
    if isinstance(parameter, Categorical):
        return parameter
    assert isinstance(parameter, Numeric)
    steps = list(parameter.steps())
    cut = {"high": steps[-2]} if len(steps) > 1 and not parameter.log else {}
    return replace(parameter, grid=parameter.grid[:-1], **cut)


def forgets_the_logarithm(parameter: Parameter) -> Parameter:
    return replace(parameter, log=False) if isinstance(parameter, Numeric) else parameter


def ignores_conditions(parameter: Parameter) -> Parameter:
    return replace(parameter, when=None)


class Mistaken(Strategy):
    """A strategy that misreads the search space."""

    def __init__(self, right: Strategy, fault: Fault) -> None:
        self._right, self._fault = right, fault

    @property
    def tags(self) -> StrategyTags:
        return self._right.tags

    def _misread(self, search: SearchProblem) -> SearchProblem:
        return replace(search, space=SearchSpace([self._fault(parameter) for parameter in search.space.values()]))

    def plan(self, search: SearchProblem) -> Plan:
        return self._right.plan(self._misread(search))

    def search(self, search: SearchProblem, evaluate: Evaluate) -> None:
        self._right.search(self._misread(search), evaluate)


LONG = ("keras_bayesian", "ray_tune")  # seconds per proposal or search
CHECKS: dict[Fault, Callable[[MakeStrategy], None]] = {
    drops_the_top_value: testing.check_range_bounds_are_reached,
    forgets_the_logarithm: testing.check_log_scale_is_used,
    ignores_conditions: testing.check_proposals_are_in_space,
}


@pytest.mark.parametrize("fault", list(CHECKS), ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in STRATEGIES])
def test_planted_fault_is_caught(name: str, fault: Fault, request: pytest.FixtureRequest) -> None:
    if name.startswith("ray"):
        request.getfixturevalue("one_ray")
    check = CHECKS[fault]
    if build(name).tags.finite:
        if fault is forgets_the_logarithm:
            pytest.skip("a grid has no scale")
        check = testing.check_grid_is_exhausted_without_repeats
    assert check in [known.function for known in testing.strategy_checks(build(name).tags)]
    # A misread condition enlarges the grid, which may be refused.
    with pytest.raises((AssertionError, KeyError, ConfigError)):
        check(lambda: Mistaken(build(name), fault))


def test_prior_check_detects_a_small_deviation() -> None:
    """``hyperopt.hp.uniformint`` rounds a real number between its bounds, so it draws these half as often as others."""
    parameter = Float("drop", low=0.0, high=0.6, step=0.2)
    right = testing.run(build("random"), SearchSpace([parameter]), lambda p: 1.0, n_trials=400)
    assert testing.prior_p_value(parameter, [trial.params["drop"] for trial in right.trials]) > 1e-6
    rounded = [round(3 * i / 400) * 0.2 for i in range(400)]
    assert testing.prior_p_value(parameter, rounded) < 1e-6


class IgnoresRecord(OptunaStrategy):
    """Draws new values for recorded trials."""

    def ask(self, known: Params | None = None) -> tuple[Proposal, optuna.Trial] | None:
        self._n_asked += 0 if known is None else 50
        return super().ask()


class UsesOneSeed(OptunaStrategy):
    """Gives every trial the same draws."""

    def suggest(self, handle: optuna.Trial, parameter: Parameter) -> ParamValue:
        self._samplers[handle.number] = self.make_sampler(7, None)
        return super().suggest(handle, parameter)


@pytest.mark.parametrize("mistaken", [IgnoresRecord, UsesOneSeed])
def test_fault_in_suggestions_of_running_trials_is_caught(mistaken: type[OptunaStrategy]) -> None:
    def make() -> OptunaStrategy:
        return mistaken(optuna.samplers.RandomSampler, optuna.pruners.NopPruner())

    with pytest.raises(AssertionError):
        testing.check_running_trials_get_suggestions(make)
