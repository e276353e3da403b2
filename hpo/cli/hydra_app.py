"""Runs Hydra: composes one config from overrides, or several with ``--multirun``, and passes each to a function."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from hpo import config as configs
from hpo.cli.exit_codes import INTERRUPTED, OK
from hpo.errors import ConfigError, HpoError

Act = Callable[[DictConfig], int]
"""Does something with a composed config and returns an exit code."""


def for_each_config(options: Sequence[str], overrides: Sequence[str], act: Act) -> int:
    """Compose configs and call ``act`` with each.

    Args:
        options: options of Hydra, such as ``--multirun``.
        overrides: overrides of the config, such as ``seed=1``.
        act: called inside the Hydra job of each config.

    Returns:
        The largest exit code.

    Raises:
        HpoError: what ``act`` raises, or a :class:`ConfigError` for a config that cannot be composed.
        KeyboardInterrupt: if ``act`` returned the exit code of an interruption.
    """
    configs.register()
    _check_launcher(overrides)
    codes: list[int] = []
    has_composed = False

    def job(conf: DictConfig) -> None:
        nonlocal has_composed
        has_composed = True
        try:
            codes.append(act(conf))
        except HpoError as error:
            raise _Carried(error) from error
        except OmegaConfBaseException as error:
            raise _Carried(configs.explain(error, list(overrides))) from error
        if codes[-1] == INTERRUPTED:
            raise KeyboardInterrupt

    # Without a mode Hydra composes the config twice, first to read the mode from it.
    mode = [] if _has_mode(options) else ["--run"]
    before = sys.argv
    # Options first: Hydra's parser refuses overrides on both sides of an option.
    sys.argv = [before[0], *mode, *options, *overrides]
    sweep_dir = tempfile.TemporaryDirectory(prefix="hpo-")
    os.environ["HPO_SWEEP_DIR"] = sweep_dir.name
    try:
        with warnings.catch_warnings():
            # A user's file with the name of a shipped one; check_shadowing refuses it.
            warnings.filterwarnings("ignore", r"\s*'.*' is validated against ConfigStore schema")
            hydra.main(config_path=str(configs.resource_dir("conf")), config_name="config", version_base="1.3")(job)()
    except _Carried as carried:
        raise carried.error from carried.error.__cause__
    except Exception as error:
        if has_composed:
            raise
        raise configs.explain(error, list(overrides)) from error  # Hydra raises more than its own errors
    finally:
        sys.argv = before
        sweep_dir.cleanup()
    return max(codes, default=OK)


def compose(overrides: Sequence[str], config_dir: str | None = None) -> dict[str, Any]:
    """Return the config of some overrides as plain values, without running a Hydra job.

    Args:
        overrides: overrides of the config.
        config_dir: folder with YAML files of the user.
    """
    configs.register()
    GlobalHydra.instance().clear()
    search_path = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
    with hydra.initialize_config_dir(str(configs.resource_dir("conf")), version_base="1.3"):
        return configs.plain(hydra.compose("config", overrides=[*overrides, *search_path]))


class _Carried(BaseException):
    """Carries an error out of Hydra, which prints a line of its own about every ``Exception``."""

    def __init__(self, error: HpoError) -> None:
        self.error = error


def _has_mode(options: Sequence[str]) -> bool:
    return any(o.startswith("-") and o.partition("=")[0] not in ("--config-dir", "-cd") for o in options)


def _check_launcher(overrides: Sequence[str]) -> None:
    """Refuse launchers that run jobs in other processes: exit codes are lost and workers cannot be started there."""
    for override in overrides:
        key, _, launcher = override.partition("=")
        if key == "hydra/launcher" and launcher != "basic":
            expected = "basic, which runs one study after another; to run several in parallel, start several commands"
            raise ConfigError(key, launcher, expected, "xargs -P, as docs/operations.md shows")
