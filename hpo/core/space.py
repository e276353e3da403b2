"""Search spaces: parameters with ``low high log step choices when``, and the points that a grid visits.

A space is a mapping name → parameter, as in ``search_spaces/*.yaml``. Bounds are inclusive in every backend.
"""

from __future__ import annotations

import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from hpo.core.params import Params, ParamValue
from hpo.errors import ConfigError

When = Mapping[str, tuple[ParamValue, ...]]


@dataclass(frozen=True)
class Parameter(ABC):
    """One dimension of a search space.

    Args:
        name: the model's own name for it.
        grid: the points that grid search visits; empty where none were given.
        when: parent name → the values of the parent under which this parameter is active; all must hold.
    """

    name: str
    grid: tuple[ParamValue, ...] = ()
    when: When | None = None

    @abstractmethod
    def contains(self, value: object) -> bool:
        """Whether ``value`` has the parameter's type and lies in its domain."""

    @abstractmethod
    def points(self) -> tuple[ParamValue, ...] | None:
        """The values of a finite parameter, ``grid`` where it was given; None for a continuous one."""


@dataclass(frozen=True)
class Numeric(Parameter):
    """A number in [low, high]; see :class:`Float` and :class:`Int`."""

    low: float = 0.0
    high: float = 1.0
    log: bool = False
    step: float | None = None

    @abstractmethod
    def steps(self) -> Sequence[float]:
        """The values that ``step`` allows, whether or not ``grid`` has them; () for a continuous parameter."""

    def place(self, value: float) -> float:
        """The relative position of ``value`` between the bounds, 0 to 1; logarithmic if ``log``."""
        if self.low == self.high:
            return 0.5
        scale = math.log if self.log else float
        return (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))

    def at(self, place: float) -> float:
        """The allowed value nearest to a relative position, 0 to 1: the inverse of :meth:`place`."""
        if not 0 < place < 1:  # the bounds themselves, without rounding errors of the logarithm
            return self.low if place <= 0 else self.high
        if self.log:
            value = math.exp(math.log(self.low) + place * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + place * (self.high - self.low)
        steps = self.steps()
        if not steps:
            return min(self.high, max(self.low, value))
        return steps[round((value - self.low) / (self.high - self.low) * (len(steps) - 1)) if len(steps) > 1 else 0]


@dataclass(frozen=True)
class Float(Numeric):
    """A real number in [low, high]; ``log`` samples its logarithm evenly, ``step`` makes it finite."""

    def contains(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        steps = self.steps()
        return not steps or any(math.isclose(value, s, rel_tol=1e-9, abs_tol=1e-12) for s in steps)

    def steps(self) -> Sequence[float]:
        if self.step is None:
            return (self.low,) if self.low == self.high else ()
        low, step = Decimal(str(self.low)), Decimal(str(self.step))
        count = int((Decimal(str(self.high)) - low) / step)
        return tuple(float(low + step * i) for i in range(count + 1))

    def points(self) -> tuple[ParamValue, ...] | None:
        return self.grid or tuple(self.steps()) or None


@dataclass(frozen=True)
class Int(Numeric):
    """A whole number in [low, high], in steps of ``step`` (1 unless given)."""

    def contains(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int):
            return False
        return self.low <= value <= self.high and (value - int(self.low)) % int(self.step or 1) == 0

    def steps(self) -> range:
        return range(int(self.low), int(self.high) + 1, int(self.step or 1))

    def points(self) -> tuple[ParamValue, ...] | None:
        return self.grid or tuple(self.steps())


@dataclass(frozen=True)
class Categorical(Parameter):
    """One of ``choices``, which have no order."""

    choices: tuple[ParamValue, ...] = ()

    def contains(self, value: object) -> bool:
        return any(type(value) is type(choice) and value == choice for choice in self.choices)

    def points(self) -> tuple[ParamValue, ...] | None:
        return self.grid or self.choices


Suggest = Callable[[Parameter], ParamValue]
"""Chooses the value of a parameter that a running trial asks for."""


class SearchSpace(Mapping[str, Parameter]):
    """Parameters by name, parents before the children whose ``when`` names them.

    Raises:
        ConfigError: naming the key, when a ``when`` names no parameter, an impossible value, or a cycle.
    """

    def __init__(self, parameters: Sequence[Parameter], source: str = "search_space") -> None:
        self.source = source
        named = {p.name: p for p in parameters}
        self._parameters = _parents_first({p.name: _typed_when(p, named) for p in parameters}, source)

    @classmethod
    def from_config(cls, config: Mapping[str, Mapping[str, Any]], source: str = "search_space") -> SearchSpace:
        """Build a space from plain mappings, as YAML gives them.

        Raises:
            ConfigError: naming the parameter and the key that is wrong.
        """
        return cls([_parameter(name, dict(spec or {}), source) for name, spec in config.items()], source)

    @classmethod
    def from_record(cls, config: Mapping[str, Mapping[str, Any]]) -> SearchSpace:
        """Build a space from the output of :meth:`to_config`, without checks."""
        kinds: dict[str, type[Parameter]] = {"float": Float, "int": Int, "categorical": Categorical}
        parameters = []
        for name, spec in config.items():
            given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in spec.items() if k != "type"}
            parameters.append(kinds[spec["type"]](name, **given))
        return cls(parameters)

    def __getitem__(self, name: str) -> Parameter:
        return self._parameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def is_active(self, name: str, params: Params) -> bool:
        """Whether ``name`` takes part, given the values of its parents in ``params``."""
        when = self[name].when or {}
        return all(parent in params and _among(params[parent], values) for parent, values in when.items())

    def select(self, values: Params) -> dict[str, ParamValue]:
        """The active parameters of this space among ``values``; names that it lacks are left out."""
        params: dict[str, ParamValue] = {}
        for name in self:
            if name in values and self.is_active(name, params):
                value = values[name]
                # Equal params must have one spelling, since the training seed is derived from it.
                is_int_for_float = isinstance(self[name], Float) and type(value) is int
                params[name] = float(str(value)) if is_int_for_float else value
        return params

    def contains(self, params: Params) -> bool:
        """Whether ``params`` names exactly the active parameters, each with a value in its domain."""
        active = [name for name in self if self.is_active(name, params)]
        return set(active) == set(params) and all(self[name].contains(params[name]) for name in active)

    def restricted(self, names: Collection[str]) -> SearchSpace:
        """The space of only these parameters, which must be closed under ``when``."""
        return SearchSpace([parameter for name, parameter in self.items() if name in names], self.source)

    def grid(self) -> Iterator[dict[str, ParamValue]]:
        """Iterate over every combination of grid points, with active parameters only and without duplicates.

        Raises:
            ConfigError: for a continuous parameter with neither ``grid`` nor ``step``.
        """
        self._require_points()
        return self._combinations(list(self), {})

    def _require_points(self) -> None:
        for parameter in self.values():
            if parameter.points() is None:
                raise ConfigError(
                    f"{self.source}.{parameter.name}",
                    "a continuous range",
                    "points for the grid to visit",
                    f"'{self.source}.{parameter.name}.grid=[…]' or '{self.source}.{parameter.name}.step=…'",
                )

    def grid_size(self) -> int:
        """The number of combinations in :meth:`grid`, without visiting them.

        Raises:
            ConfigError: as :meth:`grid`.
        """
        self._require_points()
        parents = {parent for parameter in self.values() for parent in parameter.when or {}}
        alone = [name for name in self if name not in parents]
        return sum(
            math.prod(len(self[name].points() or ()) for name in alone if self.is_active(name, params))
            for params in self._combinations([name for name in self if name in parents], {})
        )

    def size(self) -> int | None:
        """The number of different params in the space; None if a parameter is continuous."""
        whole = SearchSpace([replace(parameter, grid=()) for parameter in self.values()], self.source)
        return None if any(p.points() is None for p in whole.values()) else whole.grid_size()

    def coarsened(self, most: int) -> SearchSpace:
        """The space with so few grid points that :meth:`grid_size` is at most ``most``.

        Points go from the parameter that has the most of them, numbers evenly and never the ends before the inside.
        """
        kept = {name: len(parameter.points() or ()) for name, parameter in self.items()}
        space = self
        while space.grid_size() > most and max(kept.values()) > 1:
            name = max(kept, key=lambda n: kept[n])
            kept[name] = kept[name] // 2 if kept[name] > 8 else kept[name] - 1
            space = SearchSpace([_thinned(p, kept[p.name]) for p in self.values()], self.source)
        return space

    def _combinations(self, names: list[str], params: dict[str, ParamValue]) -> Iterator[dict[str, ParamValue]]:
        if not names:
            yield dict(params)
            return
        name, rest = names[0], names[1:]
        if not self.is_active(name, params):
            yield from self._combinations(rest, params)
            return
        for value in self[name].points() or ():
            yield from self._combinations(rest, {**params, name: value})

    def to_config(self) -> dict[str, dict[str, Any]]:
        """Return plain mappings from which :meth:`from_config` builds an equal space."""
        kinds = {Float: "float", Int: "int", Categorical: "categorical"}
        config = {}
        for name, parameter in self.items():
            fields = {k: v for k, v in vars(parameter).items() if k != "name" and v not in (None, (), False)}
            if isinstance(parameter, Numeric):
                fields |= {"low": parameter.low, "high": parameter.high}
            fields = {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
            if parameter.when:
                fields["when"] = {parent: list(values) for parent, values in parameter.when.items()}
            config[name] = {"type": kinds[type(parameter)], **fields}
        return config


def united(one: Parameter, other: Parameter) -> Parameter:
    """The smallest domain that contains two declarations of one parameter; the first if they have nothing in common."""
    if isinstance(one, Numeric) and isinstance(other, Numeric) and type(one) is type(other):
        low, high = min(one.low, other.low), max(one.high, other.high)
        has_same_steps = (one.low, one.step) == (other.low, other.step)
        return replace(one, low=low, high=high, log=one.log and other.log, step=one.step if has_same_steps else None)
    return one


def _thinned(parameter: Parameter, n: int) -> Parameter:
    """``parameter`` with ``n`` of its grid points: evenly chosen ones of a number, the first ones of a category."""
    points = parameter.points() or ()
    if n >= len(points):
        return parameter
    is_even = n > 1 and not isinstance(parameter, Categorical)
    at = [round(i * (len(points) - 1) / (n - 1)) for i in range(n)] if is_even else range(n)
    return replace(parameter, grid=tuple(points[i] for i in at))


def _among(value: ParamValue, values: Sequence[ParamValue]) -> bool:
    return any(type(value) is type(v) and value == v for v in values)


def _typed_when(parameter: Parameter, parameters: Mapping[str, Parameter]) -> Parameter:
    """``parameter`` with whole numbers in its conditions as floats where the parent is one: YAML writes 1 for 1.0."""
    if not parameter.when:
        return parameter

    def typed(parent: str, value: ParamValue) -> ParamValue:
        return float(value) if isinstance(parameters.get(parent), Float) and type(value) is int else value

    when = {parent: tuple(typed(parent, v) for v in values) for parent, values in parameter.when.items()}
    return replace(parameter, when=when)


def _parents_first(parameters: dict[str, Parameter], source: str) -> dict[str, Parameter]:
    for parameter in parameters.values():
        for parent, values in (parameter.when or {}).items():
            key = f"{source}.{parameter.name}.when"
            if parent not in parameters:
                close = difflib.get_close_matches(parent, parameters, n=1) or sorted(parameters)[:1]
                raise ConfigError(
                    key,
                    parent,
                    f"the name of another parameter of this space: {', '.join(parameters)}",
                    f"'{key}={{{close[0]}: […]}}'",
                )
            bad = [v for v in values if not parameters[parent].contains(v)]
            if bad or not values:
                raise ConfigError(
                    f"{key}.{parent}",
                    bad[0] if bad else list(values),
                    f"values that {parent!r} can take",
                    f"write values inside {source}.{parent}",
                )
    ordered: dict[str, Parameter] = {}
    waiting = dict(parameters)
    while waiting:
        ready = [n for n, p in waiting.items() if all(parent in ordered for parent in p.when or {})]
        if not ready:
            raise ConfigError(
                f"{source}.{next(iter(waiting))}.when",
                " → ".join(waiting),
                "conditions without a cycle",
                "remove one of these conditions",
            )
        ordered[ready[0]] = waiting.pop(ready[0])
    return ordered


_FIELDS = {
    "float": ("low", "high", "log", "step", "grid", "when"),
    "int": ("low", "high", "log", "step", "grid", "when"),
    "categorical": ("choices", "grid", "when"),
}


def _parameter(name: str, spec: dict[str, Any], source: str) -> Parameter:
    key = f"{source}.{name}"
    spec = {k: v for k, v in spec.items() if v is not None}
    kind = spec.pop("type", None)
    if kind not in _FIELDS:
        raise ConfigError(f"{key}.type", kind, "float, int or categorical", f"{key}.type=float")
    for given in spec:
        if given not in _FIELDS[kind] and not (given == "log" and not spec[given]):
            raise ConfigError(
                f"{key}.{given}",
                spec[given],
                f"only {', '.join(_FIELDS[kind])}, since the type is {kind}",
                f"'~{key}.{given}'",
            )
    when = _when(key, spec.get("when"))
    if kind == "categorical":
        choices = _choices(f"{key}.choices", spec.get("choices"))
        parameter: Parameter = Categorical(name, when=when, choices=choices)
    else:
        parameter = _numeric(name, key, kind, spec, when)
    grid = spec.get("grid", ())
    if not isinstance(grid, list | tuple):
        raise ConfigError(f"{key}.grid", grid, "a list of points", f"'{key}.grid=[{grid}]'")
    points = tuple(_number(f"{key}.grid", v, kind) if kind != "categorical" else v for v in grid)
    outside = [v for v in points if not parameter.contains(v)]
    if outside:
        raise ConfigError(f"{key}.grid", outside[0], "points inside the parameter's own range", f"remove {outside[0]}")
    if len(set(points)) < len(points):
        raise ConfigError(f"{key}.grid", list(points), "each point once", "remove the repeated point")
    return type(parameter)(**{**vars(parameter), "grid": points})


def _numeric(name: str, key: str, kind: str, spec: dict[str, Any], when: When | None) -> Parameter:
    for bound in ("low", "high"):
        if bound not in spec:
            raise ConfigError(f"{key}.{bound}", "missing", "a number", f"+{key}.{bound}=…")
    low, high = (_number(f"{key}.{bound}", spec[bound], kind) for bound in ("low", "high"))
    log, step = spec.get("log", False), spec.get("step")
    if not isinstance(log, bool):
        raise ConfigError(f"{key}.log", log, "true or false", f"{key}.log=true")
    if low > high:
        raise ConfigError(f"{key}.low", low, f"at most high, which is {high}", f"{key}.low={high}")
    if log and low <= 0:
        raise ConfigError(
            f"{key}.low", low, "more than 0, since log is true", f"{key}.low={1 if kind == 'int' else 1e-5}"
        )
    if step is not None:
        step = _number(f"{key}.step", step, kind)
        if step <= 0:
            raise ConfigError(f"{key}.step", step, "more than 0", f"{key}.step=1")
        if log:
            raise ConfigError(f"{key}.step", step, "no step, since log is true", f"{key}.step=null")
        whole, rest = divmod(Decimal(str(high)) - Decimal(str(low)), Decimal(str(step)))
        if rest:
            fits = Decimal(str(low)) + whole * Decimal(str(step))
            raise ConfigError(
                f"{key}.high",
                high,
                f"low plus a whole number of steps, so that {high} can be reached",
                f"{key}.high={fits}",
            )
    return (Int if kind == "int" else Float)(name, when=when, low=low, high=high, log=log, step=step)


def _number(key: str, value: Any, kind: str) -> float:
    # YAML 1.1 reads 1e-4 as text; Hydra's loader and its command line do not, a user's own mapping may.
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise ConfigError(key, value, "a number", f"{key}=1") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(key, value, "a finite number", f"{key}=1")
    if kind == "int":
        if value != int(value):
            raise ConfigError(key, value, "a whole number, since the type is int", f"{key}={round(value)}")
        return int(value)
    return float(value)


def _choices(key: str, choices: Any) -> tuple[ParamValue, ...]:
    if not isinstance(choices, list | tuple) or not choices:
        raise ConfigError(key, choices, "a list of at least one choice", f"'{key}=[a, b]'")
    for choice in choices:
        if not isinstance(choice, bool | int | float | str | None):
            raise ConfigError(key, choice, "choices that are text, numbers, booleans or null", f"'{key}=[a, b]'")
    kinds = {type(choice) for choice in choices}
    if bool in kinds and str in kinds:
        raise ConfigError(
            key,
            list(choices),
            "choices of one kind; YAML reads a bare yes, no, on or off as a boolean",
            "quote it: 'yes', 'no', 'on', 'off'",
        )
    if len({(type(c), c) for c in choices}) < len(choices):
        raise ConfigError(key, list(choices), "each choice once", "remove the repeated choice")
    return tuple(choices)


def _when(key: str, when: Any) -> When | None:
    if when is None:
        return None
    if not isinstance(when, Mapping) or not when:
        expected = "a mapping from a parent's name to its values"
        raise ConfigError(f"{key}.when", when, expected, f"'{key}.when={{parent: [value]}}'")
    return {p: tuple(v) if isinstance(v, list | tuple) else (v,) for p, v in when.items()}
