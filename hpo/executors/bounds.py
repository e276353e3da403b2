"""Limits on the time and memory of one trial."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hpo.errors import ConfigError
from hpo.executors.threads import check_whole


@dataclass(frozen=True)
class Bounds:
    """Limits on one trial and its worker process.

    Args:
        trial_timeout_seconds: wall seconds of training over all folds of a trial; None for no limit.
        max_memory_bytes: private memory of a worker; None for no limit.
        recycle_growth_bytes: a worker whose memory has grown by more than this since its first task is replaced
            between two tasks.

    Raises:
        ConfigError: when a value is not a number or is too small.
    """

    trial_timeout_seconds: float | None = None
    max_memory_bytes: int | None = None
    recycle_growth_bytes: int = 500_000_000

    def __post_init__(self) -> None:
        seconds = self.trial_timeout_seconds
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if seconds is not None and not (is_number and 0 < seconds < math.inf):
            expected = "a number of seconds above 0, or null for no limit"
            fix = "executor.trial_timeout_seconds=3600"
            raise ConfigError("executor.trial_timeout_seconds", seconds, expected, fix)
        check_whole("max_memory_bytes", self.max_memory_bytes, 1, "no limit")
        check_whole("recycle_growth_bytes", self.recycle_growth_bytes, 1)
