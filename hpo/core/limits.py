"""Settings of the limits that end a study; :mod:`hpo.run.limits` counts against them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from hpo.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """The limits that end a study. All are totals over all its sessions; None means no limit.

    Args:
        n_trials: trials in state COMPLETE, PRUNED or FAIL.
        timeout_seconds: wall time of the search; trials still running then are closed as interrupted.
        max_epochs_total: epochs over all folds of all trials.
        max_consecutive_failures: trials in state FAIL in a row before the study gives up.

    Raises:
        ConfigError: when a limit is below its minimum, or nothing would end the study.
    """

    n_trials: int | None = None
    timeout_seconds: float | None = None
    max_epochs_total: int | None = None
    max_consecutive_failures: int | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            least = "more than 0 seconds" if name == "timeout_seconds" else "a whole number of at least 1"
            if value is not None and (value <= 0 or not math.isfinite(value)):
                raise ConfigError(f"limits.{name}", value, f"{least}, or null for no limit", f"limits.{name}=20")
        if self.n_trials is None and self.timeout_seconds is None and self.max_epochs_total is None:
            raise ConfigError(
                "limits",
                "nothing that ends the study",
                "n_trials, timeout_seconds or max_epochs_total",
                "limits.n_trials=20",
            )
