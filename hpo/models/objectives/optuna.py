"""Optuna's ``objective(trial)``, unmodified: define-by-run, so under the strategies that Optuna samples.

The objective gets a trial with the interface of ``optuna.Trial``. The driver answers its suggestions from a trial of
Optuna's own study, and passes its reports to the pruner.
https://optuna.readthedocs.io/en/stable/tutorial/10_key_features/002_configurations.html
"""

from __future__ import annotations

import datetime
import inspect
import json
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    check_distribution_compatibility,
)

from hpo.config.targets import imported, instance
from hpo.core.identity import PartIdentity
from hpo.core.measurement import STEP
from hpo.core.objective import Objective
from hpo.core.params import ParamValue
from hpo.core.space import Categorical, Float, Int, Parameter, SearchSpace
from hpo.core.states import Decision, StopReason
from hpo.errors import ConfigError
from hpo.models.base import FitLog, ObjectiveControl
from hpo.models.objectives.base import WholeObjective


class OptunaObjective(WholeObjective):
    """An objective that is called with a trial, and returns a number or, with ``objective.others``, several.

    Args:
        objective: a function ``objective(trial)``, a callable object, its class, or the dotted name of one of these.

    Raises:
        ConfigError: when there is no such objective, or it does not take a trial alone.
    """

    def __init__(self, objective: Any) -> None:
        self._objective = _objective(objective)

    def identity(self, space: SearchSpace) -> PartIdentity:
        general = super().identity(space)
        return PartIdentity(("optuna",), (*general.code, self._objective), general.values)

    def call(
        self, number: int, objective: Objective, log: FitLog, control: ObjectiveControl
    ) -> tuple[float, ...] | None:
        trial = LiveTrial(number, objective, log, control)
        returned: Any = None
        is_pruned = False
        try:
            with log.phase("train"):
                returned = self._objective(trial)
        except optuna.TrialPruned:
            is_pruned = True
        except (Exception, _Interrupted):
            if not trial.is_interrupted:
                raise
        # An objective may catch everything, including the interruption.
        if trial.is_interrupted or is_pruned:
            log.stop_reason = StopReason.INTERRUPTED if trial.is_interrupted else StopReason.PRUNED
            return None
        values = _values(returned, objective)
        names = (objective.metric, *objective.others)
        bad = next((name for name, value in zip(names, values, strict=True) if not math.isfinite(value)), None)
        if bad is not None:
            log.stop_reason, log.problem = StopReason.DIVERGED, f"{bad} is not finite"
            return None
        return values


class LiveTrial(optuna.trial.BaseTrial):
    """The trial that an objective gets: ``optuna.Trial`` without the access to its study.

    As in Optuna, what a trial does not support raises ``NotImplementedError``.
    """

    def __init__(self, number: int, objective: Objective, log: FitLog, control: ObjectiveControl) -> None:
        self._number, self._objective, self._log, self._control = number, objective, log, control
        self._params: dict[str, ParamValue] = {}
        self._distributions: dict[str, BaseDistribution] = {}
        self._user_attrs: dict[str, Any] = {}
        self._started = datetime.datetime.now()
        self._is_pruned = False
        self.is_interrupted = False

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return float(self._suggest(name, FloatDistribution(low, high, log=log, step=step)))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self._suggest(name, IntDistribution(low, high, log=log, step=step)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        odd = [choice for choice in choices if not isinstance(choice, bool | int | float | str | None)]
        if odd:
            raise TypeError(
                f"the choices of {name!r} must be text, numbers, booleans or None, since they are recorded, and not "
                f"{odd[0]!r}: suggest its name, and look it up"
            )
        return self._suggest(name, CategoricalDistribution(choices))

    def suggest_uniform(self, name: str, low: float, high: float) -> float:
        return self.suggest_float(name, low, high)

    def suggest_loguniform(self, name: str, low: float, high: float) -> float:
        return self.suggest_float(name, low, high, log=True)

    def suggest_discrete_uniform(self, name: str, low: float, high: float, q: float) -> float:
        return self.suggest_float(name, low, high, step=q)

    def _suggest(self, name: str, asked: BaseDistribution) -> Any:
        if not isinstance(name, str):
            raise TypeError(f"the name of a parameter must be text, not {name!r}")
        known = self._distributions.get(name)
        if known is not None:
            check_distribution_compatibility(known, asked)
            if known != asked:
                warnings.warn(
                    f"{name!r} is asked for again with other values; its first answer holds",
                    RuntimeWarning,
                    stacklevel=3,
                )
            return self._params[name]
        self._leave_if_interrupted(self._control.poll())
        value = self._control.suggest(_parameter(name, asked))
        self._params[name], self._distributions[name] = value, asked
        return value

    def report(self, value: float, step: int) -> None:
        if self._objective.others:
            raise NotImplementedError("Trial.report is not supported for multi-objective optimization.")
        try:
            value = float(value)
        except (TypeError, ValueError):
            raise TypeError(f"a reported value must be a number, not {type(value).__name__}") from None
        try:
            step = int(step)
        except (TypeError, ValueError):
            raise TypeError(f"the step of a report must be a whole number, not {type(step).__name__}") from None
        if step < 0:
            raise ValueError(f"the step of a report must be 0 or more, not {step}")
        steps = self._log.history.setdefault(STEP, [])
        if step in steps:
            warnings.warn(f"step {step} was reported before; only its first value counts", UserWarning, stacklevel=2)
            return
        logs = {self._objective.metric: value, STEP: float(step)}
        for name, reported in logs.items():
            self._log.history.setdefault(name, []).append(reported)
        self._log.epochs_run += 1
        decision = self._control.on_epoch(self._log.epochs_run - 1, logs)
        self._leave_if_interrupted(decision)
        self._is_pruned = decision is Decision.PRUNE

    def should_prune(self) -> bool:
        if self._objective.others:
            raise NotImplementedError("Trial.should_prune is not supported for multi-objective optimization.")
        self._leave_if_interrupted(self._control.poll())
        return self._is_pruned

    def _leave_if_interrupted(self, decision: Decision) -> None:
        if decision is Decision.INTERRUPT:
            self.is_interrupted = True
            raise _Interrupted

    def set_user_attr(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise TypeError(f"the name of an attribute must be text, not {key!r}")
        self._user_attrs[key] = value
        self._control.note(key, value if isinstance(value, str) else json.dumps(value, default=str))

    def set_constraint(self, key: str, value: float) -> None:
        raise NotImplementedError("a study knows no constraints: raise optuna.TrialPruned where one is not met")

    @property
    def params(self) -> dict[str, Any]:
        return dict(self._params)

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        return dict(self._distributions)

    @property
    def user_attrs(self) -> dict[str, Any]:
        return dict(self._user_attrs)

    @property
    def datetime_start(self) -> datetime.datetime | None:
        return self._started

    @property
    def number(self) -> int:
        return self._number

    def __getattr__(self, name: str) -> NoReturn:
        """Explain the absence of attributes that need Optuna's study."""
        if name.startswith("__"):  # looked up by Python, not by the objective
            raise AttributeError(name)
        raise AttributeError(
            f"trial.{name} is not there: the study is in another process, so that an objective has of its trial only "
            "suggest_…, report, should_prune, set_user_attr, number, params, distributions, user_attrs, datetime_start"
        )


class _Interrupted(BaseException):
    """Leaves an objective whose study ends; not an ``Exception``, which objectives catch."""


def _parameter(name: str, asked: BaseDistribution) -> Parameter:
    """The parameter that is equivalent to a distribution."""
    match asked:
        case FloatDistribution():
            return Float(name, low=asked.low, high=asked.high, log=asked.log, step=asked.step)
        case IntDistribution():
            return Int(
                name, low=asked.low, high=asked.high, log=asked.log, step=None if asked.step == 1 else asked.step
            )
        case CategoricalDistribution():
            return Categorical(name, choices=tuple(asked.choices))
    raise TypeError(f"no parameter for {asked!r}")


def _values(returned: Any, objective: Objective) -> tuple[float, ...]:
    """Check the returned values of an objective: one number for each declared objective."""
    values = list(returned) if isinstance(returned, Sequence) and not isinstance(returned, str) else [returned]
    names = (objective.metric, *objective.others)
    if len(values) != len(names):
        raise ValueError(
            f"the objective returned {len(values)} values where the study has {len(names)}, {', '.join(names)}: "
            "objective.others declares all but the first, such as '+objective.others.n_weights=minimize'"
        )
    try:
        return tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise TypeError(f"the objective must return a number, not {returned!r}") from None


def _objective(given: Any) -> Callable[[LiveTrial], Any]:
    found = imported("model.objective", given)
    if inspect.isclass(found):
        found = instance("model.objective", given, found)
    if not callable(found):
        fix = "model.objective=my_module.objective"
        raise ConfigError("model.objective", given, "a function objective(trial)", fix)
    try:
        inspect.signature(found).bind(None)
    except TypeError as error:
        expected = f"a function that takes a trial and nothing else ({error})"
        fix = f"'model.objective={{_target_: {given}, _partial_: true, …}}' with its other arguments"
        raise ConfigError("model.objective", given, expected, fix) from error
    except ValueError:
        pass  # one without a signature, such as a builtin
    called: Callable[[LiveTrial], Any] = found
    return called
