"""What defines a study: two studies are comparable, and a study can be resumed, if their identities agree."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# What may change while a study goes on; everything else defines it. (The start-up trials follow from a limit.)
MUTABLE = ("limits", "executor", "tracking", "study")


_VERSIONS = ("hpo", "keras", "tensorflow", "numpy", "scikit-learn", "optuna")


# Packages whose distribution has another name.
_DISTRIBUTIONS = {"sklearn": "scikit-learn", "keras_tuner": "keras-tuner"}


def code_digests(config: Mapping[str, Any]) -> dict[str, str]:
    """Of the files behind every ``_target_`` that no installed package has a version for: the user's own."""
    found: dict[str, str] = {}
    for target in _targets(config):
        module = sys.modules.get(target.rpartition(".")[0])
        path = Path(getattr(module, "__file__", None) or "")
        is_installed = {"site-packages", "dist-packages"} & set(path.parts) or target.startswith("hpo.")
        if path.is_file() and not is_installed:
            found[target] = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    return found


def _targets(config: Mapping[str, Any]) -> Iterator[str]:
    """Dotted names of what the config has made, a hypermodel's and an objective's among them."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _targets(value)
        elif key in ("_target_", "hypermodel", "objective") and isinstance(value, str):
            yield value
