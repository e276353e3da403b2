"""Trials, folds and stores for the tests of tracking."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import mlflow

from hpo.core.early_stopping import EarlyStoppingOutcome
from hpo.core.objective import Objective
from hpo.core.states import StopReason
from hpo.core.trial import FoldResult
from hpo.tracking.writer import DatasetRecord

Store = tuple[mlflow.MlflowClient, str]
DATA = DatasetRecord("digits", "0" * 32, "scikit-learn", {"train": 8, "test": 2})
LOSS = Objective("val_loss", "minimize")


def unreachable() -> Store:
    raise ConnectionError("refused")


def ignore(text: str) -> None:
    """Accepts the messages of a tracker."""


def fold(
    number: int = 0,
    score: float | None = 0.5,
    reason: StopReason = StopReason.MAX_EPOCHS,
    history: Mapping[str, tuple[float, ...]] | None = None,
    outcome: Mapping[str, Any] | None = None,
    **options: Any,
) -> FoldResult:
    """A fold that trained for 3 of 3 epochs and kept the weights of epoch 1, unless ``outcome`` says otherwise."""
    given = {
        "monitor": "val_loss",
        "patience": 2,
        "min_delta": 0.0,
        "epochs_run": 3,
        "max_epochs": 3,
        "stopped_epoch": None,
        "best_epoch": 1,
        "best_value": 0.4,
        "restored_best_weights": True,
        "stop_reason": reason,
    }
    ended = EarlyStoppingOutcome(**{**given, **(outcome or {})})
    values = {"seed": 7, "seconds": {"train": 2.0, "score": 0.5}, "n_weights": 10, **options}
    return FoldResult(fold=number, score=score, outcome=ended, history=history or {}, **values)


def runs_by_key(store: Store) -> dict[str, Any]:
    """The runs of a store by their keys in the outbox, each of which was created once."""
    client, experiment = store
    runs = client.search_runs([experiment], order_by=["attributes.start_time ASC"])
    keys = [run.data.tags["hpo.run_key"] for run in runs]
    assert len(set(keys)) == len(keys), f"a run was created twice: {keys}"
    return dict(zip(keys, runs, strict=True))


def artifacts_of(store: Store, run: Any, folder: str | None = None) -> set[str]:
    return {artifact.path for artifact in store[0].list_artifacts(run.info.run_id, folder)}


@contextmanager
def files_up_to(n_bytes: int) -> Iterator[None]:
    """Files cannot grow beyond a size, as on a full disk: a write is cut short, and the next one fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
