"""Hyperparameter values by name."""

from __future__ import annotations

import json
from collections.abc import Mapping

ParamValue = bool | int | float | str | None


Params = Mapping[str, ParamValue]


def canonical(params: Params) -> str:
    """The canonical form of ``params``: JSON with sorted keys."""
    return json.dumps(dict(params), sort_keys=True, separators=(",", ":"))
