"""How many cores a trial computes on."""

from __future__ import annotations

import os
from typing import Any

from hpo.errors import ConfigError


def usable_cores() -> int:
    """Cores that this process may use, where the system can tell them from those there are."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def check_whole(name: str, value: Any, least: int, otherwise: str = "") -> Any:
    """``value`` if it is None where ``otherwise`` says what that means, or a whole number of at least ``least``.

    Raises:
        ConfigError: naming the key of the executor.
    """
    if (value is None and otherwise) or (type(value) is int and value >= least):
        return value
    expected = f"a whole number of at least {least}" + (f", or null for {otherwise}" if otherwise else "")
    raise ConfigError(f"executor.{name}", value, expected, f"executor.{name}={max(least, 1)}")


def limit_threads(n_threads: int) -> None:
    """Have the libraries that this process or its children load from now on compute on ``n_threads`` cores."""
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ[name] = str(n_threads)
