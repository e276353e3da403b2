"""Functions and classes that a config names by their dotted names."""

from __future__ import annotations

import difflib
import pkgutil
import traceback
from pathlib import Path
from typing import Any

from hpo.core.packages import install_command
from hpo.core.source_code import is_own_file
from hpo.errors import ConfigError, one_line

_SHOW_TRACEBACK = "HYDRA_FULL_ERROR=1 in front of the command shows the traceback"


def imported(key: str, given: Any) -> Any:
    """Import the object with the dotted name ``given``; anything but a name is returned as it is.

    Args:
        key: the config key, for the error message.

    Raises:
        ConfigError: when the object cannot be imported.
    """
    if not isinstance(given, str):
        return given
    try:
        return _resolved(given)
    except Exception as error:  # importing a user's module may raise anything
        raise import_error(key, given, error) from error


def import_error(key: str, given: str, error: BaseException) -> ConfigError:
    """Explain why a dotted name cannot be imported.

    Args:
        key: the config key that has the name.
        given: the name.
        error: what was raised.
    """
    expected = f"a name that can be imported ({type(error).__name__}: {error})"
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        if command := install_command(error.name):
            return ConfigError(key, given, f"the library {error.name}, which is not installed", command)
        if given == error.name or given.startswith(f"{error.name}."):
            fix = f"run `python -m hpo` in the folder that holds {error.name.partition('.')[0]}, or install it"
            return ConfigError(key, given, expected, fix)
    if place := place_in_user_code(error):
        expected = f"a module that can be imported; {place}, raised {one_line(error)}"
        return ConfigError(key, given, expected, f"correct {place}; {_SHOW_TRACEBACK}")
    if isinstance(error, AttributeError) and error.obj is not None:
        there = [name for name in dir(error.obj) if not name.startswith("_")]
        near = difflib.get_close_matches(error.name or "", there, 1)
        fix = f"{key}={given.removesuffix(error.name or '')}{near[0]}" if near else f"{key}=MODULE.NAME"
        return ConfigError(key, given, f"the name of an object in its module ({error})", fix)
    return ConfigError(key, given, expected, _SHOW_TRACEBACK)


def place_in_user_code(error: BaseException) -> str | None:
    """File and line of the user's own code that raised ``error``; None if the error comes from elsewhere."""
    if isinstance(error, SyntaxError) and error.filename and is_own_file(Path(error.filename)):
        return f"{_shown(error.filename)}, line {error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename).is_file() and is_own_file(Path(frame.filename)):
            return f"{_shown(frame.filename)}, line {frame.lineno}"
    return None


def _shown(filename: str) -> str:
    path, here = Path(filename).resolve(), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _resolved(given: str) -> Any:
    """The object with that name, in the longest part of the name that is a module."""
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
    """Make an instance of the class ``found``, which ``given`` names.

    Raises:
        ConfigError: when it cannot be made without arguments.
    """
    try:
        return found()
    except Exception as error:  # a user's own code may raise anything
        fix = f"'{key}={{_target_: {given}, …}}' with its arguments"
        raise ConfigError(key, given, f"a class without arguments ({error})", fix) from error
