"""The contract of strategies, as checks that run on any strategy.

::

    from hpo.testing import strategy_checks

    @pytest.mark.parametrize("check", strategy_checks(MyStrategy().tags), ids=str)
    def test_my_strategy(check):
        check(MyStrategy)

The strategy's tags select the checks; a check raises ``AssertionError``. Checks that depend on chance state how rarely
a correct strategy fails them; their seeds are fixed, so that a result is reproducible.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from hpo.core.objective import Objective
from hpo.core.params import Params, canonical
from hpo.core.space import Categorical, Float, Int, Numeric, SearchSpace
from hpo.core.states import State
from hpo.errors import SearchStopped, StudyFailed
from hpo.run.replay import ReplayedTrial
from hpo.strategies.base import SearchProblem, StrategyTags
from hpo.testing.searches import MAX_EPOCHS, N_FOLDS, SPACES, Evaluation, MakeStrategy, Running, bowl, number, run


def check_proposals_are_in_space(make: MakeStrategy) -> None:
    """Every proposal is in the space, with Python's own types, and the space is not changed."""
    for space in SPACES.values():
        if make().tags.rungs and (space.size() or math.inf) < 8:
            continue  # a schedule of rungs may need more trials than there are params
        before = space.to_config()
        found = run(make(), space, bowl, n_trials=8)
        assert found.trials
        for trial in found.trials:
            assert space.contains(trial.params), trial.params
            assert all(type(v) in (bool, int, float, str, type(None)) for v in trial.params.values()), trial.params
        assert space.to_config() == before, "the space was changed"


def check_inactive_params_are_absent(make: MakeStrategy) -> None:
    """A child parameter is proposed exactly where its condition holds."""
    found = run(make(), SPACES["all_types"], bowl, n_trials=24)
    with_child = {t.params["opt"] for t in found.trials if "momentum" in t.params}
    without = {t.params["opt"] for t in found.trials if "momentum" not in t.params}
    assert with_child == {"sgd"}
    assert without == {"adam"}


def check_range_bounds_are_reached(make: MakeStrategy) -> None:
    """Both bounds of a range are proposed.

    Two ranges of 3 and 4 values are searched for 20 trials towards the low and 20 towards the high bounds. Uniform
    draws would miss a bound once in 50,000 times.
    """
    space = SearchSpace.from_config(
        {
            "n": {"type": "int", "low": 1, "high": 3},
            "d": {"type": "float", "low": 0.0, "high": 0.6, "step": 0.2},
        }
    )
    reached: dict[str, set[float]] = {"n": set(), "d": set()}
    for sign in (1, -1):

        def score(params: Params, sign: int = sign) -> float:
            return sign * (number(params, "n") + number(params, "d"))

        for trial in run(make(), space, score, n_trials=20).trials:
            for name, values in reached.items():
                values.add(round(number(trial.params, name), 9))
    assert {1, 3} <= reached["n"], f"n only at {reached['n']}"
    assert {0.0, 0.6} <= reached["d"], f"d only at {reached['d']}"


def check_log_scale_is_used(make: MakeStrategy) -> None:
    """A logarithmic parameter is searched on its logarithmic scale.

    On a flat objective at least a fifth of the draws lie below the geometric middle. Draws on a linear scale put 1 in
    100 there, so that a strategy which ignores the scale passes once in a million times.
    """
    space = SearchSpace.from_config({"x": {"type": "float", "low": 1e-4, "high": 1.0, "log": True}})
    n_trials = 8 if make().tags.rungs else 3  # too few for a model of the space
    found = [t for seed in range(10) for t in run(make(), space, lambda p: 1.0, n_trials, seed=seed).trials]
    below = sum(number(trial.params, "x") < 1e-2 for trial in found)
    assert below >= len(found) / 5, f"{below} of {len(found)} below the middle"


def check_samples_follow_the_prior(make: MakeStrategy) -> None:
    """Draws follow the distribution that the space defines.

    Kolmogorov-Smirnov and chi-square tests at 1e-6 over 400 draws: a correct strategy fails once in 160,000 times.
    """
    space = SearchSpace.from_config(
        {
            "real": {"type": "float", "low": -2.0, "high": 3.0},
            "rate": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
            "step": {"type": "float", "low": 0.0, "high": 0.6, "step": 0.2},
            "units": {"type": "int", "low": 16, "high": 64, "step": 16},
            "depth": {"type": "int", "low": 1, "high": 16, "log": True},
            "opt": {"type": "categorical", "choices": ["a", "b", "c"]},
            "child": {"type": "float", "low": 0.0, "high": 1.0, "when": {"opt": ["b"]}},
        }
    )
    drawn = [trial.params for trial in run(make(), space, lambda p: 1.0, n_trials=400).trials]
    for name, parameter in space.items():
        values = [params[name] for params in drawn if name in params]
        assert prior_p_value(parameter, values) > 1e-6, f"{name} does not follow the distribution of the space"


def prior_p_value(parameter: Any, values: Sequence[Any]) -> float:
    """Return the probability that draws of ``parameter`` differ from its distribution at least as much as ``values``.

    Kolmogorov-Smirnov test for a continuous parameter, otherwise chi-square test.
    """
    if isinstance(parameter, Float) and not parameter.steps():
        places = [parameter.place(value) for value in values]
        return float(stats.kstest(places, "uniform").pvalue)
    if isinstance(parameter, Categorical):
        shares = {choice: 1 / len(parameter.choices) for choice in parameter.choices}
    elif isinstance(parameter, Int) and parameter.log:
        low, high = math.log(parameter.low - 0.5), math.log(parameter.high + 0.5)
        shares = {n: (math.log(n + 0.5) - math.log(n - 0.5)) / (high - low) for n in parameter.steps()}
    else:
        assert isinstance(parameter, Numeric)
        shares = {round(value, 9): 1 / len(parameter.steps()) for value in parameter.steps()}
    counts = Counter(round(v, 9) if isinstance(v, float) else v for v in values)
    assert set(counts) <= set(shares), set(counts) - set(shares)
    expected = [share * len(values) for share in shares.values()]
    return float(stats.chisquare([counts[key] for key in shares], expected).pvalue)


def check_grid_is_exhausted_without_repeats(make: MakeStrategy) -> None:
    """The search visits every grid point exactly once."""
    for name, space in SPACES.items():
        found = run(make(), space, bowl, n_trials=1)
        visited = [canonical(trial.params) for trial in found.trials]
        assert len(visited) == len(set(visited)), f"{name}: params are repeated"
        assert set(visited) == {canonical(params) for params in space.grid()}, f"{name}: not the grid of the space"


def check_seed_determines_proposals(make: MakeStrategy) -> None:
    """Equal seeds give equal proposals and other seeds give others; 0 is a seed like any other."""
    space, is_finite = SPACES["all_types"], make().tags.finite
    sequences = [[t.params for t in run(make(), space, bowl, n_trials=14, seed=seed).trials] for seed in (0, 0, 1)]
    assert sequences[0] == sequences[1]
    assert is_finite or sequences[0] != sequences[2]


def check_global_random_state_is_untouched(make: MakeStrategy) -> None:
    """The global generators of ``random`` and NumPy are neither read nor changed."""
    space, is_deterministic = SPACES["all_types"], make().tags.deterministic
    sequences = []
    for global_seed in (1, 2):
        random.seed(global_seed)
        np.random.seed(global_seed)
        before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
        sequences.append([t.params for t in run(make(), space, bowl, n_trials=12).trials])
        assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[index]
    assert sequences[0] == sequences[1] or not is_deterministic


def check_maximizing_equals_minimizing_the_negative(make: MakeStrategy) -> None:
    """Maximizing a score proposes what minimizing its negative does."""
    space = SPACES["all_types"]
    down = run(make(), space, bowl, n_trials=14)
    up = run(make(), space, lambda p: -bowl(p), n_trials=14, metric="val_accuracy")
    assert [t.params for t in down.trials] == [t.params for t in up.trials]


def check_search_continues_after_failed_trials(make: MakeStrategy) -> None:
    """Failed trials do not end the search."""
    found = run(make(), SPACES["one_float"], lambda p: math.nan if number(p, "x") > 0.8 else bowl(p), n_trials=14)
    n_expected = 7 if make().tags.finite else 14
    assert len(found.trials) == n_expected
    failed = [trial for trial in found.trials if trial.state is State.FAIL]
    assert 0 < len(failed) < n_expected


def check_search_stops_with_the_study(make: MakeStrategy) -> None:
    """``SearchStopped`` leaves the search, whatever the library does with exceptions."""
    space = SPACES["all_types"]
    strategy, n_planned = make(), 96
    splits = ((np.arange(2), np.arange(2, 3)),)
    search = SearchProblem(space, Objective.of("val_loss"), n_planned, MAX_EPOCHS, 0, None, (), splits)
    evaluation = Evaluation(bowl, 3)
    try:
        strategy.search(search, evaluation)
    except SearchStopped:
        assert len(evaluation.begun) == 3
        return
    raise AssertionError("SearchStopped was swallowed")


def check_study_errors_end_the_search(make: MakeStrategy) -> None:
    """An error of the study leaves the search unchanged and does not become a failed trial."""
    strategy = make()
    splits = ((np.arange(2), np.arange(2, 3)),)
    search = SearchProblem(SPACES["all_types"], Objective.of("val_loss"), 96, MAX_EPOCHS, 0, None, (), splits)
    evaluation = _Failing(bowl, 96)
    try:
        strategy.search(search, evaluation)
    except StudyFailed as error:
        assert str(error) == "the store is gone"
        assert len(evaluation.begun) == 2
        return
    raise AssertionError("StudyFailed was swallowed")


class _Failing(Evaluation):
    """A study whose record fails at the third trial."""

    def open(self, params: Params) -> Running | ReplayedTrial:
        if len(self.begun) == 2:
            raise StudyFailed("the store is gone")
        return super().open(params)


def check_resumed_search_repeats_nothing(make: MakeStrategy) -> None:
    """A resumed search takes finished trials from the record and proposes the same others as an uninterrupted one.

    The second part holds for strategies with the tags ``replayable`` and ``deterministic``.
    """
    space, tags = SPACES["all_types"], make().tags

    def curve(params: Params, fold: int, epoch: int) -> float:
        return bowl(params) / 1000 + 1 / (epoch + 1)

    def searched(**options: Any) -> Evaluation:
        return run(make(), space, lambda p: curve(p, 0, MAX_EPOCHS - 1), n_trials=14, curve=curve, **options)

    whole = searched()
    stopped = searched(stop_after=6)
    finished = [running.trial.params for running in stopped.begun if running.is_closed]
    resumed = searched(stopped=stopped)
    assert Counter(map(canonical, resumed.replayed)) == Counter(map(canonical, finished)), (
        "a recorded trial was not proposed again"
    )
    assert len(finished) + len(resumed.begun) == len(whole.begun)
    if tags.replayable and tags.deterministic:
        everything = Counter(canonical(params) for params in (*finished, *(t.params for t in resumed.trials)))
        assert everything == Counter(canonical(trial.params) for trial in whole.trials)


def check_running_trials_get_suggestions(make: MakeStrategy) -> None:
    """Trials that ask for their params while they run get values in the space, also when the search is resumed."""
    for space in (SPACES["all_types"], SPACES["nested"]):
        whole = run(make(), space, bowl, n_trials=10, defined_by_run=True)
        assert all(space.contains(trial.params) for trial in whole.trials)
        assert len({canonical(trial.params) for trial in whole.trials}) > 3
        stopped = run(make(), space, bowl, n_trials=10, defined_by_run=True, stop_after=4)
        resumed = run(make(), space, bowl, n_trials=10, defined_by_run=True, stopped=stopped)
        assert resumed.replayed == [trial.params for trial in stopped.trials], "a recorded trial got other values"
        if make().tags.replayable and make().tags.deterministic:
            found = [*resumed.replayed, *(trial.params for trial in resumed.trials)]
            assert found == [trial.params for trial in whole.trials]
        beside = run(make(), space, bowl, n_trials=10, defined_by_run=True, n_workers=2, seconds=0.02)
        assert len(beside.trials) == 10
        assert all(space.contains(trial.params) for trial in beside.trials)


def check_trials_run_in_parallel(make: MakeStrategy) -> None:
    """Two workers train two trials at the same time, and no trial more than one worker would."""
    space = SPACES["all_types"]
    alone = run(make(), space, bowl, n_trials=14)
    found = run(make(), space, bowl, n_trials=14, n_workers=2, seconds=0.05)
    assert found.most_at_once == 2
    assert len(found.trials) == len(alone.trials)
    assert all(space.contains(trial.params) for trial in found.trials)
    if make().tags.samples_prior and not make().tags.learns and make().tags.deterministic and not make().tags.pruning:
        assert {canonical(t.params) for t in found.trials} == {canonical(t.params) for t in alone.trials}


def check_each_fold_is_evaluated_once_per_budget(make: MakeStrategy) -> None:
    """Every fold of a trial is evaluated exactly once per budget."""
    found = run(make(), SPACES["one_float"], bowl, n_trials=10, n_folds=N_FOLDS)
    for running in found.begun:
        counts = Counter(running.budgets)
        assert set(counts.values()) == {1}, counts
        for budget in {budget for _, budget in counts}:
            folds = {fold for fold, b in counts if b == budget}
            whole = running.trial.state is not State.FAIL
            assert folds == set(range(N_FOLDS)) or not whole, f"budget {budget} on folds {folds}"


def check_enqueued_params_come_first(make: MakeStrategy) -> None:
    """Enqueued params are proposed first, in their order."""
    wanted: tuple[Params, ...] = (
        {"rate": 0.01, "drop": 0.2, "units": 32, "depth": 2, "act": "elu", "opt": "adam"},
        {"rate": 0.5, "drop": 0.6, "units": 48, "depth": 64, "act": None, "opt": "sgd", "momentum": 0.3},
    )
    found = run(make(), SPACES["all_types"], bowl, n_trials=4, enqueued=wanted)
    for trial, params in zip(found.trials, wanted, strict=False):
        assert {k: _rounded(v) for k, v in trial.params.items()} == {k: _rounded(v) for k, v in params.items()}


def _rounded(value: Any) -> Any:
    """Round floats to nine digits, since libraries store them on their own scale."""
    return float(f"{value:.9g}") if isinstance(value, float) else value


def check_pruning_stops_the_worse_trials(make: MakeStrategy) -> None:
    """Pruned trials are worse on average than those that complete."""

    def curve(params: Params, fold: int, epoch: int) -> float:
        return abs(number(params, "x")) + 1 / (epoch + 1)

    space = SPACES["one_float"]
    found = run(make(), space, lambda p: curve(p, 0, MAX_EPOCHS - 1), n_trials=30, curve=curve)
    cut = [abs(number(t.params, "x")) for t in found.trials if t.state is State.PRUNED]
    kept = [abs(number(t.params, "x")) for t in found.trials if t.state is State.COMPLETE]
    assert cut
    assert kept
    assert sum(cut) / len(cut) > sum(kept) / len(kept)


def check_rungs_follow_the_plan(make: MakeStrategy) -> None:
    """Each trial trains for the budgets that the plan has, on all folds, in increasing order."""

    def curve(params: Params, fold: int, epoch: int) -> float:
        return abs(number(params, "x")) + 1 / (epoch + 1) + fold

    strategy = make()
    space = SearchSpace.from_config({"x": {"type": "float", "low": 0.0, "high": 1.0, "grid": _TENTHS}})
    found = run(strategy, space, lambda p: 0.0, n_trials=len(_TENTHS), curve=curve, n_folds=2)
    splits = tuple((np.arange(2), np.arange(2)) for _ in range(2))
    search = SearchProblem(space, Objective.of("val_loss"), len(_TENTHS), MAX_EPOCHS, 0, None, (), splits)
    planned = Counter({(r.max_epochs, r.bracket): r.n_trials for r in strategy.plan(search).rungs})
    spent: Counter[int] = Counter()
    for running in found.begun:
        by_fold = [[b for fold, b in running.budgets if fold == k] for k in range(2)]
        assert by_fold[0] == by_fold[1] == sorted(set(by_fold[0])), by_fold
        spent.update(by_fold[0])
    allowed: Counter[int] = Counter()
    for (budget, _), n in planned.items():
        allowed[budget] += n
    assert spent == allowed, f"{spent}, planned {allowed}"
    complete = [t for t in found.trials if t.state is State.COMPLETE]
    assert complete
    assert all(len(t.folds) == 2 for t in complete)
    best = min(found.trials, key=lambda t: number(t.params, "x"))
    assert best.state is State.COMPLETE or strategy.tags.samples_prior


_TENTHS = [i / 10 for i in range(10)]


def check_search_beats_random(make: MakeStrategy) -> None:
    """The last trials on a two-dimensional bowl are better than uniform draws.

    Uniform draws over [-1, 2]² average 2.0 with a standard deviation of 1.5. The mean of 45 of them is below 1.4 once
    in 300 times; that of a correct strategy is far below.
    """
    config = {axis: {"type": "float", "low": -1.0, "high": 2.0} for axis in ("x", "y")}
    space = SearchSpace.from_config(config)
    last = [t.value for seed in range(3) for t in run(make(), space, bowl, n_trials=30, seed=seed).trials[-15:]]
    values = [value for value in last if value is not None]
    assert sum(values) / len(values) < 1.4, sum(values) / len(values)


def check_several_objectives_are_optimized(make: MakeStrategy) -> None:
    """Of ``x²`` and its negative, the search comes near the optimum of either."""
    space = SPACES["one_float"]
    found = run(make(), space, bowl, n_trials=24, others={"n_weights": "minimize"})
    values = [trial.values for trial in found.trials if trial.values is not None]
    assert all(len(both) == 2 for both in values)
    assert min(both[0] for both in values) < 0.2
    assert max(both[0] for both in values) > 2.0


@dataclass(frozen=True)
class Check:
    """A named check; call it with a function that returns a new strategy."""

    name: str
    function: Callable[[MakeStrategy], None]

    def __call__(self, make: MakeStrategy) -> None:
        """Run the check.

        Raises:
            AssertionError: when the strategy violates the contract.
        """
        self.function(make)

    def __str__(self) -> str:
        return self.name


def strategy_checks(tags: StrategyTags) -> list[Check]:
    """Return the checks that a strategy with these tags must pass."""
    chosen: dict[Callable[[MakeStrategy], None], bool] = {
        check_proposals_are_in_space: tags.conditional,
        check_inactive_params_are_absent: tags.conditional,
        check_range_bounds_are_reached: True,
        check_log_scale_is_used: not tags.finite,
        check_samples_follow_the_prior: tags.samples_prior,
        check_grid_is_exhausted_without_repeats: tags.finite,
        check_seed_determines_proposals: tags.deterministic,
        check_global_random_state_is_untouched: True,
        check_maximizing_equals_minimizing_the_negative: tags.deterministic,
        check_search_continues_after_failed_trials: True,
        check_search_stops_with_the_study: True,
        check_study_errors_end_the_search: True,
        check_resumed_search_repeats_nothing: True,
        check_running_trials_get_suggestions: tags.define_by_run,
        check_trials_run_in_parallel: tags.parallel,
        check_each_fold_is_evaluated_once_per_budget: True,
        check_enqueued_params_come_first: tags.enqueues,
        check_pruning_stops_the_worse_trials: tags.pruning,
        check_rungs_follow_the_plan: tags.rungs,
        check_search_beats_random: tags.learns,
        check_several_objectives_are_optimized: tags.several_objectives and not tags.pruning,
    }
    return [Check(f.__name__.removeprefix("check_"), f) for f, is_due in chosen.items() if is_due]
