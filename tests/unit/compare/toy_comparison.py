"""Studies as they are read back, made by hand: what is compared, without a store and without any training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hpo.compare.studies import ComparedStudy, Group, from_record, group
from hpo.core.early_stopping import EarlyStoppingOutcome
from hpo.core.states import StopReason
from hpo.core.trial import FoldResult, RecordedTrial, Trial
from hpo.tracking.reader import StudyRecord
from hpo.tracking.resume import RecordedStudy

IDENTITY: Mapping[str, Any] = {
    "seed": 0,
    "max_epochs": 8,
    "model": {"_target_": "hpo.models.toy", "dropout": 0.2},
    "dataset": {"_target_": "hpo.datasets.toy"},
    "resampling": {"_target_": "hpo.evaluation.resampling.Holdout"},
    "strategy": {"_target_": "hpo.strategies.random"},
    "search_space": {"lr": {"type": "float", "low": 0.1, "high": 1}},
    "objective": {"metric": "val_accuracy", "direction": "maximize", "epoch": "best"},
    "early_stopping": {"monitor": "val_loss", "patience": 2},
    "data_digest": "d1",
    "folds_digest": "f0",
    "versions": {"hpo": "1", "keras": "3", "tensorflow": "2", "numpy": "2", "scikit-learn": "1", "optuna": "5"},
}


def record(name: str, state: str = "finished", **changed: Any) -> StudyRecord:
    """``changed`` are its tags, with ``__`` for a dot, and its metrics where their values are numbers."""
    told = {key.replace("__", "."): value for key, value in changed.items()}
    metrics = {key: float(value) for key, value in told.items() if not isinstance(value, str)}
    tags = {f"hpo.{key}": value for key, value in told.items() if isinstance(value, str)}
    return StudyRecord(f"run-{name}", "1", name, state, tags, {}, metrics, 0.0, 1.0)


def trial(number: int, score: float | None, epochs: int = 4, seconds: float | None = None) -> Trial:
    """Hold-out; without a score it has crashed."""
    reason = StopReason.CRASHED if score is None else StopReason.EARLY_STOPPED
    outcome = EarlyStoppingOutcome("val_loss", 2, 0.0, epochs, 8, epochs - 1, 1, 0.5, True, reason)
    losses = tuple(0.5 + 0.1 * abs(epoch - 1) for epoch in range(epochs))
    curves = {"val_loss": losses, "val_mae": losses, "val_accuracy": tuple(1 - loss for loss in losses)}
    fold = FoldResult(0, 1, score, outcome, curves, {})
    return Trial(number, {"lr": 0.1}, (fold,), seconds=1.0, ended_seconds=seconds or 10.0 * (number + 1))


def study(
    level: str,
    seed: int,
    test: float = 0.8,
    scores: Sequence[float | None] = (0.7, 0.9),
    *,
    name: str | None = None,
    identity: Mapping[str, Any] | None = None,
    **tags: Any,
) -> ComparedStudy:
    """One that used the strategy ``level``.

    Args:
        test: the accuracy of its winner on the test split.
        scores: of its trials, in the order in which they ended.
        identity: parts that are merged into :data:`IDENTITY`, by key.
    """
    made: dict[str, Any] = {**IDENTITY, "seed": seed, "strategy": {"_target_": f"hpo.strategies.{level}"}}
    for key, value in (identity or {}).items():
        made[key] = {**made.get(key, {}), **value} if isinstance(value, Mapping) else value
    told = {
        "strategy": level,
        "model": "mlp",
        "dataset": "digits",
        "resampling": "holdout",
        "seed": str(seed),
        "objective": "maximize val_accuracy",
        "folds_digest": f"f{seed}",
        "data_digest": "d1",
        "hardware": "this",
        "choices": json.dumps({"strategy": level, "model": "mlp", "dataset": "digits", "resampling": "holdout"}),
        "overrides": json.dumps([f"strategy={level}", "model=mlp", f"seed={seed}", "study=x"]),
        "limits__n_trials": str(len(scores)),
        "test_accuracy": test,
        "search_seconds": 100.0,
        **tags,
    }
    trials = [RecordedTrial(trial(number, score), {}) for number, score in enumerate(scores)]
    recorded = RecordedStudy({}, {}, str, tuple(trials))
    return from_record(record(name or f"{level}-{seed}", **told), made, recorded)


def grouped(scores: Mapping[str, Sequence[float]], **tags: Any) -> Group:
    """A study for every test score: level → score by seed."""
    studies = [
        study(level, seed, test, **tags) for level, by_seed in scores.items() for seed, test in enumerate(by_seed)
    ]
    return group(studies, "strategy")
