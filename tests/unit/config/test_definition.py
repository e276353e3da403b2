import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from hpo import config as configs
from hpo.cli.main import main
from hpo.errors import ConfigError, redact

CONFIG: dict[str, Any] = {
    **{group: {} for group in ("model", "dataset", "strategy", "resampling", "executor")},
    "tracking": {"uri": "u", "experiment": "e", "output_path": "o", "offline": "refuse"},
    "search_space": {"x": {"type": "float", "low": 0, "high": 1}},
    "objective": {"metric": "val_loss", "direction": None, "epoch": "best", "others": {}},
    "early_stopping": asdict(configs.EarlyStoppingConf()),
    "limits": {**asdict(configs.LimitsConf()), "n_trials": 1},
    "seed": 0,
    "max_epochs": 1,
    "study": None,
    "enqueue": [],
}


def test_every_option_has_a_description_for_help() -> None:
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


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"seed": -1}, "seed"),
        ({"max_epochs": 0}, "max_epochs"),
        ({"study": "a/b"}, "study"),
        ({"study": ""}, "study"),
        ({"search_space": {}}, "search_space"),
        ({"limits": {**CONFIG["limits"], "n_trails": 3}}, "limits.n_trails"),
        ({"limits": {"n_trials": 3}}, "limits.max_consecutive_failures"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_a_definition_refuses_values_out_of_range(changes: dict[str, Any], key: str) -> None:
    assert configs.Definition.of(CONFIG).seed == 0
    with pytest.raises(ConfigError) as caught:
        configs.Definition.of(CONFIG | changes)
    assert caught.value.key == key


def test_cfg_job_shows_the_composed_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cfg", "job", "dataset=digits", "seed=7"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["seed"] == 7
    assert shown["dataset"]["_target_"] == "hpo.datasets.digits.load"
    # What the model implies, and what the dataset does.
    assert shown["objective"]["metric"] == "val_accuracy"
    assert set(shown["search_space"]) >= {"filters", "momentum"}
    assert shown["limits"]["timeout_seconds"] == 120


def test_the_command_line_wins_over_what_model_and_dataset_imply(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["--cfg", "job", "limits.timeout_seconds=5", "objective.metric=val_loss", "objective.direction=null"]) == 0
    )
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["limits"]["timeout_seconds"] == 5
    assert shown["objective"]["metric"] == "val_loss"


def test_values_from_the_environment_are_used_and_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_PASSWORD", "correct-horse")
    dataset = {"url": "db://${oc.env:DATA_PASSWORD}@h", "n": 3, "parts": ["${oc.env:NONE,x}"]}
    conf = OmegaConf.create({"dataset": dataset})
    assert configs.plain(conf)["dataset"] == {"url": "db://correct-horse@h", "n": 3, "parts": ["x"]}
    assert configs.for_the_record(conf)["dataset"] == dataset
    monkeypatch.delenv("DATA_PASSWORD")
    assert redact("said correct-horse") == "said ***"


def test_completion_offers_groups_options_and_keys(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for line, offered in (("hpo strategy=", "strategy=optuna"), ("hpo limits.", "limits.n_trials=")):
        monkeypatch.setenv("COMP_LINE", line)
        monkeypatch.setenv("COMP_POINT", str(len(line)))
        main(["-sc", "query=bash"])
        assert offered in capsys.readouterr().out.split()


def test_no_yaml_names_a_parameter_twice_or_a_path_of_a_machine() -> None:
    for folder in ("conf", "search_spaces"):
        for path in configs.resource_dir(folder).rglob("*.yaml"):
            text = path.read_text()
            keys = re.findall(r"^(\w+):", text, re.MULTILINE)
            assert len(set(keys)) == len(keys), path
            assert str(Path.home()) not in text
