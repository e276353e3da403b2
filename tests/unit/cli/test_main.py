import subprocess
import sys

import pytest

import hpo
from hpo import config as configs
from hpo.cli import commands
from hpo.cli.main import main
from hpo.cli.overview import GROUPS, TOPICS, overview

HEAVY = ("tensorflow", "keras", "mlflow", "optuna", "sklearn", "numpy", "pandas")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["help", "model"], 0),
        (["help", "compare"], 0),
        (["run", "--help"], 0),
        (["limits.n_trials=0"], 2),
        (["strategy=optna"], 2),
        (["limts.n_trials=3"], 2),
        (["best"], 2),
        (["compare", "strategies=[grid]"], 2),
    ],
)
def test_help_and_config_errors_import_no_backend(arguments: list[str], code: int) -> None:
    program = (
        "import sys\nfrom hpo.cli.main import main\n"
        f"code = main({arguments!r})\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(f'imported {loaded}' if loaded else code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


def test_help_uses_less_than_a_second_of_processor_time() -> None:
    program = (
        "import resource, sys\nfrom hpo.cli.main import main\nmain(['--help'])\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\nprint(used.ru_utime + used.ru_stime, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert float(done.stderr) < 1.0


def test_help_fits_on_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith("usage: python -m hpo ")


def test_help_lists_commands_and_group_sizes() -> None:
    text = overview()
    for name in commands.NAMES:
        assert f"\n  {name:<12}{commands.load(name).summary}\n" in text
    assert set(configs.GROUPS) < set(GROUPS)
    for group in GROUPS:
        assert f"\n  {group:<17}{len(configs.options(group)):>2} options: " in text


@pytest.mark.parametrize("arguments", [["help"], ["-h"], ["--help"], ["seed=1", "--help"]])
def test_every_spelling_of_help_shows_the_overview(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr().out == overview() + "\n"


@pytest.mark.parametrize("group", [*GROUPS, "comparison"])
def test_help_of_group_lists_described_options(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", group]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    text = " ".join(" ".join(lines).split())
    for option, description in configs.options(group).items():
        assert f"{option} {' '.join(description.split())}" in text


@pytest.mark.parametrize("name", commands.NAMES)
def test_help_explains_a_command_in_both_ways(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", name]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: python -m hpo {name}")
    assert max(map(len, shown.splitlines())) <= 100
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out == shown


def test_help_on_an_unknown_topic_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "modle"]) == 2
    error = capsys.readouterr().err
    assert "fix:      python -m hpo help model" in error
    assert all(topic in error for topic in TOPICS)


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"hpo {hpo.__version__}"


def test_misspelt_command_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trails", "mine"]) == 2
    assert "fix:      python -m hpo trials" in capsys.readouterr().err
    assert main(["qqq"]) == 2
    assert "fix:      python -m hpo --help" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["best"], ["trials"], ["new"], ["list", "--nothing"], ["--nothing"], ["ui", "--port", "many"]]
)
def test_wrong_arguments_are_refused_with_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    name = "run" if arguments[0].startswith("-") else arguments[0]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {name} = ")
    assert f"usage: python -m hpo {name}" in error
    assert f"fix:      python -m hpo help {name}" in error


EXIT = """
import atexit, gc, sys
atexit.register(lambda: print(gc.get_freeze_count() > 0))
from hpo.cli.main import main
sys.argv = ["hpo", "--version"]
sys.exit(main())
"""


def test_process_ends_without_collecting_garbage() -> None:
    done = subprocess.run([sys.executable, "-c", EXIT], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"hpo {hpo.__version__}", "True"]
