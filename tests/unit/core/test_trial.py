import json
import math
import random
from dataclasses import replace

import numpy as np
import pytest

from hpo.core.early_stopping import EarlyStopping, EarlyStoppingOutcome
from hpo.core.limits import Limits
from hpo.core.objective import Objective, metric_direction
from hpo.core.params import canonical
from hpo.core.seeds import derive_seed, fit_seed
from hpo.core.states import State, StopReason
from hpo.core.trial import FoldResult, Trial, pareto_front
from hpo.errors import ConfigError


def outcome(reason: StopReason, epochs_run: int = 4, max_epochs: int = 10) -> EarlyStoppingOutcome:
    return EarlyStoppingOutcome("val_loss", 3, 0.0, epochs_run, max_epochs, None, 2, 0.5, True, reason)


def fold(reason: StopReason, score: float | None = None, index: int = 0) -> FoldResult:
    return FoldResult(index, 1, score, outcome(reason), {}, {})


@pytest.mark.parametrize(
    ("metric", "direction"),
    [
        ("val_loss", "minimize"),
        ("val_accuracy", "maximize"),
        ("sparse_categorical_accuracy", "maximize"),
        ("sparse_categorical_crossentropy", "minimize"),
        ("val_mae", "minimize"),
        ("mean_squared_error", "minimize"),
        ("auc_1", "maximize"),
        ("val_f1_score", "maximize"),
        ("latency", None),
    ],
)
def test_direction_follows_from_the_name_of_a_known_metric(metric: str, direction: str | None) -> None:
    assert metric_direction(metric) == direction


def test_objective_compares_by_its_direction_and_refuses_what_is_not_finite() -> None:
    up, down = Objective.of("val_accuracy"), Objective.of("val_loss")
    assert up.better(0.9, 0.8)
    assert not up.better(0.8, 0.8)
    assert down.better(0.1, 0.2)
    assert up.better(0.1, None)
    assert not up.better(math.nan, None)
    assert not down.better(-math.inf, 0.5)


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (("val_accuracy", "minimize"), "objective.direction"),
        (("val_loss", "up"), "objective.direction"),
        (("latency", None), "objective.direction"),
        (("val_loss", None, "first"), "objective.epoch"),
    ],
)
def test_objective_refuses_what_contradicts_itself(arguments: tuple[str, ...], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Objective.of(*arguments)
    assert caught.value.key == key


@pytest.mark.parametrize("name", ["n_trials", "timeout_seconds", "max_epochs_total", "max_consecutive_failures"])
@pytest.mark.parametrize("value", [0, -1])
def test_limits_refuse_less_than_one(name: str, value: int) -> None:
    with pytest.raises(ConfigError) as caught:
        Limits(**{"n_trials": 1, name: value})
    assert caught.value.key == f"limits.{name}"


def test_limits_refuse_a_study_without_an_end() -> None:
    with pytest.raises(ConfigError, match="limits"):
        Limits(max_consecutive_failures=3)


def test_early_stopping_takes_its_mode_from_the_monitor() -> None:
    assert EarlyStopping("val_accuracy").mode == "max"
    assert EarlyStopping("val_loss").mode == "min"
    with pytest.raises(ConfigError, match="monitor"):
        EarlyStopping("latency")


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
def test_a_trial_takes_its_state_from_why_it_stopped(reason: StopReason, state: State) -> None:
    trial = Trial(0, {}, (fold(reason, 0.5 if state is State.COMPLETE else None),))
    assert trial.state is state
    assert (trial.value == 0.5) is (state is State.COMPLETE)


def test_one_bad_fold_decides_and_the_value_is_the_mean_of_all() -> None:
    good = Trial(0, {}, (fold(StopReason.MAX_EPOCHS, 0.4), fold(StopReason.EARLY_STOPPED, 0.6, 1)))
    assert good.value == pytest.approx(0.5)
    bad = Trial(0, {}, (fold(StopReason.MAX_EPOCHS, 0.4), fold(StopReason.ERROR, None, 1)))
    assert bad.state is State.FAIL
    assert bad.value is None


def test_only_early_stopping_and_pruning_save_epochs() -> None:
    assert outcome(StopReason.EARLY_STOPPED).epochs_saved == 6
    assert outcome(StopReason.PRUNED).epochs_saved == 6
    assert outcome(StopReason.ERROR).epochs_saved == 0


def test_training_seeds_depend_on_everything_but_order_and_never_on_global_state() -> None:
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    seed = fit_seed(0, {"a": 1, "b": 0.5}, 0)
    assert seed == fit_seed(0, {"b": 0.5, "a": 1}, 0)
    others = [
        fit_seed(1, {"a": 1, "b": 0.5}, 0),
        fit_seed(0, {"a": 2, "b": 0.5}, 0),
        fit_seed(0, {"a": 1, "b": 0.5}, 1),
    ]
    assert len({seed, *others}) == 4
    assert 0 <= seed < 2**31
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    # Pinned: a change would silently make every old study unreproducible.
    assert derive_seed("splits", 0) == derive_seed("splits", 0) == 1_700_584_864


def test_canonical_params_have_one_spelling() -> None:
    assert canonical({"b": 1.0, "a": "x"}) == '{"a":"x","b":1.0}'


def scored(number: int, scores: list[float], weights: float = 0.0, reason: StopReason = StopReason.MAX_EPOCHS) -> Trial:
    outcome = EarlyStoppingOutcome("val_loss", 3, 0.0, 2, 5, None, 1, 0.1, True, reason)
    others = {"n_weights": weights}
    folds = [FoldResult(i, 1, score, outcome, {}, {}, others=others) for i, score in enumerate(scores)]
    return Trial(number, {}, tuple(folds))


def test_a_trial_s_objective_is_the_mean_of_its_fold_scores_with_spread_and_naive_error() -> None:
    trial = scored(0, [0.7, 0.8, 0.9])
    assert trial.value == pytest.approx(0.8)
    assert trial.std == pytest.approx(0.1)
    assert trial.standard_error == pytest.approx(0.1 / math.sqrt(3))
    assert scored(0, [0.7]).std is None
    assert scored(0, [0.7]).standard_error is None


def test_a_trial_that_was_dropped_at_a_rung_keeps_its_scores_and_has_no_value() -> None:
    trial = scored(0, [0.7, 0.8], reason=StopReason.PRUNED)
    assert (trial.state, trial.value, trial.values) == (State.PRUNED, None, None)
    assert trial.mean_score == pytest.approx(0.75)


def test_the_front_is_what_comparing_all_with_all_gives() -> None:
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


def test_the_front_holds_what_nothing_dominates() -> None:
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


@pytest.mark.parametrize(
    ("others", "key"),
    [
        ({"val_loss": "maximize"}, "objective.others.val_loss"),
        ({"latency": None}, "objective.others.latency"),
        ({"val_accuracy": "maximize"}, "objective.others"),
    ],
)
def test_other_objectives_need_a_direction_that_makes_sense(others: dict[str, str | None], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Objective.of("val_accuracy", others=others)
    assert caught.value.key == key


def test_shared_seconds_are_recorded_only_if_several_trials_share_them() -> None:
    alone = fold(StopReason.MAX_EPOCHS, 0.5)
    assert "shared_by" not in alone.summary()
    shared = replace(alone, seconds={"build": 1.0, "train": 2.0}, shared_by={"train": 8})
    summary = json.loads(json.dumps(shared.summary()))
    assert summary["shared_by"] == {"train": 8}
    assert FoldResult.of(summary, {}) == shared
    assert FoldResult.of(alone.summary(), {}).shared_by == {}  # as in records of earlier versions
