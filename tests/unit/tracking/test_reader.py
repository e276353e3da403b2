"""Studies and trials as they are read from MLflow."""

from __future__ import annotations

import json
from pathlib import Path

from hpo.core.states import State, StopReason
from hpo.core.trial import Trial
from hpo.tracking.outbox import STUDY
from hpo.tracking.reader import (
    download,
    find_study,
    find_trial_runs,
    list_studies,
    load_config,
    load_history,
    load_trials,
    read_fold_summaries,
    search_runs,
)
from hpo.tracking.writer import Tracker

from .conftest import MakeTracker
from .records import DATA, LOSS, Store, fold, ignore, runs_by_key


def record_study(store: Store, folder: Path, name: str, uid: str) -> None:
    tracker = Tracker(folder, uid, lambda: store, ignore)
    tracker.start_study(name, {"hpo.state": "running"}, {"seed": 0}, DATA, {"config.yaml": f"study: {name}\n"})
    assert tracker.close()


def test_studies_are_listed_newest_first(store: Store, tmp_path: Path) -> None:
    assert list_studies(*store) == []
    for name in ("a", "b"):
        record_study(store, tmp_path / name, name, f"uid-{name}")
    found = list_studies(*store)
    assert [study.name for study in found] == ["b", "a"]
    assert (found[0].state, found[0].ended, found[0].params) == ("running", None, {"seed": "0"})
    assert found[0].started > 1e9
    assert load_config(store[0], found[0]) == "study: b\n"


def test_study_is_found_by_name_or_uid(store: Store, tmp_path: Path) -> None:
    record_study(store, tmp_path / "1", "same", "first")
    record_study(store, tmp_path / "2", "same", "second")
    newest = find_study(*store, "same")
    assert newest is not None
    assert newest.tags["hpo.study_uid"] == "second"
    renamed = find_study(*store, "another name", uid="first")
    assert renamed is not None
    assert renamed.tags["hpo.study_uid"] == "first"
    assert find_study(*store, "missing") is None
    assert find_study(*store, "same", uid="third") is None
    assert find_study(*store, "it's missing") is None


def test_newest_attempt_of_each_trial_is_loaded(store: Store, make_tracker: MakeTracker) -> None:
    tracker = make_tracker(lambda: store)
    tracker.start_study("mine", {}, {}, DATA, {})
    for number in (1, 0):
        tracker.start_trial(number, {"x": number})
    tracker.start_trial(1, {"x": 1}, attempt=1)
    tracker.end_trial(Trial(1, {"x": 1}, (fold(0), fold(1, 0.7))), LOSS, {}, 0, {})
    tracker.end_study("FINISHED", {})
    assert tracker.close()
    study = find_study(*store, "mine")
    assert study is not None
    assert study.ended is not None
    assert study.ended >= study.started
    first, second = load_trials(store[0], study)
    assert (first.number, first.state, first.stop_reason, first.value, first.folds) == (
        0,
        State.RUNNING,
        None,
        None,
        (),
    )
    assert (second.number, second.state, second.stop_reason) == (1, State.COMPLETE, StopReason.MAX_EPOCHS)
    assert (second.value, second.tags["hpo.attempt"], second.params) == (0.6, "1", {"x": "1"})
    assert [summary["score"] for summary in second.folds] == [0.5, 0.7]
    assert len(find_trial_runs(store[0], study.experiment_id, study.run_id)) == 3


def test_history_is_in_order_of_epochs(store: Store, make_tracker: MakeTracker) -> None:
    tracker = make_tracker(lambda: store)
    tracker.start_study("mine", {}, {}, DATA, {})
    tracker.start_trial(0, {})
    for epoch in (1, 0, 2):
        tracker.log_metrics(0, {"loss": epoch / 10}, epoch)
    assert tracker.close()
    run_id = runs_by_key(store)["trial-0000"].info.run_id
    assert load_history(store[0], run_id, "loss") == [0.0, 0.1, 0.2]
    assert load_history(store[0], run_id, "unknown") == []


def test_missing_artifact_is_none(store: Store, tmp_path: Path) -> None:
    record_study(store, tmp_path / "a", "a", "uid")
    (study,) = list_studies(*store)
    assert download(store[0], study.run_id, "missing.csv", tmp_path) is None
    found = download(store[0], study.run_id, "config.yaml", tmp_path)
    assert found is not None
    assert found.read_text() == "study: a\n"


def test_all_pages_are_searched(store: Store) -> None:
    client, experiment = store
    for number in (1, 2, 3):
        client.create_run(experiment, start_time=number)

    class Paged:
        """Returns one run at a time."""

        def search_runs(
            self, ids: list[str], text: str, view: int, n: int, order: list[str], page_token: str
        ) -> object:
            return client.search_runs(ids, text, view, 1, order, page_token=page_token)

    runs = search_runs(Paged(), experiment, "", "attributes.start_time ASC")  # type: ignore[arg-type]
    assert [run.info.start_time for run in runs] == [1, 2, 3]


def test_folds_are_in_numeric_order() -> None:
    tags = {f"hpo.fold_{number}": json.dumps({"fold": number}) for number in (10, 2, 0)}
    others = {"hpo.fold_2_at_1": json.dumps({"fold": -1}), "hpo.folds_digest": "x", STUDY: "y"}
    assert [summary["fold"] for summary in read_fold_summaries(tags | others)] == [0, 2, 10]
