"""The epoch protocol that every model uses, and its agreement with ``keras.callbacks.EarlyStopping``."""

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import pytest

from hpo.core.early_stopping import EarlyStopping
from hpo.core.states import Decision, StopReason
from hpo.datasets.base import DataSpec
from hpo.models.base import Fit, FitLog, FitPlan, FoldData, Undisturbed
from hpo.models.fitting import EarlyStoppingMonitor, EpochMonitor

ROWS = np.zeros((4, 1)), np.zeros(4, int)


class Driver(Undisturbed):
    """Answers each epoch and each poll with a fixed decision, and records the epochs."""

    def __init__(self, after_epoch: Decision = Decision.CONTINUE, between: Decision = Decision.CONTINUE) -> None:
        self.after_epoch, self.between = after_epoch, between
        self.epochs: list[tuple[int, dict[str, float]]] = []

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        self.epochs.append((epoch, dict(logs)))
        return self.after_epoch

    def poll(self) -> Decision:
        return self.between


def fit(driver: Driver | None = None, max_epochs: int = 5, is_refit: bool = False, **stopping: Any) -> Fit:
    watched = (None, None) if is_refit else ROWS
    plan = FitPlan(max_epochs, 0, EarlyStopping(**stopping))
    return Fit({}, DataSpec((1,), 2), FoldData(*ROWS, *watched), plan, FitLog(max_epochs), driver or Driver())


def train(fit: Fit, losses: list[float], **monitor: Any) -> tuple[FitLog, Any]:
    """Report ``losses`` as the validation loss, and return the log and the snapshot to restore."""
    following = EpochMonitor(fit, **monitor)
    for epoch in following.epochs():
        following.end_epoch(epoch, {"loss": 1.0, "val_loss": losses[epoch]})
    return fit.log, following.finish()


class NetworkStub:
    """The part of a Keras model that the callback uses."""

    stop_training = False

    def get_weights(self) -> list[Any]:
        return []

    def set_weights(self, weights: list[Any]) -> None: ...


@pytest.mark.parametrize("seed", range(40))
def test_early_stopping_agrees_with_keras(seed: int) -> None:
    rng = np.random.default_rng(seed)
    stopping = EarlyStopping(
        monitor=str(rng.choice(["val_loss", "val_accuracy"])),
        patience=int(rng.integers(0, 4)),
        min_delta=float(rng.choice([0.0, 0.1])),
        start_from_epoch=int(rng.integers(0, 3)),
    )
    callback = keras.callbacks.EarlyStopping(
        monitor=stopping.monitor,
        min_delta=stopping.min_delta,
        patience=stopping.patience,
        mode=stopping.mode,
        restore_best_weights=stopping.restore_best_weights,
        start_from_epoch=stopping.start_from_epoch,
    )
    callback.set_model(NetworkStub())
    callback.on_train_begin()
    monitor = EarlyStoppingMonitor(stopping)
    for epoch in range(20):
        value = float(rng.choice([0.1, 0.2, 0.25, 0.4, 0.5, 0.9]))
        callback.on_epoch_end(epoch, {stopping.monitor: value})
        monitor.update(epoch, value)
        stops = monitor.should_stop(epoch)
        assert stops is callback.model.stop_training
        if callback.best is not None:
            assert (monitor.best_epoch, monitor.best_value) == (callback.best_epoch, callback.best)
        if stops:
            assert callback.stopped_epoch == epoch
            break


def test_every_epoch_is_recorded_and_reported() -> None:
    driver = Driver()
    log, _ = train(fit(driver, max_epochs=3), [0.5, 0.4, 0.6])
    assert log.history == {"loss": [1.0] * 3, "val_loss": [0.5, 0.4, 0.6]}
    assert (log.epochs_run, log.best_epoch, log.best_value) == (3, 1, 0.4)
    assert log.stop_reason is StopReason.MAX_EPOCHS
    assert driver.epochs == [(epoch, {"loss": 1.0, "val_loss": log.history["val_loss"][epoch]}) for epoch in range(3)]


def test_early_stopping_returns_the_snapshot_of_the_best_epoch() -> None:
    subject = fit(patience=2)
    log, best = train(subject, [0.5, 0.3, 0.4, 0.35, 0.1], snapshot=lambda: f"epoch {subject.log.epochs_run - 1}")
    assert best == "epoch 1"
    assert log.restored_best_weights
    assert (log.stop_reason, log.stopped_epoch, log.epochs_run) == (StopReason.EARLY_STOPPED, 3, 4)


def test_no_snapshot_is_taken_unless_the_best_weights_are_restored() -> None:
    def snapshot() -> None:
        raise AssertionError("a copy of the weights costs memory")

    log, best = train(fit(restore_best_weights=False, patience=1), [0.5, 0.4, 0.6], snapshot=snapshot)
    assert best is None
    assert not log.restored_best_weights
    assert (log.stop_reason, log.best_epoch) == (StopReason.EARLY_STOPPED, 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("patience", [0, None])
def test_nonfinite_loss_ends_training_as_diverged(bad: float, patience: int | None) -> None:
    driver = Driver()
    log, _ = train(fit(driver, patience=patience), [0.5, bad])
    assert (log.stop_reason, log.epochs_run) == (StopReason.DIVERGED, 2)
    assert log.problem == "val_loss is not finite after epoch 1"
    assert log.best_epoch == 0
    assert len(driver.epochs) == 2


def test_nonfinite_batch_loss_ends_training_as_diverged() -> None:
    subject = fit(Driver(Decision.PRUNE))
    monitor = EpochMonitor(subject)
    assert monitor.check_batch_loss(1.0)
    assert not monitor.check_batch_loss(math.nan)
    assert monitor.end_epoch(0, {"loss": math.nan, "val_loss": math.nan})
    assert subject.log.stop_reason is StopReason.DIVERGED
    assert subject.log.problem == "loss is not finite in epoch 0"


@pytest.mark.parametrize(
    ("driver", "reason", "epochs_run"),
    [
        (Driver(after_epoch=Decision.PRUNE), StopReason.PRUNED, 1),
        (Driver(after_epoch=Decision.INTERRUPT), StopReason.INTERRUPTED, 1),
        (Driver(between=Decision.INTERRUPT), StopReason.INTERRUPTED, 0),
    ],
)
def test_the_driver_ends_training(driver: Driver, reason: StopReason, epochs_run: int) -> None:
    log, _ = train(fit(driver), [0.5] * 5)
    assert (log.stop_reason, log.epochs_run) == (reason, epochs_run)


@pytest.mark.parametrize("decision", [Decision.PRUNE, Decision.INTERRUPT])
def test_finished_training_is_not_pruned_or_interrupted(decision: Decision) -> None:
    log, _ = train(fit(Driver(decision), max_epochs=1), [0.5])
    assert log.stop_reason is StopReason.MAX_EPOCHS
    subject = fit(Driver(decision))
    assert EpochMonitor(subject).end_epoch(0, {"loss": 1.0, "val_loss": 1.0}, is_last=True)
    assert subject.log.stop_reason is StopReason.MAX_EPOCHS


def test_refit_is_not_stopped_early() -> None:
    subject = fit(is_refit=True, monitor="loss", patience=1)
    log, best = train(subject, [0.5] * 5, snapshot=lambda: "weights")
    assert (log.stop_reason, log.epochs_run) == (StopReason.MAX_EPOCHS, 5)
    assert best is log.best_epoch is log.best_value is None
