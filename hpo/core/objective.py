"""The objective that a search optimises."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hpo.errors import ConfigError

_HIGHER_IS_BETTER = ("accuracy", "acc", "auc", "precision", "recall", "f1", "f1_score", "r2", "r2_score", "top_k")


_LOWER_IS_BETTER = ("loss", "error", "mse", "mae", "rmse", "mape", "msle", "crossentropy", "log_loss")


def metric_direction(metric: str) -> str | None:
    """``"maximize"``, ``"minimize"``, or None for a metric whose direction is not known by name."""
    name = metric.removeprefix("val_").removeprefix("test_").lower()

    def known(stems: tuple[str, ...]) -> bool:
        return any(name == stem or name.endswith("_" + stem) or name.startswith(stem + "_") for stem in stems)

    if known(_LOWER_IS_BETTER) or "error" in name or "crossentropy" in name:
        return "minimize"
    return "maximize" if known(_HIGHER_IS_BETTER) or "accuracy" in name else None


@dataclass(frozen=True)
class Objective:
    """The metric that a study optimises, and its direction.

    Args:
        metric: a name that the model reports, such as ``val_accuracy``.
        direction: ``minimize`` or ``maximize``.
        epoch: which epoch counts: ``best``, the one whose weights early stopping keeps, or ``last``.
        others: further metrics to optimise at the same time, with their directions; the first decides the winner.

    Raises:
        ConfigError: for an unknown direction or epoch, or a direction that contradicts the metric.
    """

    metric: str
    direction: str
    epoch: str = "best"
    others: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, direction in self.others.items():
            natural, key = metric_direction(name), f"objective.others.{name}"
            if direction not in ("minimize", "maximize") or natural not in (None, direction):
                expected = natural or "minimize or maximize"
                raise ConfigError(key, direction, expected, f"+{key}={natural or 'minimize'}")
            if name == self.metric:
                raise ConfigError("objective.others", name, f"metrics besides {name}", f"'~objective.others.{name}'")
        natural = metric_direction(self.metric)
        if self.direction not in ("minimize", "maximize") or natural not in (None, self.direction):
            allowed = f"{natural}, since the metric is {self.metric!r}" if natural else "minimize or maximize"
            fix = f"objective.direction={natural or 'minimize'}"
            raise ConfigError("objective.direction", self.direction, allowed, fix)
        if self.epoch not in ("best", "last"):
            raise ConfigError("objective.epoch", self.epoch, "best or last", "objective.epoch=best")

    @classmethod
    def of(
        cls,
        metric: str,
        direction: str | None = None,
        epoch: str = "best",
        others: Mapping[str, str | None] | None = None,
    ) -> Objective:
        """As the constructor, with a direction of None taken from the metric's name."""
        second = {name: way or metric_direction(name) or "not said" for name, way in (others or {}).items()}
        return cls(metric, direction or metric_direction(metric) or "not said", epoch, second)

    @property
    def directions(self) -> tuple[str, ...]:
        """The directions of the metric and of the others, in order."""
        return (self.direction, *self.others.values())

    def dominates(self, values: Sequence[float], others: Sequence[float]) -> bool:
        """Whether ``values`` dominate ``others``: no value is worse, and at least one is better."""
        signs = [-1 if direction == "maximize" else 1 for direction in self.directions]
        pairs = [(s * a, s * b) for s, a, b in zip(signs, values, others, strict=True)]
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    def better(self, value: float, than: float | None) -> bool:
        """Whether ``value`` is better than ``than``; any finite value is better than None."""
        if not math.isfinite(value):
            return False
        if than is None:
            return True
        return value > than if self.direction == "maximize" else value < than
