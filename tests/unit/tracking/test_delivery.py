"""Upload of an outbox to a real MLflow store: each record has effect once, however often it is uploaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpo.core.trial import Trial
from hpo.tracking.delivery import OutboxUploader
from hpo.tracking.outbox import (
    STUDY,
    Outbox,
    Record,
    delivered_bytes,
    mark_delivered,
    model_uri_of,
    read_outbox,
    run_id_of,
)
from hpo.tracking.writer import Tracker

from .conftest import MakeTracker
from .records import DATA, LOSS, Store, artifacts_of, fold, runs_by_key, unreachable

TEXTS = {"fingerprint.json": "{}"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder of the study of ``make_tracker``."""
    return tmp_path / "mine"


def record_everything(tracker: Tracker) -> None:
    """Record a study with one trial, with a record of each kind but models."""
    tracker.start_study("mine", {"hpo.state": "running"}, {"seed": 0}, DATA, TEXTS)
    tracker.reopen_study({"hpo.workers": "2"}, {})
    tracker.start_trial(0, {"x": 0.5})
    for epoch in range(3):
        tracker.log_metrics(0, {"loss": 1 / (epoch + 1), "val_loss": float("nan")}, epoch)
    tracker.log_text(0, "text of the note", "note.txt")
    file = tracker.folder / "plot.png"
    file.write_text("a plot")
    tracker.log_file(STUDY, file, "plots")
    tracker.end_trial(Trial(0, {"x": 0.5}, (fold(),)), LOSS, {"n_complete": 1.0}, 0, {"spent": "1"})
    tracker.set_tags(STUDY, {"best": run_id_of("trial-0000"), "model": model_uri_of("trial-0000")})
    tracker.end_study("FINISHED", {"hpo.state": "finished"})


def check_everything(store: Store) -> None:
    """Check that the store holds what :func:`record_everything` recorded, once."""
    runs = runs_by_key(store)
    assert set(runs) == {STUDY, "trial-0000"}
    study, trial = runs[STUDY], runs["trial-0000"]
    assert (study.info.status, trial.info.status) == ("FINISHED", "FINISHED")
    assert trial.data.tags["mlflow.parentRunId"] == study.info.run_id
    assert {name: study.data.tags[name] for name in ("best", "model", "spent", "hpo.state", "hpo.workers")} == {
        "best": trial.info.run_id,
        "model": "",
        "spent": "1",
        "hpo.state": "finished",
        "hpo.workers": "2",
    }
    assert study.data.tags["hpo.study_uid"] == trial.data.tags["hpo.study_uid"] == "uid"
    assert (study.info.run_name, trial.info.run_name) == ("mine", "trial-0000")
    assert study.data.params == {"seed": "0"}
    assert trial.data.tags["hpo.state"] == "COMPLETE"
    assert trial.data.params == {"x": "0.5"}
    client, _ = store
    for metric in ("loss", "val_loss"):
        assert [point.step for point in client.get_metric_history(trial.info.run_id, metric)] == [0, 1, 2]
    assert [point.step for point in client.get_metric_history(study.info.run_id, "n_complete")] == [0]
    assert artifacts_of(store, trial) == {"note.txt"}
    assert artifacts_of(store, study) == {"fingerprint.json", "plots"}
    assert artifacts_of(store, study, "plots") == {"plots/plot.png"}
    (dataset,) = client.get_run(study.info.run_id).inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == (DATA.name, DATA.digest)
    assert json.loads(dataset.dataset.profile) == {"n_train": 8, "n_test": 2}
    assert json.loads(dataset.dataset.source) == {"source": DATA.source}


def test_all_records_arrive(store: Store, make_tracker: MakeTracker, folder: Path) -> None:
    tracker = make_tracker(lambda: store)
    record_everything(tracker)
    assert tracker.close()
    check_everything(store)
    assert delivered_bytes(folder) == (folder / "outbox.jsonl").stat().st_size
    assert tracker.n_refused == 0


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 1.0])
def test_uploading_a_part_again_changes_nothing(
    store: Store, make_tracker: MakeTracker, folder: Path, share: float
) -> None:
    """A process may be killed between an upload and the update of the stored position."""
    tracker = make_tracker(lambda: store)
    record_everything(tracker)
    tracker.close()
    ends = [0, *(record.end for record in read_outbox(folder / "outbox.jsonl"))]
    first = int(share * (len(ends) - 1))
    mark_delivered(folder, ends[first])
    assert OutboxUploader(folder, "uid", lambda: store).deliver() == len(ends) - 1 - first
    check_everything(store)


def test_nothing_is_uploaded_without_pending_records(tmp_path: Path) -> None:
    assert OutboxUploader(tmp_path, "uid", unreachable).deliver() == 0


def test_runs_are_searched_once_and_not_for_each_trial(store: Store, make_tracker: MakeTracker, folder: Path) -> None:
    """A search scans all runs of the study, so one search for each trial would be quadratic."""
    client, experiment = store
    calls: list[str] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            calls.append(name)
            return getattr(client, name)

    for session in range(2):  # the second one finds the runs that the first one created
        if session == 0:
            tracker = make_tracker(unreachable)
            tracker.start_study("mine", {}, {}, DATA, {})
            for number in range(12):
                tracker.start_trial(number, {"x": 0.1})
            tracker.close(0.1)
        mark_delivered(folder, 0)
        calls.clear()
        OutboxUploader(folder, "uid", lambda: (Counting(), experiment)).deliver()
        assert calls.count("search_runs") == 1
        assert calls.count("create_run") == (13 if session == 0 else 0)
    assert len(runs_by_key(store)) == 13


def test_runs_on_later_pages_are_found(
    store: Store, make_tracker: MakeTracker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpo.tracking.study_runs.RUNS_PER_PAGE", 2)
    tracker = make_tracker(lambda: store)
    tracker.start_study("mine", {}, {}, DATA, {})
    for number in range(5):
        tracker.start_trial(number, {"x": 0.1})
    assert tracker.close()
    mark_delivered(folder, 0)
    OutboxUploader(folder, "uid", lambda: store).deliver()
    assert len(runs_by_key(store)) == 6


def test_everything_arrives_once_over_a_store_that_fails(store: Store, make_tracker: MakeTracker, folder: Path) -> None:
    """Each call that writes fails once before and once after it was carried out, the worst that a network can do."""
    client, experiment = store
    failures: set[tuple[str, str]] = set()

    class Flaky:
        def __getattr__(self, name: str) -> Callable[..., Any]:
            real = getattr(client, name)
            if not callable(real) or name.startswith(("search", "get", "list")):
                return real

            def call(*args: Any, **options: Any) -> Any:
                if (name, "before") not in failures:
                    failures.add((name, "before"))
                    raise ConnectionError("the request was lost")
                result = real(*args, **options)
                if (name, "after") not in failures:
                    failures.add((name, "after"))
                    raise ConnectionError("the answer was lost")
                return result

            return call

    tracker = make_tracker(unreachable)
    record_everything(tracker)
    tracker.close(0.1)
    uploader = OutboxUploader(folder, "uid", lambda: (Flaky(), experiment))
    for _ in range(40):
        try:
            uploader.deliver()
            break
        except ConnectionError:
            pass
    assert len(failures) >= 8
    check_everything(store)


def test_refused_records_are_set_aside_and_block_nothing(store: Store, make_tracker: MakeTracker, folder: Path) -> None:
    tracker = make_tracker(lambda: store)
    tracker.start_study("mine", {}, {}, DATA, {})
    tracker.set_tags(STUDY, {"good": "1", "bad" * 200: "2", "also good": "3"})
    tracker.log_metrics(STUDY, {"fine": 1.0, "not? fine!": 2.0}, 4)
    assert tracker.close()
    assert tracker.n_refused == 2
    run = runs_by_key(store)[STUDY]
    assert (run.data.tags["good"], run.data.tags["also good"], run.data.metrics["fine"]) == ("1", "3", 1.0)
    refused = [json.loads(line) for line in (folder / "refused.jsonl").read_text().splitlines()]
    metric, tag = sorted(refused, key=lambda line: sorted(line[2]))
    assert (metric[0], metric[1]) == (tag[0], tag[1]) == (STUDY, "batch")
    ((name, value, _, step),) = metric[2]["metrics"]
    assert (name, value, step) == ("not? fine!", 2.0, 4)
    assert tag[2] == {"tags": {"bad" * 200: "2"}}


def test_refused_param_is_set_aside(store: Store, make_tracker: MakeTracker, folder: Path) -> None:
    """A param cannot change in MLflow."""
    tracker = make_tracker(lambda: store)
    tracker.start_study("mine", {}, {}, DATA, {})
    tracker.start_trial(0, {"x": 1})
    assert tracker.flush()
    tracker.log_param(0, "x", {"x": 2}, {})
    assert tracker.close()
    (line,) = (folder / "refused.jsonl").read_text().splitlines()
    assert json.loads(line)[:3] == ["trial-0000", "batch", {"params": {"x": "2"}}]
    assert runs_by_key(store)["trial-0000"].data.params == {"x": "1"}


def test_other_errors_keep_records_pending(store: Store, make_tracker: MakeTracker, folder: Path) -> None:
    client, experiment = store

    class Broken:
        def __getattr__(self, name: str) -> Any:
            if name == "log_batch":
                raise RuntimeError("the database is locked")
            return getattr(client, name)

    tracker = make_tracker(unreachable)
    record_everything(tracker)
    tracker.close(0.1)
    uploader = OutboxUploader(folder, "uid", lambda: (Broken(), experiment))
    with pytest.raises(RuntimeError, match="locked"):
        uploader.deliver()
    assert uploader.n_refused == 0
    assert delivered_bytes(folder) < (folder / "outbox.jsonl").stat().st_size
    assert not (folder / "refused.jsonl").exists()


def test_many_values_are_split_over_several_calls(store: Store, folder: Path) -> None:
    """More params, tags and metrics than MLflow accepts in one call."""
    outbox = Outbox(folder)
    names = [f"n{number}" for number in range(850)]
    outbox.append(
        Record(STUDY, "start", {"name": "mine", "at": 1, "tags": {}, "params": dict.fromkeys(names[:250], 1)})
    )
    values = {"tags": dict.fromkeys(names[:101], "t"), "metrics": [[name, 1.0, 1, 0] for name in names]}
    outbox.append(Record(STUDY, "batch", values))
    outbox.close()
    uploader = OutboxUploader(folder, "uid", lambda: store)
    assert uploader.deliver() == 2
    run = runs_by_key(store)[STUDY]
    assert (len(run.data.params), len(run.data.metrics)) == (250, 850)
    assert set(names[:101]) <= set(run.data.tags)
    assert uploader.n_refused == 0


def test_tags_that_name_a_deleted_run_are_dropped(store: Store, make_tracker: MakeTracker) -> None:
    tracker = make_tracker(lambda: store)
    tracker.start_study("mine", {}, {}, DATA, {})
    tracker.set_tags(STUDY, {"kept": "1", "run": run_id_of("trial-0009"), "model": model_uri_of("trial-0009")})
    assert tracker.close()
    tags = runs_by_key(store)[STUDY].data.tags
    assert tags["kept"] == "1"
    assert {"run", "model"}.isdisjoint(tags)
    assert tracker.n_refused == 0


def test_records_of_a_deleted_run_are_set_aside(store: Store, make_tracker: MakeTracker, folder: Path) -> None:
    tracker = make_tracker(lambda: store)
    tracker.start_study("mine", {}, {}, DATA, {})
    tracker.start_trial(0, {})
    assert tracker.close()
    store[0].delete_run(runs_by_key(store)["trial-0000"].info.run_id)
    outbox = Outbox(folder)
    outbox.append(Record("trial-0000", "text", {"name": "a.txt", "text": ""}))
    outbox.append(Record(STUDY, "text", {"name": "b.txt", "text": ""}))
    outbox.close()
    uploader = OutboxUploader(folder, "uid", lambda: store)
    uploader.deliver()
    assert uploader.n_refused == 1
    assert artifacts_of(store, runs_by_key(store)[STUDY]) == {"b.txt"}


def test_missing_files_block_nothing(store: Store, make_tracker: MakeTracker) -> None:
    tracker = make_tracker(lambda: store)
    tracker.start_study("mine", {}, {}, DATA, {})
    tracker.log_file(STUDY, tracker.folder / "deleted.png")
    tracker.log_text(STUDY, "kept", "kept.txt")
    assert tracker.close()
    assert artifacts_of(store, runs_by_key(store)[STUDY]) == {"kept.txt"}


def test_ids_are_found_by_a_new_uploader(store: Store, make_tracker: MakeTracker, folder: Path) -> None:
    tracker = make_tracker(lambda: store)
    record_everything(tracker)
    assert tracker.close()
    uploader = OutboxUploader(folder, "uid", lambda: store)
    runs = runs_by_key(store)
    assert uploader.run_id(STUDY) == runs[STUDY].info.run_id
    assert uploader.run_id("trial-0000") == runs["trial-0000"].info.run_id
    assert uploader.run_id("trial-0001") is None
    assert OutboxUploader(folder, "another", lambda: store).run_id(STUDY) is None
    assert uploader.model_uri("trial-0000") == ""
