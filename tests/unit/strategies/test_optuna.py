import functools

import optuna
import pytest

from hpo.errors import ConfigError
from hpo.space import Categorical, Float, Int, SearchSpace
from hpo.strategies.optuna import OptunaStrategy, distribution
from hpo.testing import run
from hpo.trial import Params, State


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


def test_a_fold_is_pruned_by_the_same_fold_of_other_trials_only() -> None:
    """All but one trial agree on both folds; that one is as good on the first and bad on the second."""
    pruner = optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=0, n_min_trials=2)
    built = OptunaStrategy(optuna.samplers.RandomSampler, pruner, default_first=False)
    seen: list[float] = []

    def curve(params: Params, fold: int, epoch: int) -> float:
        seen.append(float(str(params["x"])))
        is_odd = seen[0] != seen[-1] and len(set(seen)) == 6
        # The second fold is the easier one: compared with the first, nothing on it would ever be pruned.
        return (10.0 if fold == 0 else 1.0) + (5.0 if fold == 1 and is_odd else 0.0)

    space = SearchSpace.from_config({"x": {"type": "float", "low": 0.0, "high": 1.0}})
    found = run(built, space, lambda p: 1.0, n_trials=6, curve=curve, n_folds=2)
    assert [trial.state for trial in found.trials] == [State.COMPLETE] * 5 + [State.PRUNED]
    assert [len(fold.history["val_loss"]) for fold in found.trials[5].folds] == [5, 1]


def test_tags_follow_from_the_sampler_and_the_pruner() -> None:
    pruned = OptunaStrategy(optuna.samplers.RandomSampler, optuna.pruners.MedianPruner()).tags
    assert (pruned.samples_prior, pruned.pruning, pruned.learns) == (True, True, False)
    assert strategy().tags.learns
    assert not strategy().tags.pruning
    assert not OptunaStrategy(optuna.samplers.CmaEsSampler, optuna.pruners.NopPruner()).tags.several_objectives
