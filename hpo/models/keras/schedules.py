"""Learning-rate schedules that a study can choose for any Keras model."""

from __future__ import annotations

import math
from collections.abc import Mapping

import keras

from hpo.models.base import Fit

SCHEDULES = ("constant", "plateau", "cosine")
# The schedule `plateau` multiplies the learning rate by this factor after so many epochs without a smaller loss.
PLATEAU_FACTOR, PLATEAU_PATIENCE = 0.3, 2


def schedule_callbacks(name: str, fit: Fit) -> list[keras.callbacks.Callback]:
    """Return the callbacks of a schedule.

    Args:
        name: one of :data:`SCHEDULES`.
        fit: the training.

    Raises:
        ValueError: if there is no such schedule.
    """
    if name == "plateau":
        monitor = "loss" if fit.data.is_refit else "val_loss"
        return [keras.callbacks.ReduceLROnPlateau(monitor, PLATEAU_FACTOR, PLATEAU_PATIENCE, mode="min")]
    if name == "cosine":
        return [CosineDecay(max(1, round(fit.plan.max_epochs / fit.plan.budget_fraction)))]
    if name != "constant":
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, not {name!r}")
    return []


class CosineDecay(keras.callbacks.Callback):
    """Lowers the learning rate from its initial value to zero, along half a cosine.

    The initial value is read again when a callback of the model compiles it with another optimizer.

    Args:
        n_epochs: epochs after which the rate is zero.
    """

    def __init__(self, n_epochs: int) -> None:
        super().__init__()
        self._n_epochs, self._initial_rate = n_epochs, 0.0
        self._optimizer: keras.optimizers.Optimizer | None = None

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        rate = self.model.optimizer.learning_rate
        if self._optimizer is not self.model.optimizer:
            self._optimizer, self._initial_rate = self.model.optimizer, float(keras.ops.convert_to_tensor(rate))
        rate.assign(self._initial_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, epoch / self._n_epochs))))
