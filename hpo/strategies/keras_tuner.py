"""Keras Tuner: its random, Bayesian, Hyperband and grid tuners, with ``run_trial`` overridden as its guide shows.

The tuner's oracle chooses params; the study trains, for any model and any number of folds. https://keras.io/keras_tuner
"""

from __future__ import annotations

import itertools
import math
import sys
import tempfile
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import keras_tuner as kt
from keras_tuner.engine import hyperparameters as hp
from keras_tuner.errors import FailedTrialError
from keras_tuner.src import config as kt_config  # private, as is the next one: pyproject.toml has an upper bound
from keras_tuner.src.engine.conditions import Parent
from sklearn.exceptions import ConvergenceWarning

from hpo.core.params import ParamValue
from hpo.core.space import Categorical, Float, Int, Numeric, Parameter, SearchSpace
from hpo.core.states import State
from hpo.core.trial import Proposal, Trial
from hpo.errors import ConfigError
from hpo.strategies import grid
from hpo.strategies.base import (
    Evaluate,
    OpenTrial,
    Plan,
    Rung,
    SearchProblem,
    Strategy,
    StrategyTags,
    option_error,
    startup_trials,
)

OBJECTIVE = "objective"


def hyperparameters(space: SearchSpace) -> kt.HyperParameters:
    """Return the Keras Tuner space that is equivalent to ``space``; :func:`params_of` converts its values back.

    Parameters with finitely many values are indices: ``hp.Float`` with a step loses its upper bound to rounding, and
    ``hp.Choice`` takes neither None nor values of several types. An integer on a logarithmic scale is a rounded real
    number, so that each integer has an interval of half a step on both sides, as in Optuna.
    """
    return _merged(_as_tuner_has_it(parameter, _conditions(space, parameter, _indexed)) for parameter in space.values())


def grid_hyperparameters(space: SearchSpace) -> kt.HyperParameters:
    """Return the grid points of every parameter as indices, so that the tuner's grid is the grid of ``space``."""

    def points_of(parameter: Parameter) -> Sequence[ParamValue]:
        return parameter.points() or ()

    return _merged(
        hp.Choice(
            parameter.name, list(range(len(points_of(parameter)))), False, **_conditions(space, parameter, points_of)
        )
        for parameter in space.values()
    )


def _merged(parameters: Iterable[hp.HyperParameter]) -> kt.HyperParameters:
    # Not with conditional_scope, which supports one parent only.
    merged = kt.HyperParameters()
    merged.merge(list(parameters))
    return merged


def _as_tuner_has_it(parameter: Parameter, conditions: dict[str, list[Parent]]) -> hp.HyperParameter:
    match parameter:
        case Categorical(choices=choices):
            return hp.Choice(parameter.name, list(range(len(choices))), False, **conditions)
        case Numeric() if values := _indexed(parameter):
            return hp.Int(parameter.name, 0, len(values) - 1, **conditions)
        case Int(low=low, high=high):
            return hp.Float(parameter.name, low - 0.5, high + 0.5, sampling="log", **conditions)
        case Float(low=low, high=high, log=log):
            return hp.Float(parameter.name, low, high, sampling="log" if log else "linear", **conditions)
    raise TypeError(f"no Keras Tuner parameter for {parameter!r}")


def _indexed(parameter: Parameter) -> Sequence[ParamValue]:
    """Return the values of a parameter that is represented by indices; () for any other."""
    if isinstance(parameter, Categorical):
        return parameter.choices
    assert isinstance(parameter, Numeric)
    return () if parameter.log and parameter.low < parameter.high else parameter.steps()


def _conditions(
    space: SearchSpace, parameter: Parameter, values_of: Callable[[Parameter], Sequence[ParamValue]]
) -> dict[str, list[Parent]]:
    """Return the conditions of a parameter in terms of the indices of its parents' values.

    A child of a parent without indices has no condition: it is always drawn, and left out where it is inactive.
    """
    found = []
    for parent, wanted in (parameter.when or {}).items():
        known = list(values_of(space[parent]))
        if not known:
            return {"conditions": []}
        found.append(Parent(parent, [known.index(value) for value in wanted if value in known] or [-1]))
    return {"conditions": found}


def params_of(space: SearchSpace, values: dict[str, Any]) -> dict[str, ParamValue]:
    """Return params from the values of a Keras Tuner trial; inactive ones are absent."""
    params: dict[str, ParamValue] = {}
    for name, parameter in space.items():
        if not space.is_active(name, params):
            continue
        value = values[name]
        if indexed := _indexed(parameter):
            params[name] = indexed[value]
        elif isinstance(parameter, Int):
            params[name] = int(min(parameter.high, max(parameter.low, round(value))))
        else:
            assert isinstance(parameter, Float)
            params[name] = float(min(parameter.high, max(parameter.low, value)))
    return params


def grid_params_of(space: SearchSpace, values: dict[str, Any]) -> dict[str, ParamValue]:
    """Like :func:`params_of`, for :func:`grid_hyperparameters`."""
    params: dict[str, ParamValue] = {}
    for name, parameter in space.items():
        if space.is_active(name, params):
            params[name] = (parameter.points() or ())[values[name]]
    return params


class _StudyError(BaseException):
    """Carries an error of the study out of the tuner, which treats any ``Exception`` as a failed trial."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Evaluated:
    """Mixin for tuners: the study evaluates their trials."""

    evaluation: Any

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        try:
            evaluated: Trial = self.evaluation(trial)
        except Exception as error:
            raise _StudyError(error) from error
        if evaluated.mean_score is None or evaluated.state is State.FAIL:
            raise FailedTrialError(evaluated.error or "no score")
        return {OBJECTIVE: evaluated.mean_score}


class _RandomSearch(_Evaluated, kt.RandomSearch):
    pass


class _BayesianOptimization(_Evaluated, kt.BayesianOptimization):
    pass


class _GridSearch(_Evaluated, kt.GridSearch):
    pass


class _Hyperband(_Evaluated, kt.Hyperband):
    pass


class KerasTunerStrategy(Strategy):
    """Base of the four strategies: makes the tuner and passes its trials to the study."""

    def search(self, search: SearchProblem, evaluate: Evaluate) -> None:
        direction = {"minimize": "min", "maximize": "max"}[search.objective.direction]
        with tempfile.TemporaryDirectory(prefix="hpo-") as folder, warnings.catch_warnings():
            # Warnings of Keras Tuner's own code and of its surrogate's fit, which a user cannot act on.
            warnings.filterwarnings("ignore", category=DeprecationWarning, module="keras_tuner")
            warnings.filterwarnings("ignore", category=ConvergenceWarning)
            tuner = self.make(
                search,
                objective=kt.Objective(OBJECTIVE, direction),
                hypermodel=None,
                tune_new_entries=False,
                allow_new_entries=False,
                seed=search.seed % (2**31 - 1) + 1,  # Keras Tuner treats 0 as no seed
                max_consecutive_failed_trials=sys.maxsize,  # the study has its own limit
                directory=folder,
                overwrite=True,
            )
            tuner.evaluation = self.evaluation(search, evaluate)
            before, kt_config.DEBUG = kt_config.DEBUG, False  # otherwise it prints the traceback of every failed trial
            try:
                tuner.search(verbose=0)
            except _StudyError as carried:
                raise carried.error from carried.error.__cause__
            finally:
                kt_config.DEBUG = before

    @abstractmethod
    def make(self, search: SearchProblem, **options: Any) -> Any:
        """Return the library's tuner."""

    def evaluation(self, search: SearchProblem, evaluate: Evaluate) -> Any:
        """Return the function that evaluates a trial of the tuner."""
        return lambda trial: evaluate(Proposal(params_of(search.space, trial.hyperparameters.values)))


class RandomStrategy(KerasTunerStrategy):
    """Independent draws without repetition, by ``keras_tuner.RandomSearch``."""

    tags = StrategyTags("keras_tuner.RandomSearch", samples_prior=True, parallel=False)

    def make(self, search: SearchProblem, **options: Any) -> Any:
        space = hyperparameters(search.space)
        return _RandomSearch(max_trials=search.n_trials or sys.maxsize, hyperparameters=space, **options)


class BayesianStrategy(KerasTunerStrategy):
    """A Gaussian process with an upper-confidence bound, by ``keras_tuner.BayesianOptimization``.

    Args:
        num_initial_points: random trials before the Gaussian process; None takes a quarter of all, 3 to 10.
        alpha: variance of the noise in the values.
        beta: weight of exploration.
    """

    tags = StrategyTags("keras_tuner.BayesianOptimization", parallel=False, learns=True)

    def __init__(self, num_initial_points: int | None = None, alpha: float = 1e-4, beta: float = 2.6) -> None:
        if num_initial_points is not None and (type(num_initial_points) is not int or num_initial_points < 1):
            expected = "a whole number of at least 1, or null"
            raise option_error("num_initial_points", num_initial_points, expected, "null")
        for name, value in (("alpha", alpha), ("beta", beta)):
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise option_error(name, value, "a number of at least 0", "1")
        self.num_initial_points, self.alpha, self.beta = num_initial_points, alpha, beta

    def make(self, search: SearchProblem, **options: Any) -> Any:
        first = self.num_initial_points or startup_trials(search.planned_trials)
        options |= {"num_initial_points": first, "alpha": self.alpha, "beta": self.beta}
        space = hyperparameters(search.space)
        return _BayesianOptimization(max_trials=search.n_trials or sys.maxsize, hyperparameters=space, **options)


class GridStrategy(KerasTunerStrategy):
    """Every combination of grid points, by ``keras_tuner.GridSearch``.

    Args:
        oversize: ``refuse`` a grid with more points than ``limits.n_trials``, or ``coarsen`` it.
    """

    tags = StrategyTags("keras_tuner.GridSearch", finite=True, parallel=False)

    def __init__(self, oversize: str = "refuse") -> None:
        self.oversize = grid.check_oversize(oversize)
        if oversize == "shuffle":
            raise option_error("oversize", oversize, "refuse or coarsen, since Keras Tuner fixes the order", "coarsen")

    def plan(self, search: SearchProblem) -> Plan:
        return Plan(grid.fit(search, self.oversize).grid_size())

    def make(self, search: SearchProblem, **options: Any) -> Any:
        return _GridSearch(hyperparameters=grid_hyperparameters(grid.fit(search, self.oversize)), **options)

    def evaluation(self, search: SearchProblem, evaluate: Evaluate) -> Any:
        space = grid.fit(search, self.oversize)
        return lambda trial: evaluate(Proposal(grid_params_of(space, trial.hyperparameters.values)))


class HyperbandStrategy(KerasTunerStrategy):
    """Successive halving from several starting budgets (Li et al. 2018), by ``keras_tuner.Hyperband``.

    The tuner repeats its brackets until a limit of the study is reached.

    Args:
        factor: 1 in ``factor`` trials of a rung continues, with ``factor`` times the budget.
    """

    tags = StrategyTags("keras_tuner.Hyperband", rungs=True, parallel=False, samples_prior=True)

    def __init__(self, factor: int = 3) -> None:
        if type(factor) is not int or factor < 2:
            raise option_error("factor", factor, "a whole number of at least 2", "3")
        self.factor = factor

    def brackets(self, max_epochs: int) -> list[list[Rung]]:
        """Return the schedule of one iteration of ``HyperbandOracle``, the most aggressive bracket first."""
        n_brackets, epochs = 0, float(max_epochs)
        while epochs >= 1:
            n_brackets, epochs = n_brackets + 1, epochs / self.factor
        end = math.ceil(1 + math.log(max_epochs, self.factor))
        return [
            [
                Rung(
                    math.ceil(end / (bracket + 1) * self.factor ** (bracket - rung)),
                    math.ceil(max_epochs / self.factor ** (bracket - rung)),
                    n_brackets - 1 - bracket,
                )
                for rung in range(bracket + 1)
            ]
            for bracket in reversed(range(n_brackets))
        ]

    def plan(self, search: SearchProblem) -> Plan:
        brackets = self.brackets(search.max_epochs)
        first = brackets[0][0].n_trials
        if search.planned_trials is not None and search.planned_trials < first:
            expected = f"at least {first}, the first bracket of Hyperband: with fewer, no trial gets the whole budget"
            fix = f"limits.n_trials={first}, or a smaller max_epochs, or a larger strategy.factor"
            raise ConfigError("limits.n_trials", search.n_trials, expected, fix)
        size = search.space.size()
        if size is not None and size < first:
            # Keras Tuner would end within the bracket, before any trial gets the whole budget.
            expected = f"at least {first} different params, the first bracket of Hyperband"
            raise ConfigError("search_space", f"{size} different params", expected, "strategy=halving_grid")
        if search.n_trials is None:
            return Plan(None, tuple(rung for bracket in brackets for rung in bracket))
        rungs: list[Rung] = []
        left = search.n_trials
        for number, bracket in enumerate(itertools.cycle(brackets)):
            # The last bracket may end in its first rung, because no trials are left.
            begun = bracket if bracket[0].n_trials <= left else [replace(bracket[0], n_trials=left)]
            rungs += [replace(rung, bracket=number) for rung in begun if rung.n_trials]
            left -= min(left, bracket[0].n_trials)
            if not left:
                break
        return Plan(search.n_trials, tuple(rungs))

    def make(self, search: SearchProblem, **options: Any) -> Any:
        space = hyperparameters(search.space)
        # Without end: the study's limits stop it.
        options |= {"max_epochs": search.max_epochs, "factor": self.factor, "hyperband_iterations": None}
        return _Hyperband(hyperparameters=space, **options)

    def evaluation(self, search: SearchProblem, evaluate: Evaluate) -> Any:
        return _Brackets(search, evaluate, self.brackets(search.max_epochs))


class _Brackets:
    """Maps Hyperband's rounds to trials: a promoted trial continues as the same trial, the others are dropped."""

    def __init__(self, search: SearchProblem, evaluate: Evaluate, brackets: list[list[Rung]]) -> None:
        self._search, self._evaluate = search, evaluate
        self._sizes = {len(bracket) - 1: [rung.n_trials for rung in bracket] for bracket in brackets}
        self._open: dict[str, tuple[OpenTrial, int]] = {}
        self._n_in_round = 0
        self._at = (-1, -1)

    def __call__(self, trial: Any) -> Trial:
        values = trial.hyperparameters.values
        bracket, rung = values["tuner/bracket"], values["tuner/round"]
        if (bracket, rung) != self._at:
            self._at, self._n_in_round = (bracket, rung), 0
            if rung == 0:
                self._drop(below=sys.maxsize)
        self._n_in_round += 1
        if rung == 0:
            opened = self._evaluate.open(params_of(self._search.space, values))
        else:
            opened, _ = self._open.pop(values["tuner/trial_id"])
        evaluated = opened.train(values["tuner/epochs"])
        if evaluated.state is not State.COMPLETE or rung == len(self._sizes[bracket]) - 1:
            evaluated = opened.close()
        else:
            self._open[trial.trial_id] = (opened, rung)
        if self._n_in_round == self._sizes[bracket][rung]:
            self._drop(below=rung)
        return evaluated

    def _drop(self, below: int) -> None:
        for key, (opened, rung) in list(self._open.items()):
            if rung < below:
                opened.close(dropped=True)
                del self._open[key]
