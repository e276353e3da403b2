"""Metrics, params and tags of several records, grouped into as few calls to MLflow as it accepts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlflow.entities import Metric, Param, RunTag

# MLflow accepts 1000 items in one call, of which at most 100 are params and 100 are tags.
METRICS_PER_CALL, OTHERS_PER_CALL = 800, 100


@dataclass(frozen=True)
class Batch:
    """Metrics, params and tags of one call, of which MLflow takes all or nothing."""

    metrics: list[Metric] = field(default_factory=list)
    params: list[Param] = field(default_factory=list)
    tags: list[RunTag] = field(default_factory=list)

    def split(self) -> Iterator[Batch]:
        """Batches that MLflow accepts by size; one if this one is small enough, none if it is empty."""
        if len(self.metrics) <= METRICS_PER_CALL and max(len(self.params), len(self.tags)) <= OTHERS_PER_CALL:
            if self.metrics or self.params or self.tags:
                yield self
            return
        yield from (Batch(metrics=chunk) for chunk in _chunks(self.metrics, METRICS_PER_CALL))
        yield from (Batch(params=chunk) for chunk in _chunks(self.params, OTHERS_PER_CALL))
        yield from (Batch(tags=chunk) for chunk in _chunks(self.tags, OTHERS_PER_CALL))

    def singles(self) -> Iterator[tuple[Batch, dict[str, Any]]]:
        """One batch for each item, with the body of a record that holds only this item."""
        for metric in self.metrics:
            yield (
                Batch(metrics=[metric]),
                {"metrics": [[metric.key, metric.value, metric.timestamp, metric.step]]},
            )
        for param in self.params:
            yield Batch(params=[param]), {"params": {param.key: param.value}}
        for tag in self.tags:
            yield Batch(tags=[tag]), {"tags": {tag.key: tag.value}}


@dataclass
class PendingValues:
    """Metrics, params and tags of one run that are read from the outbox and not uploaded yet."""

    metrics: list[Metric] = field(default_factory=list)
    params: list[Param] = field(default_factory=list)
    tags: dict[str, Any] = field(default_factory=dict)

    def add(self, body: Mapping[str, Any]) -> None:
        """Add the values in the body of a record; a tag replaces its earlier value."""
        self.metrics += [Metric(*metric) for metric in body.get("metrics", ())]
        self.params += [Param(name, value) for name, value in body.get("params", {}).items()]
        self.tags |= body.get("tags", {})


def _chunks(items: list[Any], size: int) -> list[list[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
