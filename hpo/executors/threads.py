"""The number of cores that a trial uses."""

from __future__ import annotations

import os
from typing import Any

from hpo.errors import ConfigError


def usable_cores() -> int:
    """Return the number of cores that this process may use, or of all cores where the system does not say."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def check_whole(name: str, value: Any, least: int, otherwise: str = "") -> Any:
    """Return ``value`` if it is a whole number of at least ``least``.

    Args:
        name: of the executor's option.
        otherwise: what None means; None is refused if this is empty.

    Raises:
        ConfigError: when it is something else.
    """
    if (value is None and otherwise) or (type(value) is int and value >= least):
        return value
    expected = f"a whole number of at least {least}" + (f", or null for {otherwise}" if otherwise else "")
    raise ConfigError(f"executor.{name}", value, expected, f"executor.{name}={max(least, 1)}")


def limit_threads(n_threads: int) -> None:
    """Limit the libraries that this process and its children load from now on to ``n_threads`` cores."""
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ[name] = str(n_threads)
