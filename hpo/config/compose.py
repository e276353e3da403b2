"""The config of the running Hydra job: values, chosen options, and what the command line sets."""

from __future__ import annotations

import copy
import os
import re
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hpo.config.explain import explain
from hpo.config.groups import options
from hpo.errors import ConfigError, hide

ADDRESSES = ("MLFLOW_TRACKING_URI",)  # their passwords are found by the form of an address


def plain(conf: DictConfig) -> dict[str, Any]:
    """The config as plain mappings, interpolations resolved.

    Values from environment variables are treated as secrets, except for addresses: they are never printed or recorded.

    Raises:
        ConfigError: when an interpolation cannot be resolved or a mandatory value is missing.
    """
    try:
        container = OmegaConf.to_container(conf, resolve=True, throw_on_missing=True, enum_to_str=True)
    except OmegaConfBaseException as error:
        raise explain(error, []) from error
    assert isinstance(container, dict)
    for name in re.findall(r"\$\{oc\.env:\s*['\"]?(\w+)", str(OmegaConf.to_container(conf, resolve=False))):
        if name not in ADDRESSES:
            hide(os.environ.get(name, ""))
    return {str(key): value for key, value in container.items()}


def for_the_record(conf: DictConfig) -> dict[str, Any]:
    """As :func:`plain`, but with ``${oc.env:…}`` as it was written."""

    def masked(raw: Any, value: Any) -> Any:
        if isinstance(raw, dict):
            return {key: masked(inner, value[key]) for key, inner in raw.items()}
        if isinstance(raw, list):
            return [masked(inner, value[place]) for place, inner in enumerate(raw)]
        return raw if isinstance(raw, str) and "oc.env:" in raw else value

    raw = OmegaConf.to_container(conf, resolve=False, enum_to_str=True)
    recorded = masked(raw, plain(conf))
    assert isinstance(recorded, dict)
    return recorded


def chosen(group: str) -> str:
    """The chosen option of a group of the running Hydra job.

    Raises:
        ConfigError: when the command line removed the group.
    """
    option = HydraConfig.get().runtime.choices.get(group)
    if option is None:
        names = list(options(group))
        raise ConfigError(group, "nothing", f"one of {', '.join(names)}", f"{group}={names[0]}")
    return str(option)


def choices() -> dict[str, str]:
    """The chosen option of every group of the running Hydra job, without Hydra's own groups."""
    made = HydraConfig.get().runtime.choices
    return {str(group): str(option) for group, option in made.items() if not str(group).startswith("hydra/")}


def is_explicit(group: str) -> bool:
    """Whether the user chose this group's option on the command line, rather than a model or a default."""
    return any(override.lstrip("+").split("=")[0] == group for override in HydraConfig.get().overrides.task)


def is_given(key: str) -> bool:
    """Whether the user set this key on the command line."""
    return any(override.lstrip("+").split("=")[0] == key for override in HydraConfig.get().overrides.task)


def with_value(conf: DictConfig, key: str, value: Any) -> DictConfig:
    """A copy of the config with another value of one key."""
    changed = copy.deepcopy(conf)
    OmegaConf.update(changed, key, value)
    return changed


def with_option(group: str, option: str) -> DictConfig:
    """Compose the running job's config again, with another option in one group."""
    task = HydraConfig.get().overrides.task
    # Overrides of the replaced option do not apply to the new one.
    kept = [o for o in task if not o.lstrip("+~").startswith(f"{group}.")]
    try:
        return compose(config_name="config", overrides=[*kept, f"{group}={option}"])
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error, [*kept, f"{group}={option}"]) from None


def config_dirs() -> list[str]:
    """The ``--config-dir`` of the running Hydra job, as an option of a command line; relative where it can be."""
    dirs = (Path(s.path) for s in HydraConfig.get().runtime.config_sources if s.provider == "command-line")
    here = Path.cwd()
    return [f"--config-dir={d.relative_to(here) if d.is_relative_to(here) else d}" for d in dirs]
