"""What every strategy keeps to.

::

    from hpo.testing import strategy_checks

    @pytest.mark.parametrize("check", strategy_checks(MyStrategy().tags), ids=str)
    def test_my_strategy(check):
        check(MyStrategy)

A check is chosen by the strategy's tags and raises ``AssertionError``. Checks that rest on chance state how rarely a
right strategy fails them; with their fixed seeds they give the same answer every time.
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


def check_proposals_lie_in_the_space_and_have_python_types(make: MakeStrategy) -> None:
    for space in SPACES.values():
        if make().tags.rungs and (space.size() or math.inf) < 8:
            continue  # a schedule of rungs may want more trials than there are params
        before = space.to_config()
        found = run(make(), space, bowl, n_trials=8)
        assert found.trials
        for trial in found.trials:
            assert space.contains(trial.params), trial.params
            assert all(type(v) in (bool, int, float, str, type(None)) for v in trial.params.values()), trial.params
        assert space.to_config() == before, "the space was changed"


def check_inactive_children_are_absent_and_active_ones_present(make: MakeStrategy) -> None:
    found = run(make(), SPACES["all_types"], bowl, n_trials=24)
    with_child = {t.params["opt"] for t in found.trials if "momentum" in t.params}
    without = {t.params["opt"] for t in found.trials if "momentum" not in t.params}
    assert with_child == {"sgd"}
    assert without == {"adam"}


def check_both_ends_of_a_range_are_reached(make: MakeStrategy) -> None:
    """Of 3 and of 4 values, in 20 trials towards the low and 20 towards the high ends: uniform draws would miss an end
    once in 50,000 times."""
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


def check_a_logarithmic_scale_is_searched_as_one(make: MakeStrategy) -> None:
    """On a flat objective at least a fifth of the draws lie below the geometric middle; linear draws put 1 in 100
    there, so that a strategy which forgets the scale passes once in a million times."""
    space = SearchSpace.from_config({"x": {"type": "float", "low": 1e-4, "high": 1.0, "log": True}})
    n_trials = 8 if make().tags.rungs else 3  # so few that a model of the space has not begun
    found = [t for seed in range(10) for t in run(make(), space, lambda p: 1.0, n_trials, seed=seed).trials]
    below = sum(number(trial.params, "x") < 1e-2 for trial in found)
    assert below >= len(found) / 5, f"{below} of {len(found)} below the middle"


def check_the_prior_is_the_space_s_own(make: MakeStrategy) -> None:
    """Kolmogorov-Smirnov and chi-square at 1e-6 over 400 draws: a right strategy fails one of six once in 160,000."""
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
        assert prior_p_value(parameter, values) > 1e-6, f"{name} is not drawn as the space says"


def prior_p_value(parameter: Any, values: Sequence[Any]) -> float:
    """How likely draws of ``parameter`` differ from its own distribution as much as ``values`` do.

    Kolmogorov-Smirnov for a continuous parameter, else chi-square.
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


def check_the_grid_is_visited_whole_and_nothing_twice(make: MakeStrategy) -> None:
    for name, space in SPACES.items():
        found = run(make(), space, bowl, n_trials=1)
        visited = [canonical(trial.params) for trial in found.trials]
        assert len(visited) == len(set(visited)), f"{name}: params are repeated"
        assert set(visited) == {canonical(params) for params in space.grid()}, f"{name}: another grid"


def check_one_seed_gives_one_sequence_and_zero_is_a_seed(make: MakeStrategy) -> None:
    space, is_finite = SPACES["all_types"], make().tags.finite
    sequences = [[t.params for t in run(make(), space, bowl, n_trials=14, seed=seed).trials] for seed in (0, 0, 1)]
    assert sequences[0] == sequences[1]
    assert is_finite or sequences[0] != sequences[2]


def check_global_random_state_is_neither_read_nor_changed(make: MakeStrategy) -> None:
    space, is_deterministic = SPACES["all_types"], make().tags.deterministic
    sequences = []
    for global_seed in (1, 2):
        random.seed(global_seed)
        np.random.seed(global_seed)
        before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
        sequences.append([t.params for t in run(make(), space, bowl, n_trials=12).trials])
        assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[index]
    assert sequences[0] == sequences[1] or not is_deterministic


def check_maximising_a_score_is_minimising_its_negative(make: MakeStrategy) -> None:
    space = SPACES["all_types"]
    down = run(make(), space, bowl, n_trials=14)
    up = run(make(), space, lambda p: -bowl(p), n_trials=14, metric="val_accuracy")
    assert [t.params for t in down.trials] == [t.params for t in up.trials]


def check_a_search_goes_on_after_trials_that_fail(make: MakeStrategy) -> None:
    found = run(make(), SPACES["one_float"], lambda p: math.nan if number(p, "x") > 0.8 else bowl(p), n_trials=14)
    n_expected = 7 if make().tags.finite else 14
    assert len(found.trials) == n_expected
    failed = [trial for trial in found.trials if trial.state is State.FAIL]
    assert 0 < len(failed) < n_expected


def check_it_stops_where_the_study_ends(make: MakeStrategy) -> None:
    """``SearchStopped`` leaves the search, whatever library is around it."""
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


def check_an_error_of_the_study_ends_the_search(make: MakeStrategy) -> None:
    """It is no failed trial, and leaves the search as what it is."""
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
    """A study whose record breaks at the third trial."""

    def open(self, params: Params) -> Running | ReplayedTrial:
        if len(self.begun) == 2:
            raise StudyFailed("the store is gone")
        return super().open(params)


def check_a_stopped_search_goes_on_and_repeats_nothing(make: MakeStrategy) -> None:
    """Finished trials are answered from the record; where the tags promise it, all is as if nothing had happened."""
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
        "a trial is not asked for again"
    )
    assert len(finished) + len(resumed.begun) == len(whole.begun)
    if tags.replayable and tags.deterministic:
        everything = Counter(canonical(params) for params in (*finished, *(t.params for t in resumed.trials)))
        assert everything == Counter(canonical(trial.params) for trial in whole.trials)


def check_trials_that_ask_while_they_run_are_given_what_they_ask_for(make: MakeStrategy) -> None:
    """One param after another, with conditions; also where the search goes on from its record."""
    for space in (SPACES["all_types"], SPACES["nested"]):
        whole = run(make(), space, bowl, n_trials=10, defined_by_run=True)
        assert all(space.contains(trial.params) for trial in whole.trials)
        assert len({canonical(trial.params) for trial in whole.trials}) > 3
        stopped = run(make(), space, bowl, n_trials=10, defined_by_run=True, stop_after=4)
        resumed = run(make(), space, bowl, n_trials=10, defined_by_run=True, stopped=stopped)
        assert resumed.replayed == [trial.params for trial in stopped.trials], "a trial is not given the same again"
        if make().tags.replayable and make().tags.deterministic:
            found = [*resumed.replayed, *(trial.params for trial in resumed.trials)]
            assert found == [trial.params for trial in whole.trials]
        beside = run(make(), space, bowl, n_trials=10, defined_by_run=True, n_workers=2, seconds=0.02)
        assert len(beside.trials) == 10
        assert all(space.contains(trial.params) for trial in beside.trials)


def check_several_trials_are_trained_at_once(make: MakeStrategy) -> None:
    """With two workers there are two trials at a time, as many as there should be, and each is one of the space."""
    space = SPACES["all_types"]
    alone = run(make(), space, bowl, n_trials=14)
    found = run(make(), space, bowl, n_trials=14, n_workers=2, seconds=0.05)
    assert found.most_at_once == 2
    assert len(found.trials) == len(alone.trials)
    assert all(space.contains(trial.params) for trial in found.trials)
    if make().tags.samples_prior and not make().tags.learns and make().tags.deterministic and not make().tags.pruning:
        assert {canonical(t.params) for t in found.trials} == {canonical(t.params) for t in alone.trials}


def check_every_fold_of_a_trial_is_evaluated_once_a_budget(make: MakeStrategy) -> None:
    found = run(make(), SPACES["one_float"], bowl, n_trials=10, n_folds=N_FOLDS)
    for running in found.begun:
        counts = Counter(running.budgets)
        assert set(counts.values()) == {1}, counts
        for budget in {budget for _, budget in counts}:
            folds = {fold for fold, b in counts if b == budget}
            whole = running.trial.state is not State.FAIL
            assert folds == set(range(N_FOLDS)) or not whole, f"budget {budget} on folds {folds}"


def check_enqueued_configurations_come_first(make: MakeStrategy) -> None:
    wanted: tuple[Params, ...] = (
        {"rate": 0.01, "drop": 0.2, "units": 32, "depth": 2, "act": "elu", "opt": "adam"},
        {"rate": 0.5, "drop": 0.6, "units": 48, "depth": 64, "act": None, "opt": "sgd", "momentum": 0.3},
    )
    found = run(make(), SPACES["all_types"], bowl, n_trials=4, enqueued=wanted)
    for trial, params in zip(found.trials, wanted, strict=False):
        assert {k: _rounded(v) for k, v in trial.params.items()} == {k: _rounded(v) for k, v in params.items()}


def _rounded(value: Any) -> Any:
    """Floats to nine digits, since libraries keep them on a scale of their own."""
    return float(f"{value:.9g}") if isinstance(value, float) else value


def check_bad_trials_are_pruned_and_good_ones_are_not(make: MakeStrategy) -> None:
    def curve(params: Params, fold: int, epoch: int) -> float:
        return abs(number(params, "x")) + 1 / (epoch + 1)

    space = SPACES["one_float"]
    found = run(make(), space, lambda p: curve(p, 0, MAX_EPOCHS - 1), n_trials=30, curve=curve)
    cut = [abs(number(t.params, "x")) for t in found.trials if t.state is State.PRUNED]
    kept = [abs(number(t.params, "x")) for t in found.trials if t.state is State.COMPLETE]
    assert cut
    assert kept
    assert sum(cut) / len(cut) > sum(kept) / len(kept)


def check_rungs_grow_and_keep_to_the_plan(make: MakeStrategy) -> None:
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


def check_it_learns(make: MakeStrategy) -> None:
    """On a bowl in two dimensions, the mean of the last trials beats uniform draws.

    Uniform draws over [-1, 2]² average 2.0 with a standard deviation of 1.5; the mean of 45 of them is below 1.4 once
    in 300 times, of a right strategy it is far below.
    """
    config = {axis: {"type": "float", "low": -1.0, "high": 2.0} for axis in ("x", "y")}
    space = SearchSpace.from_config(config)
    last = [t.value for seed in range(3) for t in run(make(), space, bowl, n_trials=30, seed=seed).trials[-15:]]
    values = [value for value in last if value is not None]
    assert sum(values) / len(values) < 1.4, sum(values) / len(values)


def check_several_objectives_are_told_apart(make: MakeStrategy) -> None:
    """Of ``x²`` and its negative both ends are worth keeping: the search comes near either of them."""
    space = SPACES["one_float"]
    found = run(make(), space, bowl, n_trials=24, others={"n_weights": "minimize"})
    values = [trial.values for trial in found.trials if trial.values is not None]
    assert all(len(both) == 2 for both in values)
    assert min(both[0] for both in values) < 0.2
    assert max(both[0] for both in values) > 2.0


@dataclass(frozen=True)
class Check:
    """A check with a name; called with what makes the strategy anew."""

    name: str
    function: Callable[[MakeStrategy], None]

    def __call__(self, make: MakeStrategy) -> None:
        """Run it.

        Raises:
            AssertionError: when the strategy does not keep to it.
        """
        self.function(make)

    def __str__(self) -> str:
        return self.name


def strategy_checks(tags: StrategyTags) -> list[Check]:
    """The checks that a strategy with these tags must pass."""
    chosen: dict[Callable[[MakeStrategy], None], bool] = {
        check_proposals_lie_in_the_space_and_have_python_types: tags.conditional,
        check_inactive_children_are_absent_and_active_ones_present: tags.conditional,
        check_both_ends_of_a_range_are_reached: True,
        check_a_logarithmic_scale_is_searched_as_one: not tags.finite,
        check_the_prior_is_the_space_s_own: tags.samples_prior,
        check_the_grid_is_visited_whole_and_nothing_twice: tags.finite,
        check_one_seed_gives_one_sequence_and_zero_is_a_seed: tags.deterministic,
        check_global_random_state_is_neither_read_nor_changed: True,
        check_maximising_a_score_is_minimising_its_negative: tags.deterministic,
        check_a_search_goes_on_after_trials_that_fail: True,
        check_it_stops_where_the_study_ends: True,
        check_an_error_of_the_study_ends_the_search: True,
        check_a_stopped_search_goes_on_and_repeats_nothing: True,
        check_trials_that_ask_while_they_run_are_given_what_they_ask_for: tags.define_by_run,
        check_several_trials_are_trained_at_once: tags.parallel,
        check_every_fold_of_a_trial_is_evaluated_once_a_budget: True,
        check_enqueued_configurations_come_first: tags.enqueues,
        check_bad_trials_are_pruned_and_good_ones_are_not: tags.pruning,
        check_rungs_grow_and_keep_to_the_plan: tags.rungs,
        check_it_learns: tags.learns,
        check_several_objectives_are_told_apart: tags.several_objectives and not tags.pruning,
    }
    return [Check(f.__name__.removeprefix("check_"), f) for f, is_due in chosen.items() if is_due]
