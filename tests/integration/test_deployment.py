"""Studies on the PostgreSQL and MLflow services of ``docker-compose.yml``, which run as local processes."""

from __future__ import annotations

import base64
import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from composed import POSTGRES, Composition
from deployed import FOREST, HPO, SECRETS, USER, filled_in, require_complete, require_no_secret

pytestmark = [
    pytest.mark.skipif(
        not POSTGRES.exists(), reason="PostgreSQL's server is not installed (apt-get install postgresql)"
    ),
    pytest.mark.xdist_group("deployment"),
]
ON_SERVER = ("tracking=server", "executor=local", "executor.workers=2")


@pytest.fixture(scope="module")
def server() -> Iterator[Composition]:
    """Start PostgreSQL and the MLflow server."""
    with Composition(filled_in()) as composition:
        composition.up("mlflow")
        yield composition


def ask(composition: Composition, path: str, password: str = "", user: str = USER, **headers: str) -> tuple[int, str]:
    """Return the status and body of a response of the MLflow server."""
    request = urllib.request.Request(f"http://127.0.0.1:{composition.ports['5000']}{path}", headers=headers)
    if password:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_server_requires_an_account(server: Composition) -> None:
    password = server.variables["MLFLOW_TRACKING_PASSWORD"]
    api = "/api/2.0/mlflow/experiments/search?max_results=1"
    artifacts = "/api/2.0/mlflow-artifacts/artifacts?path=1"
    for path in ("/", api, api.replace("/api", "/ajax-api"), artifacts, "/graphql", "/metrics", "/version", "/docs"):
        assert ask(server, path)[0] == 401, path
        assert ask(server, path, "wrong" + password)[0] == 401, path
        assert ask(server, path, "password1234", user="admin")[0] == 401, path
    assert ask(server, "/", password)[0] == 200
    assert "experiments" in json.loads(ask(server, api, password)[1])
    assert ask(server, "/health") == (200, "OK")
    assert "mlflow_http_request_total" in ask(server, "/metrics", password)[1]


def test_server_refuses_other_host_names(server: Composition) -> None:
    password = server.variables["MLFLOW_TRACKING_PASSWORD"]
    assert ask(server, "/", password, Host="mlflow:5000")[0] == 200
    assert ask(server, "/", password, Host="elsewhere.example")[0] == 403


def refused(composition: Composition, *options: str, **variables: str) -> str:
    """Return the output of a study that the server refuses; check that it ends before training."""
    driver = composition.run("study", *FOREST, *ON_SERVER, *options, entrypoint=HPO, **variables)
    assert driver.wait() == 2, driver.text
    assert "Traceback" not in driver.text
    assert "complete" not in driver.text
    assert not any(value in driver.text for name, value in composition.variables.items() if name in SECRETS)
    return driver.text


def test_missing_or_wrong_credentials_are_refused_before_training(server: Composition) -> None:
    text = refused(server, MLFLOW_TRACKING_USERNAME="", MLFLOW_TRACKING_PASSWORD="")
    assert "MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD = not set" in text
    assert "401" in text
    wrong = "a-wrong-password"
    # A refusal is permanent, so tracking.offline=allow does not record on disk.
    text = refused(server, "tracking.offline=allow", MLFLOW_TRACKING_PASSWORD=wrong)
    assert f"MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD = {USER}, ***" in text
    assert wrong not in text


def test_read_only_account_is_refused_before_training(server: Composition, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow.server

    password = secrets.token_hex(16)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", server.variables["MLFLOW_TRACKING_PASSWORD"])
    address = f"http://127.0.0.1:{server.ports['5000']}"
    accounts: Any = mlflow.server.get_app_client("basic-auth", tracking_uri=address)
    accounts.create_user("reader", password)
    mlflow.MlflowClient(address).create_experiment("closed")
    reader = {"MLFLOW_TRACKING_USERNAME": "reader", "MLFLOW_TRACKING_PASSWORD": password}
    text = refused(server, "tracking.experiment=closed", **reader)
    assert "MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD = reader, ***" in text
    assert "write access to experiment closed" in text
    assert password not in text


def test_study_on_postgresql_is_complete_and_leaks_no_secret(server: Composition, tmp_path: Path) -> None:
    options = ("strategy=optuna", "limits.n_trials=4", "study=forest", *FOREST, *ON_SERVER)
    driver = server.run("study", *options, entrypoint=HPO)
    assert driver.wait() == 0, driver.text
    stored = require_complete(server, "forest", 4, driver)
    assert "View run" not in driver.text
    assert {state for _, state, _, _ in stored.results.values()} <= {"COMPLETE", "PRUNED"}
    listed = server.run("study", "list", "tracking=server", entrypoint=HPO)
    assert listed.wait() == 0, listed.text
    assert "forest" in listed.text
    require_no_secret(server, tmp_path)
