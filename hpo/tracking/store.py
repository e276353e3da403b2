"""Opens an MLflow store, and checks within seconds that it answers and can be written to."""

from __future__ import annotations

import os
import re
import tempfile
import urllib.error
import urllib.request
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import mlflow
import sqlalchemy
from filelock import FileLock
from mlflow.exceptions import MlflowException

from hpo.errors import ConfigError, TrackingError, redact
from hpo.tracking.schema import Tag

REACH_SECONDS = 5.0
STORE_ERRORS = (MlflowException, sqlalchemy.exc.SQLAlchemyError, OSError)
"""Types that a store raises if it does not answer, or answers with an error."""
CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")  # read by MLflow's client


def open_store(uri: str, experiment: str, output_path: Path, create: bool = True) -> tuple[mlflow.MlflowClient, str]:
    """Connect to a store.

    Args:
        create: whether to create the experiment and folders that are missing; False to only read.

    Returns:
        The client and the experiment's id.

    Raises:
        TrackingError: if the store cannot be reached or a folder cannot be written to.
        ConfigError: if a server refuses the account, or does not permit it to write.
    """
    if create:
        _writable(output_path, "tracking.output_path")
    require_reachable(uri)
    uri = absolute(uri)
    is_server = uri.startswith("http")
    try:
        # Processes that create or migrate the same SQLite file at the same time would corrupt it.
        with _one_at_a_time(uri):
            mlflow.set_tracking_uri(uri)
            client = mlflow.MlflowClient(uri)
            found = client.get_experiment_by_name(experiment)
            if found is None and create:
                location = None if is_server else (output_path.resolve() / "artifacts").as_uri()
                tags = {Tag.EXPERIMENT_KIND: "custom_model_development"}
                with suppress(MlflowException):  # another process has just created it
                    client.create_experiment(experiment, artifact_location=location, tags=tags)
                found = client.get_experiment_by_name(experiment)
            if found is not None and create and is_server:
                # The server only reveals whether the account may write when it does write.
                client.set_experiment_tag(found.experiment_id, Tag.STUDIES, "true")
        known = [e.name for e in client.search_experiments()] if found is None else []
    except (MlflowException, sqlalchemy.exc.SQLAlchemyError) as error:
        if isinstance(error, MlflowException) and error.get_http_status_code() in (401, 403):
            raise _refused(uri, experiment, error) from error
        raise _unreachable(uri, str(error)) from error
    if found is None or found.lifecycle_stage != "active":
        expected = f"an existing experiment: {', '.join(known)}" if known else "an experiment that has not been deleted"
        raise TrackingError("tracking.experiment", experiment, expected, "tracking.experiment=another")
    return client, found.experiment_id


def _one_at_a_time(uri: str) -> AbstractContextManager[object]:
    file = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+).*", uri)
    return FileLock(f"{file[1]}.lock") if file else nullcontext()


def absolute(uri: str) -> str:
    """Make the path of an SQLite file absolute: MLflow caches engines by URI and ignores the working folder."""
    match = re.fullmatch(r"(sqlite(?:\+\w+)?):///([^/:?][^?]*)(\?.*)?", uri)
    return f"{match[1]}:///{Path(match[2]).resolve()}{match[3] or ''}" if match else uri


def store_exists(uri: str) -> bool:
    """Whether the store can be read; False for an SQLite file that does not exist."""
    file = re.match(r"sqlite(?:\+\w+)?:///([^?]+)", uri)
    return file is None or Path(file[1]).exists()


def require_reachable(uri: str) -> None:
    """Check within seconds that a store answers; MLflow itself would retry for minutes.

    Raises:
        TrackingError: if it does not answer.
    """
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme not in ("http", "https", "sqlite", "postgresql", "mysql", "mssql"):
        raise _unreachable(uri, f"unknown scheme {scheme}")
    try:
        if scheme in ("http", "https"):
            _ask_server(uri)
        else:
            _ask_database(uri)
    except TrackingError:
        raise
    except ModuleNotFoundError as error:
        raise TrackingError(
            "tracking.uri",
            redact(uri),
            f"a database whose driver is installed ({error})",
            f"pip install {'psycopg2-binary' if 'psycopg' in str(error) else error.name}",
        ) from error
    except Exception as error:  # a malformed address fails in many ways, in urllib and in SQLAlchemy
        reason = str(getattr(error, "reason", None) or getattr(error, "orig", None) or error)
        raise _unreachable(uri, reason) from error


def _ask_server(uri: str) -> None:
    # Without user and password, which urllib would treat as part of the host name.
    address = re.sub(r"//[^/]*@", "//", uri.rstrip("/"))
    # An HTTP error is an answer too; MLflow's client checks the account later.
    with suppress(urllib.error.HTTPError):
        urllib.request.build_opener().open(f"{address}/health", timeout=REACH_SECONDS).close()


def _ask_database(uri: str) -> None:
    url = sqlalchemy.engine.make_url(uri)
    options: dict[str, object] = {}
    if url.get_backend_name() == "sqlite":
        if not url.database or url.database == ":memory:":
            raise _unreachable(uri, "no file is named")
        path = Path(url.database)
        _writable(path.parent, "tracking.uri")
        if not path.exists():
            return
        if not os.access(path, os.W_OK):
            raise TrackingError("tracking.uri", uri, "a database that can be written to", f"chmod u+w {path}")
    elif url.get_backend_name() == "postgresql":
        options["connect_timeout"] = int(REACH_SECONDS)
    engine = sqlalchemy.create_engine(url, connect_args=options)
    try:
        with engine.connect() as connection:
            if url.get_backend_name() == "sqlite":
                connection.execute(sqlalchemy.text("select count(*) from sqlite_master"))
    finally:
        engine.dispose()


def _writable(folder: Path, key: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise TrackingError(
            key, folder, f"a folder that can be written to ({error.strerror})", f"{key}=another, or chmod u+w {folder}"
        ) from error


def _refused(uri: str, experiment: str, error: MlflowException) -> ConfigError:
    """Return the error for a server that answers but refuses access, so that waiting would not help."""
    server = f"the MLflow server {redact(uri)}"
    if "Host header" in str(error):
        expected = f"an address that {server} accepts; it answers 403: invalid Host header"
        return ConfigError(
            "tracking.uri", redact(uri), expected, "start the server with --allowed-hosts and this address"
        )
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if error.get_http_status_code() == 403:
        expected = f"an account with write access to experiment {experiment} of {server}, which answers 403"
        fix = "ask an admin of the server for EDIT permission on the experiment, or tracking.experiment=another"
    else:
        expected = f"name and password of an account of {server}, which answers 401: not authenticated"
        fix = "export MLFLOW_TRACKING_USERNAME=… MLFLOW_TRACKING_PASSWORD=… (from an admin of the server)"
    missing = [name for name in CREDENTIALS if not os.environ.get(name)]
    return ConfigError(", ".join(missing or CREDENTIALS), "not set" if missing else f"{user}, ***", expected, fix)


def _unreachable(uri: str, reason: str) -> TrackingError:
    known = "sqlite:///a/file.db, postgresql+psycopg2://… or the http(s):// address of an MLflow server"
    problem = redact(reason.splitlines()[0] if reason else "no reason given")[:200]
    return TrackingError(
        "tracking.uri",
        redact(uri),
        f"an MLflow store that answers ({problem}): {known}",
        "start it, or tracking.uri=sqlite:///hpo_runs/mlflow.db",
    )
