"""The MLflow UI in a real browser shows a study, its trials and the curves of a trial."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpo.tracking.reader import list_studies, load_trials
from hpo.tracking.store import open_store

pytestmark = pytest.mark.slow


@pytest.fixture
def server(hpo: Callable[..., int], workdir: Path) -> Iterator[str]:
    # Run a study first: `hpo ui` creates neither a store nor an experiment.
    assert hpo("dataset=digits", "limits.n_trials=6", "max_epochs=8", "study=digits-cnn", "seed=3") == 0
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "hpo", "ui", "--port", str(port)]
    with (workdir / "ui.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=workdir, stdout=log, stderr=log, start_new_session=True)
    yield f"http://127.0.0.1:{port}"
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(30)


def wait(condition: Callable[[], Any], what: str, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return
        except Exception:  # noqa: S110 the page is still being built
            pass
        time.sleep(0.25)
    raise AssertionError(f"not shown after {seconds:g} s: {what}")


def picture(browser: Any, folder: Path, name: str) -> None:
    time.sleep(1.0)  # let animations end; only the screenshot depends on it
    browser.save_screenshot(str(folder / f"{name}.png"))


@pytest.mark.timeout(600)
def test_ui_shows_study_trials_and_curves(server: str, browser: Any, pictures: Path) -> None:
    client, experiment = open_store("sqlite:///hpo_runs/mlflow.db", "hpo", Path("hpo_runs"))
    study = list_studies(client, experiment)[0]
    trials = load_trials(client, study)
    best = next(t for t in trials if t.number == int(study.tags["hpo.best_trial"]))

    def text() -> str:
        return str(browser.find_element("tag name", "body").text)

    wait(lambda: browser.get(server) is None and "MLflow" in browser.title, "the server")
    training = "workflowType=machine_learning"
    browser.get(f"{server}/#/experiments/{experiment}/runs?{training}")
    wait(lambda: "digits-cnn" in text(), "the study")
    for button in browser.find_elements("css selector", "button[aria-label=Close]"):
        button.click()  # close the assistant's panel
    browser.find_element("css selector", ".ag-row button").click()
    wait(lambda: all(f"trial-{t.number:04d}" in text() for t in trials), "its trials")
    picture(browser, pictures, "mlflow-study")

    browser.get(f"{server}/#/experiments/{experiment}/runs/{best.run_id}/model-metrics?{training}")
    wait(lambda: "Model metrics" in text(), "the trial's metrics")
    # MLflow draws charts only when they are visible, so filter for the curves.
    browser.find_element("css selector", "input[placeholder='Search metric charts']").send_keys("^loss|accuracy|^val_")
    wait(lambda: "val_accuracy" in text() and "val_loss" in text() and "best_epoch" not in text(), "its four curves")
    wait(lambda: len(browser.find_elements("css selector", ".scatterlayer path")) >= 4, "the lines of its curves")
    picture(browser, pictures, "mlflow-trial")

    browser.get(f"{server}/#/experiments/{experiment}/runs/{study.run_id}?{training}")
    wait(lambda: "test_accuracy" in text() and "best_objective" in text(), "the study's metrics")
    assert f"Best: trial {best.number}" in text()
    picture(browser, pictures, "mlflow-study-run")
    assert len(list(pictures.glob("*.png"))) >= 3
