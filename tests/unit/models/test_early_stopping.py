"""The rules of Keras's own callback, for models without Keras."""

from typing import Any

import keras
import numpy as np
import pytest

from hpo.core.early_stopping import EarlyStopping
from hpo.models.base import FitPlan
from hpo.models.early_stopping import EarlyStoppingMonitor
from hpo.models.keras.model import early_stopping_callback


class Model:
    """As much of a Keras model as the callback touches."""

    stop_training = False

    def get_weights(self) -> list[Any]:
        return []

    def set_weights(self, weights: list[Any]) -> None: ...


@pytest.mark.parametrize("seed", range(40))
def test_it_stops_and_keeps_where_keras_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    stopping = EarlyStopping(
        monitor=str(rng.choice(["val_loss", "val_accuracy"])),
        patience=int(rng.integers(0, 4)),
        min_delta=float(rng.choice([0.0, 0.1])),
        start_from_epoch=int(rng.integers(0, 3)),
    )
    callback: keras.callbacks.EarlyStopping = early_stopping_callback(FitPlan(20, 0, stopping))
    callback.set_model(Model())  # type: ignore[arg-type]
    callback.on_train_begin()
    watch = EarlyStoppingMonitor(stopping)
    for epoch in range(20):
        value = float(rng.choice([0.1, 0.2, 0.25, 0.4, 0.5, 0.9]))
        callback.on_epoch_end(epoch, {stopping.monitor: value})
        watch.see(epoch, value)
        stops = watch.is_over(epoch)
        assert stops is callback.model.stop_training
        if callback.best is not None:
            assert (watch.best_epoch, watch.best_value) == (callback.best_epoch, callback.best)
        if stops:
            assert callback.stopped_epoch == epoch
            break
