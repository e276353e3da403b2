"""Early stopping for models that have epochs but no Keras: the rules of ``keras.callbacks.EarlyStopping``."""

from __future__ import annotations

import math

from hpo.core.early_stopping import EarlyStopping


class EarlyStoppingMonitor:
    """Follows the watched metric epoch by epoch.

    Attributes:
        best_epoch: with the best value so far; None before the first.
        best_value: the value there.
    """

    def __init__(self, stopping: EarlyStopping) -> None:
        self._stopping = stopping
        self._wait = 0
        self.best_epoch: int | None = None
        self.best_value: float | None = None

    def see(self, epoch: int, value: float) -> bool:
        """Whether ``value`` is an improvement, so that the model of this epoch is the one to keep."""
        if epoch < self._stopping.start_from_epoch:
            return False
        self._wait += 1
        if self.best_value is None:
            is_better = not math.isnan(value)
        else:
            gain = self.best_value - value if self._stopping.mode == "min" else value - self.best_value
            is_better = gain > self._stopping.min_delta
        if is_better:
            self.best_epoch, self.best_value, self._wait = epoch, value, 0
        return is_better

    def is_over(self, epoch: int) -> bool:
        """Whether training stops after ``epoch``."""
        patience = self._stopping.patience
        return patience is not None and self._wait >= patience and epoch > 0 and self._wait > 0
