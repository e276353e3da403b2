"""Checks that the parts of a study fit."""

from typing import Any

import objectives
import pytest
import toy

from hpo.datasets import own
from hpo.errors import ConfigError
from hpo.evaluation.resampling import Holdout, OwnResampling
from hpo.models.objectives.optuna import OptunaObjective
from hpo.study.compatibility import check_dataset_fits, check_resampling_fits, check_space_fits
from hpo.study.study import ChosenOptions

NAMES = ChosenOptions("mine", "data", "optuna", "folds")
MODEL, OBJECTIVE = toy.CurveModel(), OptunaObjective(objectives.layered)
CONFIG: dict[str, Any] = {"search_space": {"rest": {"type": "model"}}, "early_stopping": {"patience": None}}
STATED = {"x": {"type": "float", "low": 0, "high": 1}}


def test_placeholder_requires_self_contained_model() -> None:
    check_dataset_fits(toy.dataset(), MODEL, NAMES)
    check_dataset_fits(own.load(), OBJECTIVE, NAMES)
    check_resampling_fits(CONFIG, MODEL, Holdout(0.2), NAMES)
    check_resampling_fits(CONFIG, OBJECTIVE, OwnResampling(), NAMES)
    with pytest.raises(ConfigError, match="data to train on, since model=mine loads none itself"):
        check_dataset_fits(own.load(), MODEL, NAMES)
    with pytest.raises(ConfigError, match="folds of the study, since model=mine does not split"):
        check_resampling_fits(CONFIG, MODEL, OwnResampling(), NAMES)


def test_self_contained_model_refuses_data_folds_space_and_patience() -> None:
    with pytest.raises(ConfigError, match="dataset=own"):
        check_dataset_fits(toy.dataset(), OBJECTIVE, NAMES)
    for changed, resampling, key in (
        ({}, Holdout(0.2), "resampling"),
        ({"search_space": STATED}, OwnResampling(), "search_space"),
        ({"early_stopping": {"patience": 3}}, OwnResampling(), "early_stopping.patience"),
    ):
        with pytest.raises(ConfigError) as refused:
            check_resampling_fits({**CONFIG, **changed}, OBJECTIVE, resampling, NAMES)
        assert refused.value.key == key


def test_parameters_that_the_model_lacks_are_named() -> None:
    check_space_fits(["x"], {"x": 1})
    with pytest.raises(ConfigError) as refused:
        check_space_fits(["x", "y"], {"x": 1})
    assert refused.value.key == "search_space.y"
