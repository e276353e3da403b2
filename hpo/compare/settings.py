"""What ``python -m hpo compare`` is told: its own words, and the overrides of the studies. Imports no backend."""

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

MIN_SEEDS = MIN_TASKS = 2


@dataclass(frozen=True)
class ComparisonSpec:
    """A comparison as it is asked for.

    Args:
        by: the factor: a config group or a key.
        levels: level → overrides that only its studies have.
        seeds: of the studies of every level.
        max_seeds: the most seeds that will ever be run, where looks at fewer are meant to come before.
        min_effect: the smallest difference that matters, in units of the test metric; None takes a default.
        alpha: the error that all looks and pairs together may spend.
        experiment: compare what this MLflow experiment holds, and run nothing.
        name: of the comparison; None makes one from what it compares.
        tasks: values of ``over``: the levels are compared on each, and then ranked over all.
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
        """The name of the comparison: the beginning of the names of its studies."""
        own = {level: o for level, o in self.levels.items() if o and o != _grid_options(level)}
        text = repr((self.by, sorted(self.overrides), *([sorted(own.items())] if own else [])))
        return self.name or f"cmp-{hashlib.blake2b(text.encode(), digest_size=5).hexdigest()}"

    @property
    def apart(self) -> list[ComparisonSpec]:
        """A comparison for each task; itself where there are none."""
        if not self.tasks:
            return [self]
        return [
            replace(
                self,
                tasks=(),
                name=None if self.name is None else f"{self.name}-{word(task)}",
                overrides=(*self.overrides, f"{self.over}={task}"),
            )
            for task in self.tasks
        ]

    def study(self, level: str, seed: int) -> str:
        """The name of a study: the same whenever the same is asked for, so that it is continued."""
        return f"{self.title}-{word(level)}-s{seed}"

    def command(self, level: str, seed: int) -> list[str]:
        """The command line of a study."""
        own = [*self.overrides, f"{self.by}={level}", *self.levels[level]]
        return [*own, f"seed={seed}", f"study={self.study(level, seed)}"]


def word(value: str) -> str:
    """``value`` as a part of a name."""
    made = re.sub(r"[^A-Za-z0-9_.]+", "-", value).strip("-") or "x"
    if made == value:
        return made
    return f"{made}-{hashlib.blake2b(value.encode(), digest_size=2).hexdigest()}"  # else -1 and 1 were one


_WORDS = tuple(each.name for each in fields(ComparisonSpec) if each.name != "overrides")


def parse(arguments: Sequence[str]) -> ComparisonSpec:
    """Read a command line; a named comparison first, then what the command line says.

    Raises:
        ConfigError: naming the word that cannot be used.
    """
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
    named = _named(own.pop("comparison")) if "comparison" in own else {}
    if "strategies" in own:
        if "by" in own or "levels" in own:
            raise ConfigError("strategies", own["strategies"], "no by and no levels beside it", "leave one of them out")
        own |= {"by": "strategy", "levels": own.pop("strategies")}
    for word in ("seeds", "name"):
        if word in own and "experiment" in own:
            expected = "nothing beside experiment=…, which runs nothing and takes every seed"
            raise ConfigError(word, own[word], expected, f"leave {word} out")
    given = {**named, **own}
    levels = _levels(given.pop("levels", {}), named.get("levels", {}))
    seeds = _seeds(given.pop("seeds", 5))
    if "tasks" in given:
        given["tasks"] = _tasks(given["tasks"])
    pinned = given.pop("overrides", [])
    if given.get("by", "strategy") == "strategy":
        levels = {level: own_overrides or _grid_options(level) for level, own_overrides in levels.items()}
    return _checked(ComparisonSpec(**given, levels=levels, seeds=seeds, overrides=(*pinned, *overrides)))


def _grid_options(strategy: str) -> tuple[str, ...]:
    """A grid is compared up to the number of trials, in an order that is random per seed where its library has one."""
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
            return float(text)  # YAML takes 1e-3 for text
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
        raise ConfigError("seeds", given, f"a number of seeds, at least {MIN_SEEDS}, or a list of them", "seeds=5")
    return seeds


def _tasks(given: Any) -> tuple[str, ...]:
    tasks = [_level(each) for each in given] if isinstance(given, list) else []
    if len(tasks) < MIN_TASKS or len(set(tasks)) != len(tasks) or any(isinstance(each, list | dict) for each in given):
        expected = f"a list of at least {MIN_TASKS} different ones"
        raise ConfigError("tasks", given, expected, "'tasks=[iris, wine, breast_cancer]'")
    return tuple(tasks)


def _checked(wanted: ComparisonSpec) -> ComparisonSpec:
    n = MIN_SEEDS if wanted.experiment is not None else len(wanted.seeds)
    if wanted.max_seeds is not None and (type(wanted.max_seeds) is not int or wanted.max_seeds < n):
        raise ConfigError(
            "max_seeds", wanted.max_seeds, f"a whole number of at least the {n} seeds", f"max_seeds={2 * n}"
        )
    for name in ("min_effect", "alpha"):
        value = getattr(wanted, name)
        most = 1.0 if name == "alpha" else math.inf
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (is_number and 0 < value < most):
            expected = "a number above 0" + (" and below 1" if name == "alpha" else "")
            raise ConfigError(name, value, expected, f"{name}=0.01")
    if wanted.name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,60}", str(wanted.name)):
        raise ConfigError("name", wanted.name, "at most 61 letters, digits, '_', '.' and '-'", "name=mine")
    if wanted.by in ("seed", "study") or wanted.by.startswith("limits."):
        expected = "a factor that is not a seed, a name or a budget: those are the same for all levels"
        raise ConfigError("by", wanted.by, expected, "by=strategy")
    if wanted.by.partition(".")[0] == "objective":
        raise ConfigError("by", wanted.by, "a factor that leaves all levels with the same score", "by=strategy")
    if not re.fullmatch(r"[A-Za-z_][\w./]*", str(wanted.by)):
        raise ConfigError("by", wanted.by, "a config group or a key, such as strategy or model.dropout", "by=strategy")
    if not re.fullmatch(r"[A-Za-z_][\w./]*", wanted.over) or wanted.over in ("seed", "study", wanted.by):
        expected = "a config group or a key that is no factor, such as dataset"
        raise ConfigError("over", wanted.over, expected, "over=dataset")
    if wanted.experiment is not None:
        if wanted.levels or wanted.tasks:
            given = "levels" if wanted.levels else "tasks"
            raise ConfigError(
                "experiment", wanted.experiment, f"no {given}, since it runs nothing", "leave one of them out"
            )
        return wanted
    if len(wanted.levels) < 2:
        expected = "at least two levels to compare, or experiment=… to compare the studies that there are"
        raise ConfigError("levels", list(wanted.levels) or "none", expected, "'strategies=[random, optuna]'")
    keys = [override.lstrip("+~").partition("=")[0] for override in wanted.overrides]
    for key in ("seed", "study", wanted.by, *((wanted.over,) if wanted.tasks else ())):
        if key in keys:
            raise ConfigError(key, "given for all studies", "nothing, since the comparison sets it", f"leave {key} out")
    return wanted
