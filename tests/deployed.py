"""Helpers for studies on a :class:`composed.Composition`: checks of their records, and documented commands."""

from __future__ import annotations

import re
import secrets
import shlex
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from composed import POSTGRES, ROOT, ComposeError, Composition, Container

from benchmarks import faults

USER = "team"
SECRETS = ("POSTGRES_PASSWORD", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY", "RAY_AUTH_TOKEN")
FOREST = ("model=random_forest", "resampling=stratified_kfold", "resampling.n_splits=2", "max_epochs=4")
FOREST = (*FOREST, "early_stopping.patience=null", "limits.timeout_seconds=3600", "executor.threads_per_trial=1")
FOREST = (*FOREST, "search_space.max_features.grid=[0.3]")  # a grid of 4 points
HPO = ("python", "-m", "hpo")


def filled_in() -> dict[str, str]:
    """Return the variables of ``.env``: values for all that ``.env.example`` leaves empty."""
    return {"MLFLOW_TRACKING_USERNAME": USER} | {name: secrets.token_hex(32) for name in SECRETS}


def record(composition: Composition, study: str) -> faults.Stored:
    """Read the record of a study from PostgreSQL."""
    import psycopg2

    password = composition.variables["POSTGRES_PASSWORD"]
    where = {"host": "127.0.0.1", "port": composition.ports["5432"], "user": "mlflow", "dbname": "mlflow"}
    connection = psycopg2.connect(password=password, **where)
    try:
        return faults.Stored.of(connection, study)
    finally:
        connection.close()


def require_complete(composition: Composition, study: str, n_trials: int, driver: Container) -> faults.Stored:
    """Check that every trial, fold and epoch is recorded once, and the winner's test score and model."""
    audit, stored = faults.Audit(), record(composition, study)
    known = faults.finished_in_outbox(composition.volume("work"), study)
    assert len(known) == n_trials, driver.text
    faults.audit_record(stored, audit, known, n_trials)
    assert audit.total == 0, audit.remarks
    return stored


def require_no_secret(composition: Composition, tmp_path: Path) -> None:
    """Check that no log, file of a study or model, or database contains a secret."""
    where = [
        "--host=127.0.0.1",
        f"--port={composition.ports['5432']}",
        "--username=mlflow",
        "--file",
        str(tmp_path / "dump"),
    ]
    environment = {"PGPASSWORD": composition.variables["POSTGRES_PASSWORD"], "PATH": "/usr/bin:/bin"}
    subprocess.run([str(POSTGRES / "pg_dump"), *where, "mlflow"], check=True, env=environment)
    folders = [composition.volume("work"), composition.volume("artifacts"), composition.folder / "ray"]
    files = [tmp_path / "dump", *composition.folder.glob("*.log"), *composition.folder.glob("*.health")]
    files += [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert any(file.name == "MLmodel" for file in files)
    assert any(file.name == "outbox.jsonl" for file in files)
    leaks = {
        (name, file) for file in files for name in SECRETS if composition.variables[name].encode() in file.read_bytes()
    }
    assert not leaks


def documented(name: str) -> list[str]:
    """Return the commands of a named block of ``docs/operations.md``."""
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    (block,) = re.findall(rf"(?s)<!-- {name} -->\n```sh\n(.*?)```", page)
    return [line for line in str(block).splitlines() if line]


def carry_out(composition: Composition, line: str, folder: Path) -> None:
    """Carry out a documented ``docker compose`` command on local processes, with files in ``folder``."""
    words = shlex.split(line)
    assert words[:2] == ["docker", "compose"], line
    streams: dict[str, str] = {}
    while len(words) > 2 and words[-2] in ("<", ">"):
        streams[words[-2]] = words[-1]
        words = words[:-2]
    match words[2:]:
        case ["up", "--detach", "--wait", *names]:
            return composition.up(*names)
        case ["stop", name]:
            for container in composition.containers[name]:
                container.stop()
            return None
        case ["exec", "-T", "postgres", *command]:
            (database,) = composition.containers["postgres"]
            where = {"PGHOST": "127.0.0.1", "PGPORT": str(composition.ports["5432"])}
            container = Container("postgres", command, {**database.environment, **where}, folder, folder / "log")
        case ["run", "--rm", "--no-deps", *rest]:
            rest = rest[1:] if rest[0] == "-T" else rest
            entrypoint = [rest[1]] if rest[0] == "--entrypoint" else None
            name, *command = rest[2:] if entrypoint else rest
            container = composition.container(name, 0, command, entrypoint)
        case _:
            raise ComposeError(f"{line}: unsupported command")
    with ExitStack() as stack:
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL}
        if "<" in streams:
            options["stdin"] = stack.enter_context((folder / streams["<"]).open("rb"))
        if ">" in streams:
            options["stdout"] = stack.enter_context((folder / streams[">"]).open("wb"))
        subprocess.run(container.command, cwd=container.folder, env=container.environment, check=True, **options)
    return None
