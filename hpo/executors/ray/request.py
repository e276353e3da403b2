"""What an actor requests of a node, by Ray's names for resources."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hpo.errors import ConfigError


def check_address(address: Any) -> str | None:
    """Return ``address`` if it is one that Ray takes, or None.

    Raises:
        ConfigError: otherwise.
    """
    if address is None or (isinstance(address, str) and address and "/" not in address):
        return address
    raise ConfigError("executor.address", address, "auto, HOST:PORT, or null", "executor.address=auto")


def resource_request(threads: int, gpus: Any, resources: Any) -> dict[str, float]:
    """Return the resources of one actor.

    Args:
        threads: cores.
        gpus: a whole number of GPUs, or a part of one.
        resources: further ones, by the cluster's own names.

    Raises:
        ConfigError: for a value that Ray does not take.
    """
    if not is_number(gpus) or gpus < 0 or (gpus > 1 and gpus != int(gpus)):
        expected = "a whole number of GPUs, or a part of one, such as 0.5"
        raise ConfigError("executor.gpus_per_trial", gpus, expected, "executor.gpus_per_trial=0.5")
    if resources is not None and not isinstance(resources, Mapping):
        expected, fix = "a mapping of resources to amounts", "executor.resources='{a100: 1}'"
        raise ConfigError("executor.resources", resources, expected, fix)
    request: dict[str, float] = {"CPU": threads} | ({"GPU": gpus} if gpus else {})
    for name, amount in (resources or {}).items():
        if name in ("CPU", "GPU", "memory"):
            key = {"CPU": "threads_per_trial", "GPU": "gpus_per_trial", "memory": "max_memory_bytes"}[name]
            raise ConfigError(f"executor.resources.{name}", amount, f"executor.{key}", f"executor.{key}={amount}")
        if not is_number(amount) or amount <= 0:
            raise ConfigError(f"executor.resources.{name}", amount, "a number above 0", f"executor.resources.{name}=1")
        request[str(name)] = amount
    return request


def is_number(value: Any) -> bool:
    """Return whether ``value`` is a finite number and not a boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def describe_resources(node: Mapping[str, Any]) -> str:
    """Return the resources of a node in words."""
    held = {k: v for k, v in node["Resources"].items() if not k.startswith("node:") and "memory" not in k}
    return ", ".join(f"{name} {amount:g}" for name, amount in sorted(held.items())) or "nothing"


def can_host(node: Mapping[str, Any], request: Mapping[str, float]) -> bool:
    """Return whether an idle ``node`` has what ``request`` asks for."""
    return all(node["Resources"].get(name, 0) >= amount for name, amount in request.items())
