"""Optuna: any of its samplers and pruners, by default TPE (Bergstra et al. 2011) with median pruning.

https://optuna.readthedocs.io
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from hpo.errors import ConfigError
from hpo.space import Categorical, Float, Int, Parameter
from hpo.strategies.base import AskTellStrategy, Search
from hpo.trial import Decision, Measurement, ParamValue, Proposal, State, Trial, derive_seed

optuna.logging.set_verbosity(optuna.logging.WARNING)


class OptunaStrategy(AskTellStrategy[optuna.Trial]):
    """Searches with an Optuna sampler and stops trials early with an Optuna pruner.

    The sampler is made anew for every trial, seeded with the study's stream and the number of the asking, so that a
    search which is told its finished trials goes on as it would have.

    Args:
        sampler: a partial of an Optuna sampler class that takes a ``seed``, which is added. An ``n_startup_trials`` of
            None is replaced by a quarter of ``n_trials``, at least 3 and at most 10.
        pruner: an Optuna pruner.
        default_first: whether the first trial is the model's own configuration.

    Raises:
        ConfigError: when the sampler cannot be made with its options.
    """

    def __init__(self, sampler: Callable[..., BaseSampler], pruner: BasePruner, default_first: bool = True) -> None:
        if not isinstance(pruner, BasePruner):
            raise ConfigError("strategy.pruner", pruner, "an Optuna pruner", "strategy/pruner=median")
        if isinstance(sampler, BaseSampler) or not callable(sampler):
            raise ConfigError(
                "strategy.sampler", sampler, "a partial of an Optuna sampler", "+strategy.sampler._partial_=true"
            )
        self._make_sampler, self._pruner, self._default_first = sampler, pruner, default_first
        self._rehearse()

    def _rehearse(self) -> None:
        """A toy study with the sampler and the pruner: Optuna looks at most options only when it uses them."""
        given = dict(getattr(self._make_sampler, "keywords", {}))
        samplers = [self._sampler(0, None)]
        if "n_startup_trials" in given:  # past the random trials at once
            samplers.append(self._make_sampler(seed=0, n_startup_trials=1))
        part = "pruner"
        try:
            pruning = optuna.create_study(pruner=copy.deepcopy(self._pruner))
            for value in (0.0, 1.0):
                trial = pruning.ask({"x": FloatDistribution(0.0, 1.0)})
                trial.report(value, 1)
                trial.should_prune()
                pruning.tell(trial, value)
            part = "sampler"
            for sampler in samplers:
                study = optuna.create_study(sampler=sampler)
                for value in (0.0, 1.0, 2.0):
                    study.tell(study.ask({"x": FloatDistribution(0.0, 1.0)}), value)
        except Exception as error:  # whatever Optuna makes of an option that it did not check
            expected = f"options that Optuna can work with ({type(error).__name__}: {error})"
            raise ConfigError(f"strategy.{part}", given, expected, "strategy=optuna") from error

    def _sampler(self, seed: int, n_trials: int | None) -> BaseSampler:
        options: dict[str, Any] = {}
        given = getattr(self._make_sampler, "keywords", {})
        if "n_startup_trials" in given and given["n_startup_trials"] is None:
            options["n_startup_trials"] = 10 if n_trials is None else min(10, max(3, n_trials // 4))
        try:
            return self._make_sampler(seed=seed, **options)
        except (TypeError, ValueError) as error:
            unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            key = f"strategy.sampler.{unknown.group(1)}" if unknown else "strategy.sampler"
            value = given[unknown.group(1)] if unknown else dict(given)
            raise ConfigError(key, value, f"options that Optuna takes ({error})", "strategy=optuna") from error

    def start(self, search: Search) -> None:
        self._search, self._n_asked = search, 0
        self._study = optuna.create_study(
            direction=search.objective.direction,
            pruner=self._pruner,
            # Hyperband assigns trials to brackets by a hash of the study's name.
            study_name=f"hpo-{search.seed}",
        )
        if self._default_first and search.default_params is not None:
            self._study.enqueue_trial(dict(search.default_params))

    def ask(self) -> tuple[Proposal, optuna.Trial] | None:
        self._study.sampler = self._sampler(derive_seed(self._search.seed, self._n_asked), self._search.n_trials)
        self._n_asked += 1
        trial = self._study.ask()
        params: dict[str, ParamValue] = {}
        for name, parameter in self._search.space.items():
            if self._search.space.is_active(name, params):
                params[name] = _suggest(trial, parameter)
        return Proposal(params), trial

    def tell(self, handle: optuna.Trial, trial: Trial) -> None:
        states = {State.PRUNED: optuna.trial.TrialState.PRUNED, State.FAIL: optuna.trial.TrialState.FAIL}
        if trial.state in states:
            self._study.tell(handle, state=states[trial.state])
        else:
            self._study.tell(handle, trial.value)

    def measure(self, handle: optuna.Trial, measurement: Measurement) -> Decision:
        if not math.isfinite(measurement.value):
            return Decision.CONTINUE  # training ends by itself; Optuna's pruners cannot compare with it
        # From 1, since Optuna's rungs are amounts: a resource of 1 is the first epoch.
        handle.report(measurement.value, measurement.step + 1)
        return Decision.PRUNE if handle.should_prune() else Decision.CONTINUE


def _suggest(trial: optuna.Trial, parameter: Parameter) -> ParamValue:
    match distribution(parameter):
        case FloatDistribution() as d:
            return trial.suggest_float(parameter.name, d.low, d.high, log=d.log, step=d.step)
        case IntDistribution() as d:
            return trial.suggest_int(parameter.name, d.low, d.high, log=d.log, step=d.step)
        case CategoricalDistribution() as d:
            value: ParamValue = trial.suggest_categorical(parameter.name, d.choices)
            return value
    raise TypeError(f"no suggestion for {parameter!r}")


def distribution(parameter: Parameter) -> BaseDistribution:
    """The Optuna distribution that means the same as ``parameter``."""
    match parameter:
        case Float(low=low, high=high, log=log, step=step):
            return FloatDistribution(low, high, log=log, step=step)
        case Int(low=low, high=high, log=log, step=step):
            return IntDistribution(int(low), int(high), log=log, step=int(step or 1))
        case Categorical(choices=choices):
            return CategoricalDistribution(choices)
    raise TypeError(f"no Optuna distribution for {parameter!r}")
