"""The objective: directions, and comparisons of values."""

import math

import pytest

from hpo.core.objective import Objective, metric_direction
from hpo.errors import ConfigError


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
def test_direction_is_derived_from_a_known_metric_name(metric: str, direction: str | None) -> None:
    assert metric_direction(metric) == direction


def test_is_better_follows_direction_and_rejects_nonfinite() -> None:
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
def test_contradicting_direction_or_unknown_epoch_is_refused(arguments: tuple[str, ...], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Objective.of(*arguments)
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("others", "key"),
    [
        ({"val_loss": "maximize"}, "objective.others.val_loss"),
        ({"latency": None}, "objective.others.latency"),
        ({"val_accuracy": "maximize"}, "objective.others"),
    ],
)
def test_other_objectives_need_a_consistent_direction(others: dict[str, str | None], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Objective.of("val_accuracy", others=others)
    assert caught.value.key == key


def test_domination_needs_one_better_value_and_no_worse_one() -> None:
    objective = Objective.of("val_accuracy", others={"n_weights": "minimize"})
    assert objective.directions == ("maximize", "minimize")
    assert objective.dominates((0.9, 10), (0.8, 10))
    assert not objective.dominates((0.9, 10), (0.9, 10))
    assert not objective.dominates((0.9, 20), (0.8, 10))
