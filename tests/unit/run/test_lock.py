"""One driver for each study, on this machine and on others."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpo.errors import ConfigError, TrackingError
from hpo.run.lock import DEAD_SECONDS, is_locked, lock_study, require_no_live_driver, this_driver
from hpo.tracking.reader import StudyRecord

HOLD = """
import sys
from pathlib import Path
from hpo.run.lock import lock_study
with lock_study(Path(sys.argv[1]), "mine"):
    (Path(sys.argv[1]) / "study.json").write_text("{}")
    print("held", flush=True)
    sys.stdin.read()
"""


def test_locked_study_is_refused_until_its_process_is_dead(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ}
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == b"held\n"
    try:
        who = rf"process {holder.pid} on {socket.gethostname()}, started \d{{4}}-\d\d-\d\d"
        with pytest.raises(ConfigError, match=who) as refused, lock_study(folder, "mine"):
            pass
        assert f"kill {holder.pid}" in refused.value.fix
        assert is_locked(folder)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()
    assert not is_locked(folder)
    with lock_study(folder, "mine"):
        assert is_locked(folder)
        assert json.loads((folder / "driver.json").read_text()) == this_driver()
    assert not is_locked(folder)


def test_lock_of_an_unknown_holder_is_refused_too(tmp_path: Path) -> None:
    with lock_study(tmp_path, "mine"):
        (tmp_path / "driver.json").unlink()
        (tmp_path / "study.json").touch()
        unknown = "process unknown on this machine is running it"
        with pytest.raises(ConfigError, match=unknown) as refused, lock_study(tmp_path, "mine"):
            pass
    assert refused.value.fix.startswith("wait for it, end it (kill PID)")


@pytest.mark.parametrize("file", ["study.json", "outbox.jsonl"])
def test_folder_is_kept_only_if_a_study_was_started_in_it(file: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="refused"), lock_study(tmp_path / "mine", "mine"):
        raise ValueError("refused")
    assert list(tmp_path.iterdir()) == []
    assert not is_locked(tmp_path / "mine")
    with lock_study(tmp_path / "mine", "mine"):
        (tmp_path / "mine" / file).touch()
    assert (tmp_path / "mine" / file).exists()


def test_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "studies").write_text("a file")
    with pytest.raises(TrackingError, match=r"tracking\.output_path"), lock_study(tmp_path / "studies" / "a", "a"):
        pass


def record(state: str, seen_seconds_ago: float | None = None, **driver: object) -> StudyRecord:
    tags = {"hpo.driver": json.dumps(driver)} if driver else {}
    if seen_seconds_ago is not None:
        tags["hpo.driver_seen"] = str(time.time() - seen_seconds_ago)
    return StudyRecord("run", "0", "mine", state, tags, {}, {}, time.time(), None)


ELSEWHERE = {"host": "another machine", "pid": 1, "created": 1}


@pytest.mark.parametrize("seen_seconds_ago", [None, 0.0, DEAD_SECONDS - 20])
def test_driver_elsewhere_is_alive_while_it_sends_heartbeats(seen_seconds_ago: float | None) -> None:
    with pytest.raises(ConfigError, match="process 1 on another machine"):
        require_no_live_driver("mine", record("running", seen_seconds_ago, **ELSEWHERE))


def test_driver_elsewhere_is_dead_without_heartbeats_or_after_the_end() -> None:
    require_no_live_driver("mine", record("running", DEAD_SECONDS + 1, **ELSEWHERE))
    require_no_live_driver("mine", record("interrupted", 0.0, **ELSEWHERE))
    require_no_live_driver("mine", record("running"))


def test_driver_of_this_machine_is_alive_while_its_process_is() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        import psutil

        created = round(psutil.Process(other.pid).create_time())
        here = {"host": socket.gethostname(), "pid": other.pid, "created": created}
        with pytest.raises(ConfigError, match=f"process {other.pid}"):
            require_no_live_driver("mine", record("running", DEAD_SECONDS + 1, **here))
        require_no_live_driver("mine", record("running", 0.0, **{**here, "created": created - 100}))  # a reused id
    require_no_live_driver("mine", record("running", 0.0, **here))
    require_no_live_driver("mine", record("running", 0.0, **this_driver()))  # this process resumes its own study
