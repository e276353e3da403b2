"""The epoch protocol, once for every model: record an epoch, keep the best one, stop early, obey the driver.

::

    monitor = EpochMonitor(fit, snapshot=lambda: copy.deepcopy(network.state_dict()))
    for epoch in monitor.epochs():
        ...  # train one epoch
        monitor.end_epoch(epoch, {"loss": 0.3, "val_loss": 0.4})
    best = monitor.finish()
    if best is not None:
        network.load_state_dict(best)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hpo.core.early_stopping import EarlyStopping
from hpo.core.states import Decision, StopReason
from hpo.models.base import Fit, FitLog


class EarlyStoppingMonitor:
    """Follows the monitored metric, by the rules of ``keras.callbacks.EarlyStopping``.

    https://keras.io/api/callbacks/early_stopping

    Attributes:
        best_epoch: the epoch with the best value so far; None before the first value.
        best_value: the value at ``best_epoch``.
    """

    def __init__(self, stopping: EarlyStopping) -> None:
        self._stopping = stopping
        self._n_waited = 0
        self.best_epoch: int | None = None
        self.best_value: float | None = None

    def update(self, epoch: int, value: float) -> bool:
        """Take the value of an epoch, and return whether it is an improvement."""
        if epoch < self._stopping.start_from_epoch:
            return False
        self._n_waited += 1
        if self.best_value is None:
            is_better = True  # a NaN too, as in Keras; training diverges then
        else:
            gain = self.best_value - value if self._stopping.mode == "min" else value - self.best_value
            is_better = gain > self._stopping.min_delta
        if is_better:
            self.best_epoch, self.best_value, self._n_waited = epoch, value, 0
        return is_better

    def should_stop(self, epoch: int) -> bool:
        """Return whether training stops after ``epoch``."""
        patience = self._stopping.patience
        return patience is not None and self._n_waited >= patience and epoch > 0 and self._n_waited > 0


class EpochRecorder:
    """Writes the metrics and the best epoch of a training into its log.

    Args:
        watches: whether there is a monitored metric; False in the refit of the winner, which has no watched rows.
    """

    def __init__(self, stopping: EarlyStopping, log: FitLog, *, watches: bool = True) -> None:
        self._monitor_name, self._log, self._watches = stopping.monitor, log, watches
        self._monitor = EarlyStoppingMonitor(stopping)

    def record(self, epoch: int, logs: Mapping[str, float]) -> bool:
        """Record an epoch, and return whether it is the best one so far."""
        for name, value in logs.items():
            self._log.history.setdefault(name, []).append(value)
        self._log.epochs_run = epoch + 1
        if not self._watches or self._monitor_name not in logs:
            return False
        is_best = self._monitor.update(epoch, logs[self._monitor_name])
        self._log.best_epoch, self._log.best_value = self._monitor.best_epoch, self._monitor.best_value
        return is_best

    def should_stop(self, epoch: int) -> bool:
        """Return whether early stopping ends training after ``epoch``."""
        return self._watches and self._monitor.should_stop(epoch)


class EpochMonitor:
    """Records one training epoch by epoch, and decides when it ends.

    Training ends after ``fit.plan.max_epochs``, when a loss or the monitored metric is not finite, when early stopping
    says so, or when the driver prunes or interrupts it; ``fit.log.stop_reason`` says which.

    Args:
        fit: the training.
        snapshot: returns a copy of the weights, taken after each improvement if the best weights are to be restored;
            None if the model cannot return to an earlier epoch.
    """

    def __init__(self, fit: Fit, snapshot: Callable[[], Any] | None = None) -> None:
        self._plan, self._log, self._control = fit.plan, fit.log, fit.control
        self._recorder = EpochRecorder(fit.plan.early_stopping, fit.log, watches=not fit.data.is_refit)
        self._snapshot = snapshot if fit.plan.early_stopping.restore_best_weights else None
        self._best: Any = None
        self.has_ended = False

    def epochs(self) -> Iterator[int]:
        """Yield the number of the next epoch, from 0, until training ends."""
        for epoch in range(self._plan.max_epochs):
            if self.has_ended or self.is_interrupted():
                return
            yield epoch

    def is_interrupted(self) -> bool:
        """Return whether the driver interrupts training; cheap, to be called between batches."""
        if self._control.poll() is not Decision.INTERRUPT:
            return False
        self._end(StopReason.INTERRUPTED)
        return True

    def check_batch_loss(self, loss: float) -> bool:
        """End training if the loss of a batch is not finite, and return whether it is finite."""
        if math.isfinite(loss):
            return True
        self._diverge(f"loss is not finite in epoch {self._log.epochs_run}")
        return False

    def end_epoch(self, epoch: int, logs: Mapping[str, float], *, is_last: bool = False) -> bool:
        """Record an epoch, and return whether training ends with it.

        Args:
            epoch: counted from 0.
            logs: metrics by name, those of the watched rows prefixed with ``val_``.
            is_last: whether the model itself ends training after this epoch.
        """
        log, stopping = self._log, self._plan.early_stopping
        if self._recorder.record(epoch, logs) and self._snapshot is not None:
            self._best = self._snapshot()
        checked = dict.fromkeys(("loss", "val_loss", stopping.monitor))
        bad = next((name for name in checked if not math.isfinite(logs.get(name, 0.0))), None)
        if bad is not None and log.stop_reason is not StopReason.DIVERGED:
            self._diverge(f"{bad} is not finite after epoch {epoch}")
        if self._recorder.should_stop(epoch) and log.stop_reason is StopReason.MAX_EPOCHS:
            log.stopped_epoch = epoch
            self._end(StopReason.EARLY_STOPPED)
        decision = self._control.on_epoch(epoch, dict(logs))
        is_over = log.stop_reason is not StopReason.MAX_EPOCHS
        if is_over or is_last or epoch + 1 >= self._plan.max_epochs:
            self.has_ended = True  # training is complete: nothing is left to prune or to interrupt
        elif decision is Decision.PRUNE:
            self._end(StopReason.PRUNED)
        elif decision is Decision.INTERRUPT:
            self._end(StopReason.INTERRUPTED)
        return self.has_ended

    def finish(self) -> Any:
        """Return the snapshot of the best epoch, which the model has to restore; None to keep the last weights."""
        self._log.restored_best_weights = self._best is not None
        return self._best

    def _diverge(self, problem: str) -> None:
        self._log.problem = problem
        self._end(StopReason.DIVERGED)

    def _end(self, reason: StopReason) -> None:
        self._log.stop_reason = reason
        self.has_ended = True
