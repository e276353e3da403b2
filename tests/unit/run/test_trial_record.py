"""What is recorded of running trials, read from the outbox."""

from typing import Any

import pandas
import pytest
from toy_study import Listed, study

from hpo.core.limits import Limits
from hpo.core.states import State, StopReason
from hpo.core.trial import Trial
from hpo.evaluation.resampling import StratifiedKFoldResampling
from hpo.run.limits import StudyLimits
from hpo.run.trial_record import TrialRecorder, spent_tags
from hpo.tracking.writer import Tracker

from .conftest import points, records, tags
from .trials import fold, trial

LOGS = {"loss": 0.5, "val_loss": 0.25}


def recorder(tracker: Tracker, n_folds: int = 1, **options: Any) -> TrialRecorder:
    resampling = StratifiedKFoldResampling(n_folds) if n_folds > 1 else None
    return TrialRecorder(study(Listed([]), Limits(9), resampling=resampling, **options), tracker)


def test_every_metric_of_an_epoch_is_recorded_without_folds(tracker: Tracker) -> None:
    recorder(tracker).epoch(0, 0, 2, LOGS, 3)
    assert points(tracker, "trial-0000", "loss") == [(2, 0.5)]
    assert points(tracker, "trial-0000", "val_loss") == [(2, 0.25)]


def test_with_folds_only_watched_metrics_are_recorded_at_once(tracker: Tracker) -> None:
    recorder(tracker, 2).epoch(0, 1, 2, LOGS, 3)
    (record,) = records(tracker)
    assert [(name, value, step) for name, value, _, step in record.body["metrics"]] == [("fold_1/val_loss", 0.25, 2)]


def test_fold_is_recorded_with_its_score_and_history(tracker: Tracker) -> None:
    results = (fold(0.4), fold(0.6, index=1, losses=(0.9, 0.8)))
    recorder(tracker, 2).fold(Trial(0, {}, results), results[1], 3)
    assert points(tracker, "trial-0000", "fold_1/score") == [(3, 0.6)]
    assert "hpo.fold_1" in tags(tracker, "trial-0000")
    assert "hpo.fold_1_at_3" not in tags(tracker, "trial-0000")
    (history,) = [each for each in records(tracker) if each.kind == "file"]
    table = pandas.read_parquet(tracker.folder / history.body["path"])
    assert list(table["fold"]) == [0, 0, 0, 1, 1]


def test_smaller_budgets_are_kept_beside_the_last_one(tracker: Tracker) -> None:
    result = fold(None, StopReason.ERROR, budget=2)
    recorder(tracker, 2).fold(Trial(0, {}, (result,)), result, 2)
    assert "hpo.fold_0_at_2" in tags(tracker, "trial-0000")
    assert points(tracker, "trial-0000", "fold_0/score") == []


def test_one_fold_has_no_score_and_no_history_of_its_own(tracker: Tracker) -> None:
    recorder(tracker).fold(trial(0), fold(), 3)
    assert [each.kind for each in records(tracker)] == ["batch"]
    assert points(tracker, "trial-0000", "fold_0/score") == []


def test_many_folds_have_only_their_outcomes(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpo.run.trial_record.MAX_FOLD_CURVES", 2)
    recorder(tracker, 2).epoch(0, 1, 0, LOGS, 3)
    many, results = recorder(tracker, 3), (fold(),)
    many.epoch(1, 1, 0, LOGS, 3)
    many.fold(Trial(1, {}, results), results[0], 3)
    assert points(tracker, "trial-0000", "fold_1/val_loss") == [(0, 0.25)]
    assert [each.kind for each in records(tracker, "trial-0001")] == ["batch", "batch"]
    assert points(tracker, "trial-0001", "fold_1/val_loss") == points(tracker, "trial-0001", "fold_0/score") == []


def test_restart_repeats_what_the_other_folds_recorded(tracker: Tracker) -> None:
    writer, other = recorder(tracker, 2), fold(0.4, index=1)
    writer.start(0, {"x": 0.5}, 0)
    for index in (0, 1):
        writer.epoch(0, index, 0, LOGS, 3)
    lost = fold(None, StopReason.CRASHED, error="gone", traceback="Traceback: gone")
    writer.restart(Trial(0, {"x": 0.5}, (other,)), 1, lost, {(1, 3): other})
    writer.epoch(0, 0, 0, LOGS, 3)
    before, after = tags(tracker, "trial-0000"), tags(tracker, "trial-0000.1")
    assert (before["hpo.error"], before["hpo.state"], before["hpo.stop_reason"]) == ("gone", "WAITING", "crashed")
    assert (before["hpo.superseded"], after["hpo.attempt"]) == ("true", "1")
    assert [each.body["name"] for each in records(tracker, "trial-0000") if each.kind == "text"] == [
        "traceback_fold_0.txt"
    ]
    assert points(tracker, "trial-0000.1", "fold_0/val_loss") == [(0, 0.25)]  # only the one after the restart
    assert points(tracker, "trial-0000.1", "fold_1/val_loss") == [(0, 0.25)]
    assert points(tracker, "trial-0000.1", "fold_1/score") == [(3, 0.4)]
    assert "hpo.fold_1" in after


def test_restart_without_a_message_names_the_lost_worker(tracker: Tracker) -> None:
    writer = recorder(tracker)
    writer.start(4, {}, 2)
    writer.restart(Trial(4, {}), 3, fold(None, StopReason.NODE_LOST), {})
    assert tags(tracker, "trial-0004.2")["hpo.error"] == "the worker was lost"
    assert [each.kind for each in records(tracker, "trial-0004.3")] == ["start"]


def test_discarded_trial_is_interrupted_and_forgotten(tracker: Tracker) -> None:
    writer = recorder(tracker)
    writer.start(0, {}, 0)
    writer.epoch(0, 0, 0, LOGS, 3)
    writer.discard(0)
    assert records(tracker)[-1].body["status"] == "KILLED"
    writer.restart(Trial(0, {}), 1, fold(None, StopReason.CRASHED), {})
    assert points(tracker, "trial-0000.1", "loss") == []


def test_end_of_trial_is_recorded_with_study_progress(tracker: Tracker) -> None:
    limits = StudyLimits(Limits(9))
    limits.restore([State.PRUNED, State.FAIL, State.COMPLETE], 5.0, 7)
    best = trial(3, 0.5)
    recorder(tracker).end(best, limits, best)
    (record,) = records(tracker)
    assert (record.key, record.kind, record.body["status"]) == ("trial-0003", "end", "FINISHED")
    progress = {name: (value, step) for name, value, _, step in record.body["study"]["metrics"]}
    assert progress == {
        "n_complete": (1.0, 2), "n_pruned": (1.0, 2), "n_failed": (1.0, 2), "epochs_total": (7.0, 2),
        "search_seconds": (5.0, 2), "best_objective": (0.5, 2),
    }  # fmt: skip
    assert record.body["study"]["tags"] == {"hpo.spent_seconds": "5.0", "hpo.spent_epochs": "7"}


def test_study_without_a_best_trial_has_no_best_objective(tracker: Tracker) -> None:
    failed = trial(0, None, StopReason.ERROR)
    limits = StudyLimits(Limits(9))
    limits.count_trial(State.FAIL)
    recorder(tracker).end(failed, limits, None)
    names = [name for name, *_ in records(tracker)[-1].body["study"]["metrics"]]
    assert "n_failed" in names
    assert "best_objective" not in names


def test_interrupted_trial_is_no_progress_of_the_study(tracker: Tracker) -> None:
    limits = StudyLimits(Limits(9))
    limits.count_epoch()
    recorder(tracker).end(trial(0, None, StopReason.INTERRUPTED), limits, None)
    record = records(tracker)[-1]
    assert record.body["status"] == "KILLED"
    assert record.body["study"] == {"metrics": [], "tags": {"hpo.spent_seconds": "0.0", "hpo.spent_epochs": "1"}}


def test_means_over_folds_are_recorded_at_the_end(tracker: Tracker) -> None:
    folds = (fold(losses=(0.6, 0.4)), fold(index=1, losses=(0.8, 0.6, 0.1)))
    limits = StudyLimits(Limits(9))
    recorder(tracker, 2).end(Trial(0, {}, folds), limits, None)
    assert points(tracker, "trial-0000", "val_loss") == [(0, pytest.approx(0.7)), (1, pytest.approx(0.5))]
    assert [each.kind for each in records(tracker)] == ["batch", "batch", "file", "end"]


def test_params_and_notes_are_recorded_under_their_trial(tracker: Tracker) -> None:
    writer = recorder(tracker)
    writer.param(1, "x", {"x": 0.5, "y": 2}, {"x": {"type": "float", "low": 0.0, "high": 1.0}})
    writer.note(1, "stage", "warm-up")
    assert records(tracker)[0].body["params"] == {"x": "0.5"}
    assert tags(tracker, "trial-0001")["user.stage"] == "warm-up"


def test_spent_seconds_are_rounded_to_milliseconds() -> None:
    limits = StudyLimits(Limits(9))
    limits.restore([], 1.23456, 3)
    assert spent_tags(limits) == {"hpo.spent_seconds": 1.235, "hpo.spent_epochs": 3}
