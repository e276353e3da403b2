import shlex
import subprocess
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

import hpo
from hpo import config as configs
from hpo.cli.commands import best_command
from hpo.cli.main import help_text, main

HEAVY = ("tensorflow", "keras", "mlflow", "optuna", "sklearn", "numpy", "pandas")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["limits.n_trials=0"], ["strategy=optna"], ["limts.n_trials=3"]]
)
def test_help_and_config_errors_import_no_backend(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom hpo.cli.main import main\n"
        f"code = main({arguments!r})\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(f'imported {loaded}' if loaded else code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == (0 if arguments[0].startswith("--") else 2), done.stderr
    assert "Traceback" not in done.stderr


def test_help_shows_commands_groups_options_and_five_examples() -> None:
    text = help_text()
    for group in configs.GROUPS:
        assert f"\n  {group}" in text
        for option in configs.options(group):
            assert f" {option} " in text
    assert text.count("\n  python -m hpo") == 5
    assert all(f"python -m hpo {command}" in text for command in ("list", "best", "ui"))
    assert max(map(len, text.splitlines())) <= 140


def test_version_is_the_package_s_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"hpo {hpo.__version__}"


def test_a_command_line_that_trains_again_spells_every_value_so_that_hydra_reads_it_back() -> None:
    params = {"a": 1, "b": 1e-05, "c": "relu", "d": True, "e": None, "f": "it's two", "g": "True", "h": 0.1 + 0.2}
    overrides = [
        "seed=3",
        "model.a=9",
        "dataset=digits",
        "strategy=grid",
        "strategy.oversize=shuffle",
        "limits.n_trials=9",
    ]
    command = best_command([*overrides, "strategy/pruner=median", "enqueue=[]"], params)
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "hpo"]
    assert words[3:6] == ["seed=3", "model.a=9", "dataset=digits"]
    parsed = {o.key_or_group: o.value() for o in OverridesParser.create().parse_overrides(words[3:])}
    assert (parsed["strategy"], parsed["strategy/pruner"], parsed["limits.n_trials"]) == ("optuna", "none", 1)
    (read,) = parsed["enqueue"]
    assert {name: str(value) if name in ("f", "g") else value for name, value in read.items()} == params


def test_a_misspelt_command_is_told_the_one_that_is_near(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trails", "mine"]) == 2
    assert "fix:      python -m hpo trials" in capsys.readouterr().err
    assert main(["qqq"]) == 2
    assert "fix:      python -m hpo --help" in capsys.readouterr().err
