"""The driver's end of a worker process."""

import os
import signal
import time
from pathlib import Path

import joblib
import toy

from hpo.executors.local.handle import GRACE_SECONDS, WorkerHandle
from hpo.models.base import Undisturbed


def test_kill_does_not_wait_for_processes_that_a_model_left(tmp_path: Path) -> None:
    joblib.dump(toy.LeavesProcess(tmp_path / "pid"), tmp_path / "data.joblib")
    worker = WorkerHandle(tmp_path / "data.joblib", tmp_path / "worker.log", print)
    try:
        assert worker.wait_until_ready(Undisturbed())
        began = time.monotonic()
        worker.kill()
        worker.kill()
        assert time.monotonic() - began < GRACE_SECONDS / 2
        assert not worker.is_alive
    finally:
        worker.kill()
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
