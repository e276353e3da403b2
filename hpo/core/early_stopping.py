"""Early stopping: its settings and the recorded outcome of a fold; :mod:`hpo.models.fitting` decides."""

from __future__ import annotations

from dataclasses import dataclass

from hpo.core.objective import metric_direction
from hpo.core.states import StopReason
from hpo.errors import ConfigError


@dataclass(frozen=True)
class EarlyStopping:
    """Keras's ``EarlyStopping`` arguments, under Keras's names.

    Args:
        monitor: metric watched after every epoch.
        patience: epochs without improvement before training stops; None never stops early, but still keeps the
            best weights.
        min_delta: least change that counts as an improvement, in units of the metric.
        restore_best_weights: whether the weights of the best epoch are kept, rather than the last.
        start_from_epoch: epochs before watching begins.

    Raises:
        ConfigError: for negative numbers, or a metric whose direction is unknown.
    """

    monitor: str = "val_loss"
    patience: int | None = 3
    min_delta: float = 0.0
    restore_best_weights: bool = True
    start_from_epoch: int = 0

    def __post_init__(self) -> None:
        for name in ("patience", "min_delta", "start_from_epoch"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ConfigError(f"early_stopping.{name}", value, "0 or more", f"early_stopping.{name}=0")
        if metric_direction(self.monitor) is None:
            raise ConfigError(
                "early_stopping.monitor",
                self.monitor,
                "a metric whose name says which way is better",
                "early_stopping.monitor=val_loss",
            )

    @property
    def mode(self) -> str:
        """``min`` or ``max``, Keras's word for the direction of ``monitor``."""
        return "max" if metric_direction(self.monitor) == "maximize" else "min"


@dataclass(frozen=True)
class EarlyStoppingOutcome:
    """How the training of one fold ended; the same record under every strategy and for every model.

    Epochs are counted from 0, as Keras does.

    Args:
        monitor: the metric watched.
        patience: epochs without improvement that were allowed; None means that training never stops early.
        min_delta: least change that counted as an improvement.
        epochs_run: epochs finished.
        max_epochs: epochs that were allowed.
        stopped_epoch: the epoch at which early stopping ended training; None if it did not.
        best_epoch: the epoch with the best value of ``monitor``; None before the end of the first epoch.
        best_value: the value of ``monitor`` there.
        restored_best_weights: whether the model has the weights of ``best_epoch``.
        stop_reason: why training ended.
    """

    monitor: str
    patience: int | None
    min_delta: float
    epochs_run: int
    max_epochs: int
    stopped_epoch: int | None
    best_epoch: int | None
    best_value: float | None
    restored_best_weights: bool
    stop_reason: StopReason

    @property
    def epochs_saved(self) -> int:
        """Epochs of the budget that were not needed: 0 unless early stopping or a pruner ended training."""
        saves = self.stop_reason in (StopReason.EARLY_STOPPED, StopReason.PRUNED)
        return self.max_epochs - self.epochs_run if saves else 0
