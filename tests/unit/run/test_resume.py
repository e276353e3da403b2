"""Resumed studies: what the record contains is neither trained nor recorded again."""

import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import toy
from toy_study import FOLDER, GOOD, Listed, Place, Silent, study_run, trial_runs

from hpo.core.limits import Limits
from hpo.core.states import State, StopReason
from hpo.evaluation.resampling import StratifiedKFoldResampling
from hpo.models.base import Fit
from hpo.run.result import StopCause
from hpo.strategies.base import Evaluate, SearchProblem, Strategy
from hpo.tracking.delivery import OutboxUploader
from hpo.tracking.outbox import find_pending_studies
from hpo.tracking.reader import find_study, load_trials
from hpo.tracking.resume import load_from_outbox
from hpo.tracking.writer import Tracker

pytestmark = pytest.mark.mlflow

FOLDS = StratifiedKFoldResampling(2)


class Fits:
    """Counts how often the params with each value of x were trained, over all folds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: Counter[float] = Counter()
        fit = toy.CurveModel.fit

        def counted(model: toy.CurveModel, given: Fit) -> Any:
            if not given.data.is_refit:
                self.counts[given.params["x"]] += 1
            return fit(model, given)

        monkeypatch.setattr(toy.CurveModel, "fit", counted)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Fits:
    return Fits(monkeypatch)


@pytest.fixture
def place(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(Tracker, "log_model", lambda *_: None)
    return Place()


class StopAt(Silent):
    """Interrupts the study at one epoch of one trial."""

    def __init__(self, trial: int, fold: int, epoch: int) -> None:
        super().__init__()
        self.at = (trial, fold, epoch)

    def epoch_ended(self, number: int, fold: int, epoch: int, *_: Any) -> None:
        if (number, fold, epoch) == self.at:
            signal.raise_signal(signal.SIGINT)


def test_resume_trains_only_unfinished_trials(place: Place, fits: Fits) -> None:
    alone = {p["x"]: (p["x"] - 0.3) ** 2 + 0.1 / 3 for p in GOOD}
    stopped = place.run(Listed(GOOD), 4, StopAt(2, 0, 1))
    assert stopped.end is StopCause.INTERRUPTED
    recorded = place.recorded()
    assert [each.trial.state for each in recorded.trials] == [State.COMPLETE, State.COMPLETE, State.WAITING]
    strategy = Listed(GOOD)
    result = place.run(strategy, 4, recorded=recorded)
    assert result.end is StopCause.N_TRIALS
    assert fits.counts == {0.9: 1, 0.5: 1, 0.7: 2, 0.4: 1}
    assert {t.params["x"]: t.value for t in result.trials} == pytest.approx(alone)
    assert [t.value for t in strategy.seen] == [t.value for t in result.trials]  # all were reported to the strategy
    runs = place.runs
    assert study_run(runs).info.status == "FINISHED"
    assert place.steps(study_run(runs), "n_complete") == [0, 1, 2, 3]
    old, new = sorted((r for r in trial_runs(runs) if r.data.tags["hpo.trial"] == "2"), key=lambda r: r.info.start_time)
    assert (old.data.tags["hpo.superseded"], old.info.status) == ("true", "KILLED")
    assert (new.data.tags["hpo.state"], new.data.tags["hpo.attempt"]) == ("COMPLETE", "1")
    assert place.steps(new, "val_loss") == [0, 1, 2]
    found = find_study(place.client, place.store[1], "toy-study")
    assert found is not None
    assert [trial.run_id for trial in load_trials(place.client, found)][2] == new.info.run_id


def test_recorded_curves_are_reported_to_the_pruner_again(place: Place) -> None:
    place.run(Listed(GOOD, prune_at=1), 2)
    strategy = Listed(GOOD, prune_at=1)
    place.run(strategy, 4, recorded=place.recorded())
    assert [(m.epoch, m.value) for m in strategy.measured[:4]] == [
        (epoch, pytest.approx((x - 0.3) ** 2 + 0.1 / (epoch + 1))) for x in (0.9, 0.5) for epoch in (0, 1)
    ]
    assert [trial.state for trial in strategy.seen] == [State.PRUNED] * 4


def test_finished_folds_are_not_trained_again(place: Place, fits: Fits) -> None:
    place.run(Listed(GOOD[:2]), 2, StopAt(1, 1, 0), resampling=FOLDS)
    recorded = place.recorded(n_folds=2)
    assert [sorted(each.results) for each in recorded.trials] == [[(0, 3), (1, 3)], [(0, 3)]]
    result = place.run(Listed(GOOD[:2]), 2, recorded=recorded, resampling=FOLDS)
    assert fits.counts == {0.9: 2, 0.5: 3}
    assert [trial.state for trial in result.trials] == [State.COMPLETE] * 2
    (new,) = [r for r in trial_runs(place.runs) if r.data.tags["hpo.attempt"] == "1"]
    for metric in ("fold_0/val_loss", "fold_1/val_loss", "val_loss", "loss"):
        assert place.steps(new, metric) == [0, 1, 2]


class Rungs(Strategy):
    """Trains all trials for one epoch, and the first two for three."""

    tags = Listed.tags

    def search(self, search: SearchProblem, evaluate: Evaluate) -> None:
        opened = [evaluate.open(params) for params in GOOD]
        for trial in opened:
            trial.train(1)
        for trial in opened[2:]:
            trial.close(dropped=True)
        for trial in opened[:2]:
            trial.train(3)
            trial.close()


@pytest.mark.parametrize("at", [(3, 1, 0), (0, 1, 2)], ids=["first rung", "second rung"])
def test_finished_rungs_are_not_trained_again(place: Place, fits: Fits, at: tuple[int, int, int]) -> None:
    place.run(Rungs(), 4, StopAt(*at), resampling=FOLDS)
    result = place.run(Rungs(), 4, recorded=place.recorded(n_folds=2), resampling=FOLDS)
    assert [trial.state for trial in result.trials] == [State.COMPLETE] * 2 + [State.PRUNED] * 2
    # 2 folds at each rung, and the interrupted fold once more.
    assert sum(fits.counts.values()) == 2 * 4 + 2 * 2 + 1
    for run in trial_runs(place.runs):
        if run.data.tags.get("hpo.superseded") != "true":
            n_epochs = 3 if run.data.tags["hpo.trial"] in "01" else 1
            assert place.steps(run, "fold_0/val_loss") == list(range(n_epochs))
            assert place.steps(run, "fold_1/score") == [1, 3][: 1 + (n_epochs == 3)]


def test_outbox_and_mlflow_have_the_same_record(place: Place) -> None:
    place.run(Listed([*GOOD[:2], {"x": 0.1, "kind": "nan"}], prune_at=None), 3, StopAt(1, 1, 1), resampling=FOLDS)
    from_store, from_disk = place.recorded(2), load_from_outbox(FOLDER, ("loss", "val_loss"), 2)
    assert from_disk is not None
    for one, other in zip(from_store.trials, from_disk.trials, strict=True):
        assert (one.trial.number, one.trial.params, one.trial.state) == (
            other.trial.number,
            other.trial.params,
            other.trial.state,
        )
        assert one.results.keys() == other.results.keys()
        for key, result in one.results.items():
            assert result.summary() == other.results[key].summary()
            assert dict(result.history) == dict(other.results[key].history)
    assert from_store.tags["hpo.fingerprint"] == from_disk.tags["hpo.fingerprint"]
    assert from_store.texts("fingerprint.json") == from_disk.texts("fingerprint.json")


def test_study_missing_in_mlflow_resumes_from_outbox(place: Place, fits: Fits) -> None:
    place.is_reachable = False
    place.run(Listed(GOOD), 4, StopAt(2, 0, 1))
    recorded = load_from_outbox(FOLDER, ("loss", "val_loss"), 1)
    result = place.run(Listed(GOOD), 4, recorded=recorded)
    assert result.model_uri is None
    assert place.runs == []
    assert fits.counts == {0.9: 1, 0.5: 1, 0.7: 2, 0.4: 1}
    assert OutboxUploader(FOLDER, "toy", lambda: place.store).deliver() > 0
    assert find_pending_studies(Path("hpo_runs")) == []
    assert study_run(place.runs).info.status == "FINISHED"
    finished = [run for run in trial_runs(place.runs) if run.data.tags["hpo.state"] == "COMPLETE"]
    assert [run.data.tags["hpo.trial"] for run in finished] == ["0", "1", "2", "3"]
    assert all(place.steps(run, "val_loss") == [0, 1, 2] for run in finished)


def test_test_split_is_rescored_only_for_new_best_trial(place: Place, fits: Fits) -> None:
    first = place.run(Listed(GOOD[1:2]), 1)
    assert first.test is not None
    assert first.n_tests == 1
    same = place.run(Listed([GOOD[1], GOOD[0]]), 2, recorded=place.recorded())
    assert (same.n_tests, same.test) == (1, first.test)
    other = place.run(Listed([GOOD[1], GOOD[0], GOOD[3]]), 3, recorded=place.recorded())
    assert other.n_tests == 2
    assert other.test != first.test
    assert study_run(place.runs).data.tags["hpo.n_tests"] == "2"
    assert "2 times by this study" in study_run(place.runs).data.tags["mlflow.note.content"]


def test_lost_weights_of_the_best_trial_are_trained_again(place: Place, fits: Fits) -> None:
    place.run(Listed(GOOD[:3]), 3, StopAt(2, 0, 1))
    weights = FOLDER / "trial-0001.npz"
    assert [path.name for path in FOLDER.glob("trial-*")] == [weights.name]
    weights.unlink()
    result = place.run(Listed(GOOD[:3]), 3, recorded=place.recorded())
    assert result.best is not None
    assert result.best.number == 1
    assert result.test is not None
    assert fits.counts[0.5] == 2
    assert weights.exists()


def test_first_of_equal_trials_stays_the_best(place: Place) -> None:
    equal = [{"x": 0.4, "kind": "good", "depth": depth} for depth in (1, 2)]  # depth does not change the score
    first = place.run(Listed(equal), 2)
    recorded = place.recorded()
    ended = [replace(each, trial=replace(each.trial, ended_seconds=-each.trial.number)) for each in recorded.trials]
    again = place.run(Listed([*equal, GOOD[0]]), 3, recorded=replace(recorded, trials=tuple(ended)))
    assert first.best is not None
    assert again.best is not None
    assert (first.best.number, again.best.number) == (0, 1)


def test_limits_count_over_all_sessions(place: Place, fits: Fits) -> None:
    first = place.run(Listed(GOOD), 4, limits=Limits(max_epochs_total=8))
    assert [t.epochs_run for t in first.trials] == [3, 3, 2]
    tags = study_run(place.runs).data.tags
    assert tags["hpo.spent_epochs"] == "8"
    again = place.run(Listed(GOOD), 4, recorded=place.recorded(), limits=Limits(max_epochs_total=8))
    assert again.end is StopCause.MAX_EPOCHS
    assert fits.counts == {0.9: 1, 0.5: 1, 0.7: 1}
    more = place.run(Listed(GOOD), 4, recorded=place.recorded(), limits=Limits(max_epochs_total=11))
    assert [t.epochs_run for t in more.trials] == [3, 3, 3]
    assert study_run(place.runs).data.tags["hpo.spent_epochs"] == "11"


def test_best_trial_is_retrained_with_its_own_budget(place: Place) -> None:
    class Small(Listed):
        def search(self, search: SearchProblem, evaluate: Evaluate) -> None:
            trial = evaluate.open(GOOD[0])
            trial.train(2)
            trial.close()

    result = place.run(Small([]), 1)
    (FOLDER / "trial-0000.npz").unlink()
    recorded = place.recorded()
    again = place.run(Small([]), 2, recorded=replace(recorded, tags={**recorded.tags, "hpo.tested_trial": ""}))
    assert result.best is not None
    assert again.problems == ()  # its score is the same


def test_consecutive_failures_start_again_from_zero(place: Place) -> None:
    bad = [{"x": x, "kind": "raise"} for x in (0.1, 0.2, 0.3)]
    place.run(Listed(bad[:2]), 2)
    recorded = place.recorded()
    assert [each.trial.stop_reason for each in recorded.trials] == [StopReason.ERROR] * 2
    result = place.run(Listed([*bad[:2], GOOD[0]]), 3, recorded=recorded)
    assert result.best is not None
    assert result.best.number == 2


def test_equal_params_that_are_proposed_twice_are_two_trials(place: Place, fits: Fits) -> None:
    twice: list[dict[str, Any]] = [GOOD[0], GOOD[0], GOOD[1]]
    place.run(Listed(twice[:2]), 2)
    place.run(Listed(twice), 3, recorded=place.recorded())
    assert fits.counts == {0.9: 2, 0.5: 1}
