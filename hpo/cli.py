"""``python -m hpo``: runs a study unless the first word is another command.

Start-up imports Hydra and nothing heavier, so that help and config errors answer at once.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

import hpo
from hpo import config as configs
from hpo.errors import ConfigError, HpoError, InputError, StudyFailed, TrackingError, redact
from hpo.trial import ParamValue

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

_EXAMPLES = (
    ("python -m hpo", "a Bayesian search for a CNN on MNIST"),
    ("python -m hpo dataset=digits limits.n_trials=10", "the same on a small dataset, ten trials"),
    ("python -m hpo max_epochs=5 strategy/pruner=hyperband seed=1", "shorter trials, another pruner, another seed"),
    ("python -m hpo search_space.learning_rate.high=1e-2 '~search_space.momentum'", "a narrower, smaller search space"),
    ("python -m hpo -m dataset=digits strategy=optuna seed=0,1,2", "several studies, one after another"),
)
_COMMANDS_HELP = (
    ("plan [OVERRIDE ...]", "what a study would do: space, trials, folds, fits, rungs; no training"),
    ("strategies", "the ways of searching: library, what each can do, when to use it"),
    ("list", "the studies of a store"),
    ("best STUDY", "its best params, as a command that trains them again"),
    ("ui", "the MLflow UI on this machine, on the right store"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Set by us so that Hydra raises instead of printing; set by the user, it also shows tracebacks.
    wanted = os.environ.get("HYDRA_FULL_ERROR")
    wants_traceback = wanted == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # TensorFlow's notes on the machine's instruction sets are not for those who train.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        return _dispatch(arguments)
    except (InputError, StudyFailed) as error:
        if wants_traceback:
            traceback.print_exc()
        print(f"error: {redact(str(error))}", file=sys.stderr)
        return BAD_INPUT if isinstance(error, InputError) else FAILED
    except (HydraException, OmegaConfBaseException) as error:
        if wants_traceback:
            traceback.print_exc()
        print(f"error: {redact(str(configs.explain(error, arguments)))}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    finally:
        if wanted is None:
            del os.environ["HYDRA_FULL_ERROR"]


def _dispatch(arguments: list[str]) -> int:
    commands: dict[str, Callable[[list[str]], int]] = {
        "run": _run,
        "plan": lambda rest: _run(rest, _plan_study),
        "strategies": _strategies,
        "list": _list,
        "best": _best,
        "ui": _ui,
    }
    first = arguments[0] if arguments else ""
    if first == "run" and {"-h", "--help"} & set(arguments):
        arguments = arguments[1:]
        first = "--help"
    if first in commands:
        return commands[first](arguments[1:])
    if {"-h", "--help", "help"} & set(arguments):
        print(help_text())
        return OK
    if first == "--version":
        print(f"hpo {hpo.__version__}")
        return OK
    if re.fullmatch(r"[A-Za-z][\w-]*", first):
        raise ConfigError(
            "command",
            first,
            f"one of {', '.join(commands)}, or overrides such as strategy=optuna",
            "python -m hpo --help",
        )
    return _run(arguments)


def help_text() -> str:
    """What ``--help`` prints."""
    lines = [
        "hpo searches for good hyperparameters with the library you name, and records every trial in MLflow.",
        "",
        "usage: python -m hpo [run] [OVERRIDE ...]    run a study, built from the groups below",
        *(f"       python -m hpo {command:<28} {text}" for command, text in _COMMANDS_HELP),
        "",
        "groups, chosen with GROUP=OPTION:",
    ]
    for group in (*configs.GROUPS, "strategy/pruner"):
        for i, (name, description) in enumerate(configs.options(group).items()):
            lines.append(f"  {group if i == 0 else '':<16}{name:<20}{description}")
    lines += [
        "",
        "every other key is overridden with KEY=VALUE; --cfg job shows them all with their values:",
        "  seed, max_epochs, limits.n_trials, limits.timeout_seconds, objective.metric, early_stopping.patience, …",
        "",
        "examples:",
        *(f"  {command}\n      {text}" for command, text in _EXAMPLES),
        "",
        "more: --cfg job (show the config), --config-dir DIR (your own YAML), -m (several studies),",
        '      eval "$(hpo -sc install=bash)" (Tab completes keys of the command hpo), --hydra-help, --version',
    ]
    return "\n".join(lines)


# A study.


def _run(arguments: list[str], act: Callable[[DictConfig], int] | None = None) -> int:
    """Have Hydra compose one config or, with ``-m``, several, and act on each: run it unless told otherwise."""
    configs.register()
    codes: list[int] = []

    def job(conf: DictConfig) -> None:
        try:
            codes.append((act or _run_study)(conf))
        except HpoError as error:
            raise _Refused(error) from error
        if codes[-1] == INTERRUPTED:
            raise KeyboardInterrupt

    if not any(a.startswith("-") and a.partition("=")[0] not in ("--config-dir", "-cd") for a in arguments):
        arguments = ["--run", *arguments]  # else Hydra composes everything twice, to learn the mode from the config
    before = sys.argv
    sys.argv = [before[0], *arguments]
    sweep_dir = tempfile.TemporaryDirectory(prefix="hpo-")
    os.environ["HPO_SWEEP_DIR"] = sweep_dir.name
    try:
        with warnings.catch_warnings():
            # A user's file with the name of a shipped one, which check_shadowing refuses.
            warnings.filterwarnings("ignore", r"\s*'.*' is validated against ConfigStore schema")
            hydra.main(config_path=str(configs.resource_dir("conf")), config_name="config", version_base="1.3")(job)()
    except _Refused as refused:
        raise refused.error from refused.error.__cause__
    finally:
        sys.argv = before
        sweep_dir.cleanup()
    return max(codes, default=OK)


class _Refused(BaseException):
    """Carries an error out of Hydra, which would print a line of its own about any ``Exception``."""

    def __init__(self, error: HpoError) -> None:
        self.error = error


def _run_study(conf: DictConfig) -> int:
    return _run_built(*_build(conf))


def _plan_study(conf: DictConfig) -> int:
    study, _ = _build(conf)
    from hpo import terminal

    terminal.print_plan(_console(), study)
    return OK


def _build(conf: DictConfig) -> tuple[Any, list[str]]:
    """The study of a composed config, and the overrides that define it."""
    configs.check_shadowing()
    config = configs.plain(conf)
    definition = configs.Definition.of(config)

    from hpo import study as studies
    from hpo.datasets.base import DatasetUnavailable

    overrides = [*configs.config_dirs(), *HydraConfig.get().overrides.task]
    names = studies.Names(*(configs.chosen(group) for group in ("model", "dataset", "strategy", "resampling")))
    try:
        study = studies.build_study(config, definition, names)
    except DatasetUnavailable as error:
        fallback = config["dataset"].get("fallback")
        if fallback is None or configs.is_explicit("dataset"):
            raise
        note = f"{names.dataset} is {error.value}; training on {fallback} instead"
        config = configs.plain(configs.with_option("dataset", fallback))
        definition = configs.Definition.of(config)
        names = studies.Names(names.model, fallback, names.strategy, names.resampling)
        overrides.append(f"dataset={fallback}")
        study = studies.build_study(config, definition, names, note)
    return study, overrides


def _run_built(study: Any, overrides: list[str]) -> int:
    from hpo import terminal, tracking
    from hpo.runner import End, Runner

    where = study.config["tracking"]
    uri, output_path = where["uri"], Path(where["output_path"])
    client, experiment_id = tracking.open_store(uri, where["experiment"], output_path)
    if tracking.find_study(client, experiment_id, study.name) is not None:
        raise ConfigError(
            "study", study.name, f"a name that no study in experiment {where['experiment']!r} has", "study=null"
        )
    tracker = tracking.Tracker(client, experiment_id)
    console = _console()
    view = terminal.TerminalView(console, uri)
    try:
        result = Runner(study, tracker, view, output_path, _reproducible(overrides)).run()
    finally:
        view.close()
        tracker.close()
    terminal.print_result(console, result, uri, _tracking_overrides(overrides))
    if result.end is End.INTERRUPTED:
        return INTERRUPTED
    return OK if result.best is not None and result.end.status == "FINISHED" else FAILED


def _console() -> Any:
    from rich.console import Console

    # Eighty columns, which rich takes where there is no terminal, would break every line of a log.
    return Console() if sys.stdout.isatty() else Console(width=160)


def _reproducible(overrides: list[str]) -> list[str]:
    """The overrides that define a study: not its name and not its store, which may hold a password."""
    return [o for o in overrides if o.lstrip("+~").split("=")[0].split(".")[0] not in ("study", "tracking", "hydra")]


def _tracking_overrides(overrides: list[str]) -> str:
    """What the commands after a study need to find its store again."""
    kept = [o for o in overrides if o.startswith("--config-dir=")]
    kept += [o for o in overrides if o.lstrip("+").startswith("tracking") and redact(o) == o]
    return "".join(f" {shlex.quote(o)}" for o in kept)


# The other commands.


def _parse(
    command: str, description: str, arguments: list[str], add: Callable[[argparse.ArgumentParser], object] | None = None
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m hpo {command}", description=description)
    if add is not None:
        add(parser)
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="of the tracking group, as for a study")
    parser.add_argument("--config-dir", help="folder with YAML of your own")
    return parser.parse_intermixed_args(arguments)


def _tracking_config(parsed: argparse.Namespace) -> dict[str, Any]:
    configs.register()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(configs.resource_dir("conf")), version_base="1.3"):
        overrides = list(parsed.overrides)
        if parsed.config_dir:
            overrides.append(f"hydra.searchpath=[file://{Path(parsed.config_dir).resolve()}]")
        composed = configs.plain(hydra.compose("config", overrides=overrides))
    where: dict[str, Any] = composed["tracking"]
    return where


def _open_existing(where: dict[str, Any]) -> tuple[Any, str]:
    """A store that is there already: reading makes none."""
    database = re.match(r"sqlite:///([^?]+)", where["uri"])
    if database and not Path(database.group(1)).exists():
        raise TrackingError(
            "tracking.uri",
            where["uri"],
            "a store that holds studies; there is no such file yet",
            "run a study first (python -m hpo), or change to the folder that it ran in",
        )
    from hpo import tracking

    return tracking.open_store(where["uri"], where["experiment"], Path(where["output_path"]), create=False)


def _list(arguments: list[str]) -> int:
    where = _tracking_config(_parse("list", "The studies of a store, newest first.", arguments))
    client, experiment_id = _open_existing(where)
    from hpo import terminal, tracking

    terminal.print_studies(_console(), tracking.list_studies(client, experiment_id))
    return OK


def _strategies(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m hpo strategies", description="The ways of searching.")
    parser.add_argument("--markdown", action="store_true", help="as the table in the README")
    parsed = parser.parse_args(arguments)
    from hpo import study as studies
    from hpo import terminal

    configs.register()
    GlobalHydra.instance().clear()
    rows: list[tuple[str, Any, str]] = []
    with hydra.initialize_config_dir(str(configs.resource_dir("conf")), version_base="1.3"):
        for name, description in configs.options("strategy").items():
            config = configs.plain(hydra.compose("config", overrides=[f"strategy={name}"]))
            try:
                rows.append((name, studies.strategy_tags(config), description))
            except ConfigError as error:  # its library is not installed; the fix is the command that does it
                rows.append((name, None, f"{description} (not installed: {error.fix})"))
    if parsed.markdown:
        print(terminal.strategies_markdown(rows))
    else:
        terminal.print_strategies(_console(), rows)
    return OK


def _best(arguments: list[str]) -> int:
    parsed = _parse(
        "best",
        "The best params of a study, as a command that trains them again.",
        arguments,
        lambda parser: parser.add_argument("study", help="its name; python -m hpo list shows them"),
    )
    where = _tracking_config(parsed)
    client, experiment_id = _open_existing(where)
    from hpo import terminal, tracking

    study = tracking.find_study(client, experiment_id, parsed.study)
    if study is None:
        known = [s.name for s in tracking.list_studies(client, experiment_id)]
        raise ConfigError(
            "study",
            parsed.study,
            f"a study of this store: {', '.join(known[:5]) or 'there is none yet'}",
            "python -m hpo list",
        )
    number = study.tags.get("hpo.best_trial")
    if number is None:
        raise ConfigError(
            "study", parsed.study, f"a study with a completed trial; this one is {study.state}", "python -m hpo list"
        )
    trial = next(t for t in tracking.load_trials(client, study) if t.number == int(number))
    command = best_command(json.loads(study.tags["hpo.overrides"]), json.loads(study.tags["hpo.best_params"]))
    terminal.print_best(_console(), study, trial, command)
    return OK


def best_command(overrides: list[str], params: dict[str, ParamValue]) -> str:
    """A command line whose only trial has ``params``, trained as it was whatever strategy had found them."""
    replaced = ("strategy", "limits", "enqueue")
    kept = [o for o in overrides if re.split(r"[=./\[]", o.lstrip("+~"))[0] not in replaced]
    chosen = ", ".join(f"{name}: {_spell(value)}" for name, value in params.items())
    searched = ["strategy=optuna", "strategy/pruner=none", f"enqueue=[{{{chosen}}}]", "limits.n_trials=1"]
    return " ".join(["python -m hpo", *map(shlex.quote, [*kept, *searched])])


# Hydra reads these as values of other types.
_HYDRA_WORDS = ("null", "true", "false", "nan", "inf", "on", "off", "yes", "no")


def _spell(value: ParamValue) -> str:
    if isinstance(value, str):
        is_plain = re.fullmatch(r"[A-Za-z_][\w.-]*", value) and value.lower() not in _HYDRA_WORDS
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return value if is_plain else f"'{escaped}'"
    return json.dumps(value)


def _ui(arguments: list[str]) -> int:
    parsed = _parse(
        "ui",
        "The MLflow UI on this machine, on the store that studies are recorded in.",
        arguments,
        lambda parser: parser.add_argument("--port", type=int, default=5000, help="5000 unless given"),
    )
    where = _tracking_config(parsed)
    uri = where["uri"]
    _, experiment_id = _open_existing(where)
    from hpo import tracking

    # The workflow type opens MLflow on its views for training rather than on those for language models.
    page = f"#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    if uri.startswith("http"):
        print(f"the store is a server with a UI of its own: {redact(uri).rstrip('/')}/{page}")
        return OK
    server = f"http://127.0.0.1:{parsed.port}"
    if _answers(server):
        raise ConfigError("--port", parsed.port, "a port that nothing listens on", f"--port {parsed.port + 1}")
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(parsed.port)]
    command += ["--workers", "1", "--uvicorn-opts", "--log-level warning"]
    # By the environment, since other users of the machine can read a process's arguments.
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": tracking.absolute(uri)}
    # MLflow's runner of jobs serves its features for language models, and doubles what the UI takes of memory.
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    print("starting the MLflow UI …", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or the server would outlive us
    # In a session of its own: a server that is interrupted prints a traceback, one that is terminated does not.
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        while process.poll() is None and not _answers(server):
            time.sleep(0.2)
        if process.poll() is None:
            print(f"open {server}/{page}    (Ctrl-C ends it)", flush=True)
        return process.wait()
    except KeyboardInterrupt:
        return OK
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def _answers(server: str) -> bool:
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{server}/health", timeout=1).close()
    except OSError:
        return False
    return True
