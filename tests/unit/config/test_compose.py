"""The composed config of a command line."""

import pytest
import yaml
from omegaconf import OmegaConf

from hpo import config as configs
from hpo.cli.main import main
from hpo.errors import redact


def test_cfg_job_shows_the_composed_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cfg", "job", "dataset=digits", "seed=7"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["seed"] == 7
    assert shown["dataset"]["_target_"] == "hpo.datasets.digits.load"
    # What the model implies, and what the dataset does.
    assert shown["objective"]["metric"] == "val_accuracy"
    assert set(shown["search_space"]) >= {"filters", "momentum"}
    assert shown["limits"]["timeout_seconds"] == 120


def test_command_line_overrides_what_model_and_dataset_imply(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["--cfg", "job", "limits.timeout_seconds=5", "objective.metric=val_loss", "objective.direction=null"]) == 0
    )
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["limits"]["timeout_seconds"] == 5
    assert shown["objective"]["metric"] == "val_loss"


def test_environment_values_are_used_and_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
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
