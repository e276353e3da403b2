"""One driver a study, and what a session starts from."""

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
from hpo.run import session
from hpo.tracking.outbox import mark_delivered
from hpo.tracking.reader import StudyRecord

HOLD = """
import sys, time
from pathlib import Path
from hpo.run.session import claim
with claim(Path(sys.argv[1]), "mine"):
    (Path(sys.argv[1]) / "study.json").write_text("{}")
    print("held", flush=True)
    time.sleep(600)
"""


def where(tmp_path: Path, **options: str) -> session.StoreLocation:
    return session.StoreLocation("sqlite:///x.db", "hpo", tmp_path, **options)


def test_a_study_that_somebody_runs_is_refused_with_who_and_a_dead_holder_holds_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE, env={**os.environ})
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    try:
        who = f"process {holder.pid} on {socket.gethostname()}"
        with pytest.raises(ConfigError, match=who), session.claim(folder, "mine"):
            pass
        assert session.is_running(folder)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    assert not session.is_running(folder)
    with session.claim(folder, "mine"):
        assert session.is_running(folder)
    assert not session.is_running(folder)


def test_a_study_that_was_refused_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="refused"), session.claim(tmp_path / "mine", "mine"):
        raise ValueError("refused")
    assert list(tmp_path.iterdir()) == []


def record(state: str, **driver: object) -> StudyRecord:
    tags = {"hpo.driver": json.dumps(driver)}
    return StudyRecord("run", "0", "mine", state, tags, {}, {}, time.time(), None)


def test_a_driver_elsewhere_is_alive_as_long_as_it_says_so() -> None:
    other = {"host": "another machine", "pid": 1, "created": 1}
    with pytest.raises(ConfigError, match="another machine"):
        session._require_dead_driver("mine", record("running", **other))
    session._require_dead_driver("mine", record("interrupted", **other))
    silent = record("running", **other)
    silent.tags["hpo.driver_seen"] = str(time.time() - session.DEAD_SECONDS - 1)  # type: ignore[index]
    session._require_dead_driver("mine", silent)


def test_a_process_id_that_was_used_again_is_no_driver() -> None:
    here = {"host": socket.gethostname(), "pid": os.getppid(), "created": 1}
    session._require_dead_driver("mine", record("running", **here))


def test_names_that_nobody_chose_do_not_collide(tmp_path: Path) -> None:
    assert [session.free_name(where(tmp_path), "a") for _ in range(3)] == ["a", "a-2", "a-3"]


def test_offline_is_one_of_two_words(tmp_path: Path) -> None:
    options = {"uri": "u", "experiment": "e", "output_path": str(tmp_path)}
    assert session.StoreLocation.of({**options, "offline": "allow"}).offline == "allow"
    with pytest.raises(ConfigError, match="refuse or allow"):
        session.StoreLocation.of({**options, "offline": "yes"})


def test_only_a_study_that_was_begun_here_is_remembered(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is none"):
        session.remembered(where(tmp_path), "mine")
    folder = tmp_path / "studies" / "mine"
    folder.mkdir(parents=True)
    (folder / "study.json").write_text(json.dumps({"overrides": ["seed=3"]}))
    assert session.remembered(where(tmp_path), "mine") == ["seed=3"]
    with pytest.raises(ConfigError, match="mine"):
        session.remembered(where(tmp_path), "other")


def test_an_outbox_is_delivered_to_its_own_store_only(workdir: Path) -> None:
    folder = workdir / "hpo_runs" / "studies" / "mine"
    folder.mkdir(parents=True)
    (folder / "study.json").write_text(json.dumps({"uid": "1", "store": "sqlite:///other.db hpo"}))
    (folder / "outbox.jsonl").write_text("[]\n")
    mark_delivered(folder, 3)
    here = session.StoreLocation("sqlite:///hpo_runs/mlflow.db", "hpo", workdir / "hpo_runs")
    with pytest.raises(ConfigError, match=r"other\.db"):
        session.deliver(here, folder)


def test_a_folder_that_takes_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "studies").write_text("a file")
    with pytest.raises(TrackingError, match=r"tracking\.output_path"):
        session.free_name(where(tmp_path), "a")
