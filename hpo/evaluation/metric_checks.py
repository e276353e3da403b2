"""Checks that a model reports the metrics that a study scores, watches and records."""

from __future__ import annotations

from dataclasses import dataclass

from hpo.core.early_stopping import EarlyStopping
from hpo.core.objective import Objective
from hpo.datasets.base import DataSpec
from hpo.errors import ConfigError, InputError, one_line
from hpo.models import metrics
from hpo.models.base import Model

# Costs that `objective.others` may name besides metrics: the number of weights, and the wall seconds of training on a
# fold and of predicting one sample.
COSTS = ("n_weights", "train_seconds", "predict_seconds")


@dataclass(frozen=True)
class StudyMetrics:
    """The metrics that are reported after each epoch of a study.

    Args:
        own: names that the model reports by itself, those of watched rows prefixed with ``val_``.
        extra: names of :mod:`hpo.models.metrics` that the study needs in addition, without ``val_``.
    """

    own: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All names, those of watched rows prefixed with ``val_``."""
        return (*self.own, *(f"val_{name}" for name in self.extra))


def check_metrics(model: Model, spec: DataSpec, objective: Objective, early_stopping: EarlyStopping) -> StudyMetrics:
    """Return the metrics of a study.

    Raises:
        ConfigError: if the model does not fit the data, cannot be built, or lacks a metric; or if the scored epoch is
            not the epoch with the restored weights.
    """
    model.check_fits(spec)
    own = _own_metrics(model, spec)
    _check_epoch(objective, early_stopping)
    computed = [name for name in metrics.names(spec) if f"val_{name}" not in own]
    allowed = (*own, *(f"val_{name}" for name in computed))
    others = [name for name in objective.others if name not in COSTS]
    _check_metric("objective.metric", objective.metric, own, allowed)
    _check_metric("early_stopping.monitor", early_stopping.monitor, own, allowed)
    for name in others:
        _check_metric("objective.others", name, own, allowed)
    wanted = {objective.metric, early_stopping.monitor, *others}
    return StudyMetrics(own, tuple(name for name in computed if f"val_{name}" in wanted))


def _own_metrics(model: Model, spec: DataSpec) -> tuple[str, ...]:
    try:
        return model.metrics(spec)
    except InputError:
        raise
    except Exception as error:  # a user's own code may raise anything
        raise ConfigError(
            "model",
            type(model).__name__,
            f"a model that can be built with its own defaults and sees a sample ({one_line(error)})",
            "HYDRA_FULL_ERROR=1 in front of the command shows where it failed",
        ) from error


def _check_epoch(objective: Objective, early_stopping: EarlyStopping) -> None:
    if objective.epoch == "best" and not early_stopping.restore_best_weights:
        raise ConfigError(
            "objective.epoch",
            "best",
            "last, since early_stopping.restore_best_weights is false and the best weights would be lost",
            "objective.epoch=last or early_stopping.restore_best_weights=true",
        )
    if objective.epoch == "last" and early_stopping.restore_best_weights:
        raise ConfigError(
            "objective.epoch",
            "last",
            "best, since early_stopping.restore_best_weights keeps another model than the one scored",
            "objective.epoch=best or early_stopping.restore_best_weights=false",
        )


def _check_metric(key: str, name: str, own: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    is_other = key == "objective.others"
    scored = [metric for metric in allowed if metric.startswith("val_")]
    if name in own and not name.startswith("val_") and key != "early_stopping.monitor":
        expected = "a metric of rows that are not trained on, since a search would over-fit"
        raise ConfigError(key, name, expected, f"'~{key}.{name}'" if is_other else f"{key}=val_{name}")
    if name in allowed:
        return
    if is_other:
        known = ", ".join([*scored, *COSTS])
        raise ConfigError(key, name, f"a metric of this model and data, or a cost: {known}", f"'~{key}.{name}'")
    known = ", ".join(scored if key == "objective.metric" else allowed)
    raise ConfigError(key, name, f"a metric of this model and data: {known}", f"{key}={own[-1]}")
