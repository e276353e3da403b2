"""Identities of format 1."""

from typing import Any

import pytest

from hpo.study.identity import ABSENT, describe_differences, differences
from hpo.study.previous_format import in_form_of, moved_name, upgraded

OLD: dict[str, Any] = {
    "model": {"_target_": "hpo.models.sklearn_model.SklearnModel", "estimator": "sklearn.tree.DecisionTreeClassifier"},
    "dataset": {"_target_": "my_data.load"},
    "strategy": {
        "_target_": "hpo.strategies.optuna.OptunaStrategy",
        "pruner": {"_target_": "optuna.pruners.NopPruner"},
    },
    "resampling": {"_target_": "hpo.resampling.Holdout", "validation_fraction": 0.2},
    "seed": 0,
    "data_digest": "d",
    "code": {"my_data.load": "c"},
    "keras_backend": "tensorflow",
    "versions": {
        "hpo": "1", "keras": "3", "tensorflow": "2", "numpy": "2", "scikit-learn": "1", "optuna": "5",
    },
}  # fmt: skip
NEW: dict[str, Any] = {
    **OLD,
    "format": 2,
    "model": {**OLD["model"], "_target_": "hpo.models.sklearn.model.SklearnModel"},
    "resampling": {"_target_": "hpo.evaluation.resampling.Holdout", "validation_fraction": 0.2},
    "code": {"dataset": {"my_data": "c", "my_columns": "c2"}},
    "versions": {
        "common": {"hpo": "1", "numpy": "2"}, "model": {"scikit-learn": "1"}, "strategy": {"optuna": "5"},
    },
}  # fmt: skip
del NEW["keras_backend"]


def changed(section: str, **values: Any) -> dict[str, Any]:
    return {**NEW, section: {**NEW[section], **values}}


def test_equal_studies_of_both_formats_do_not_differ() -> None:
    assert differences(OLD, NEW) == {}
    assert describe_differences(OLD, NEW) == []


@pytest.mark.parametrize(
    ("now", "key", "values"),
    [
        ({**NEW, "seed": 1}, "seed", (0, 1)),
        ({**NEW, "data_digest": "e"}, "data_digest", ("d", "e")),
        (changed("model", max_depth=2), "model.max_depth", (ABSENT, 2)),
        (changed("versions", model={"scikit-learn": "9"}), "versions.model.scikit-learn", ("1", "9")),
        (changed("versions", strategy={"optuna": "9"}), "versions.strategy.optuna", ("5", "9")),
        (changed("code", dataset={"my_data": "changed"}), "code.dataset.my_data", ("c", "changed")),
    ],
)
def test_difference_to_format_1_is_named(now: dict[str, Any], key: str, values: tuple[Any, Any]) -> None:
    assert differences(OLD, now) == {key: values}


def test_changes_within_one_format_include_libraries_that_appear() -> None:
    now = changed("versions", model={"scikit-learn": "1", "imbalanced-learn": "0.14"})
    assert describe_differences(NEW, now) == ['versions.model.imbalanced-learn: absent before, "0.14" now']


def test_names_that_moved_are_found_at_any_depth() -> None:
    nested = {"model": {"objective": {"_target_": "hpo.models.mlp.binary", "others": [{"_target_": "mine.f"}]}}}
    model = upgraded(nested)["model"]
    assert model == {"objective": {"_target_": "hpo.models.keras.mlp.binary", "others": [{"_target_": "mine.f"}]}}


@pytest.mark.parametrize("name", ["hpo.models.keras.model.KerasModel", "hpo.resampling", "my.resampling.Holdout", ""])
def test_other_names_stay(name: str) -> None:
    assert moved_name(name) == name


def test_upgrading_twice_changes_nothing() -> None:
    assert upgraded(upgraded(OLD)) == upgraded(OLD)
    assert upgraded(NEW) == NEW


def test_old_identity_is_completed_from_newer_one() -> None:
    from hpo.core.mappings import flattened

    old, new = flattened(upgraded(OLD)), flattened({**NEW, "seed": 7})
    assert in_form_of(old, new) == {**new, "seed": 0}
