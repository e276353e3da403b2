import math
from collections.abc import Mapping

import numpy as np
import pytest
from sklearn import metrics as reference
from sklearn.svm import LinearSVC

from hpo.core.early_stopping import EarlyStopping
from hpo.core.objective import Objective
from hpo.core.states import Decision
from hpo.datasets import embedded
from hpo.datasets.base import Dataset, DataSpec
from hpo.errors import ConfigError
from hpo.evaluation.evaluator import Evaluator
from hpo.evaluation.resampling import Holdout
from hpo.evaluation.tasks import FoldTask
from hpo.models import metrics
from hpo.models.sklearn.model import SklearnModel


class Control:
    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        return Decision.CONTINUE

    def poll(self) -> Decision:
        return Decision.CONTINUE


def predictions(n_classes: int, n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, what a mediocre classifier says, and its probabilities."""
    random = np.random.default_rng(n_classes)
    y = np.arange(n) % n_classes
    scores = random.random((n, n_classes)) + 0.5 * np.eye(n_classes)[y]
    scores /= scores.sum(axis=1, keepdims=True)
    return y, scores.argmax(axis=1), scores


def test_metrics_of_two_classes_are_those_of_class_1() -> None:
    y, found, scores = predictions(2)
    spec = DataSpec((3,), 2)
    assert metrics.names(spec) == ("precision", "recall", "f1", "roc_auc", "log_loss")
    assert metrics.measure(metrics.names(spec), y, found, spec, scores) == {
        "precision": reference.precision_score(y, found),
        "recall": reference.recall_score(y, found),
        "f1": reference.f1_score(y, found),
        "roc_auc": reference.roc_auc_score(y, scores[:, 1]),
        "log_loss": pytest.approx(reference.log_loss(y, scores)),
    }


def test_metrics_of_several_classes_are_means() -> None:
    y, found, scores = predictions(5)
    spec = DataSpec((3,), 5)
    assert metrics.names(spec)[-1] == "top_3_accuracy"
    assert "top_3_accuracy" not in metrics.names(DataSpec((3,), 3))
    assert metrics.measure(metrics.names(spec), y, found, spec, scores) == {
        "precision": reference.precision_score(y, found, average="macro"),
        "recall": reference.recall_score(y, found, average="macro"),
        "f1": reference.f1_score(y, found, average="macro"),
        "roc_auc": pytest.approx(reference.roc_auc_score(y, scores, multi_class="ovr")),
        "log_loss": pytest.approx(reference.log_loss(y, scores)),
        "top_3_accuracy": reference.top_k_accuracy_score(y, scores, k=3),
    }


def test_regression_metrics_match_scikit_learn() -> None:
    random = np.random.default_rng(0)
    y = random.normal(10, 2, 50)
    found = y + random.normal(0, 1, 50)
    spec = DataSpec((3,), 0)
    assert metrics.measure(metrics.names(spec), y, found, spec) == {
        "mse": reference.mean_squared_error(y, found),
        "rmse": pytest.approx(math.sqrt(reference.mean_squared_error(y, found))),
        "mae": reference.mean_absolute_error(y, found),
        "r2": reference.r2_score(y, found),
        "mape": reference.mean_absolute_percentage_error(y, found),
    }
    assert math.isnan(metrics.measure(["r2"], y[:1], found[:1], spec)["r2"])


@pytest.mark.parametrize("n_classes", [2, 4])
def test_undefined_metrics_are_nan(n_classes: int) -> None:
    y, found, scores = predictions(n_classes)
    spec = DataSpec((3,), n_classes)
    one = y == 1
    assert math.isnan(metrics.measure(["roc_auc"], y[one], found[one], spec, scores[one])["roc_auc"])
    without = metrics.measure(metrics.names(spec), y, found, spec)
    assert {name for name, value in without.items() if math.isnan(value)} == {*metrics.names(spec)} - {
        "precision",
        "recall",
        "f1",
    }
    # What nobody predicted is a zero, not a warning.
    nobody = metrics.measure(["precision"], y, np.zeros_like(y), spec)["precision"]
    assert nobody == (0 if n_classes == 2 else 1 / n_classes**2)


def test_classes_without_rows_are_left_out_of_the_mean() -> None:
    y, found, scores = predictions(4)
    rows = y != 3
    value = metrics.measure(["roc_auc"], y[rows], found[rows], DataSpec((3,), 4), scores[rows])["roc_auc"]
    wanted = [reference.roc_auc_score(y[rows] == label, scores[rows, label]) for label in range(3)]
    assert value == pytest.approx(np.mean(wanted))


def evaluator(estimator: str, data: Dataset, metric: str) -> Evaluator:
    model = SklearnModel(estimator, scaler="standard")
    return Evaluator(model, data, Holdout(0.25), Objective.of(metric), EarlyStopping(), 0)


@pytest.mark.parametrize("metric", ["val_f1", "val_roc_auc"])
def test_computed_metric_can_be_the_objective(metric: str) -> None:
    data = embedded.breast_cancer()
    found = evaluator("sklearn.svm.LinearSVC", data, metric)
    result = found.run(FoldTask({}, 0, 1), Control())
    assert result.error is None
    assert metric in found.metric_names
    train, scored = found.row_splits[0]
    mean, deviation = data.x[train].mean(axis=0), data.x[train].std(axis=0)
    # The same estimator by hand; it has no probabilities, and margins rank as well.
    by_hand = LinearSVC(random_state=result.seed).fit((data.x[train] - mean) / deviation, data.y[train])
    rows = (data.x[scored] - mean) / deviation
    wanted = {
        "val_f1": reference.f1_score(data.y[scored], by_hand.predict(rows)),
        "val_roc_auc": reference.roc_auc_score(data.y[scored], by_hand.decision_function(rows)),
    }
    assert result.score == pytest.approx(wanted[metric], abs=1e-6)


@pytest.mark.parametrize(
    ("estimator", "data", "metric", "key"),
    [
        ("sklearn.linear_model.Ridge", embedded.diabetes, "val_accuracy", "objective.metric"),
        ("sklearn.linear_model.Ridge", embedded.diabetes, "val_f1", "objective.metric"),
        ("sklearn.svm.SVC", embedded.iris, "val_r2", "objective.metric"),
        ("sklearn.svm.SVC", embedded.diabetes, "val_accuracy", "model"),
        ("sklearn.linear_model.Ridge", embedded.iris, "val_rmse", "model"),
    ],
)
def test_metric_or_model_for_another_target_type_is_refused(
    estimator: str, data: object, metric: str, key: str
) -> None:
    assert callable(data)
    with pytest.raises(ConfigError) as caught:
        evaluator(estimator, data(), metric)
    assert caught.value.key == key
    assert "val_" in str(caught.value) or key == "model"
