"""Installed packages: their versions, and the command that installs an optional one."""

from __future__ import annotations

import functools
import importlib.metadata
import re
from collections.abc import Iterable, Mapping

# Local version labels of builds for other hardware, as of PyTorch.
_BUILD = re.compile(r"\+(cpu|cu\d+|rocm[\d.]+|xpu)$")
# Import name → names of the distributions that provide it, the general one last.
_DISTRIBUTIONS = {
    "imblearn": ("imbalanced-learn",),
    "keras_tuner": ("keras-tuner",),
    "sklearn": ("scikit-learn",),
    "xgboost": ("xgboost-cpu", "xgboost"),
}


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Installed versions by the name that a package is known by, such as ``scikit-learn``.

    Builds of one version for other hardware, such as ``2.13.0+cpu`` of PyTorch, count as the same version.

    Args:
        packages: import names, such as ``sklearn``; names that are not installed are left out.
    """
    found: dict[str, str] = {}
    for package in sorted(set(packages)):
        names = _DISTRIBUTIONS.get(package, (package,))
        version = _version(names)
        if version is not None:
            found[names[-1]] = version
            continue
        providers = sorted(set(_providers().get(package, ())))
        for provider in providers:  # several share a namespace package, such as `google`
            version = _version([provider])
            if version is not None:
                found[package if len(providers) == 1 else provider] = version
    return {name: _BUILD.sub("", version) for name, version in found.items()}


def _version(distributions: Iterable[str]) -> str | None:
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


@functools.cache
def _providers() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def install_command(module: str) -> str | None:
    """The pip command that installs an optional library on this platform; None for any other module."""
    from packaging.requirements import Requirement  # needed only where something is missing

    name = module.partition(".")[0].lower()
    wanted = _DISTRIBUTIONS.get(name, (name,))
    extras = importlib.metadata.metadata("hpo").get_all("Provides-Extra") or []
    for text in importlib.metadata.requires("hpo") or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if requirement.name.lower() not in wanted or marker is None:
            continue
        if any(marker.evaluate({"extra": extra}) for extra in extras):
            return f"pip install '{text.partition(';')[0].strip()}'"
    return None
