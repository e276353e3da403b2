from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.metrics import f1_score, roc_auc_score

from hpo.core.early_stopping import EarlyStopping
from hpo.core.states import Decision, StopReason
from hpo.datasets.base import Column, DataSpec
from hpo.models.base import Fit, FitLog, FitPlan, FoldData
from hpo.models.keras import blocks, two_input_mlp
from hpo.models.keras.adaptation import adapt_layers
from hpo.models.keras.callbacks import named_by_first_output
from hpo.models.keras.fitted import FittedKerasModel
from hpo.models.keras.mlp import classify_table, regress_table
from hpo.models.keras.model import KerasModel

# Keeps the weights of the last epoch.
KEEPS_LAST = EarlyStopping(patience=None, restore_best_weights=False)


class Control:
    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        return Decision.CONTINUE

    def poll(self) -> Decision:
        return Decision.CONTINUE


def fit(model: KerasModel, spec: DataSpec, fold: FoldData, plan: FitPlan) -> tuple[FitLog, FittedKerasModel]:
    log = FitLog(plan.max_epochs)
    fitted = model.fit(Fit({}, spec, fold, plan, log, Control()))
    assert isinstance(fitted, FittedKerasModel)
    return log, fitted


def parts(x: np.ndarray, y: np.ndarray) -> FoldData:
    return FoldData(x[:160], y[:160], x[160:260], y[160:260])


@pytest.fixture(scope="module")
def tumours() -> FoldData:
    x, y = load_breast_cancer(return_X_y=True)
    return parts(x, y.astype("int64"))


TUMOURS = DataSpec((30,), 2)


def test_normalisation_is_adapted_to_training_rows_only() -> None:
    draw = np.random.default_rng(0)
    x = np.column_stack([draw.normal(5, 2, 100), draw.integers(0, 2, 100), draw.normal(-3, 7, 100)])
    x[::7, 0] = np.nan
    x[::9, 1] = np.nan
    y = draw.integers(0, 2, 100)
    spec = DataSpec((3,), 2, (Column("a"), Column("b", ("no", "yes")), Column("c")))
    wild = np.full((40, 3), [1e6, 1.0, -1e6])
    trained = []
    for watched in (x[60:], wild):
        fold = FoldData(x[:60], y[:60], watched, y[60:])
        _, fitted = fit(KerasModel(classify_table, units=2), spec, fold, FitPlan(1, 0, KEEPS_LAST))
        trained.append(fitted.native)
    mean, variance = (np.asarray(part) for part in _normalization(trained[0]).get_weights()[:2])
    assert mean == pytest.approx(np.nanmean(x[:60][:, [0, 2]], axis=0), rel=1e-5)
    assert mean != pytest.approx(np.nanmean(x[:, [0, 2]], axis=0), rel=1e-3)
    # A missing value counts as the mean: it adds a row, and nothing to the sum of squares.
    known = 1 - np.isnan(x[:60][:, [0, 2]]).mean(axis=0)
    assert variance == pytest.approx(np.nanvar(x[:60][:, [0, 2]], axis=0) * known, rel=1e-4)
    for one, other in zip(trained[0].get_weights(), trained[1].get_weights(), strict=True):
        assert np.array_equal(one, other)


def _normalization(model: keras.Model) -> keras.layers.Layer:
    (found,) = (layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    return found


def test_regression_does_not_depend_on_the_unit_of_the_target() -> None:
    x, y = load_diabetes(return_X_y=True)
    found = []
    for scale, offset in ((1.0, 0.0), (1000.0, -5000.0)):
        fold = parts(x, scale * y + offset)
        model = KerasModel(regress_table, units=8, learning_rate=1e-2)
        log, fitted = fit(model, DataSpec((10,), 0), fold, FitPlan(12, 0, KEEPS_LAST))
        found.append((log.history, fitted.predict_targets(x[300:])[0]))
    (history, answers), (scaled_history, scaled_answers) = found
    assert scaled_history["val_loss"] == pytest.approx(history["val_loss"], rel=1e-2)
    assert scaled_history["val_mae"] == pytest.approx([1000 * value for value in history["val_mae"]], rel=1e-2)
    assert scaled_answers == pytest.approx(1000 * answers - 5000, rel=1e-2)
    assert np.abs(answers - y[300:]).mean() < 0.9 * np.abs(y[:160].mean() - y[300:]).mean()


class Rates(keras.callbacks.Callback):
    """Records the learning rate of the last step of each epoch."""

    seen: list[float]

    def on_train_begin(self, logs: Any = None) -> None:
        self.seen = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seen.append(float(keras.ops.convert_to_tensor(self.model.optimizer.learning_rate)))


def watched_rates(data: DataSpec, *, learning_rate: float = 1e-2) -> keras.Model:
    model = classify_table(data, units=2, learning_rate=learning_rate)
    model.callbacks = [Rates()]
    return model


def rates(fold: FoldData, plan: FitPlan, **options: Any) -> list[float]:
    _, fitted = fit(KerasModel(watched_rates, batch_size=80, **options), TUMOURS, fold, plan)
    seen: list[float] = fitted.native.callbacks[0].seen
    return [rate / seen[0] for rate in seen]


def test_cosine_schedule_spans_the_full_budget(tumours: FoldData) -> None:
    whole = rates(tumours, FitPlan(4, 0, KEEPS_LAST), schedule="cosine")
    assert whole == pytest.approx([1.0, 0.8536, 0.5, 0.1464], rel=1e-3)
    half = rates(tumours, FitPlan(2, 0, KEEPS_LAST, budget_fraction=0.5), schedule="cosine")
    assert half == pytest.approx(whole[:2])


def test_plateau_schedule_lowers_the_rate_when_the_loss_stalls(tumours: FoldData) -> None:
    # The rate is so low that the loss stays the same.
    slow = rates(tumours, FitPlan(5, 0, KEEPS_LAST), schedule="plateau", learning_rate=1e-9)
    assert slow == pytest.approx([1.0, 1.0, 1.0, 0.3, 0.3])
    assert rates(tumours, FitPlan(5, 0, KEEPS_LAST), learning_rate=1e-9) == [1.0] * 5


def test_extra_metrics_are_reported_every_epoch(tumours: FoldData) -> None:
    plan = FitPlan(3, 0, KEEPS_LAST, extra=("f1", "roc_auc"))
    log, fitted = fit(KerasModel(classify_table), TUMOURS, tumours, plan)
    assert len(log.history["val_f1"]) == len(log.history["val_roc_auc"]) == 3
    assert len(set(log.history["val_roc_auc"])) > 1
    labels, scores = fitted.predict_targets(tumours.x_watch)
    assert log.history["val_f1"][-1] == pytest.approx(f1_score(tumours.y_watch, labels))
    assert scores is not None
    assert log.history["val_roc_auc"][-1] == pytest.approx(roc_auc_score(tumours.y_watch, scores[:, 1]))


def test_early_stopping_can_monitor_an_extra_metric(tumours: FoldData) -> None:
    plan = FitPlan(3, 0, EarlyStopping(monitor="val_f1", patience=None), extra=("f1",))
    log, _ = fit(KerasModel(classify_table), TUMOURS, tumours, plan)
    assert log.best_value == max(log.history["val_f1"])
    assert log.problem is None


def test_early_stopping_keeps_the_weights_that_keras_keeps(tumours: FoldData) -> None:
    # The rate is so high that the loss soon rises.
    options = {"units": 8, "learning_rate": 0.3}
    stopping = EarlyStopping(patience=2)
    log, fitted = fit(KerasModel(classify_table, **options), TUMOURS, tumours, FitPlan(30, 0, stopping))
    assert log.stop_reason is StopReason.EARLY_STOPPED

    keras.utils.set_random_seed(0)
    network = classify_table(TUMOURS, **options)
    adapt_layers(network, tumours.x_train)
    callback = keras.callbacks.EarlyStopping("val_loss", patience=2, mode="min", restore_best_weights=True)
    watched = (tumours.x_watch, tumours.y_watch)
    trained = network.fit(
        tumours.x_train, tumours.y_train, batch_size=32, epochs=30, validation_data=watched,
        validation_batch_size=512, callbacks=[callback], verbose=0,
    )  # fmt: skip
    assert log.history == trained.history
    assert (log.stopped_epoch, log.best_epoch) == (callback.stopped_epoch, callback.best_epoch)
    assert log.restored_best_weights
    for kept, expected in zip(fitted.native.get_weights(), network.get_weights(), strict=True):
        assert np.array_equal(kept, expected)


def test_only_the_first_of_several_outputs_is_recorded(tumours: FoldData) -> None:
    model = KerasModel(two_input_mlp.build_model, aux_weight=0.3)
    plan = FitPlan(2, 0, KEEPS_LAST, extra=("f1",))
    log, fitted = fit(model, TUMOURS, tumours, plan)
    assert set(log.history) - {"val_f1"} == set(model.metrics(TUMOURS))
    assert {"accuracy", "val_accuracy", "loss", "val_loss", "val_f1"} <= set(log.history)
    assert not any("main_acc" in name or "aux_acc" in name for name in log.history)
    labels, _ = fitted.predict_targets(tumours.x_watch)
    assert log.history["val_accuracy"][-1] == pytest.approx((labels == tumours.y_watch).mean())
    assert fitted.evaluate(tumours.x_watch, tumours.y_watch)["accuracy"] == pytest.approx(
        log.history["val_accuracy"][-1]
    )


def test_only_the_first_of_several_regression_outputs_is_recorded() -> None:
    x, y = load_diabetes(return_X_y=True)
    model = KerasModel(two_input_mlp.build_model, aux_weight=0.3)
    log, fitted = fit(model, DataSpec((10,), 0), parts(x, y), FitPlan(1, 0, KEEPS_LAST))
    assert {"mae", "rmse", "val_mae", "val_rmse"} <= set(log.history)
    answers, _ = fitted.predict_targets(x[160:260])
    assert log.history["val_mae"][0] == pytest.approx(np.abs(answers - y[160:260]).mean(), rel=1e-4)


def test_output_names_with_a_common_prefix_are_distinguished() -> None:
    inputs = keras.Input((2,))
    data = DataSpec((2,), 2)
    model = keras.Model(inputs, [blocks.output(inputs, data, "out"), blocks.output(inputs, data, "out_aux")])
    logs = {"loss": 1.0, "out_loss": 0.5, "out_aux_loss": 0.5, "val_out_accuracy": 0.9, "val_out_aux_accuracy": 0.1}
    named = named_by_first_output(model, logs)
    assert named == {**{n: logs[n] for n in logs if n != "val_out_accuracy"}, "val_accuracy": 0.9}
