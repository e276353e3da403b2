"""From the outbox to a real MLflow store: everything once, however often it is tried."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from hpo.tracking.delivery import OutboxUploader
from hpo.tracking.outbox import STUDY, delivered_bytes, mark_delivered, model_uri_of, read_outbox, run_id_of
from hpo.tracking.store import open_store
from hpo.tracking.writer import DatasetRecord, Tracker

Store = tuple[mlflow.MlflowClient, str]
TEXTS = {"fingerprint.json": "{}"}


@pytest.fixture
def store(workdir: Path) -> Store:
    return open_store("sqlite:///hpo_runs/mlflow.db", "hpo", Path("hpo_runs"))


def unreachable() -> Store:
    raise ConnectionError("refused")


def runs_of(store: Store) -> dict[str, Any]:
    client, experiment = store
    runs = client.search_runs([experiment], order_by=["attributes.start_time ASC"])
    keys = [run.data.tags["hpo.run_key"] for run in runs]
    assert len(set(keys)) == len(keys), f"a run was made twice: {keys}"
    return dict(zip(keys, runs, strict=True))


def say_everything(tracker: Tracker) -> None:
    tracker.start_study(
        "mine", {"hpo.state": "running"}, {"seed": 0}, DatasetRecord("d", "0" * 32, "s", {"train": 1}), TEXTS
    )
    tracker.start_trial(0, {"x": 0.5})
    for epoch in range(3):
        tracker.log_metrics(0, {"loss": 1 / (epoch + 1), "val_loss": float("nan")}, epoch)
    tracker.log_text(0, "what happened", "note.txt")
    ended = {"metrics": [["n_complete", 1.0, 1, 0]], "tags": {"spent": "1"}}
    tracker._put(0, "end", status="FINISHED", at=1, tags={"hpo.state": "COMPLETE"}, metrics=[], study=ended)
    tracker.set_tags(STUDY, {"best": run_id_of("trial-0000"), "model": model_uri_of("trial-0000")})
    tracker.end_study("FINISHED", {"hpo.state": "finished"})


def check(store: Store) -> None:
    runs = runs_of(store)
    assert set(runs) == {STUDY, "trial-0000"}
    study, trial = runs[STUDY], runs["trial-0000"]
    assert (study.info.status, trial.info.status) == ("FINISHED", "FINISHED")
    assert trial.data.tags["mlflow.parentRunId"] == study.info.run_id
    assert study.data.tags["best"] == trial.info.run_id
    assert (study.data.tags["spent"], study.data.tags["hpo.state"]) == ("1", "finished")
    assert study.data.params == {"seed": "0"}
    assert trial.data.tags["hpo.state"] == "COMPLETE"
    assert trial.data.params == {"x": "0.5"}
    client, _ = store
    for metric in ("loss", "val_loss"):
        assert [point.step for point in client.get_metric_history(trial.info.run_id, metric)] == [0, 1, 2]
    assert [point.step for point in client.get_metric_history(study.info.run_id, "n_complete")] == [0]
    assert [artifact.path for artifact in client.list_artifacts(trial.info.run_id)] == ["note.txt"]
    assert [artifact.path for artifact in client.list_artifacts(study.info.run_id)] == ["fingerprint.json"]
    assert len(client.get_run(study.info.run_id).inputs.dataset_inputs) == 1


def test_a_driver_s_words_arrive(store: Store, tmp_path: Path) -> None:
    tracker = Tracker(tmp_path / "mine", "uid", lambda: store, lambda text: None)
    say_everything(tracker)
    assert tracker.close()
    check(store)
    assert delivered_bytes(tmp_path / "mine") == (tmp_path / "mine" / "outbox.jsonl").stat().st_size


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 1.0])
def test_delivering_any_part_again_changes_nothing(store: Store, tmp_path: Path, share: float) -> None:
    """As after a kill between what MLflow took and the mark that says so."""
    folder = tmp_path / "mine"
    tracker = Tracker(folder, "uid", lambda: store, lambda text: None)
    say_everything(tracker)
    tracker.close()
    ends = [0, *(record.end for record in read_outbox(folder / "outbox.jsonl"))]
    mark_delivered(folder, ends[int(share * (len(ends) - 1))])
    OutboxUploader(folder, "uid", lambda: store).deliver()
    check(store)


def test_which_runs_there_are_is_asked_once_and_not_for_every_trial(store: Store, tmp_path: Path) -> None:
    """One search looks through all runs of the study: one a trial would take the square of their number."""
    client, experiment = store
    calls: list[str] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            calls.append(name)
            return getattr(client, name)

    folder = tmp_path / "mine"
    for session in range(2):  # the second one finds all that the first has made
        tracker = Tracker(folder, "uid", unreachable, lambda text: None)
        if session == 0:
            tracker.start_study("mine", {}, {}, DatasetRecord("d", "0" * 32, "s", {}), {})
            for number in range(12):
                tracker.start_trial(number, {"x": 0.1})
        tracker.close(0.1)
        mark_delivered(folder, 0)
        calls.clear()
        OutboxUploader(folder, "uid", lambda: (Counting(), experiment)).deliver()
        assert calls.count("search_runs") == 1
        assert calls.count("create_run") == (13 if session == 0 else 0)
    assert len(runs_of(store)) == 13


def test_a_study_of_several_pages_is_found_again(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpo.tracking.study_runs.RUNS_PER_PAGE", 2)
    folder = tmp_path / "mine"
    tracker = Tracker(folder, "uid", lambda: store, lambda text: None)
    tracker.start_study("mine", {}, {}, DatasetRecord("d", "0" * 32, "s", {}), {})
    for number in range(5):
        tracker.start_trial(number, {"x": 0.1})
    assert tracker.close()
    mark_delivered(folder, 0)
    OutboxUploader(folder, "uid", lambda: store).deliver()
    assert len(runs_of(store)) == 6


def test_a_store_that_fails_in_the_middle_gets_everything_once(store: Store, tmp_path: Path) -> None:
    """Each call fails once after it was carried out, and each once before: the worst that a network can do."""
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
                    raise ConnectionError("lost on the way there")
                result = real(*args, **options)
                if (name, "after") not in failures:
                    failures.add((name, "after"))
                    raise ConnectionError("lost on the way back")
                return result

            return call

    folder = tmp_path / "mine"
    tracker = Tracker(folder, "uid", unreachable, lambda text: None)
    say_everything(tracker)
    tracker.close(0.1)
    courier = OutboxUploader(folder, "uid", lambda: (Flaky(), experiment))
    for _ in range(40):
        try:
            courier.deliver()
            break
        except ConnectionError:
            pass
    assert len(failures) >= 8
    check(store)


def test_what_mlflow_refuses_for_good_is_set_aside_and_holds_up_nothing(store: Store, tmp_path: Path) -> None:
    tracker = Tracker(tmp_path / "mine", "uid", lambda: store, lambda text: None)
    tracker.start_study("mine", {}, {}, DatasetRecord("d", "0" * 32, "s", {}), {})
    tracker.set_tags(STUDY, {"good": "1", "bad" * 200: "2", "also good": "3"})
    tracker.log_metrics(STUDY, {"fine": 1.0, "not? fine!": 2.0})
    assert tracker.close()
    assert tracker.n_refused == 2
    run = runs_of(store)[STUDY]
    assert (run.data.tags["good"], run.data.tags["also good"], run.data.metrics["fine"]) == ("1", "3", 1.0)
    assert len((tmp_path / "mine" / "refused.jsonl").read_text().splitlines()) == 2


def test_a_store_that_does_not_answer_is_told_of_once_and_so_is_its_return(store: Store, tmp_path: Path) -> None:
    said: list[str] = []
    answers = [False]

    def connect() -> Store:
        if not answers[0]:
            raise ConnectionError("refused")
        return store

    tracker = Tracker(tmp_path / "mine", "uid", connect, said.append)
    say_everything(tracker)
    assert not tracker.flush()
    assert not tracker.flush(5)
    assert tracker.trouble == "refused"
    answers[0] = True
    assert tracker.flush()
    assert tracker.close()
    check(store)
    assert [text.partition(" (")[0] for text in said] == [
        "MLflow does not answer",
        "MLflow answers again; all pending records are delivered",
    ]


def test_secrets_stay_out_of_the_record(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_PASSWORD", "correct-horse")
    folder = tmp_path / "mine"
    tracker = Tracker(folder, "uid", lambda: store, lambda text: None)
    source = "postgresql://me:battery-staple@db/x"
    tracker.start_study("mine", {"a": "correct-horse"}, {"p": source}, DatasetRecord("d", "0" * 32, source, {}), {})
    tracker.start_trial(0, {"x": "correct-horse"})
    tracker.log_text(0, f"Traceback: cannot open {source} with correct-horse", "traceback_fold_0.txt")
    assert tracker.close()
    everything = (folder / "outbox.jsonl").read_text() + Path("hpo_runs/mlflow.db").read_bytes().decode("latin-1")
    assert "cannot open postgresql://me:***@db/x with ***" in everything
    assert "correct-horse" not in everything
    assert "battery-staple" not in everything
