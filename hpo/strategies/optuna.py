"""Optuna: any of its samplers and pruners, by default TPE (Bergstra et al. 2011) with median pruning.

https://optuna.readthedocs.io
"""

from __future__ import annotations

import copy
import math
import re
import warnings
from collections.abc import Callable
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from hpo.core.identity import PartIdentity
from hpo.core.measurement import Measurement
from hpo.core.packages import install_command
from hpo.core.params import Params, ParamValue, canonical
from hpo.core.seeds import derive_seed
from hpo.core.space import Categorical, Float, Int, Parameter
from hpo.core.states import Decision, State
from hpo.core.trial import Proposal, Trial
from hpo.errors import ConfigError, SuggestionRefused
from hpo.strategies.base import AskTellStrategy, Plan, SearchProblem, StrategyTags, startup_trials

_NOT_MODEL_BASED = (
    optuna.samplers.RandomSampler,
    optuna.samplers.QMCSampler,
    optuna.samplers.NSGAIISampler,
    optuna.samplers.NSGAIIISampler,
)


# Libraries that samplers import besides Optuna.
_SAMPLED_WITH = {"CmaEsSampler": ("cmaes",), "GPSampler": ("scipy", "torch")}


class OptunaStrategy(AskTellStrategy[optuna.Trial]):
    """Searches with an Optuna sampler and stops trials early with an Optuna pruner.

    Every trial gets a new sampler, seeded by study and trial number, so that a resumed search proposes what an
    uninterrupted one would have proposed. Every fold has its own pruner, which compares it with the same fold of other
    trials.

    Args:
        sampler: a partial of an Optuna sampler class that takes a ``seed``, which is added. An ``n_startup_trials`` of
            None is replaced by a quarter of ``n_trials``, at least 3 and at most 10.
        pruner: an Optuna pruner.
        default_first: whether the first trial is the model's own configuration.
        keeps_state: whether one sampler is used for the whole search, for samplers that number their draws.

    Raises:
        ConfigError: when the sampler cannot be made with its options.
    """

    def __init__(
        self,
        sampler: Callable[..., BaseSampler],
        pruner: BasePruner,
        default_first: bool = True,
        keeps_state: bool = False,
    ) -> None:
        if not isinstance(pruner, BasePruner):
            raise ConfigError("strategy.pruner", pruner, "an Optuna pruner", "strategy/pruner=median")
        if isinstance(sampler, BaseSampler) or not callable(sampler):
            raise ConfigError(
                "strategy.sampler", sampler, "a partial of an Optuna sampler", "+strategy.sampler._partial_=true"
            )
        self._partial, self._pruner, self._default_first = sampler, pruner, default_first
        self._keeps_state = keeps_state
        self.make_sampler(0, None)

    @property
    def tags(self) -> StrategyTags:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler = self.make_sampler(0, None)
        is_random = isinstance(sampler, optuna.samplers.RandomSampler)
        return StrategyTags(
            f"optuna.samplers.{type(sampler).__name__}",
            pruning=not isinstance(self._pruner, optuna.pruners.NopPruner),
            samples_prior=is_random,
            learns=not isinstance(sampler, _NOT_MODEL_BASED),
            several_objectives=not isinstance(sampler, optuna.samplers.CmaEsSampler),
            enqueues=True,
            define_by_run=True,
        )

    @property
    def identity(self) -> PartIdentity:
        backend = self.tags.backend
        return PartIdentity(("optuna", *_SAMPLED_WITH.get(backend.rpartition(".")[2], ())), (type(self),))

    def _rehearse(self) -> None:
        """Run a toy study with the sampler and the pruner, since Optuna checks most options only when it uses them."""
        given = dict(getattr(self._partial, "keywords", {}))
        samplers = [self.make_sampler(0, None)]
        if "n_startup_trials" in given:  # also without the random trials
            samplers.append(self._partial(seed=0, n_startup_trials=1))
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
        except ImportError as error:
            raise _not_installed(error, given) from error
        except Exception as error:  # Optuna has no common class for bad options
            expected = f"options that Optuna can work with ({type(error).__name__}: {error})"
            raise ConfigError(f"strategy.{part}", given, expected, "strategy=optuna") from error

    def plan(self, search: SearchProblem) -> Plan:
        self._rehearse()
        return Plan(search.n_trials)

    def make_sampler(self, seed: int, n_trials: int | None) -> BaseSampler:
        """Return a new sampler for a search of ``n_trials``.

        Raises:
            ConfigError: when it cannot be made with its options, or its library is not installed.
        """
        options: dict[str, Any] = {}
        given = getattr(self._partial, "keywords", {})
        if "n_startup_trials" in given and given["n_startup_trials"] is None:
            options["n_startup_trials"] = startup_trials(n_trials)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # the user has named it
                return self._partial(seed=seed, **options)
        except ImportError as error:
            raise _not_installed(error, dict(given)) from error
        except (TypeError, ValueError) as error:
            unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            key = f"strategy.sampler.{unknown.group(1)}" if unknown else "strategy.sampler"
            value = given[unknown.group(1)] if unknown else dict(given)
            raise ConfigError(key, value, f"options that Optuna takes ({error})", "strategy=optuna") from error

    def start(self, search: SearchProblem) -> None:
        self._search, self._n_asked = search, 0
        self._study = self._new_study(list(search.objective.directions))
        n_folds = max(1, len(search.row_splits))
        # Each fold has its own study for pruning: Optuna compares a trial's best value so far, at any step.
        self._pruning = [self._new_study([search.objective.direction]) for _ in range(n_folds)]
        # Trial number → fold → its trial in the fold's study, with the last reported value.
        self._measured: dict[int, dict[int, tuple[optuna.Trial, float]]] = {}
        # Samplers of running trials that ask for their params, by number.
        self._samplers: dict[int, BaseSampler] = {}
        self._one_sampler = self.make_sampler(search.seed, search.planned_trials) if self._keeps_state else None
        first = [search.default_params] if self._default_first and search.default_params is not None else []
        self._first = list({canonical(params): params for params in (*search.enqueued, *first)}.values())

    def _new_study(self, directions: list[str]) -> optuna.Study:
        # Hyperband assigns trials to brackets by a hash of the study's name.
        name = f"hpo-{self._search.seed}"
        return optuna.create_study(directions=directions, pruner=copy.deepcopy(self._pruner), study_name=name)

    def ask(self, known: Params | None = None) -> tuple[Proposal, optuna.Trial] | None:
        seed = derive_seed(self._search.seed, self._n_asked)
        sampler = self._one_sampler or self.make_sampler(seed, self._search.planned_trials)
        recorded = known or {}
        if self._n_asked < len(self._first):
            first = self._first[self._n_asked]
            # The record of a trial that was killed while it asked has only some of its params.
            was_begun = known is not None and self._search.defined_by_run and known.items() <= first.items()
            known = first if known is None or was_begun else known
        self._n_asked += 1
        if known in self._first:
            self._study.enqueue_trial(dict(known or {}))
        elif known is not None:
            sampler = ReplaySampler(sampler, known)
        self._study.sampler = sampler
        trial = self._study.ask()
        if self._search.defined_by_run:
            self._samplers[trial.number] = sampler
            return Proposal(recorded), trial
        params: dict[str, ParamValue] = {}
        for name, parameter in self._search.space.items():
            if self._search.space.is_active(name, params):
                params[name] = suggest(trial, parameter)
        return Proposal(params), trial

    def suggest(self, handle: optuna.Trial, parameter: Parameter) -> ParamValue:
        self._study.sampler = self._samplers[handle.number]  # other trials have replaced it since
        try:
            return suggest(handle, parameter)
        except (TypeError, ValueError) as error:
            raise SuggestionRefused(str(error)) from error

    def tell(self, handle: optuna.Trial, trial: Trial) -> None:
        self._samplers.pop(handle.number, None)
        states = {State.PRUNED: optuna.trial.TrialState.PRUNED, State.FAIL: optuna.trial.TrialState.FAIL}
        if trial.state in states:
            self._study.tell(handle, state=states[trial.state])
        else:
            self._study.tell(handle, list(trial.values or ()))
        for fold, (shadow, last) in self._measured.pop(handle.number, {}).items():
            was_cut = trial.state is not State.COMPLETE and fold == len(trial.folds) - 1
            self._pruning[fold].tell(shadow, None if was_cut else last, states[trial.state] if was_cut else None)

    def measure(self, handle: optuna.Trial, measurement: Measurement) -> Decision:
        if not math.isfinite(measurement.value):
            return Decision.CONTINUE  # training ends by itself, and Optuna's pruners cannot compare the value
        if isinstance(self._pruner, optuna.pruners.NopPruner):
            return Decision.CONTINUE
        fold, epoch = measurement.fold, measurement.epoch + 1
        folds = self._measured.setdefault(handle.number, {})
        shadow = folds[fold][0] if fold in folds else self._pruning[fold].ask()
        folds[fold] = (shadow, measurement.value)
        # Counted from 1: to Optuna a resource of 1 is the first epoch.
        shadow.report(measurement.value, epoch)
        # The sampler learns from the values of pruned trials too.
        handle.report(measurement.value, fold * self._search.max_epochs + epoch)
        return Decision.PRUNE if shadow.should_prune() else Decision.CONTINUE


class ReplaySampler(BaseSampler):
    """Returns recorded values. It also calls the real sampler, since some samplers count their calls."""

    def __init__(self, sampler: BaseSampler, known: Params) -> None:
        self._sampler, self._known = sampler, known

    def reseed_rng(self) -> None:
        self._sampler.reseed_rng()

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, BaseDistribution]:
        return dict(self._sampler.infer_relative_search_space(study, trial))

    def sample_relative(self, study: Any, trial: Any, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        sampled = self._sampler.sample_relative(study, trial, search_space)
        return {name: self._known.get(name, value) for name, value in sampled.items()}

    def sample_independent(
        self, study: Any, trial: Any, param_name: str, param_distribution: BaseDistribution
    ) -> ParamValue:
        value: ParamValue = self._sampler.sample_independent(study, trial, param_name, param_distribution)
        return self._known.get(param_name, value)

    def before_trial(self, study: Any, trial: Any) -> None:
        self._sampler.before_trial(study, trial)

    def after_trial(self, study: Any, trial: Any, state: Any, values: Any) -> None:
        self._sampler.after_trial(study, trial, state, values)


def _not_installed(error: ImportError, given: dict[str, Any]) -> ConfigError:
    """Return the error for a library that Optuna imports on use; only the message names the library."""
    named = re.search(r"(?:Tried to import|No module named) '(\w+)'", str(error))
    name = named.group(1) if named else str(error)
    fix = install_command(name) or f"pip install {name}"
    return ConfigError("strategy.sampler", given, f"the library {name}, which is not installed", fix)


def suggest(trial: optuna.Trial, parameter: Parameter) -> ParamValue:
    """Let Optuna choose a value of ``parameter``."""
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
    """Return the Optuna distribution that is equivalent to ``parameter``."""
    match parameter:
        case Float(low=low, high=high, log=log, step=step):
            return FloatDistribution(low, high, log=log, step=step)
        case Int(low=low, high=high, log=log, step=step):
            return IntDistribution(int(low), int(high), log=log, step=int(step or 1))
        case Categorical(choices=choices):
            return CategoricalDistribution(choices)
    raise TypeError(f"no Optuna distribution for {parameter!r}")
