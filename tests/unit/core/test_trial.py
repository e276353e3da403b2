"""Trials, and the results of their folds."""

import json
import math
import random
from dataclasses import replace

import pytest

from hpo.core.early_stopping import EarlyStoppingOutcome
from hpo.core.objective import Objective
from hpo.core.states import State, StopReason
from hpo.core.trial import FoldResult, Trial, pareto_front


def outcome(reason: StopReason, epochs_run: int = 4, max_epochs: int = 10) -> EarlyStoppingOutcome:
    return EarlyStoppingOutcome("val_loss", 3, 0.0, epochs_run, max_epochs, None, 2, 0.5, True, reason)


def fold(reason: StopReason, score: float | None = None, index: int = 0) -> FoldResult:
    return FoldResult(index, 1, score, outcome(reason), {}, {})


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        (StopReason.MAX_EPOCHS, State.COMPLETE),
        (StopReason.EARLY_STOPPED, State.COMPLETE),
        (StopReason.PRUNED, State.PRUNED),
        (StopReason.INTERRUPTED, State.WAITING),
        (StopReason.DIVERGED, State.FAIL),
        (StopReason.TIMEOUT, State.FAIL),
        (StopReason.OUT_OF_MEMORY, State.FAIL),
        (StopReason.CRASHED, State.FAIL),
        (StopReason.NODE_LOST, State.FAIL),
        (StopReason.ERROR, State.FAIL),
    ],
)
def test_trial_state_is_derived_from_its_stop_reason(reason: StopReason, state: State) -> None:
    trial = Trial(0, {}, (fold(reason, 0.5 if state is State.COMPLETE else None),))
    assert trial.state is state
    assert (trial.value == 0.5) is (state is State.COMPLETE)


def test_value_is_fold_mean_and_failed_fold_fails_trial() -> None:
    good = Trial(0, {}, (fold(StopReason.MAX_EPOCHS, 0.4), fold(StopReason.EARLY_STOPPED, 0.6, 1)))
    assert good.value == pytest.approx(0.5)
    bad = Trial(0, {}, (fold(StopReason.MAX_EPOCHS, 0.4), fold(StopReason.ERROR, None, 1)))
    assert bad.state is State.FAIL
    assert bad.value is None


def scored(number: int, scores: list[float], weights: float = 0.0, reason: StopReason = StopReason.MAX_EPOCHS) -> Trial:
    outcome = EarlyStoppingOutcome("val_loss", 3, 0.0, 2, 5, None, 1, 0.1, True, reason)
    others = {"n_weights": weights}
    folds = [FoldResult(i, 1, score, outcome, {}, {}, others=others) for i, score in enumerate(scores)]
    return Trial(number, {}, tuple(folds))


def test_value_spread_and_standard_error_are_of_the_fold_scores() -> None:
    trial = scored(0, [0.7, 0.8, 0.9])
    assert trial.value == pytest.approx(0.8)
    assert trial.std == pytest.approx(0.1)
    assert trial.standard_error == pytest.approx(0.1 / math.sqrt(3))
    assert scored(0, [0.7]).std is None
    assert scored(0, [0.7]).standard_error is None


def test_pruned_trial_keeps_scores_without_value() -> None:
    trial = scored(0, [0.7, 0.8], reason=StopReason.PRUNED)
    assert (trial.state, trial.value, trial.values) == (State.PRUNED, None, None)
    assert trial.mean_score == pytest.approx(0.75)


def test_pareto_front_equals_exhaustive_comparison() -> None:
    objective = Objective.of("val_accuracy", others={"n_weights": "minimize"})
    rng = random.Random(0)  # noqa: S311 no secret
    values = [math.nan, *range(12)]
    trials = [scored(n, [rng.randrange(12) / 12], rng.choice(values)) for n in range(200)]
    pairs = [(trial, trial.values) for trial in trials if trial.values is not None]
    wanted = {t.number for t, own in pairs if not any(objective.dominates(other, own) for _, other in pairs)}
    front = pareto_front(trials, objective)
    assert {trial.number for trial in front} == wanted
    assert len(wanted) < len(trials)
    assert [trial.value for trial in front] == sorted((trial.value or 0.0 for trial in front), reverse=True)


def test_pareto_front_has_the_trials_that_no_other_dominates() -> None:
    objective = Objective.of("val_accuracy", others={"n_weights": "minimize"})
    trials = [
        scored(0, [0.9], 100),
        scored(1, [0.8], 10),
        scored(2, [0.8], 50),  # as good as 1, and larger
        scored(3, [0.95], 100),  # better than 0, and no larger
        scored(4, [0.99], 1, StopReason.PRUNED),
    ]
    assert [trial.number for trial in pareto_front(trials, objective)] == [3, 1]
    assert objective.directions == ("maximize", "minimize")


def test_shared_seconds_are_recorded_only_if_several_trials_share_them() -> None:
    alone = fold(StopReason.MAX_EPOCHS, 0.5)
    assert "shared_by" not in alone.summary()
    shared = replace(alone, seconds={"build": 1.0, "train": 2.0}, shared_by={"train": 8})
    summary = json.loads(json.dumps(shared.summary()))
    assert summary["shared_by"] == {"train": 8}
    assert FoldResult.of(summary, {}) == shared
    assert FoldResult.of(alone.summary(), {}).shared_by == {}  # as in records of earlier versions
