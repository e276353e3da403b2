"""Identities that earlier versions of hpo recorded, brought to the form of today.

Format 1 had no ``format``, one mapping of ``versions`` for all parts, ``code`` by target, and the module names that hpo
had then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hpo.core.mappings import flattened

FORMAT = 2

# Modules of format 1 → where their classes and functions are now.
_MOVED = {
    "hpo.datasets.columns": "hpo.datasets.readers.columns",
    "hpo.datasets.delimited": "hpo.datasets.readers.delimited",
    "hpo.datasets.keras_cache": "hpo.datasets.readers.keras_cache",
    "hpo.datasets.texts": "hpo.datasets.readers.texts",
    "hpo.executors.local": "hpo.executors.local.executor",
    "hpo.executors.ray_actors": "hpo.executors.ray.executor",
    "hpo.models.blocks": "hpo.models.keras.blocks",
    "hpo.models.fashion_cnn": "hpo.models.keras.fashion_cnn",
    "hpo.models.keras_model": "hpo.models.keras.model",
    "hpo.models.keras_tuner_model": "hpo.models.keras.tuner",
    "hpo.models.mlp": "hpo.models.keras.mlp",
    "hpo.models.mnist_cnn": "hpo.models.keras.mnist_cnn",
    "hpo.models.optuna_objective": "hpo.models.objectives.optuna",
    "hpo.models.preparation": "hpo.models.sklearn.preparation",
    "hpo.models.sequence": "hpo.models.keras.sequence",
    "hpo.models.sklearn_model": "hpo.models.sklearn.model",
    "hpo.models.text": "hpo.models.keras.text",
    "hpo.models.transfer_cnn": "hpo.models.keras.transfer_cnn",
    "hpo.models.two_input_mlp": "hpo.models.keras.two_input_mlp",
    "hpo.resampling": "hpo.evaluation.resampling",
}
# Libraries of which format 1 recorded versions in every study.
_OF_ALL = ("hpo", "numpy")
_OF_MODELS = ("keras", "tensorflow", "scikit-learn")


def moved_name(name: str) -> str:
    """The name that a class or function of hpo has now."""
    module, _, last = name.rpartition(".")
    return f"{_MOVED[module]}.{last}" if module in _MOVED else name


def upgraded(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity in the form of today; ``format`` stays that of the record."""
    if "format" in identity:
        return dict(identity)
    new: dict[str, Any] = _with_moved_names(identity)
    versions: Mapping[str, str] = new.pop("versions", {})
    by_part = {
        "common": {name: version for name, version in versions.items() if name in _OF_ALL},
        "model": {name: version for name, version in versions.items() if name in _OF_MODELS},
        "strategy": {name: version for name, version in versions.items() if name not in _OF_ALL},
    }
    code: dict[str, dict[str, str]] = {}
    for target, digest in new.pop("code", {}).items():
        for part in ("model", "dataset", "strategy", "resampling"):
            if target in flattened({part: new.get(part) or {}}).values():
                code.setdefault(part, {})[target.rpartition(".")[0]] = digest
    return {"format": 1, **new, "versions": by_part, **({"code": code} if code else {})}


def recorded_by_both(one: Mapping[str, Any], other: Mapping[str, Any]) -> Callable[[str], bool]:
    """Whether a dotted key of two upgraded identities can be compared: both formats record it."""
    if one.get("format", 1) == other.get("format", 1):
        return lambda key: True
    common = {*flattened(one)} & {*flattened(other)}
    return lambda key: key != "format" and (not _depends_on_format(key) or key in common)


def in_form_of(identity: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """A flattened identity with what only the format of ``other`` records taken from there."""
    kept = {key: value for key, value in identity.items() if key != "format" and not _depends_on_format(key)}
    return kept | {key: value for key, value in other.items() if key == "format" or _depends_on_format(key)}


def _depends_on_format(key: str) -> bool:
    return key in ("code", "versions", "keras_backend") or key.startswith(("code.", "versions."))


def _with_moved_names(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: moved_name(item) if key == "_target_" and isinstance(item, str) else _with_moved_names(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_with_moved_names(item) for item in value]
    return value
