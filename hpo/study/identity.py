"""The identity of a study: two studies are comparable, and a study can be resumed, if their identities agree.

Every part says what defines it besides its options (:class:`hpo.core.identity.PartIdentity`); this module puts that
together with the config. Sections of an identity: the config's own groups and keys; ``code`` and ``versions`` by part;
and values such as ``data_digest``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from hpo.config.targets import imported
from hpo.core.identity import PartIdentity
from hpo.core.mappings import flattened
from hpo.core.packages import versions_of
from hpo.core.source_code import read_source_code
from hpo.study.previous_format import FORMAT, recorded_by_both, upgraded

# Keys of the config that may change when a study is resumed. (What is derived from a limit does not change with it.)
MUTABLE = ("limits", "executor", "tracking", "study")

_COMMON = ("hpo", "numpy")
# Parts with results that depend on the libraries that the user's own code imports; data and folds have digests instead.
_COMPUTES = ("model", "strategy")
# Functions of Hydra that return the object that their option ``path`` names.
_IMPORTS = tuple(f"hydra.utils.get_{kind}" for kind in ("class", "method", "object", "static_method"))


def put_together(
    config: Mapping[str, Any], parts: Mapping[str, PartIdentity], values: Mapping[str, Any]
) -> dict[str, Any]:
    """The identity of a study, as JSON has it.

    Args:
        config: as it is recorded.
        parts: what each part says of itself, by its group of the config.
        values: further values by name.
    """
    identity = {"format": FORMAT, **{key: value for key, value in config.items() if key not in MUTABLE}, **values}
    code: dict[str, Mapping[str, str]] = {}
    versions = {"common": versions_of(_COMMON)}
    for name, part in parts.items():
        source = read_source_code([*_targets(config.get(name)), *part.code])
        packages = {*part.packages, *(source.libraries if name in _COMPUTES else ())}
        identity |= part.values
        if source.digests:
            code[name] = source.digests
        if found := versions_of(packages - {*_COMMON}):
            versions[name] = found
    identity |= {"versions": versions, **({"code": code} if code else {})}
    made: dict[str, Any] = json.loads(json.dumps(identity, default=str))
    return made


def _targets(node: Any) -> Iterator[Any]:
    """The objects that ``_target_`` names, anywhere in a part of a config, and the modules that they are found in."""
    if isinstance(node, list):
        for item in node:
            yield from _targets(item)
    elif isinstance(node, Mapping):
        name_key = "path" if node.get("_target_") in _IMPORTS else "_target_"
        for key, value in node.items():
            if key == name_key and isinstance(value, str):
                with suppress(Exception):  # reported by the code that builds the part
                    yield imported(key, value)
                module = sys.modules.get(value.rpartition(".")[0])
                yield from [module] if module is not None else []
            else:
                yield from _targets(value)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted keys in which two identities differ, with both values; :data:`ABSENT` where there is none.

    An identity of an earlier format is compared in what it recorded.
    """
    one, other = upgraded(before), upgraded(now)
    is_kept = recorded_by_both(one, other)
    mine, theirs = flattened(one), flattened(other)
    return {
        key: (mine.get(key, ABSENT), theirs.get(key, ABSENT))
        for key in sorted({*mine, *theirs})
        if is_kept(key) and mine.get(key, ABSENT) != theirs.get(key, ABSENT)
    }


class _Absent:
    def __repr__(self) -> str:
        return "absent"


ABSENT = _Absent()


def describe_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A line for each key in which an identity has changed."""
    lines = []
    for key, values in differences(before, now).items():
        old, new = (repr(value) if value is ABSENT else json.dumps(value) for value in values)
        lines.append(f"{key}: {old} before, {new} now")
    return lines
