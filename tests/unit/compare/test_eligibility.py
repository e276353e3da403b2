"""Rules for studies that may be compared."""

from typing import Any

import pytest

from hpo.compare.eligibility import LeftOut, PlannedStudy, check_finished, check_levels, reason_unfinished
from hpo.errors import ConfigError
from unit.compare.toy_comparison import record


def planned(level: str, max_epochs: int = 8, **model: Any) -> PlannedStudy:
    identity = {
        "format": 2,
        "seed": 0,
        "folds_digest": "f0",
        "strategy": {"_target_": level},
        "max_epochs": max_epochs,
        "model": {"dropout": 0.2, **model},
        "search_space": {"lr": {"low": 0.1}},
        "versions": {"common": {"numpy": "2"}, "strategy": {level: "1"}},
    }
    return PlannedStudy(identity, {"hpo.limits.n_trials": "4"}, {"strategy": level})


def refused_levels(by: str, **levels: PlannedStudy) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        check_levels(by, levels)
    return refused.value


def test_levels_that_differ_only_in_factor_are_accepted() -> None:
    check_levels("strategy", {level: planned(level) for level in ("random", "optuna")})
    check_levels("model.dropout", {str(p): planned("random", dropout=p) for p in (0.0, 0.5)})


def with_backend(study: PlannedStudy, backend: str) -> PlannedStudy:
    return PlannedStudy({**study.identity, "keras_backend": backend}, study.tags, study.choices)


def test_models_with_and_without_keras_are_comparable() -> None:
    levels = {"mlp": with_backend(planned("mlp", units=8), "tensorflow"), "forest": planned("mlp", n_estimators=9)}
    check_levels("model", {level: PlannedStudy(s.identity, s.tags, {"model": level}) for level, s in levels.items()})


def test_strategies_with_models_of_different_backends_are_refused() -> None:
    first, second = with_backend(planned("random"), "tensorflow"), with_backend(planned("optuna"), "torch")
    assert "keras_backend" in refused_levels("strategy", random=first, optuna=second).expected


def test_levels_that_differ_in_other_keys_are_refused() -> None:
    refused = refused_levels("strategy", random=planned("random"), optuna=planned("optuna", max_epochs=9))
    assert "random and optuna also differ in max_epochs (8, not 9)" in refused.expected


def test_searched_factor_is_refused() -> None:
    refused = refused_levels("model.lr", a=planned("random", lr=0.1), b=planned("random"))
    assert refused.fix == "'~search_space.lr'"


def test_absent_factor_and_equal_levels_are_refused() -> None:
    assert refused_levels("executor.workers", a=planned("random"), b=planned("random")).key == "by"
    assert refused_levels("max_epochs", a=planned("random"), b=planned("random")).key == "levels"


def test_finished_study_with_other_settings_is_refused() -> None:
    one = planned("random")
    done = record("mine", limits__n_trials="4")
    check_finished(done, {**one.identity, "seed": 3, "folds_digest": "f3"}, one)
    for other in (planned("random", max_epochs=9), planned("random", units=8)):
        with pytest.raises(ConfigError) as refused:
            check_finished(done, other.identity, one)
        assert refused.value.fix.startswith("name=another")
    with pytest.raises(ConfigError):
        check_finished(record("mine", limits__n_trials="8"), one.identity, one)


def test_finished_study_of_an_earlier_format_is_accepted() -> None:
    one = planned("random", _target_="hpo.models.sklearn.model.SklearnModel")
    before = {key: value for key, value in one.identity.items() if key != "format"}
    before["model"] = {**before["model"], "_target_": "hpo.models.sklearn_model.SklearnModel"}
    before["versions"] = {"numpy": "2", "keras": "3"}
    check_finished(record("mine", limits__n_trials="4"), before, one)
    with pytest.raises(ConfigError, match="numpy"):
        check_finished(record("mine", limits__n_trials="4"), before | {"versions": {"numpy": "1"}}, one)


def test_unfinished_study_is_left_out_with_resume_command() -> None:
    assert reason_unfinished(record("mine", "interrupted", test_accuracy=0.9)) == LeftOut(
        "mine", "it is interrupted", "python -m hpo resume mine"
    )
    assert reason_unfinished(record("mine", val_accuracy=0.9)) == LeftOut(
        "mine", "its winner was not tested", "python -m hpo resume mine"
    )
    assert reason_unfinished(record("mine", test_accuracy=0.9)) is None
