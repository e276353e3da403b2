"""Keras Tuner's hyperparameters as parameters of a search space, and a trial's values as Keras Tuner's object."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import keras_tuner as kt
from keras_tuner.engine import hyperparameters as hps

from hpo.core.params import ParamValue
from hpo.core.space import Categorical, Float, Int, Parameter
from hpo.errors import ConfigError

# Arguments of training that no hyperparameter may be mixed up with.
_RESERVED = ("schedule",)


@dataclass(frozen=True)
class Declared:
    """A hyperparameter that a hypermodel declares.

    Args:
        source: Keras Tuner's own object.
        parameter: the same as a parameter of a search space; None if it is fixed.
    """

    source: hps.HyperParameter
    parameter: Parameter | None

    @property
    def default(self) -> ParamValue:
        """Its default value."""
        value: ParamValue = self.source.default
        return value


def named(found: Sequence[hps.HyperParameter]) -> Iterator[tuple[str, Declared]]:
    """Give every hyperparameter a unique name that a command line can hold, and translate its conditions.

    ``dense/units 1`` becomes ``dense_units_1``. A name that is declared twice becomes ``NAME`` and ``NAME_2``.
    Hyperparameters that can never be active are left out; conditions on fixed ones are decided here.

    Args:
        found: parents before their children.

    Raises:
        ConfigError: if a condition names a hyperparameter that is declared twice, or a sampling has no counterpart.
    """
    names: dict[str, str] = {}
    known: dict[str, Declared] = {}
    taken = set(_RESERVED)
    for source in found:
        name = _unique(re.sub(r"\W", "_", source.name, flags=re.ASCII), taken)
        when = _conditions(source, names, known)
        if when is None:
            continue
        taken.add(name)
        names.setdefault(source.name, name)
        known[name] = Declared(source, to_parameter(name, source, when or None))
        yield name, known[name]


def _unique(base: str, taken: set[str]) -> str:
    name, n = base, 1
    while name in taken:
        n += 1
        name = f"{base}_{n}"
    return name


def _conditions(
    source: hps.HyperParameter, names: dict[str, str], known: dict[str, Declared]
) -> dict[str, tuple[ParamValue, ...]] | None:
    """Translate the conditions of ``source``; None if they can never hold."""
    when: dict[str, tuple[ParamValue, ...]] = {}
    is_possible = True
    for condition in source.conditions:
        parent = names.get(condition.name)
        if parent is None:  # the parent can never be active
            return None
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
    return when if is_possible else None


def to_parameter(
    name: str, source: hps.HyperParameter, when: dict[str, tuple[ParamValue, ...]] | None = None
) -> Parameter | None:
    """Translate one hyperparameter; None if it is fixed.

    Args:
        when: values of its parents for which it is active.

    Raises:
        ConfigError: if its sampling has no counterpart.
    """
    if isinstance(source, hps.Fixed):
        return None
    if isinstance(source, hps.Boolean):
        return Categorical(name, when=when, choices=(True, False))
    if isinstance(source, hps.Choice):
        return Categorical(name, when=when, choices=tuple(dict.fromkeys(source.values)))
    is_int = isinstance(source, hps.Int)
    low, high, step = source.min_value, source.max_value, source.step
    if source.sampling != "linear" and step is not None:  # the step is a factor, which search spaces do not have
        values = (int(v) if is_int else float(f"{v:.12g}") for v in source.values)
        return Categorical(name, when=when, choices=tuple(dict.fromkeys(values)))
    if source.sampling == "reverse_log":
        expected = "the sampling linear or log, or a step"
        raise ConfigError(f"model.hypermodel.{source.name}", "reverse_log", expected, "sampling='linear'")
    if step is not None:  # the largest value that steps from the lowest reach
        n = (Decimal(str(high)) - Decimal(str(low))) // Decimal(str(step))
        high = type(high)(Decimal(str(low)) + n * Decimal(str(step)))
    is_log = source.sampling == "log"
    if is_int:
        return Int(name, when=when, low=low, high=high, log=is_log, step=None if step in (None, 1) else step)
    return Float(name, when=when, low=low, high=high, log=is_log, step=None if step is None else float(step))


class GivenValues(kt.HyperParameters):
    """Hyperparameters that return the values in ``values`` and refuse to fall back to a default.

    A hyperparameter without a value was not found when the search space was determined. Its default would be trained
    with in every trial without being recorded.
    """

    def Boolean(self, *args: Any, **options: Any) -> Any:  # noqa: N802 Keras Tuner's name
        return self._known(super().Boolean, *args, **options)

    def Choice(self, *args: Any, **options: Any) -> Any:  # noqa: N802
        return self._known(super().Choice, *args, **options)

    def Float(self, *args: Any, **options: Any) -> Any:  # noqa: N802
        return self._known(super().Float, *args, **options)

    def Int(self, *args: Any, **options: Any) -> Any:  # noqa: N802
        return self._known(super().Int, *args, **options)

    def _known(self, declare: Callable[..., Any], *args: Any, **options: Any) -> Any:
        before = set(self.values)
        value = declare(*args, **options)
        for name in set(self.values) - before:  # Keras Tuner has just added its default
            raise ValueError(
                f"the hypermodel asks for {name!r}, which was not found when its search space was determined: "
                "declare it under hp.conditional_scope, or before it is needed"
            )
        return value
