"""Nested mappings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def flattened(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping with dotted keys; an empty mapping is a value."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        name = f"{prefix}{key}"
        found |= flattened(inner, f"{name}.") if isinstance(inner, Mapping) and inner else {name: inner}
    return found
