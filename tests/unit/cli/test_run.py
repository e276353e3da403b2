from pathlib import Path

import pytest
from omegaconf import DictConfig

from hpo.cli import hydra_app
from hpo.cli.exit_codes import INTERRUPTED
from hpo.cli.main import main
from hpo.errors import ConfigError


def test_options_may_stand_before_between_and_after_overrides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "mine.yaml").write_text("# @package _global_\ndataset: {_target_: mine.load}\n")
    printed = []
    for arguments in (
        ["--cfg", "job", "--config-dir", str(tmp_path), "dataset=mine", "seed=7"],
        ["dataset=mine", f"--config-dir={tmp_path}", "seed=7", "--cfg=job"],
        ["run", "dataset=mine", "-c", "job", "seed=7", "-cd", str(tmp_path)],
    ):
        assert main(arguments) == 0
        printed.append(capsys.readouterr().out)
    assert "seed: 7" in printed[0]
    assert "_target_: mine.load" in printed[0]
    assert printed[1:] == printed[:1] * 2


def test_multirun_returns_the_largest_exit_code() -> None:
    seeds = []

    def act(conf: DictConfig) -> int:
        seeds.append(conf["seed"])
        return int(conf["seed"] == 2)

    assert hydra_app.for_each_config(["--multirun"], ["seed=1,2,3"], act) == 1
    assert seeds == [1, 2, 3]


def test_interrupted_study_ends_a_multirun() -> None:
    seeds = []

    def act(conf: DictConfig) -> int:
        seeds.append(conf["seed"])
        return INTERRUPTED

    with pytest.raises(KeyboardInterrupt):
        hydra_app.for_each_config(["-m"], ["seed=1,2,3"], act)
    assert seeds == [1]


def test_errors_leave_hydra_without_a_line_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    def act(conf: DictConfig) -> int:
        raise ConfigError("seed", conf["seed"], "another", "seed=2")

    with pytest.raises(ConfigError, match="seed = 1"):
        hydra_app.for_each_config([], ["seed=1"], act)
    assert capfd.readouterr() == ("", "")


def test_launchers_that_run_jobs_in_other_processes_are_refused() -> None:
    with pytest.raises(ConfigError, match="hydra/launcher = joblib"):
        hydra_app.for_each_config(["-m"], ["hydra/launcher=joblib", "seed=1,2"], lambda conf: 0)
