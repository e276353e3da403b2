"""How params, durations and limits are written on the screen."""

from __future__ import annotations

from hpo.core.limits import Limits
from hpo.core.params import Params, ParamValue


def show_value(value: ParamValue) -> str:
    """Format a param: floats with four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def show_params(params: Params) -> str:
    """Format params on one line."""
    # A copy, since a running trial may get another param meanwhile.
    return " ".join(f"{name}={show_value(value)}" for name, value in list(params.items()))


def show_seconds(seconds: float) -> str:
    """Format a duration: ``7.5 s``, ``1 min 05 s`` or ``2 h 03 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def show_limits(limits: Limits) -> str:
    """Format the limits that are set."""
    parts = []
    if limits.n_trials is not None:
        parts.append(f"{limits.n_trials} trials")
    if limits.timeout_seconds is not None:
        parts.append(show_seconds(limits.timeout_seconds))
    if limits.max_epochs_total is not None:
        parts.append(f"{limits.max_epochs_total} epochs in all")
    return " or ".join(parts)
