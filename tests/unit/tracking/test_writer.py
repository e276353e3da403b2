"""The writer of a study's record, up to the MLflow store."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from hpo.core.states import StopReason
from hpo.core.trial import Trial
from hpo.errors import StudyFailed
from hpo.tracking import delivery_thread
from hpo.tracking.outbox import STUDY, read_outbox
from hpo.tracking.writer import DatasetRecord

from .conftest import MakeTracker
from .records import DATA, LOSS, Store, artifacts_of, files_up_to, fold, runs_by_key, unreachable


def test_outage_and_recovery_are_reported_once_each(store: Store, make_tracker: MakeTracker) -> None:
    said: list[str] = []
    is_reachable = threading.Event()

    def connect() -> Store:
        if not is_reachable.is_set():
            raise ConnectionError("\n refused \nmore")
        return store

    tracker = make_tracker(connect, said.append)
    tracker.start_study("mine", {}, {}, DATA, {})
    assert not tracker.flush()
    assert not tracker.flush(5)
    assert tracker.trouble == "refused"
    assert tracker.run_id(STUDY) is None
    assert tracker.model_uri(0) is None
    is_reachable.set()
    assert tracker.flush()
    assert tracker.trouble is None
    assert tracker.close()
    assert said == [
        "MLflow does not answer (refused); training continues, and records wait on disk",
        "MLflow answers again; all pending records are delivered",
    ]
    assert tracker.run_id(STUDY) == runs_by_key(store)[STUDY].info.run_id


def test_failing_message_does_not_stop_delivery(store: Store, make_tracker: MakeTracker) -> None:
    attempts: list[int] = []

    def connect() -> Store:
        attempts.append(1)
        if len(attempts) == 1:
            raise ConnectionError("refused")
        return store

    def say(text: str) -> None:
        raise SystemExit

    tracker = make_tracker(connect, say)
    tracker.start_study("mine", {}, {}, DATA, {})
    tracker.flush()
    assert tracker.flush()
    assert set(runs_by_key(store)) == {STUDY}


def test_flush_with_a_limit_returns_while_the_store_hangs(make_tracker: MakeTracker) -> None:
    release = threading.Event()

    def connect() -> Store:
        release.wait(60)
        raise ConnectionError("refused")

    tracker = make_tracker(connect)
    tracker.start_study("mine", {}, {}, DATA, {})
    assert not tracker.flush(0.05)
    release.set()


def test_secrets_are_not_recorded(
    store: Store, make_tracker: MakeTracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE_PASSWORD", "correct-horse")
    tracker = make_tracker(lambda: store)
    source = "postgresql://me:battery-staple@db/x"
    data = DatasetRecord("d", "0" * 32, source, {})
    tracker.start_study("mine", {"a": "correct-horse"}, {"p": source}, data, {"a.txt": "correct-horse"})
    tracker.start_trial(0, {"x": "correct-horse"})
    tracker.log_param(0, "y", {"y": "correct-horse"}, {"y": {"choices": ["correct-horse"]}})
    tracker.log_note(0, "note", "correct-horse")
    tracker.log_text(0, f"Traceback: cannot open {source} with correct-horse", "traceback_fold_0.txt")
    failed = fold(score=None, reason=StopReason.ERROR, error="correct-horse", traceback="correct-horse")
    tracker.log_fold(0, failed, is_whole_budget=True)
    tracker.end_trial(Trial(0, {}, (failed,)), LOSS, {}, 0, {"b": "correct-horse"})
    tracker.end_study("FAILED", {"c": "correct-horse"})
    assert tracker.close()
    recorded = (tmp_path / "mine" / "outbox.jsonl").read_text()
    everything = recorded + Path("hpo_runs/mlflow.db").read_bytes().decode("latin-1")
    assert "cannot open postgresql://me:***@db/x with ***" in everything
    assert "correct-horse" not in everything
    assert "battery-staple" not in everything


def test_full_disk_ends_the_study(make_tracker: MakeTracker, tmp_path: Path) -> None:
    tracker = make_tracker(unreachable)
    with files_up_to(5), pytest.raises(StudyFailed, match=r"the disk of .*mine is full .*everything recorded so far"):
        tracker.set_tags(STUDY, {"a": "b"})
    assert list(read_outbox(tmp_path / "mine" / "outbox.jsonl")) == []


def test_nothing_is_written_after_the_end(make_tracker: MakeTracker, tmp_path: Path) -> None:
    tracker = make_tracker(unreachable)
    tracker.end_study("FINISHED", {"hpo.state": "finished"})
    tracker.set_tags(STUDY, {"late": "1"})
    (record,) = read_outbox(tmp_path / "mine" / "outbox.jsonl")
    assert (record.kind, record.body["status"]) == ("end", "FINISHED")


@pytest.mark.parametrize("holder", ["me", "another"])
def test_driver_stops_when_another_one_has_resumed_the_study(
    store: Store, make_tracker: MakeTracker, monkeypatch: pytest.MonkeyPatch, holder: str
) -> None:
    monkeypatch.setattr(delivery_thread, "HEARTBEAT_SECONDS", 0.0)
    tracker = make_tracker(lambda: store, driver="me")
    tracker.start_study("mine", {"hpo.driver": "me", "hpo.driver_seen": "1"}, {}, DATA, {})
    assert tracker.flush()
    run_id = runs_by_key(store)[STUDY].info.run_id
    store[0].set_tag(run_id, "hpo.driver", holder)
    store[0].set_tag(run_id, "hpo.driver_seen", "1")
    assert tracker.flush()
    if holder == "me":
        tracker.set_tags(STUDY, {"a": "b"})
    else:
        with pytest.raises(StudyFailed, match="another driver has resumed this study"):
            tracker.set_tags(STUDY, {"a": "b"})
    seen = float(store[0].get_run(run_id).data.tags["hpo.driver_seen"])
    assert (seen > 1) == (holder == "me")


def test_retried_trial_supersedes_its_earlier_attempt(store: Store, make_tracker: MakeTracker) -> None:
    tracker = make_tracker(lambda: store)
    tracker.start_study("mine", {}, {}, DATA, {})
    tracker.start_trial(3, {"x": 1})
    assert tracker.key(3) == "trial-0003"
    tracker.close_running_trials([3], StopReason.CRASHED)
    tracker.start_trial(3, {"x": 1}, attempt=1)
    assert tracker.key(3) == "trial-0003.1"
    assert tracker.close()
    runs = runs_by_key(store)
    first, second = runs["trial-0003"], runs["trial-0003.1"]
    assert (first.info.status, first.data.tags["hpo.stop_reason"]) == ("KILLED", "crashed")
    assert (first.data.tags["hpo.superseded"], first.data.tags["hpo.attempt"]) == ("true", "0")
    assert (second.data.tags["hpo.attempt"], second.data.tags["hpo.state"]) == ("1", "RUNNING")
    assert "hpo.superseded" not in second.data.tags
    assert second.data.tags["hpo.params"] == '{"x":1}'


def test_only_running_trials_are_closed(store: Store, make_tracker: MakeTracker) -> None:
    tracker = make_tracker(lambda: store)
    tracker.start_study("mine", {}, {}, DATA, {})
    for number in range(3):
        tracker.start_trial(number, {})
    tracker.end_trial(Trial(0, {}, (fold(),)), LOSS, {}, 0, {})
    tracker.close_running_trials([1])
    tracker.close_running_trials()
    assert tracker.close()
    runs = runs_by_key(store)
    assert [runs[f"trial-000{number}"].info.status for number in range(3)] == ["FINISHED", "KILLED", "KILLED"]
    assert [runs[f"trial-000{n}"].data.tags["hpo.state"] for n in range(3)] == ["COMPLETE", "WAITING", "WAITING"]


def test_reopened_study_continues_its_runs(store: Store, make_tracker: MakeTracker) -> None:
    first = make_tracker(lambda: store)
    first.start_study("mine", {}, {}, DATA, {})
    first.start_trial(0, {})
    first.start_trial(0, {}, attempt=1)
    first.end_study("KILLED", {})
    assert first.close()
    second = make_tracker(lambda: store)
    second.reopen_study({"hpo.n_resumed": "1"}, {0: 1})
    second.set_tags(0, {"a": "b"})
    assert second.close()
    runs = runs_by_key(store)
    assert (runs[STUDY].info.status, runs[STUDY].data.tags["hpo.n_resumed"]) == ("RUNNING", "1")
    assert runs["trial-0000.1"].data.tags["a"] == "b"
    assert "a" not in runs["trial-0000"].data.tags


def test_notes_become_tags_or_files(store: Store, make_tracker: MakeTracker) -> None:
    tracker = make_tracker(lambda: store)
    tracker.start_study("mine", {}, {}, DATA, {})
    tracker.start_trial(0, {})
    tracker.log_note(0, "short", "x" * 4000)
    tracker.log_note(0, "long", "x" * 4001)
    tracker.log_note(0, "a/b", "text")
    assert tracker.close()
    trial = runs_by_key(store)["trial-0000"]
    assert {name for name in trial.data.tags if name.startswith("user.")} == {"user.short"}
    files = artifacts_of(store, trial, "user")
    assert {name.rpartition("-")[0] for name in files} == {"user/long", "user/a_b"}


def test_params_of_define_by_run_trials_are_recorded(store: Store, make_tracker: MakeTracker) -> None:
    tracker = make_tracker(lambda: store)
    tracker.start_study("mine", {}, {}, DATA, {})
    tracker.start_trial(0, {})
    tracker.log_param(0, "y", {"x": 1, "y": 2.5}, {"y": {"type": "float", "low": 0}})
    assert tracker.close()
    trial = runs_by_key(store)["trial-0000"]
    assert trial.data.params == {"y": "2.5"}
    assert json.loads(trial.data.tags["hpo.params"]) == {"x": 1, "y": 2.5}
    assert json.loads(trial.data.tags["hpo.domains"]) == {"y": {"type": "float", "low": 0}}


def test_folds_at_smaller_budgets_are_kept(store: Store, make_tracker: MakeTracker) -> None:
    tracker = make_tracker(lambda: store)
    tracker.start_study("mine", {}, {}, DATA, {})
    tracker.start_trial(0, {})
    tracker.log_fold(0, fold(score=0.9, budget=1), is_whole_budget=False)
    tracker.log_fold(0, fold(score=0.4, budget=3), is_whole_budget=True)
    assert tracker.close()
    tags = runs_by_key(store)["trial-0000"].data.tags
    assert {name: json.loads(tags[name])["score"] for name in tags if name.startswith("hpo.fold_")} == {
        "hpo.fold_0": 0.4,
        "hpo.fold_0_at_1": 0.9,
    }


def test_trial_ends_with_traceback_and_progress_of_the_study(store: Store, make_tracker: MakeTracker) -> None:
    tracker = make_tracker(lambda: store)
    tracker.start_study("mine", {}, {}, DATA, {})
    tracker.start_trial(0, {})
    failed = fold(2, score=None, reason=StopReason.ERROR, error="ValueError: x", traceback="Traceback …")
    tracker.end_trial(Trial(0, {}, (failed,)), LOSS, {"n_failed": 1}, 5, {"hpo.spent_epochs": 3})
    assert tracker.close()
    runs = runs_by_key(store)
    study, trial = runs[STUDY], runs["trial-0000"]
    assert (trial.info.status, trial.data.tags["hpo.error"]) == ("FAILED", "ValueError: x")
    assert artifacts_of(store, trial) == {"traceback_fold_2.txt"}
    assert study.data.tags["hpo.spent_epochs"] == "3"
    (point,) = store[0].get_metric_history(study.info.run_id, "n_failed")
    assert (point.value, point.step) == (1.0, 5)
