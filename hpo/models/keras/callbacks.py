"""Keras callbacks that connect ``keras.Model.fit`` to the epoch protocol of :mod:`hpo.models.fitting`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import keras

from hpo.core.states import StopReason
from hpo.models.base import FitLog
from hpo.models.fitting import EpochMonitor

# Batches between two checks of the loss: each check makes an accelerator wait for the driver.
LOSS_CHECK_BATCHES = 25


class Interrupted(Exception):
    """Ends ``keras.Model.fit`` between two batches."""


class ExtraMetrics(keras.callbacks.Callback):
    """Adds metrics to those of an epoch; first in the list of callbacks, so that all others can use them.

    Args:
        measure: returns the metrics of the watched rows by name, without ``val_``.
    """

    def __init__(self, measure: Callable[[], Mapping[str, float]]) -> None:
        super().__init__()
        self._measure = measure

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is None:
            return
        named = named_by_first_output(self.model, logs)
        named |= {f"val_{name}": value for name, value in self._measure().items()}
        logs.clear()
        logs.update(named)


class EpochCallback(keras.callbacks.Callback):
    """Reports batches and epochs to an :class:`~hpo.models.fitting.EpochMonitor`, and ends training when it says so.

    Last in the list of callbacks, so that it records what the others have added or decided.

    Args:
        monitor: the monitor of this training.
        log: its ``seconds`` get the ``first_step``, which includes compilation.
    """

    def __init__(self, monitor: EpochMonitor, log: FitLog) -> None:
        super().__init__()
        self._monitor, self._log = monitor, log
        self._began = 0.0

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._log.seconds.setdefault("first_step", time.perf_counter() - self._began)
        if batch % LOSS_CHECK_BATCHES == 0 and not self._monitor.check_batch_loss(float((logs or {}).get("loss", 0.0))):
            self.model.stop_training = True
        if self._monitor.is_interrupted():
            raise Interrupted

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        named = named_by_first_output(self.model, {name: float(value) for name, value in (logs or {}).items()})
        values = {name: value for name, value in named.items() if name != "learning_rate"}
        if not self._monitor.end_epoch(epoch, values, is_last=self.model.stop_training):
            return
        if self._log.stop_reason is StopReason.INTERRUPTED:
            raise Interrupted
        self.model.stop_training = True

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        best = self._monitor.finish()
        if best is not None:
            self.model.set_weights(best)


def named_by_first_output(model: keras.Model, logs: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics of a model with several outputs under the names that a model with one output reports."""
    names = list(getattr(model, "output_names", ()) or ())
    if len(names) < 2:
        return dict(logs)
    named = {}
    for name, value in logs.items():
        prefix = "val_" if name.startswith("val_") else ""
        inner = name.removeprefix(prefix)
        # The longest name that fits, since one output's name may start with another's.
        output = max((known for known in names if inner.startswith(f"{known}_")), key=len, default=None)
        if output == names[0] and not inner.endswith("_loss"):
            inner = inner.removeprefix(f"{names[0]}_")
        named[prefix + inner] = value
    return named
