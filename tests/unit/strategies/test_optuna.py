import dataclasses
import functools

import optuna
import pytest

from hpo.core.early_stopping import EarlyStoppingOutcome
from hpo.core.objective import Objective
from hpo.core.params import Params, ParamValue
from hpo.core.space import Categorical, Float, Int, SearchSpace
from hpo.core.states import State, StopReason
from hpo.core.trial import FoldResult, Trial
from hpo.errors import ConfigError, SuggestionRefused
from hpo.strategies.base import SearchProblem
from hpo.strategies.optuna import OptunaStrategy, distribution
from hpo.testing import run


def strategy(**options: object) -> OptunaStrategy:
    sampler = functools.partial(optuna.samplers.TPESampler, **options)
    return OptunaStrategy(sampler, optuna.pruners.NopPruner())


def test_distributions_are_equivalent_to_the_space() -> None:
    d = distribution(Float("x", low=1e-4, high=1.0, log=True))
    assert (d.low, d.high, d.log, d.step) == (1e-4, 1.0, True, None)
    d = distribution(Float("x", low=0.0, high=0.6, step=0.2))
    assert (d.low, d.high, d.step) == (0.0, 0.6, 0.2)
    d = distribution(Int("n", low=16, high=48, step=16))
    assert (d.low, d.high, d.step, d.log) == (16, 48, 16, False)
    assert distribution(Categorical("c", choices=("a", 1, None))).choices == ("a", 1, None)


def startup_trials_of(given: int | None, n_trials: int | None) -> object:
    """Return the ``n_startup_trials`` that the sampler of a strategy is made with."""
    made: list[dict[str, object]] = []

    class Spy(optuna.samplers.TPESampler):
        def __init__(self, **options: object) -> None:
            made.append(options)
            super().__init__(**options)

    found = OptunaStrategy(functools.partial(Spy, n_startup_trials=given), optuna.pruners.NopPruner())
    found.make_sampler(1, n_trials)
    return made[-1]["n_startup_trials"]


@pytest.mark.parametrize(("n_trials", "startup"), [(None, 10), (1, 3), (12, 3), (20, 5), (40, 10), (500, 10)])
def test_startup_trials_depend_on_the_number_of_trials(n_trials: int | None, startup: int) -> None:
    assert startup_trials_of(None, n_trials) == startup


def test_given_startup_trials_are_kept() -> None:
    assert startup_trials_of(2, 400) == 2


def test_unknown_sampler_option_is_refused_by_name() -> None:
    with pytest.raises(ConfigError) as caught:
        strategy(n_starts=3)
    assert caught.value.key == "strategy.sampler.n_starts"


def test_sampler_instance_is_refused() -> None:
    with pytest.raises(ConfigError, match="partial"):
        OptunaStrategy(optuna.samplers.RandomSampler(), optuna.pruners.NopPruner())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="pruner"):
        OptunaStrategy(optuna.samplers.RandomSampler, None)  # type: ignore[arg-type]


def test_pruner_compares_a_fold_with_the_same_fold_of_other_trials() -> None:
    """One trial is as good as the others on the first fold and worse on the second."""
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


def test_tags_depend_on_sampler_and_pruner() -> None:
    pruned = OptunaStrategy(optuna.samplers.RandomSampler, optuna.pruners.MedianPruner()).tags
    assert (pruned.samples_prior, pruned.pruning, pruned.learns) == (True, True, False)
    assert strategy().tags.learns
    assert not strategy().tags.pruning
    assert not OptunaStrategy(optuna.samplers.CmaEsSampler, optuna.pruners.NopPruner()).tags.several_objectives


X, Y = Float("x", low=0.0, high=1.0), Int("y", low=1, high=100)
CHOICE = Categorical("c", choices=("a", "b"))


def late(built: OptunaStrategy, **options: object) -> OptunaStrategy:
    """Return a started strategy for trials that ask for their params while they run."""
    search = SearchProblem(SearchSpace([]), Objective("value", "minimize"), 20, 10, seed=3, defined_by_run=True)
    built.start(dataclasses.replace(search, **options))
    return built


def asked(built: OptunaStrategy, handle: optuna.Trial) -> dict[str, ParamValue]:
    """Ask for params of which one depends on another."""
    given = {"c": built.suggest(handle, CHOICE)}
    parameter = X if given["c"] == "a" else Y
    return given | {parameter.name: built.suggest(handle, parameter)}


def told(built: OptunaStrategy, handle: optuna.Trial, params: Params) -> None:
    outcome = EarlyStoppingOutcome("value", None, 0.0, 0, 0, None, None, None, False, StopReason.MAX_EPOCHS)
    fold = FoldResult(0, 1, float(handle.number), outcome, {}, {})
    built.tell(handle, Trial(handle.number, params, (fold,)))


def test_suggestions_for_running_trials_are_in_space() -> None:
    built, spaces = late(strategy(n_startup_trials=3, multivariate=True)), set()
    for _ in range(12):
        proposal, handle = built.ask() or pytest.fail()
        assert proposal.params == {}
        params = asked(built, handle)
        assert handle.params == params
        spaces.add(frozenset(params))
        told(built, handle, params)
    assert spaces == {frozenset({"c", "x"}), frozenset({"c", "y"})}


def test_each_running_trial_keeps_its_sampler() -> None:
    """Two parallel trials get what each of them would get alone."""
    built = late(strategy(n_startup_trials=5))
    handles = [(built.ask() or pytest.fail())[1] for _ in range(2)]
    mixed = [asked(built, handle) for handle in reversed(handles)][::-1]
    alone = late(strategy(n_startup_trials=5))
    assert mixed == [asked(alone, (alone.ask() or pytest.fail())[1]) for _ in range(2)]
    assert mixed[0] != mixed[1]


def test_resumed_search_continues_as_if_uninterrupted() -> None:
    whole: list[dict[str, ParamValue]] = []
    built = late(strategy(n_startup_trials=3))
    for _ in range(10):
        _, handle = built.ask() or pytest.fail()
        whole.append(asked(built, handle))
        told(built, handle, whole[-1])
    again = late(strategy(n_startup_trials=3))
    for known in whole[:6]:
        proposal, handle = again.ask(known) or pytest.fail()
        assert proposal.params == known
        assert asked(again, handle) == known
        told(again, handle, known)
    # One that was killed after its first param.
    _, handle = again.ask({"c": whole[6]["c"]}) or pytest.fail()
    assert asked(again, handle) == whole[6]
    told(again, handle, whole[6])
    for expected in whole[7:]:
        _, handle = again.ask() or pytest.fail()
        assert asked(again, handle) == expected
        told(again, handle, expected)


def test_running_trials_get_enqueued_params() -> None:
    built = late(strategy(), enqueued=({"c": "b", "y": 7}, {"x": 0.5}))
    (first, one), (_, two) = (built.ask() or pytest.fail() for _ in range(2))
    assert first.params == {}
    assert asked(built, one) == {"c": "b", "y": 7}
    assert built.suggest(two, X) == 0.5
    # Also where they were killed before they had asked for all, or for anything.
    again = late(strategy(), enqueued=({"c": "b", "y": 7}, {"x": 0.5}))
    begun, one = again.ask({"c": "b"}) or pytest.fail()
    assert begun.params == {"c": "b"}
    assert asked(again, one) == {"c": "b", "y": 7}
    _, two = again.ask({}) or pytest.fail()
    assert again.suggest(two, X) == 0.5


def test_contradicting_suggestion_is_refused() -> None:
    built = late(strategy())
    (_, one), (_, two) = (built.ask() or pytest.fail() for _ in range(2))
    built.suggest(one, CHOICE)
    for other in (Categorical("c", choices=("a",)), Float("c", low=0.0, high=1.0)):
        with pytest.raises(SuggestionRefused):
            built.suggest(two, other)
