"""Functions and classes that a config names by their dotted names."""

from __future__ import annotations

from typing import Any

from hydra.utils import get_object

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
        return get_object(given)
    except Exception as error:  # importing a user's module may raise anything
        module = given.partition(".")[0]
        expected = f"a name that can be imported ({type(error).__name__}: {error})"
        fix = f"run `python -m hpo` in the folder that holds {module}, or install it"
        raise ConfigError(key, given, expected, fix) from error


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
