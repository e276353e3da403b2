"""Functions and classes that a config names by their dotted names."""

from __future__ import annotations

import difflib
import pkgutil
from typing import Any

from hpo.errors import ConfigError


def imported(key: str, given: Any) -> Any:
    """What the dotted name ``given`` stands for; anything but a name is itself.

    Args:
        key: of the config, for the message.

    Raises:
        ConfigError: when it cannot be imported.
    """
    if not isinstance(given, str):
        return given
    try:
        return _resolved(given)
    except AttributeError as error:
        there = [name for name in dir(error.obj) if not name.startswith("_")]
        near = difflib.get_close_matches(error.name or "", there, 1)
        fix = f"{key}={given.removesuffix(error.name or '')}{near[0]}" if near else f"{key}=MODULE.NAME"
        raise ConfigError(key, given, f"a name that there is ({error})", fix) from error
    except Exception as error:  # importing a user's module may raise anything
        module = given.partition(".")[0]
        expected = f"a name that can be imported ({type(error).__name__}: {error})"
        fix = f"run `python -m hpo` in the folder that holds {module}, or install it"
        raise ConfigError(key, given, expected, fix) from error


def _resolved(given: str) -> Any:
    """The object of that name in the longest part of the name that is a module."""
    module, _, name = given.rpartition(".")
    while True:
        try:
            return pkgutil.resolve_name(f"{module}:{name}")
        except ModuleNotFoundError as error:
            if error.name != module or "." not in module:
                raise
        module, _, last = module.rpartition(".")
        name = f"{last}.{name}"


def instance(key: str, given: Any, found: type) -> Any:
    """An instance of the class ``found``, which ``given`` names.

    Raises:
        ConfigError: when it cannot be made without arguments.
    """
    try:
        return found()
    except Exception as error:  # a user's own code may raise anything
        fix = f"'{key}={{_target_: {given}, …}}' with its arguments"
        raise ConfigError(key, given, f"a class without arguments ({error})", fix) from error
