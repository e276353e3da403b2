"""Settings of the whole process, made once where a process begins: command line, worker, node of a Ray cluster.

Nothing else in hpo changes environment variables, warning filters or logger levels when it is imported. A program that
uses hpo as a library may call :func:`prepare_process` before it imports a backend.
"""

from __future__ import annotations

import logging
import os
import warnings

ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "2",  # TensorFlow's notes on devices and instruction sets
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # two lines per trial, with a server
    # The outbox retries, and checks first whether the failed call was executed; MLflow would only repeat it.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_LOGGING_LEVEL": "ERROR",  # of MLflow and of its migrations, which set their loggers when imported
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the study has its own
}
"""Variables that libraries read when they are imported; a value that the user has set is kept."""

_LOG_LEVELS = {
    "mlflow.store.db.utils": logging.CRITICAL,  # it logs a database error with its traceback, and raises it as well
    "optuna.storages": logging.WARNING,  # a line per study
    "optuna.study": logging.WARNING,  # a line per trial; "optuna" itself sets its level when it is imported
    "tensorflow": logging.ERROR,  # a study builds a new model per trial, so that functions are traced again
}
_IGNORED_WARNINGS_OF = ("mlflow", "alembic")


def prepare_process() -> None:
    """Set what libraries read when they are imported, and silence what they log about themselves; repeatable."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name, level in _LOG_LEVELS.items():
        logging.getLogger(name).setLevel(level)
    for module in _IGNORED_WARNINGS_OF:
        # Never within warnings.catch_warnings(), which other threads would undo.
        warnings.filterwarnings("ignore", module=module)
