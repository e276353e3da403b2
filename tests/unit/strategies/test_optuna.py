import functools

import optuna
import pytest

from hpo.errors import ConfigError
from hpo.space import Categorical, Float, Int
from hpo.strategies.optuna import OptunaStrategy, distribution


def strategy(**options: object) -> OptunaStrategy:
    sampler = functools.partial(optuna.samplers.TPESampler, **options)
    return OptunaStrategy(sampler, optuna.pruners.NopPruner())


def test_distributions_mean_the_same_as_the_space() -> None:
    d = distribution(Float("x", low=1e-4, high=1.0, log=True))
    assert (d.low, d.high, d.log, d.step) == (1e-4, 1.0, True, None)
    d = distribution(Float("x", low=0.0, high=0.6, step=0.2))
    assert (d.low, d.high, d.step) == (0.0, 0.6, 0.2)
    d = distribution(Int("n", low=16, high=48, step=16))
    assert (d.low, d.high, d.step, d.log) == (16, 48, 16, False)
    assert distribution(Categorical("c", choices=("a", 1, None))).choices == ("a", 1, None)


@pytest.mark.parametrize(("n_trials", "startup"), [(None, 10), (1, 3), (12, 3), (20, 5), (40, 10), (500, 10)])
def test_few_random_trials_when_there_are_few_trials(n_trials: int | None, startup: int) -> None:
    made: list[dict[str, object]] = []

    class Spy(optuna.samplers.TPESampler):
        def __init__(self, **options: object) -> None:
            made.append(options)
            super().__init__(**options)

    found = OptunaStrategy(functools.partial(Spy, n_startup_trials=None), optuna.pruners.NopPruner())
    found._sampler(1, n_trials)
    assert made[-1]["n_startup_trials"] == startup


def test_a_number_of_start_up_trials_that_was_given_is_kept() -> None:
    assert strategy(n_startup_trials=2)._sampler(1, 400)._n_startup_trials == 2


def test_options_that_optuna_lacks_are_refused_by_name() -> None:
    with pytest.raises(ConfigError) as caught:
        strategy(n_starts=3)
    assert caught.value.key == "strategy.sampler.n_starts"


def test_a_sampler_that_is_already_made_is_refused() -> None:
    with pytest.raises(ConfigError, match="partial"):
        OptunaStrategy(optuna.samplers.RandomSampler(), optuna.pruners.NopPruner())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="pruner"):
        OptunaStrategy(optuna.samplers.RandomSampler, None)  # type: ignore[arg-type]
