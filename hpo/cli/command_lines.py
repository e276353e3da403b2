"""Command lines that hpo prints or records: which overrides they need, and how values are written."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

from hpo.core.params import ParamValue
from hpo.errors import redact

# Hydra reads these words as values of other types.
_HYDRA_WORDS = ("null", "true", "false", "nan", "inf", "on", "off", "yes", "no")


def key_of(override: str) -> str:
    """Return the key of an override: ``search_space.lr`` of ``~search_space.lr``, ``seed`` of ``+seed=1``."""
    return override.lstrip("+~").partition("=")[0]


def is_override(argument: str) -> bool:
    """Return whether an argument is an override rather than a name."""
    return "=" in argument or argument.startswith("~")


def is_tracking(override: str) -> bool:
    """Return whether an override says which store to use."""
    return override.lstrip("+").startswith("tracking")


def recorded_overrides(overrides: Iterable[str]) -> list[str]:
    """Return the overrides that ``resume`` needs: without the name of the study, and none with a password."""
    return [o for o in overrides if key_of(o) != "study" and redact(o) == o]


def defining_overrides(overrides: Iterable[str]) -> list[str]:
    """Return the overrides that define a study: not its name, and not its store, which may hold a password."""
    return [o for o in overrides if key_of(o).split(".")[0] not in ("study", "tracking", "hydra")]


def store_arguments(overrides: Iterable[str]) -> str:
    """Return the arguments with which another command finds the store of a study, with a leading space each."""
    overrides = list(overrides)
    kept = [o for o in overrides if o.startswith("--config-dir=")]
    kept += [o for o in overrides if is_tracking(o) and redact(o) == o]
    return "".join(f" {shlex.quote(o)}" for o in kept)


def best_command(overrides: Sequence[str], *params: Mapping[str, ParamValue], options: Sequence[str] = ()) -> str:
    """Return a command line that trains given params again, whatever strategy found them.

    Args:
        overrides: the recorded overrides of the study.
        params: the params of each trial.
        options: further overrides, which replace recorded ones with the same key.
    """
    replaced_by_options = {option.partition("=")[0] for option in options}
    replaced = ("strategy", "limits", "enqueue")
    kept = [o for o in overrides if re.split(r"[=./\[]", o.lstrip("+~"))[0] not in replaced]
    kept = [o for o in kept if key_of(o) not in replaced_by_options]
    chosen = ", ".join(
        f"{{{', '.join(f'{name}: {_hydra_value(value)}' for name, value in each.items())}}}" for each in params
    )
    searched = ["strategy=optuna", "strategy/pruner=none", f"enqueue=[{chosen}]", f"limits.n_trials={len(params)}"]
    return " ".join(["python -m hpo", *map(shlex.quote, [*kept, *options, *searched])])


def _hydra_value(value: ParamValue) -> str:
    """Return a value such that Hydra parses it back to the same value and type."""
    if isinstance(value, str):
        is_plain = re.fullmatch(r"[A-Za-z_][\w.-]*", value) and value.lower() not in _HYDRA_WORDS
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return value if is_plain else f"'{escaped}'"
    return json.dumps(value)
