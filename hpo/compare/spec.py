"""The words of ``python -m hpo compare``, parsed and checked. Imports no backend."""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from hpo import config as configs
from hpo.errors import ConfigError

MIN_LEVELS = MIN_SEEDS = MIN_TASKS = 2


@dataclass(frozen=True)
class ComparisonSpec:
    """A comparison that the user asks for.

    Args:
        by: the factor: a config group or key.
        levels: level → overrides of its studies only.
        seeds: seeds of the studies of every level.
        max_seeds: the most seeds that will be run, if interim analyses of fewer seeds come first.
        min_effect: the smallest difference that matters, in units of the test metric; None takes a default.
        alpha: error probability of all interim analyses and pairs together.
        experiment: MLflow experiment to compare the studies of; no study is run.
        name: of the comparison; None derives one from its settings.
        tasks: values of ``over``; the levels are compared on each, then ranked over all.
        over: a config group or key.
        overrides: of all studies.
    """

    by: str = "strategy"
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    seeds: tuple[int, ...] = tuple(range(5))
    max_seeds: int | None = None
    min_effect: float | None = None
    alpha: float = 0.05
    experiment: str | None = None
    name: str | None = None
    tasks: tuple[str, ...] = ()
    over: str = "dataset"
    overrides: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Name of the comparison, which its studies' names begin with."""
        own = {level: o for level, o in self.levels.items() if o and o != _grid_options(level)}
        text = repr((self.by, sorted(self.overrides), *([sorted(own.items())] if own else [])))
        return self.name or f"cmp-{hashlib.blake2b(text.encode(), digest_size=5).hexdigest()}"

    @property
    def by_task(self) -> list[ComparisonSpec]:
        """One comparison for each task; the comparison itself if there are no tasks."""
        if not self.tasks:
            return [self]
        return [
            replace(
                self,
                tasks=(),
                name=None if self.name is None else f"{self.name}-{to_name(task)}",
                overrides=(*self.overrides, f"{self.over}={task}"),
            )
            for task in self.tasks
        ]

    def study(self, level: str, seed: int) -> str:
        """Name of a study; equal comparisons have equal study names, so that their studies are resumed."""
        return f"{self.title}-{to_name(level)}-s{seed}"

    def command(self, level: str, seed: int) -> list[str]:
        """Command line of a study."""
        own = [*self.overrides, f"{self.by}={level}", *self.levels[level]]
        return [*own, f"seed={seed}", f"study={self.study(level, seed)}"]


def to_name(value: str) -> str:
    """Convert a level or task to a part of a file name; different values have different names."""
    made = re.sub(r"[^A-Za-z0-9_.]+", "-", value).strip("-") or "x"
    if made == value:
        return made
    # Otherwise -1 and 1 had the same name.
    return f"{made}-{hashlib.blake2b(value.encode(), digest_size=2).hexdigest()}"


_KEY = r"[A-Za-z_][\w./]*"
_WORDS = tuple(each.name for each in fields(ComparisonSpec) if each.name != "overrides")


def parse(arguments: Sequence[str]) -> ComparisonSpec:
    """Parse a command line; its words override those of a named comparison.

    Raises:
        ConfigError: if a word cannot be used.
    """
    own, overrides = _split(arguments)
    named = _named(own.pop("comparison")) if "comparison" in own else {}
    if "strategies" in own:
        if "by" in own or "levels" in own:
            expected = "strategies without by and levels, which it sets"
            raise ConfigError("strategies", own["strategies"], expected, "leave one of them out")
        own |= {"by": "strategy", "levels": own.pop("strategies")}
    for key in ("seeds", "name"):
        if key in own and "experiment" in own:
            expected = f"no {key} with experiment=…, which compares every seed and runs nothing"
            raise ConfigError(key, own[key], expected, f"leave {key} out")
    given = {**named, **own}
    levels = _levels(given.pop("levels", {}), named.get("levels", {}))
    seeds = _seeds(given.pop("seeds", 5))
    if "tasks" in given:
        given["tasks"] = _tasks(given["tasks"])
    pinned = given.pop("overrides", [])
    if given.get("by", "strategy") == "strategy":
        levels = {level: own_overrides or _grid_options(level) for level, own_overrides in levels.items()}
    return _checked(ComparisonSpec(**given, levels=levels, seeds=seeds, overrides=(*pinned, *overrides)))


def _split(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Separate the words of a comparison, by name, from the overrides of its studies."""
    own: dict[str, Any] = {}
    overrides: list[str] = []
    for place, argument in enumerate(arguments):
        before = arguments[place - 1] if place else ""
        if argument in ("--config-dir", "-cd"):
            continue
        if before in ("--config-dir", "-cd"):
            overrides.append(f"--config-dir={argument}")
            continue
        key, has_value, value = argument.partition("=")
        if has_value and key in (*_WORDS, "strategies", "comparison"):
            own[key] = _value(key, value)
        else:
            overrides.append(argument)
    return own, overrides


def _grid_options(strategy: str) -> tuple[str, ...]:
    """Overrides that let a grid have more points than trials: in random order, or coarsened for Keras Tuner."""
    path = configs.resource_dir("conf") / "strategy" / f"{strategy}.yaml"
    options = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    if "oversize" not in options:
        return ()
    return ("strategy.oversize=coarsen" if "keras_tuner" in options["_target_"] else "strategy.oversize=shuffle",)


def _value(key: str, text: str) -> Any:
    if key in ("name", "by", "over", "experiment", "comparison"):
        return text
    if key in ("min_effect", "alpha"):
        with contextlib.suppress(ValueError):
            return float(text)  # YAML reads 1e-3 as text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(key, text, "a value or a list such as [grid, random]", f"'{key}=[grid, random]'") from error
    return value


def _named(name: Any) -> dict[str, Any]:
    path = configs.resource_dir("conf") / "comparison" / f"{name}.yaml"
    known = configs.options("comparison")
    if str(name) not in known:
        raise ConfigError("comparison", name, f"one of {', '.join(known)}", f"comparison={next(iter(known))}")
    found: dict[str, Any] = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    return found


def _levels(given: Any, named: Any) -> dict[str, tuple[str, ...]]:
    known = named if isinstance(named, Mapping) else {}
    if isinstance(given, Mapping):
        for level, own in given.items():
            if own is not None and not (isinstance(own, list) and all(isinstance(each, str) for each in own)):
                fix = f"'levels={{{level}: [KEY=VALUE]}}'"
                raise ConfigError("levels", f"{level}: {own}", "a list of overrides for each level", fix)
        return {_level(level): tuple(overrides or ()) for level, overrides in given.items()}
    if not isinstance(given, list) or any(isinstance(each, list | dict) for each in given):
        raise ConfigError("levels", given, "a list of levels", "'strategies=[random, optuna]'")
    return {_level(level): tuple(known.get(level) or ()) for level in given}


def _level(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)


def _seeds(given: Any) -> tuple[int, ...]:
    seeds = tuple(range(given)) if type(given) is int else tuple(given) if isinstance(given, list) else ()
    is_good = len(seeds) >= MIN_SEEDS and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not is_good or len(set(seeds)) != len(seeds):
        raise ConfigError(
            "seeds", given, f"a number of seeds of at least {MIN_SEEDS}, or a list of different seeds", "seeds=5"
        )
    return seeds


def _tasks(given: Any) -> tuple[str, ...]:
    tasks = [_level(each) for each in given] if isinstance(given, list) else []
    if len(tasks) < MIN_TASKS or len(set(tasks)) != len(tasks) or any(isinstance(each, list | dict) for each in given):
        expected = f"a list of at least {MIN_TASKS} different tasks"
        raise ConfigError("tasks", given, expected, "'tasks=[iris, wine, breast_cancer]'")
    return tuple(tasks)


def _checked(spec: ComparisonSpec) -> ComparisonSpec:
    _check_plan(spec)
    _check_factor(spec)
    if spec.experiment is None:
        _check_levels(spec)
    elif spec.levels or spec.tasks:
        given = "levels" if spec.levels else "tasks"
        expected = f"no {given} with experiment=…, which runs nothing"
        raise ConfigError("experiment", spec.experiment, expected, "leave one of them out")
    return spec


def _check_plan(spec: ComparisonSpec) -> None:
    n = MIN_SEEDS if spec.experiment is not None else len(spec.seeds)
    if spec.max_seeds is not None and (type(spec.max_seeds) is not int or spec.max_seeds < n):
        expected = f"an integer of at least {n}, the number of seeds"
        raise ConfigError("max_seeds", spec.max_seeds, expected, f"max_seeds={2 * n}")
    for name in ("min_effect", "alpha"):
        value = getattr(spec, name)
        most = 1.0 if name == "alpha" else math.inf
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (is_number and 0 < value < most):
            expected = "a number above 0" + (" and below 1" if name == "alpha" else "")
            raise ConfigError(name, value, expected, f"{name}=0.01")
    if spec.name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,60}", str(spec.name)):
        raise ConfigError("name", spec.name, "at most 61 letters, digits, '_', '.' and '-'", "name=mine")


def _check_factor(spec: ComparisonSpec) -> None:
    if spec.by in ("seed", "study") or spec.by.startswith("limits."):
        expected = "a factor other than the seed, the study name and the limits, which are equal for all levels"
        raise ConfigError("by", spec.by, expected, "by=strategy")
    if spec.by.partition(".")[0] == "objective":
        expected = "a factor other than the objective: all levels must have the same score"
        raise ConfigError("by", spec.by, expected, "by=strategy")
    if not re.fullmatch(_KEY, str(spec.by)):
        raise ConfigError("by", spec.by, "a config group or key, such as strategy or model.dropout", "by=strategy")
    if not re.fullmatch(_KEY, spec.over) or spec.over in ("seed", "study", spec.by):
        expected = "a config group or key other than the factor, such as dataset"
        raise ConfigError("over", spec.over, expected, "over=dataset")


def _check_levels(spec: ComparisonSpec) -> None:
    if len(spec.levels) < MIN_LEVELS:
        expected = "at least two levels to compare, or experiment=… to compare existing studies"
        raise ConfigError("levels", list(spec.levels) or "none", expected, "'strategies=[random, optuna]'")
    keys = [override.lstrip("+~").partition("=")[0] for override in spec.overrides]
    for key in ("seed", "study", spec.by, *((spec.over,) if spec.tasks else ())):
        if key in keys:
            expected = "no value, because the comparison sets it"
            raise ConfigError(key, "given for all studies", expected, f"leave {key} out")
