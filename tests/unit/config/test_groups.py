"""The option groups and their YAML files."""

import re
from pathlib import Path

import yaml

from hpo import config as configs


def test_every_option_has_a_description() -> None:
    for group in (*configs.GROUPS, "strategy/pruner"):
        found = configs.options(group)
        assert found, group
        assert all(len(text) > 10 for text in found.values()), (group, found)


def test_defaults_name_options_that_exist() -> None:
    defaults = yaml.safe_load((configs.resource_dir("conf") / "config.yaml").read_text())["defaults"]
    chosen = {k: v for entry in defaults if isinstance(entry, dict) for k, v in entry.items() if "hydra" not in k}
    assert set(chosen) == set(configs.GROUPS)
    for group, option in chosen.items():
        assert option in configs.options(group)


def test_yaml_has_no_duplicate_keys_or_machine_paths() -> None:
    for folder in ("conf", "search_spaces"):
        for path in configs.resource_dir(folder).rglob("*.yaml"):
            text = path.read_text()
            keys = re.findall(r"^(\w+):", text, re.MULTILINE)
            assert len(set(keys)) == len(keys), path
            assert str(Path.home()) not in text
