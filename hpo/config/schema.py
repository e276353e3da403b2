"""The typed schema of the config; Hydra refuses keys that it does not have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from omegaconf import MISSING


@dataclass
class ParamConf:
    """One parameter of a search space; flat, since OmegaConf has no unions. ``hpo.core.space`` checks the rest."""

    type: str = MISSING
    low: Any = None
    high: Any = None
    log: Optional[bool] = None  # noqa: UP045 OmegaConf reads no X | None
    step: Any = None
    choices: Any = None
    grid: Any = None
    when: Any = None


@dataclass
class ObjectiveConf:
    """Arguments of :class:`hpo.core.objective.Objective`."""

    metric: str = MISSING
    direction: Optional[str] = None  # noqa: UP045
    epoch: str = "best"
    others: dict[str, Optional[str]] = field(default_factory=dict)  # noqa: UP045


@dataclass
class EarlyStoppingConf:
    """Arguments of :class:`hpo.core.early_stopping.EarlyStopping`."""

    monitor: str = "val_loss"
    patience: Optional[int] = 3  # noqa: UP045
    min_delta: float = 0.0
    restore_best_weights: bool = True
    start_from_epoch: int = 0


@dataclass
class LimitsConf:
    """Arguments of :class:`hpo.core.limits.Limits`."""

    n_trials: Optional[int] = None  # noqa: UP045
    timeout_seconds: Optional[float] = None  # noqa: UP045
    max_epochs_total: Optional[int] = None  # noqa: UP045
    max_consecutive_failures: Optional[int] = None  # noqa: UP045


@dataclass
class TrackingConf:
    """Where the record goes: an MLflow tracking URI, an experiment, and a folder for files."""

    uri: str = MISSING
    experiment: str = MISSING
    output_path: str = MISSING
    offline: str = "refuse"


@dataclass
class Conf:
    """A composed config. Groups with a ``_target_`` are free mappings: their target checks them."""

    model: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    search_space: dict[str, ParamConf] = field(default_factory=dict)
    strategy: dict[str, Any] = field(default_factory=dict)
    resampling: dict[str, Any] = field(default_factory=dict)
    executor: dict[str, Any] = field(default_factory=dict)
    tracking: TrackingConf = field(default_factory=TrackingConf)
    objective: ObjectiveConf = field(default_factory=ObjectiveConf)
    early_stopping: EarlyStoppingConf = field(default_factory=EarlyStoppingConf)
    limits: LimitsConf = field(default_factory=LimitsConf)
    study: Optional[str] = None  # noqa: UP045
    enqueue: list[dict[str, Any]] = field(default_factory=list)
    seed: int = 0
    max_epochs: int = 10
