"""Connecting to an MLflow store: is it there, can it be written to, and where do files go."""

from __future__ import annotations

import logging
import os
import re
import tempfile
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

# Read when MLflow is imported. A report to its makers is not for us to send, and small files need no progress bar.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
import sqlalchemy
from mlflow.exceptions import MlflowException

from hpo.errors import TrackingError

REACH_SECONDS = 5.0


def open_store(uri: str, experiment: str, output_path: Path) -> tuple[mlflow.MlflowClient, str]:
    """Connect to a store, making the experiment and the folders that are missing.

    Returns:
        The client and the experiment's id.

    Raises:
        TrackingError: when the store cannot be reached or a folder cannot be written to.
    """
    _writable(output_path, "tracking.output_path")
    require_reachable(uri)
    uri = absolute(uri)
    with quiet():
        mlflow.set_tracking_uri(uri)
        client = mlflow.MlflowClient(uri)
        try:
            found = client.get_experiment_by_name(experiment)
            if found is None:
                remote = urlsplit(uri).scheme in ("http", "https")
                location = None if remote else (output_path.resolve() / "artifacts").as_uri()
                tags = {"mlflow.experimentKind": "custom_model_development"}
                return client, client.create_experiment(experiment, artifact_location=location, tags=tags)
        except (MlflowException, sqlalchemy.exc.SQLAlchemyError) as error:
            raise _unreachable(uri, error) from error
    if found.lifecycle_stage != "active":
        raise TrackingError(
            "tracking.experiment", experiment, "an experiment that has not been deleted", "tracking.experiment=another"
        )
    return client, found.experiment_id


def absolute(uri: str) -> str:
    """``uri`` with the path of an SQLite file made absolute: MLflow keeps engines by URI, whatever the folder."""
    match = re.fullmatch(r"(sqlite(?:\+\w+)?):///([^/:?][^?]*)(\?.*)?", uri)
    return f"{match[1]}:///{Path(match[2]).resolve()}{match[3] or ''}" if match else uri


def require_reachable(uri: str) -> None:
    """Find out within seconds whether a store answers; MLflow itself would retry for minutes.

    Raises:
        TrackingError: naming the store, when it does not.
    """
    scheme = urlsplit(uri).scheme
    if scheme in ("http", "https"):
        try:
            urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=REACH_SECONDS).close()
        except (OSError, ValueError) as error:
            raise _unreachable(uri, error) from error
    elif scheme.startswith("sqlite"):
        database = sqlalchemy.engine.make_url(uri).database
        if database and database != ":memory:":
            _writable(Path(database).parent, "tracking.uri")
            _require_sqlite(uri, Path(database))
    elif scheme.partition("+")[0] in ("postgresql", "mysql", "mssql"):
        try:
            sqlalchemy.create_engine(uri).connect().close()
        except (sqlalchemy.exc.SQLAlchemyError, ModuleNotFoundError) as error:
            raise _unreachable(uri, error) from error
    else:
        raise TrackingError(
            "tracking.uri",
            redact(uri),
            "sqlite:///a/file.db, postgresql+psycopg2://… or the http(s):// address of an MLflow server",
            "tracking.uri=sqlite:///hpo_runs/mlflow.db",
        )


def _require_sqlite(uri: str, path: Path) -> None:
    if not path.exists():
        return
    engine = sqlalchemy.create_engine(uri)
    try:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("select count(*) from sqlite_master"))
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise _unreachable(uri, error) from error
    finally:
        engine.dispose()
    if not os.access(path, os.W_OK):
        raise TrackingError("tracking.uri", uri, "a database that can be written to", f"chmod u+w {path}")


def _writable(folder: Path, key: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise TrackingError(
            key, folder, f"a folder that can be written to ({error.strerror})", f"{key}=another, or chmod u+w {folder}"
        ) from error


def _unreachable(uri: str, error: Exception) -> TrackingError:
    reason = str(getattr(error, "reason", None) or getattr(error, "orig", None) or error).splitlines()[0]
    return TrackingError(
        "tracking.uri",
        redact(uri),
        f"an MLflow store that answers ({reason[:200]})",
        "start it, or tracking.uri=sqlite:///hpo_runs/mlflow.db",
    )


def redact(uri: str) -> str:
    """``uri`` without its password."""
    parts = urlsplit(uri)
    return uri.replace(f":{parts.password}@", ":***@") if parts.password else uri


@contextmanager
def quiet() -> Iterator[None]:
    """MLflow and its migrations talk at INFO and WARNING about what is ordinary here."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Types in signatures and deprecations inside MLflow: nothing that its user could act on here.
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
