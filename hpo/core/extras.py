"""Optional libraries: which command installs one that is missing, read off what pyproject.toml says of the extras."""

from __future__ import annotations

# Libraries that are imported under another name than they are installed by.
_INSTALLED_AS = {"imblearn": ("imbalanced-learn",), "xgboost": ("xgboost-cpu", "xgboost")}


def install_command(module: str) -> str | None:
    """The exact pip command that installs an optional library on this platform, or None for anything else."""
    import importlib.metadata  # only where something is missing

    from packaging.requirements import Requirement

    name = module.partition(".")[0].lower()
    wanted = _INSTALLED_AS.get(name, (name,))
    extras = importlib.metadata.metadata("hpo").get_all("Provides-Extra") or []
    for text in importlib.metadata.requires("hpo") or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if requirement.name.lower() not in wanted or marker is None:
            continue
        if any(marker.evaluate({"extra": extra}) for extra in extras):
            return f"pip install '{text.partition(';')[0].strip()}'"
    return None
