"""Studies that are loaded to be resumed: the record in MLflow and the one on disk agree."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from hpo.core.states import State, StopReason
from hpo.core.trial import Trial
from hpo.errors import TrackingError
from hpo.reporting.tables import write_history
from hpo.tracking.outbox import STUDY
from hpo.tracking.reader import find_study
from hpo.tracking.recorded_runs import LazyCurves, RecordedRun, read_history, rebuild_trials
from hpo.tracking.resume import RecordedStudy, load_from_mlflow, load_from_outbox
from hpo.tracking.writer import Tracker

from .conftest import MakeTracker
from .records import DATA, LOSS, Store, fold

METRICS = ("loss", "val_loss")
CURVES = {"loss": (0.9, 0.8, 0.7), "val_loss": (0.6, 0.5, 0.4)}


@pytest.fixture(params=["MLflow", "outbox"])
def load(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> object:
    """Loads the study ``mine``, with a number of folds."""

    def load(n_folds: int = 1) -> RecordedStudy:
        if request.param == "outbox":
            recorded = load_from_outbox(tmp_path / "mine", METRICS, n_folds)
        else:
            study = find_study(*store, "mine")
            assert study is not None
            recorded = load_from_mlflow(store[0], study, METRICS, n_folds)
        assert recorded is not None
        return recorded

    return load


def start(make_tracker: MakeTracker, store: Store) -> Tracker:
    tracker = make_tracker(lambda: store)
    tracker.start_study("mine", {"hpo.state": "running"}, {}, DATA, {"fingerprint.json": "{}"})
    return tracker


def log_curves(tracker: Tracker, number: int, n_epochs: int = 3) -> None:
    for epoch in range(n_epochs):
        tracker.log_metrics(number, {name: values[epoch] for name, values in CURVES.items()}, epoch)


def test_finished_trial_is_rebuilt(load, store: Store, make_tracker: MakeTracker) -> None:  # type: ignore[no-untyped-def]
    tracker = start(make_tracker, store)
    tracker.start_trial(4, {"x": 0.5, "kind": "good"})
    log_curves(tracker, 4)
    ended = Trial(4, {"x": 0.5, "kind": "good"}, (fold(budget=3),), seconds=9.0, ended_seconds=11.0)
    tracker.end_trial(ended, LOSS, {"n_complete": 1.0}, 0, {"hpo.spent_epochs": 3})
    tracker.log_text(STUDY, "seed: 0", "config.yaml")
    assert tracker.close()
    recorded = load()
    assert (recorded.tags["hpo.spent_epochs"], recorded.metrics["n_complete"]) == ("3", 1.0)
    assert (recorded.texts("fingerprint.json"), recorded.texts("config.yaml")) == ("{}", "seed: 0")
    (found,) = recorded.trials
    assert (found.trial.number, found.trial.params, found.attempt) == (4, {"x": 0.5, "kind": "good"}, 0)
    assert (found.trial.state, found.trial.value) == (State.COMPLETE, 0.5)
    assert (found.trial.seconds, found.trial.ended_seconds) == (9.0, 11.0)
    assert dict(found.trial.folds[0].history) == CURVES
    assert set(found.results) == {(0, 3)}
    assert found.domains == {}


def test_newest_attempt_is_resumed(load, store: Store, make_tracker: MakeTracker) -> None:  # type: ignore[no-untyped-def]
    tracker = start(make_tracker, store)
    tracker.start_trial(0, {"x": 1})
    tracker.start_trial(0, {"x": 2}, attempt=1)
    tracker.log_param(0, "y", {"x": 2, "y": 3}, {"y": {"type": "int"}})
    assert tracker.close()
    (found,) = load().trials
    assert (found.attempt, found.trial.params, found.domains) == (1, {"x": 2, "y": 3}, {"y": {"type": "int"}})
    assert found.trial.state is State.WAITING


@pytest.mark.parametrize(
    ("reason", "n_epochs", "is_reused"),
    [(StopReason.MAX_EPOCHS, 3, True), (StopReason.MAX_EPOCHS, 2, False), (StopReason.PRUNED, 3, False)],
)
def test_folds_of_running_trials_are_reused_if_complete(  # type: ignore[no-untyped-def]
    load, store: Store, make_tracker: MakeTracker, reason: StopReason, n_epochs: int, is_reused: bool
) -> None:
    tracker = start(make_tracker, store)
    tracker.start_trial(0, {})
    log_curves(tracker, 0, n_epochs)
    tracker.log_fold(0, fold(reason=reason, budget=3), is_whole_budget=True)
    assert tracker.close()
    (found,) = load().trials
    assert found.trial.interrupted
    assert [result.fold for result in found.trial.folds] == ([0] if is_reused else [])
    assert set(found.results) == ({(0, 3)} if is_reused else set())


def test_results_at_smaller_budgets_are_kept(load, store: Store, make_tracker: MakeTracker) -> None:  # type: ignore[no-untyped-def]
    tracker = start(make_tracker, store)
    tracker.start_trial(0, {})
    log_curves(tracker, 0)
    small = fold(score=0.9, budget=1, outcome={"epochs_run": 1, "max_epochs": 1})
    tracker.log_fold(0, small, is_whole_budget=False)
    tracker.log_fold(0, fold(score=0.4, budget=3), is_whole_budget=True)
    assert tracker.close()
    (found,) = load().trials
    assert {budget: result.score for (_, budget), result in found.results.items()} == {1: 0.9, 3: 0.4}
    assert dict(found.results[0, 1].history) == {"loss": (0.9,), "val_loss": (0.6,)}


def test_curves_of_several_folds_come_from_the_file(load, store: Store, make_tracker: MakeTracker) -> None:  # type: ignore[no-untyped-def]
    tracker = start(make_tracker, store)
    tracker.start_trial(0, {})
    folds = (fold(0, history=CURVES), fold(1, history={name: v[::-1] for name, v in CURVES.items()}))
    path = write_history(folds, tracker.folder / "histories" / "trial-0000" / "history.parquet")
    tracker.log_file(0, path)
    tracker.end_trial(Trial(0, {}, folds), LOSS, {}, 0, {})
    assert tracker.close()
    first, second = load(2).trials[0].trial.folds
    assert (dict(first.history), second.history["loss"]) == (CURVES, (0.7, 0.8, 0.9))


def test_outbox_without_study_start_is_not_loaded(make_tracker: MakeTracker, tmp_path: Path) -> None:
    assert load_from_outbox(tmp_path / "mine", METRICS, 1) is None

    def unreachable() -> Store:
        raise ConnectionError("refused")

    tracker = make_tracker(unreachable)
    tracker.start_trial(0, {})
    tracker.log_metrics(STUDY, {"n_complete": 1.0})
    assert load_from_outbox(tmp_path / "mine", METRICS, 1) is None


def test_missing_file_of_curves_is_empty(tmp_path: Path) -> None:
    assert read_history(None) == read_history(tmp_path / "missing.parquet") == {}


def test_each_curve_is_read_once_and_only_when_used() -> None:
    calls: list[str] = []

    def read(name: str) -> list[float]:
        calls.append(name)
        return [1.0, 2.0, 3.0]

    curves = LazyCurves(("a", "b"), 2, read)
    assert (len(curves), list(curves), calls) == (2, ["a", "b"], [])
    assert curves["a"] == curves["a"] == (1.0, 2.0)
    assert calls == ["a"]
    with pytest.raises(KeyError, match="c"):
        curves["c"]


def test_tag_that_mlflow_has_cut_is_refused() -> None:
    tags = {"hpo.trial": "7", "hpo.state": "RUNNING", "hpo.params": "{}", "hpo.domains": '{"x": {"ty'}
    run = RecordedRun(tags, {"loss": math.nan}, lambda name: [], lambda name: {})
    with pytest.raises(TrackingError, match=r"trial 7\n.*8,000 characters(.|\n)*folder with its outbox"):
        rebuild_trials([run], METRICS, 1)
