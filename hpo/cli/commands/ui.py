"""``python -m hpo ui``: starts the MLflow UI."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
import urllib.request

from hpo.cli import stores
from hpo.cli.command import Command, add_store_arguments
from hpo.cli.exit_codes import OK
from hpo.errors import ConfigError, redact


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=5000, help="port on 127.0.0.1 (default: 5000)")
    add_store_arguments(parser)


def _execute(parsed: argparse.Namespace) -> int:
    tracking = stores.tracking_config(parsed)
    uri = tracking["uri"]
    _, experiment_id = stores.open_existing(tracking)
    from hpo.tracking.store import absolute

    # The workflow type makes MLflow show its views for training instead of those for language models.
    page = f"#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    if uri.startswith("http"):
        print(f"the store is a server with its own UI: {redact(uri).rstrip('/')}/{page}")
        return OK
    server = f"http://127.0.0.1:{parsed.port}"
    if _is_up(server):
        raise ConfigError("--port", parsed.port, "a port that nothing listens on", f"--port {parsed.port + 1}")
    print("starting the MLflow UI …", flush=True)
    return _serve(absolute(uri), server, parsed.port, page)


def _serve(uri: str, server: str, port: int, page: str) -> int:
    """Run the server until it ends or the user interrupts it."""
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--uvicorn-opts", "--log-level warning"]
    # In the environment, since other users of the machine can read the arguments of a process.
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": uri}
    # MLflow's job runner serves its features for language models and doubles the memory of the UI.
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or the server would outlive this process
    # In its own session: on SIGINT the server prints a traceback, on SIGTERM it does not.
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        while process.poll() is None and not _is_up(server):
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


def _is_up(server: str) -> bool:
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{server}/health", timeout=1).close()
    except OSError:
        return False
    return True


COMMAND = Command(
    "ui",
    "[--port PORT] [OVERRIDE ...]",
    "start the MLflow UI on the store in which studies are recorded",
    "Starts the MLflow UI on this machine, on the store in which studies are recorded, and prints its address.",
    _add_arguments,
    _execute,
)
