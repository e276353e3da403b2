"""What a config defines (search space, objective, limits, early stopping), checked without importing a backend."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from hpo.config.schema import Conf, EarlyStoppingConf, LimitsConf, ObjectiveConf, ParamConf, TrackingConf
from hpo.core.early_stopping import EarlyStopping
from hpo.core.limits import Limits
from hpo.core.objective import Objective
from hpo.core.params import Params
from hpo.core.space import SearchSpace
from hpo.errors import ConfigError


@dataclass(frozen=True)
class Definition:
    """The checked plain values of a study's config."""

    space: SearchSpace
    objective: Objective
    early_stopping: EarlyStopping
    limits: Limits
    seed: int
    max_epochs: int
    enqueue: tuple[Params, ...] = ()

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Definition:
        """Read it from a composed config.

        A space that is the model's own is empty here, and nothing is enqueued, until :func:`with_space_of_model` has
        put it into the config.

        Raises:
            ConfigError: for any value that cannot be used.
        """
        _check_keys(config)
        for key, least in (("seed", 0), ("max_epochs", 1)):
            if config[key] < least:
                raise ConfigError(key, config[key], f"a whole number of at least {least}", f"{key}={least}")
        name = config["study"]
        if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", name):
            raise ConfigError(
                "study",
                name,
                "at most 100 letters, digits, '_', '.' and '-', since it names a folder",
                f"study={re.sub(r'[^A-Za-z0-9_.-]+', '-', name).strip('-.')[:100] or 'my_study'}",
            )
        is_open = is_from_model(config)
        space = SearchSpace([]) if is_open else SearchSpace.from_config(config["search_space"])
        if not space and not is_open:
            raise ConfigError("search_space", "empty", "at least one parameter", "search_space=mnist_cnn")
        early_stopping = EarlyStopping(**config["early_stopping"])
        if early_stopping.start_from_epoch >= config["max_epochs"]:
            raise ConfigError(
                "early_stopping.start_from_epoch",
                early_stopping.start_from_epoch,
                f"less than max_epochs, which is {config['max_epochs']}: else no epoch would be watched",
                "early_stopping.start_from_epoch=0",
            )
        return cls(
            space=space,
            objective=Objective.of(**config["objective"]),
            early_stopping=early_stopping,
            limits=Limits(**config["limits"]),
            seed=config["seed"],
            max_epochs=config["max_epochs"],
            enqueue=tuple(
                _enqueued(space, f"enqueue[{i}]", params)
                for i, params in enumerate(config["enqueue"] if not is_open else ())
            ),
        )


FROM_MODEL = "model"  # type of the entry that stands for the space that comes with the model


def is_from_model(config: Mapping[str, Any]) -> bool:
    """Whether the search space is, or completes, the model's own."""
    return any(isinstance(spec, Mapping) and spec.get("type") == FROM_MODEL for spec in config["search_space"].values())


def with_space_of_model(config: Mapping[str, Any], own: SearchSpace | None) -> dict[str, Any]:
    """The config with the model's own space written out; parameters in the config replace those of the model.

    Raises:
        ConfigError: when the model has none.
    """
    if own is None:
        expected = "a search space by its name, since the model has none of its own"
        raise ConfigError(
            "search_space", "from_model", expected, "search_space=NAME; python -m hpo help search_space lists the names"
        )
    stated = {name: spec for name, spec in config["search_space"].items() if spec.get("type") != FROM_MODEL}
    whole = {name: asdict(ParamConf(**spec)) for name, spec in own.to_config().items()}
    return {**config, "search_space": {**whole, **stated}}


_SECTIONS = {"objective": ObjectiveConf, "early_stopping": EarlyStoppingConf, "limits": LimitsConf}


def _check_keys(config: Mapping[str, Any]) -> None:
    """Refuse keys that ``+`` added and nothing reads, and keys that ``~`` removed."""
    for section, schema in {"": Conf, **_SECTIONS, "tracking": TrackingConf}.items():
        given = config.get(section) if section else config
        if given is None:
            continue  # missed above, at the top level
        known, prefix = {each.name for each in fields(schema)}, f"{section}." if section else ""
        for key in sorted(set(given) - known):
            expected = f"a key that exists: {', '.join(sorted(known))}"
            close = difflib.get_close_matches(str(key), known, n=1)
            fix = f"{prefix}{close[0]}={given[key]}" if close else f"leave +{prefix}{key} out"
            raise ConfigError(f"{prefix}{key}", given[key], expected, fix)
        for key in sorted(known - set(given)):
            raise ConfigError(f"{prefix}{key}", "removed", "a value, which may be null", f"leave ~{prefix}{key} out")


def _enqueued(space: SearchSpace, key: str, params: Mapping[str, Any]) -> Params:
    """Return one entry of ``enqueue``, or raise a ConfigError if it does not lie in the space."""
    if space.contains(params):
        return space.select(params)
    unknown = [name for name in params if name not in space]
    missing = [name for name in space if space.is_active(name, params) and name not in params]
    wrong = [name for name in params if name in space and not space[name].contains(params[name])]
    if unknown:
        raise ConfigError(f"{key}.{unknown[0]}", params[unknown[0]], f"one of {', '.join(space)}", "leave it out")
    if missing:
        raise ConfigError(key, "incomplete", f"a value for {', '.join(missing)} as well", f"add {missing[0]}: …")
    if wrong:
        raise ConfigError(f"{key}.{wrong[0]}", params[wrong[0]], "a value inside the search space", "correct it")
    idle = next(name for name in params if not space.is_active(name, params))
    raise ConfigError(
        f"{key}.{idle}", params[idle], f"nothing, since {dict(space[idle].when or {})} does not hold", "leave it out"
    )
