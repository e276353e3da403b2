"""Trials that a resumed study takes from its record."""

from typing import Any

import pytest

from hpo.core.measurement import Measurement, OnReport
from hpo.core.space import Float, Int, Parameter, SearchSpace
from hpo.core.states import Decision
from hpo.core.trial import RecordedTrial, Trial
from hpo.run.replay import RecordedTrials, ReplayedTrial, report_curve

from .trials import fold, trial


def test_trials_of_equal_params_are_taken_once_each_in_order() -> None:
    a, b, c = (RecordedTrial(trial(n, params=p), {}) for n, p in enumerate([{"x": 1.0}, {"x": 2.0}, {"x": 1.0}]))
    recorded = RecordedTrials([a, b, c])
    assert recorded.take({"x": 1.0}) is a
    assert recorded.take({"x": 3.0}) is None
    assert recorded.take({"x": 1.0}) is c
    assert recorded.take({"x": 1.0}) is None
    assert recorded.take({"x": 2.0}) is b
    assert RecordedTrials().take({"x": 1.0}) is None


def reports() -> tuple[list[Measurement], OnReport]:
    seen: list[Measurement] = []

    def on_report(measurement: Measurement) -> Decision:
        seen.append(measurement)
        return Decision.PRUNE  # which is ignored

    return seen, on_report


def test_curve_is_reported_by_epoch_or_by_its_own_steps() -> None:
    seen, on_report = reports()
    report_curve(fold(index=2, losses=(0.9, 0.8)), "val_loss", on_report)
    assert seen == [Measurement(2, 0, 0.9), Measurement(2, 1, 0.8)]
    seen.clear()
    by_step = fold(losses=(0.9, 0.8))
    by_step.history["at_step"] = (10.0, 20.0)  # type: ignore[index]
    report_curve(by_step, "val_loss", on_report)
    assert seen == [Measurement(0, 10, 0.9), Measurement(0, 20, 0.8)]
    report_curve(fold(), "val_accuracy", on_report)
    report_curve(fold(), "val_loss", None)
    assert len(seen) == 2


def rungs() -> RecordedTrial:
    """Two folds; the first has been trained with one epoch and with three."""
    small, large, other = fold(0.6, losses=(0.6,), budget=1), fold(0.4), fold(0.3, index=1)
    whole = Trial(4, {"x": 0.5}, (large, other), 2.0, ended_seconds=9.0)
    return RecordedTrial(whole, {(0, 1): small, (0, 3): large, (1, 3): other})


def test_each_budget_has_its_recorded_result() -> None:
    replayed = ReplayedTrial(rungs(), 3, "val_loss")
    assert (replayed.trial.number, replayed.trial.params, replayed.trial.folds) == (4, {"x": 0.5}, ())
    first = replayed.train_fold(0, 1)
    assert first is not None
    assert (first.score, replayed.trial.folds) == (0.6, (first,))
    for budget in (3, None, 100):
        largest = replayed.train_fold(0, budget)
        assert largest is not None
        assert largest.score == 0.4
    last = replayed.train_fold(1, 2)  # a budget that is not in the record has the last result
    assert last is not None
    assert last.score == 0.3
    assert replayed.train_fold(2) is None
    assert [each.score for each in replayed.trial.folds] == [0.4, 0.3]
    assert replayed.trial.seconds == 2.0


def test_whole_trial_reports_all_its_folds_to_the_pruner() -> None:
    seen, on_report = reports()
    recorded = rungs()
    replayed = ReplayedTrial(recorded, 3, "val_loss")
    assert replayed.train(on_report=on_report).value == pytest.approx(0.35)
    assert [(m.fold, m.epoch) for m in seen] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    seen.clear()
    replayed.train(1, on_report)
    assert [(m.fold, m.epoch) for m in seen] == [(0, 0), (1, 0), (1, 1), (1, 2)]
    assert replayed.close() is recorded.trial
    assert replayed.close(dropped=True) is recorded.trial


def test_requested_parameters_are_requested_again() -> None:
    space = SearchSpace([Float("x", low=0.0, high=1.0), Int("y", low=1, high=9)])
    recorded = RecordedTrial(trial(0), {(0, 3): fold()}, domains=space.to_config())
    asked: list[Parameter] = []

    def suggest(parameter: Parameter) -> Any:
        asked.append(parameter)
        return 0.5

    ReplayedTrial(recorded, 3, "val_loss", suggest).train()
    assert asked == list(space.values())
    ReplayedTrial(recorded, 3, "val_loss").train()
    assert len(asked) == 2
