"""What defines one part of a study; :mod:`hpo.study.identity` puts the identity of the whole study together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class PartIdentity:
    """What defines a part of a study, besides its options in the config.

    Args:
        packages: import names of the libraries that results depend on; their versions are recorded.
        code: classes, functions and objects that it runs; those of the user's own are recorded by digests.
        values: further values by name, such as a digest of the data.
    """

    packages: tuple[str, ...] = ()
    code: tuple[Any, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
