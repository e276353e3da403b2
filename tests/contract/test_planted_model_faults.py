"""Each planted fault of a model is found by the check that is meant to find it."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpo.core.params import Params
from hpo.core.space import SearchSpace
from hpo.core.states import Decision
from hpo.datasets.base import Array, DataSpec
from hpo.datasets.embedded import breast_cancer
from hpo.models.base import Fit, FittedModel, FoldData
from hpo.models.sklearn.fitted import FittedSklearnModel
from hpo.models.sklearn.model import SklearnModel
from hpo.testing import MODEL_CHECKS, check_model, parts_of


class Forest(SklearnModel):
    """A sound model; subclasses break one thing in it."""

    def __init__(self) -> None:
        options = {"grows": "n_estimators", "grow_by": 2, "max_depth": 4}
        super().__init__("sklearn.ensemble.RandomForestClassifier", **options)


class PromisesMore(Forest):
    def metrics(self, spec: DataSpec) -> tuple[str, ...]:
        return (*super().metrics(spec), "val_auc")


class IsDeaf(Forest):
    def fit(self, fit: Fit) -> FittedModel:
        class Deaf:
            def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
                fit.control.on_epoch(epoch, logs)
                return Decision.CONTINUE

            def poll(self) -> Decision:
                return Decision.CONTINUE

        return super().fit(replace(fit, control=Deaf()))


class IsMute(Forest):
    def fit(self, fit: Fit) -> FittedModel:
        class Mute:
            def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
                return fit.control.on_epoch(epoch, logs) if epoch else Decision.CONTINUE

            def poll(self) -> Decision:
                return fit.control.poll()

        return super().fit(replace(fit, control=Mute()))


class ForgetsTheSeed(Forest):
    def fit(self, fit: Fit) -> FittedModel:
        data = fit.data
        rows = np.random.default_rng().permutation(len(data.x_train))[::2]
        some = FoldData(data.x_train[rows], data.y_train[rows], data.x_watch, data.y_watch)
        return super().fit(replace(fit, data=some))


class ChangesTheData(Forest):
    def fit(self, fit: Fit) -> FittedModel:
        fitted = super().fit(fit)
        if fit.data.is_refit:
            fit.data.x_train[0] += 1
        return fitted


class WatchesItsRefit(Forest):
    def fit(self, fit: Fit) -> FittedModel:
        fitted = super().fit(fit)
        if fit.data.is_refit:
            fit.log.history["val_loss"] = fit.log.history["loss"]
        return fitted


class RestoresAnother(Forest):
    def restore(self, params: Params, spec: DataSpec, path: Path) -> FittedModel:
        restored = super().restore(params, spec, path)
        assert isinstance(restored, FittedSklearnModel)
        restored._estimator.estimators_.pop()
        return restored


class _Broken(FittedSklearnModel):
    def __init__(self, fitted: FittedModel) -> None:
        vars(self).update(vars(fitted))


class _Hides(_Broken):
    def predict(self, x: Array) -> Array:
        return super().predict(x)[1:]


class _Renames(_Broken):
    def evaluate(self, x: Array, y: Array, extra: Any = ()) -> dict[str, float]:
        return {name.replace("accuracy", "acc"): value for name, value in super().evaluate(x, y, extra).items()}


class _SavesNothing(_Broken):
    def save(self, path: Path, example: Array) -> None:
        path.mkdir()


class _SavesAnother(_Broken):
    def save(self, path: Path, example: Array) -> None:
        other = _Broken(copy.deepcopy(self))
        other._estimator.classes_ = other._estimator.classes_[::-1]
        other.save(path, example)


class SavesNothing(Forest):
    def fit(self, fit: Fit) -> FittedModel:
        return _SavesNothing(super().fit(fit))


class SavesAnother(Forest):
    def fit(self, fit: Fit) -> FittedModel:
        return _SavesAnother(super().fit(fit))


class HidesARow(Forest):
    def fit(self, fit: Fit) -> FittedModel:
        return _Hides(super().fit(fit))


class RenamesAMetric(Forest):
    def fit(self, fit: Fit) -> FittedModel:
        return _Renames(super().fit(fit))


class HoldsALambda(Forest):
    def __init__(self) -> None:
        super().__init__()
        self.answer = lambda: 42


class SharesItsParameters(Forest):
    def __init__(self) -> None:
        super().__init__()
        self.shared = dict(self._tunables)

    @property
    def tunables(self) -> dict[str, Any]:
        return self.shared


class HasOneWord(Forest):
    def describe_budget(self, max_epochs: int, budget_fraction: float) -> str:
        return "some"


FAULTS = {
    PromisesMore: "log_has_the_promised_metrics",
    IsDeaf: "pruning_and_interrupts_end_training",
    IsMute: "every_epoch_is_reported",
    ForgetsTheSeed: "equal_seeds_give_equal_results",
    ChangesTheData: "refit_works_without_watched_rows",
    WatchesItsRefit: "refit_works_without_watched_rows",
    RestoresAnother: "weights_restore_the_model",
    SavesNothing: "mlflow_loads_the_saved_model",
    SavesAnother: "mlflow_loads_the_saved_model",
    HidesARow: "predictions_are_finite_for_every_row",
    RenamesAMetric: "evaluation_reports_the_metrics_of_training",
    HoldsALambda: "model_can_be_pickled",
    SharesItsParameters: "defaults_are_in_the_search_space",
    HasOneWord: "budgets_are_described",
}


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__name__)
def test_planted_fault_is_found(kind: type[Forest]) -> None:
    with pytest.raises(AssertionError, match=rf"(?m)^{FAULTS[kind]}: "):
        check_model(kind(), breast_cancer())


def test_every_model_check_has_a_planted_fault() -> None:
    check_model(Forest(), breast_cancer())
    assert {check.__name__.removeprefix("check_") for check in MODEL_CHECKS} == set(FAULTS.values())


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (
            {"max_depth": {"type": "int", "low": 8, "high": 9}},
            r"outside the search space: \{'max_depth': 4\}",
        ),
        ({"leaves": {"type": "int", "low": 2, "high": 9}}, "names leaves, which the model does not have"),
    ],
)
def test_search_space_that_does_not_fit_is_found(space: Mapping[str, Mapping[str, Any]], said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_model(Forest(), breast_cancer(), SearchSpace.from_config(space))


def test_exception_of_the_model_names_the_check() -> None:
    class Raises(Forest):
        def restore(self, params: Params, spec: DataSpec, path: Path) -> FittedModel:
            raise ValueError("no such weights")

    with pytest.raises(ValueError, match="no such weights") as caught:
        check_model(Raises(), breast_cancer())
    assert caught.value.__notes__ == ["while checking of Raises: weights_restore_the_model"]


def test_parts_are_built_from_overrides() -> None:
    model, dataset, space = parts_of("model=svm", "model.C=3.0", "~search_space.degree")
    assert model.tunables["C"] == 3.0
    assert dataset.name == "breast_cancer"
    assert set(space) == {"C", "kernel", "gamma"}
