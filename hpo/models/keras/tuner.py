"""Keras Tuner's hypermodels, unmodified: ``build_model(hp)`` or a ``keras_tuner.HyperModel``, under every strategy.

The search space is what the hypermodel declares by ``hp.Int``, ``hp.Choice`` and so on. It is found by building the
hypermodel with its defaults, with every conditional scope active once, and with other values of each finite parameter,
so that ``for i in range(hp.Int("layers", 1, 3)): hp.Int(f"units_{i}", …)`` is seen whole. A parameter that is declared
under no condition always takes part, used or not, as in Keras Tuner.
https://keras.io/keras_tuner/getting_started
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn

import keras
import keras_tuner as kt
from keras_tuner.engine import hyperparameters as hps

from hpo.config.targets import imported, instance
from hpo.core.identity import PartIdentity
from hpo.core.params import Params, ParamValue
from hpo.core.space import Categorical, Float, Int, Parameter, SearchSpace
from hpo.datasets.base import Array, DataSpec
from hpo.errors import ConfigError
from hpo.models.keras.model import KerasModel

# Most times that a hypermodel is built to find its space, and values of a parameter that are tried for it.
MAX_BUILDS, MAX_VALUES = 64, 6
# What training takes, which no parameter of a hypermodel is mixed up with.
_RESERVED = ("schedule",)


@dataclass(frozen=True)
class _Declared:
    """A parameter of a hypermodel under the name that it has here; ``parameter`` is None where it never changes."""

    source: hps.HyperParameter
    parameter: Parameter | None
    default: ParamValue


class KerasTunerModel(KerasModel):
    """A hypermodel; its loss, metrics and optimizer are its own.

    Names that cannot stand on a command line are changed: ``dense/units 1`` is ``dense_units_1`` here. A name that is
    declared twice, under different conditions, is two parameters, the second ``NAME_2``.

    Args:
        hypermodel: a function ``build_model(hp)``, a ``HyperModel``, its class, or the dotted name of one of these. A
            ``fit(hp, model, *args, **kwargs)`` of a class is kept: it has to call ``model.fit(*args, **kwargs)`` with
            what it was given, and may add a ``batch_size``, but not epochs, which are the study's.
        batch_size, schedule, image_shape: see :class:`hpo.models.keras.model.KerasModel`.
        defaults: values that replace the defaults of the hypermodel's parameters.

    Raises:
        ConfigError: when there is no such hypermodel, it cannot be built, or it declares what has no counterpart.
    """

    def __init__(
        self,
        hypermodel: Any,
        *,
        batch_size: int = 32,
        schedule: str = "constant",
        image_shape: tuple[int, ...] | None = None,
        **defaults: ParamValue,
    ) -> None:
        super().__init__(_no_build, batch_size=batch_size, schedule=schedule, image_shape=image_shape)
        self._hypermodel = _hypermodel(hypermodel)
        self._has_fit = type(self._hypermodel).fit is not kt.HyperModel.fit
        self._sets_batch_size = False
        self._declared = dict(_named(self._explored()))
        free = {name: each for name, each in self._declared.items() if each.parameter is not None}
        for name, value in defaults.items():
            if name not in free:
                expected = f"one of {', '.join([*free, 'batch_size', 'schedule', 'image_shape'])}"
                raise ConfigError(f"model.{name}", value, expected, f"'~model.{name}'")
        self._own_space = SearchSpace([each.parameter for each in free.values() if each.parameter is not None])
        own = {name: each.default for name, each in free.items()}
        # A batch size that the hypermodel declares is the one to train with.
        self._tunables = {**self._tunables, **own, **defaults}

    @property
    def own_space(self) -> SearchSpace:
        return self._own_space

    def identity(self, space: SearchSpace) -> PartIdentity:
        general, named = super().identity(space), self._hypermodel
        code = named.function if isinstance(named, _Function) else named
        return PartIdentity((*general.packages, "keras_tuner"), (*general.code, code), general.values)

    def _compiled(self, params: Params, spec: DataSpec) -> keras.Model:
        model = self._hypermodel.build(self._given(params))
        if not isinstance(model, keras.Model) or not model.compiled:
            raise TypeError(f"the hypermodel must return a compiled keras.Model, not {model!r}")
        if not model.built:
            model.build((None, *spec.input_shape))
        return model

    def _given(self, params: Params) -> kt.HyperParameters:
        """Keras Tuner's object that answers with ``params``, and with nothing else."""
        active = self._own_space.select({**self._tunables, **params})
        given = _Given()
        for name, value in active.items():
            given.values.setdefault(self._declared[name].source.name, value)
        return given

    def _train(self, model: keras.Model, params: Params, x: Array, y: Any, **options: Any) -> None:
        if not self._has_fit:
            super()._train(model, params, x, y, **options)
            return
        if self._sets_batch_size:
            options = {name: value for name, value in options.items() if name != "batch_size"}
        self._hypermodel.fit(self._given(params), model, x, y, **options)

    def _explored(self) -> list[hps.HyperParameter]:
        """All that the hypermodel declares, in the order of finding."""
        found = kt.HyperParameters()
        seen: list[hps.HyperParameter] = []
        tried: set[str] = set()
        waiting: list[dict[str, Any]] = [{}]
        n_builds = 0
        while waiting and n_builds < MAX_BUILDS:
            values = waiting.pop(0)
            spelt = repr(sorted(values.items()))
            if spelt in tried:
                continue
            tried.add(spelt)
            n_builds += 1
            hp = kt.HyperParameters.from_config({"space": found.get_config()["space"], "values": dict(values)})
            for known in hp.space:  # only active ones may have values
                if hp.is_active(known):
                    hp.values.setdefault(known.name, known.default)
            self._declare(hp)
            found.merge(hp, overwrite=False)
            new = [each for each in found.space if not any(each is old for old in seen)]
            seen.extend(new)
            waiting.extend({each.name: each.values[0] for each in conditions} for conditions in hp.inactive_scopes)
            for each in new:
                reached = {condition.name: condition.values[0] for condition in each.conditions}
                waiting.extend({**reached, each.name: value} for value in _some_values(each))
        if not seen:
            expected = "a hypermodel that declares a parameter by hp.Int, hp.Float, hp.Choice or hp.Boolean"
            raise ConfigError("model.hypermodel", "nothing to tune", expected, "model=mnist_cnn")
        return seen

    def _declare(self, hp: kt.HyperParameters) -> None:
        """Have the hypermodel declare its parameters on ``hp``: build it, and begin its own ``fit``, if it has one."""
        try:
            model = self._hypermodel.build(hp)
        except Exception as error:  # a user's own code may raise anything
            raise _not_usable(error, "a hypermodel that can be built") from error
        if not self._has_fit:
            return
        passed: dict[str, Any] = {}

        def stop(*args: Any, **options: Any) -> NoReturn:
            passed.update(options)
            raise _Begun

        model.fit = stop
        try:
            self._hypermodel.fit(hp, model, [], [], validation_data=None, epochs=1, callbacks=[], verbose=0)
        except _Begun:
            self._sets_batch_size = "batch_size" in passed
            return
        except Exception as error:
            raise _not_usable(error, "a fit that passes on what it is given, and leaves epochs to the study") from error
        raise ConfigError("model.hypermodel", "fit", "a fit that calls model.fit(*args, **kwargs)", "mend its fit")


class _Begun(BaseException):
    """Leaves a hypermodel's ``fit`` where training would begin."""


class _Given(kt.HyperParameters):
    """Answers with the values of a trial, and refuses what they do not have."""

    def _register(self, hyperparameter: hps.HyperParameter, overwrite: bool = False) -> Any:
        is_fixed = isinstance(hyperparameter, hps.Fixed)
        if self.is_active(hyperparameter) and hyperparameter.name not in self.values and not is_fixed:
            raise ValueError(
                f"the hypermodel asks for {hyperparameter.name!r}, which was not found when its space was looked for: "
                "declare it under hp.conditional_scope, or before it is needed"
            )
        return super()._register(hyperparameter, overwrite)


def _no_build(data: DataSpec) -> NoReturn:
    """In the place of a function that builds from the data: a hypermodel builds from ``hp``."""
    raise NotImplementedError


def _hypermodel(given: Any) -> kt.HyperModel:
    named = imported("model.hypermodel", given)
    if inspect.isclass(named) and issubclass(named, kt.HyperModel):
        named = instance("model.hypermodel", given, named)
    if isinstance(named, kt.HyperModel):
        return named
    if not callable(named):
        expected = "a function build_model(hp) or a keras_tuner.HyperModel"
        raise ConfigError("model.hypermodel", given, expected, "model.hypermodel=my_module.build_model")
    return _Function(named)


class _Function(kt.HyperModel):
    """A function as a hypermodel that can be sent to another process."""

    def __init__(self, function: Callable[[kt.HyperParameters], keras.Model]) -> None:
        super().__init__()
        self.function = function

    def build(self, hp: kt.HyperParameters) -> keras.Model:
        return self.function(hp)


def _some_values(declared: hps.HyperParameter) -> Sequence[Any]:
    """Values other than the default that may lead to more parameters: all of a few, else ends and middle."""
    if isinstance(declared, hps.Boolean):
        return (not declared.default,)
    if isinstance(declared, hps.Choice):
        values = list(declared.values)
    elif isinstance(declared, hps.Int) and declared.step is not None:
        values = [int(value) for value in declared.values]
    else:
        return ()
    if len(values) > MAX_VALUES:
        values = [values[0], values[len(values) // 2], values[-1]]
    return [value for value in values if value != declared.default]


def _named(found: Sequence[hps.HyperParameter]) -> Iterator[tuple[str, _Declared]]:
    """What was found, under names of its own, with conditions in terms of these; what can never be active is left out.

    Conditions on what is fixed are decided here.
    """
    names: dict[str, str] = {}
    known: dict[str, _Declared] = {}
    taken = set(_RESERVED)
    for source in found:
        name = base = re.sub(r"\W", "_", source.name, flags=re.ASCII)
        n = 1
        while name in taken:
            n += 1
            name = f"{base}_{n}"
        when: dict[str, tuple[ParamValue, ...]] = {}
        is_possible = True
        for condition in source.conditions:
            parent = names.get(condition.name)
            if parent is None:  # of a parent that can never be active
                is_possible = False
                break
            if f"{parent}_2" in known:
                expected = "conditions on a name that is declared once"
                raise ConfigError("model.hypermodel", condition.name, expected, "give the second one another name")
            domain = known[parent].parameter
            values = [value for value in condition.values if value in when.get(parent, condition.values)]
            if domain is None:
                is_possible = is_possible and known[parent].default in values
                continue
            when[parent] = tuple(value for value in values if domain.contains(value))
            is_possible = is_possible and bool(when[parent])
        if not is_possible:
            continue
        taken.add(name)
        names.setdefault(source.name, name)
        known[name] = _Declared(source, _parameter(name, source, when or None), source.default)
        yield name, known[name]


def _parameter(
    name: str, source: hps.HyperParameter, when: dict[str, tuple[ParamValue, ...]] | None
) -> Parameter | None:
    """The parameter that means the same; None of a fixed one."""
    if isinstance(source, hps.Fixed):
        return None
    if isinstance(source, hps.Boolean):
        return Categorical(name, when=when, choices=(True, False))
    if isinstance(source, hps.Choice):
        return Categorical(name, when=when, choices=tuple(dict.fromkeys(source.values)))
    is_int = isinstance(source, hps.Int)
    low, high, step = source.min_value, source.max_value, source.step
    if source.sampling != "linear" and step is not None:  # a factor; which has no order here
        values = (int(v) if is_int else float(f"{v:.12g}") for v in source.values)
        return Categorical(name, when=when, choices=tuple(dict.fromkeys(values)))
    if source.sampling == "reverse_log":
        expected = "the sampling linear or log, or a step"
        raise ConfigError(f"model.hypermodel.{source.name}", "reverse_log", expected, "sampling='linear'")
    if step is not None:  # up to what it reaches
        n = (Decimal(str(high)) - Decimal(str(low))) // Decimal(str(step))
        high = type(high)(Decimal(str(low)) + n * Decimal(str(step)))
    is_log = source.sampling == "log"
    if is_int:
        return Int(name, when=when, low=low, high=high, log=is_log, step=None if step in (None, 1) else step)
    return Float(name, when=when, low=low, high=high, log=is_log, step=None if step is None else float(step))


def _not_usable(error: Exception, expected: str) -> ConfigError:
    said = (str(error).splitlines() or ["no message"])[0]
    fix = "HYDRA_FULL_ERROR=1 in front of the command shows where it failed"
    return ConfigError("model.hypermodel", type(error).__name__, f"{expected} ({said})", fix)
