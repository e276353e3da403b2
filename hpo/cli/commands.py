"""The commands beside running a study: ``list``, ``best``, ``sync``, ``strategies``, ``new``, ``ui``."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra

from hpo import config as configs
from hpo.cli.project import new as projects
from hpo.core.params import ParamValue
from hpo.errors import ConfigError, InputError, TrackingError, redact
from hpo.tracking.schema import Tag

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def console() -> Any:
    """Where everything is printed to."""
    from rich.console import Console

    class Patient(Console):
        """Goes on without a reader: a study is worth more than what is said of it."""

        def on_broken_pipe(self) -> None:
            self.quiet = True
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.close(nowhere)

    # Eighty columns, which rich takes where there is no terminal, would break every line of a log.
    return Patient() if sys.stdout.isatty() else Patient(width=160)


def parse(
    command: str, description: str, arguments: list[str], add: Callable[[argparse.ArgumentParser], object] | None = None
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m hpo {command}", description=description)
    if add is not None:
        add(parser)
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="of the tracking group, as for a study")
    parser.add_argument("--config-dir", help="folder with YAML of your own")
    return parser.parse_intermixed_args(arguments)


def tracking_config(parsed: argparse.Namespace) -> dict[str, Any]:
    configs.register()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(configs.resource_dir("conf")), version_base="1.3"):
        overrides = list(parsed.overrides)
        if parsed.config_dir:
            overrides.append(f"hydra.searchpath=[file://{Path(parsed.config_dir).resolve()}]")
        composed = configs.plain(hydra.compose("config", overrides=overrides))
    where: dict[str, Any] = composed["tracking"]
    return where


def open_existing(where: dict[str, Any]) -> tuple[Any, str]:
    """A store that is there already: reading makes none."""
    from hpo.tracking.store import open_store, store_exists

    if not store_exists(where["uri"]):
        raise TrackingError(
            "tracking.uri",
            where["uri"],
            "a store that holds studies; there is no such file yet",
            "run a study first (python -m hpo), or change to the folder that it ran in",
        )
    return open_store(where["uri"], where["experiment"], Path(where["output_path"]), create=False)


def list_studies(arguments: list[str]) -> int:
    where = tracking_config(parse("list", "The studies of a store, newest first.", arguments))
    client, experiment_id = open_existing(where)
    from hpo.cli import terminal
    from hpo.run.lock import is_locked
    from hpo.tracking.outbox import undelivered
    from hpo.tracking.reader import list_studies

    output_path = Path(where["output_path"])
    studies = list_studies(client, experiment_id)
    held = {s.name for s in studies if s.state == "running" and is_locked(output_path / "studies" / s.name)}
    terminal.print_studies(console(), studies, held, [folder.name for folder in undelivered(output_path)])
    return OK


def sync(arguments: list[str]) -> int:
    """Deliver what waits in outboxes."""
    parsed = parse("sync", "Deliver the records that MLflow could not take when they were written.", arguments)
    from hpo.run.location import StoreLocation
    from hpo.run.lock import lock_study
    from hpo.run.session import deliver
    from hpo.tracking.outbox import undelivered

    # Nothing begins here, so that there is nothing to allow.
    where = replace(StoreLocation.of(tracking_config(parsed)), offline="allow")
    code, folders = OK, undelivered(where.output_path)
    if not folders:
        print("nothing waits: MLflow has every record")
    for folder in folders:
        try:
            with lock_study(folder, folder.name):
                print(f"{folder.name}: {deliver(where, folder)} records delivered", flush=True)
        except InputError as error:
            code = BAD_INPUT
            print(f"{folder.name}: not delivered: {redact(str(error))}", file=sys.stderr)
        except Exception as error:  # MLflow, the network and databases raise of everything
            code = FAILED
            print(f"{folder.name}: not delivered: {redact(str(error).splitlines()[0])}", file=sys.stderr)
    return code


def trials(arguments: list[str]) -> int:
    """The early-stopping ledger of a study."""
    parsed = parse(
        "trials",
        "The trials of a study: how each training ended, what stopping early saved, and how well each model fits.",
        arguments,
        lambda parser: parser.add_argument("study", help="its name; python -m hpo list shows them"),
    )
    where = tracking_config(parsed)
    client, experiment_id = open_existing(where)
    from hpo.compare import trials as ledgers

    study = _found(client, experiment_id, parsed.study)
    folder = Path(where["output_path"]) / "studies" / study.name
    ledgers.show(console(), client, study, folder, best_command)
    return OK


def _found(client: Any, experiment_id: str, name: str) -> Any:
    from hpo.tracking.reader import find_study, list_studies

    study = find_study(client, experiment_id, name)
    if study is None:
        known = [s.name for s in list_studies(client, experiment_id)]
        expected = f"a study of this store: {', '.join(known[:5]) or 'there is none yet'}"
        raise ConfigError("study", name, expected, "python -m hpo list")
    return study


def strategies(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m hpo strategies", description="The ways of searching.")
    parser.add_argument("--markdown", action="store_true", help="as the table in the README")
    parsed = parser.parse_args(arguments)
    from hpo.cli import terminal
    from hpo.study import build as studies

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
        terminal.print_strategies(console(), rows)
    return OK


def new(arguments: list[str]) -> int:
    """Begin a folder for models and data of one's own."""
    description = "Write a folder with a model, data, a search space and a test to begin from."
    parser = argparse.ArgumentParser(prog="python -m hpo new", description=description)
    parser.add_argument("folder", type=Path, help="to be made, such as my_project")
    folder = parser.parse_args(arguments).folder
    for path in projects.write(folder):
        print(f"wrote {folder / path}")
    print(
        f"next: cd {shlex.quote(str(folder))} && python -m hpo --config-dir=conf model=my_mlp limits.n_trials=10"
        f"\nREADME.md there has the other commands"
    )
    return OK


def best(arguments: list[str]) -> int:
    parsed = parse(
        "best",
        "The best params of a study, as a command that trains them again.",
        arguments,
        lambda parser: parser.add_argument("study", help="its name; python -m hpo list shows them"),
    )
    where = tracking_config(parsed)
    client, experiment_id = open_existing(where)
    from hpo.cli import terminal
    from hpo.tracking.reader import load_trials

    study = _found(client, experiment_id, parsed.study)
    number = study.tags.get(Tag.BEST_TRIAL)
    if number is None:
        raise ConfigError(
            "study", parsed.study, f"a study with a completed trial; this one is {study.state}", "python -m hpo list"
        )
    trial = next(t for t in load_trials(client, study) if t.number == int(number))
    command = best_command(json.loads(study.tags[Tag.OVERRIDES]), json.loads(study.tags[Tag.BEST_PARAMS]))
    terminal.print_best(console(), study, trial, command)
    return OK


def best_command(overrides: list[str], *params: Mapping[str, ParamValue], options: Sequence[str] = ()) -> str:
    """A command line whose trials have ``params``, trained as they were whatever strategy had found them."""
    given = {option.partition("=")[0] for option in options}
    replaced = ("strategy", "limits", "enqueue")
    kept = [o for o in overrides if re.split(r"[=./\[]", o.lstrip("+~"))[0] not in replaced]
    kept = [o for o in kept if o.lstrip("+~").partition("=")[0] not in given]
    chosen = ", ".join(
        f"{{{', '.join(f'{name}: {_spell(value)}' for name, value in each.items())}}}" for each in params
    )
    searched = ["strategy=optuna", "strategy/pruner=none", f"enqueue=[{chosen}]", f"limits.n_trials={len(params)}"]
    return " ".join(["python -m hpo", *map(shlex.quote, [*kept, *options, *searched])])


# Hydra reads these as values of other types.
_HYDRA_WORDS = ("null", "true", "false", "nan", "inf", "on", "off", "yes", "no")


def _spell(value: ParamValue) -> str:
    if isinstance(value, str):
        is_plain = re.fullmatch(r"[A-Za-z_][\w.-]*", value) and value.lower() not in _HYDRA_WORDS
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return value if is_plain else f"'{escaped}'"
    return json.dumps(value)


def ui(arguments: list[str]) -> int:
    parsed = parse(
        "ui",
        "The MLflow UI on this machine, on the store that studies are recorded in.",
        arguments,
        lambda parser: parser.add_argument("--port", type=int, default=5000, help="5000 unless given"),
    )
    where = tracking_config(parsed)
    uri = where["uri"]
    _, experiment_id = open_existing(where)
    from hpo.tracking.store import absolute

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
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": absolute(uri)}
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
