"""The option groups: where their YAML files lie, what they offer, and their registration with Hydra."""

from __future__ import annotations

from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from hpo.config.schema import Conf
from hpo.errors import ConfigError

GROUPS = ("model", "dataset", "search_space", "strategy", "resampling", "executor", "tracking")


def resource_dir(name: str) -> Path:
    """Absolute path of ``conf`` or ``search_spaces``: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def register() -> None:
    """Make the schema, the shipped search spaces and the resolver ``grace`` known to Hydra."""
    OmegaConf.register_new_resolver("grace", lambda number: max(1, int(number) // 4) + 1, replace=True)
    store = ConfigStore.instance()
    store.store(name="base_config", node=Conf)
    for path in sorted(resource_dir("search_spaces").glob("*.yaml")):
        store.store(group="search_space", name=path.stem, node=OmegaConf.load(path), provider="hpo")


def options(group: str) -> dict[str, str]:
    """Shipped options of a config group with the first comment line of each: its one-line description."""
    folder = resource_dir("search_spaces") if group == "search_space" else resource_dir("conf") / group
    return {path.stem: _description(path) for path in sorted(folder.glob("*.yaml"))}


def _description(path: Path) -> str:
    comments = (line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    return next((text for text in comments if not text.startswith("@")), "")


def check_shadowing() -> None:
    """Refuse a user's YAML that has the name of a shipped one, since Hydra would ignore or merge it silently.

    Raises:
        ConfigError: naming the file.
    """
    ours = resource_dir("conf")
    for source in HydraConfig.get().runtime.config_sources:
        if source.schema != "file" or Path(source.path).resolve() == ours:
            continue
        for path in sorted(Path(source.path).rglob("*.yaml")):
            group = path.parent.relative_to(source.path).as_posix()
            if path.stem in options(group) if group != "." else path.stem == "config":
                raise ConfigError(
                    f"{group}={path.stem}",
                    path,
                    f"a name that hpo does not use itself in conf/{group}",
                    f"rename {path.name} and choose it with {group}=<new name>",
                )
