"""Records without secrets: passwords and tokens are removed from everything that is written to the outbox."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from hpo.errors import redact


class Redacted(str):
    """Text without secrets that must not be changed again, such as JSON that is read back."""


def redact_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Each value as text without secrets; placeholders that MLflow fills in and ``Redacted`` text are unchanged."""
    return {name: value if isinstance(value, dict | Redacted) else redact(str(value)) for name, value in values.items()}


def redact_texts(value: Any) -> Any:
    """``value`` with every text inside it redacted; numbers keep their types, so that it can become JSON."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: redact_texts(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [redact_texts(inner) for inner in value]
    return value


def to_json(value: Any) -> Redacted:
    """JSON without secrets; NaN and infinities, which JSON does not have, become text."""
    return Redacted(json.dumps(_finite(redact_texts(value))))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return value
