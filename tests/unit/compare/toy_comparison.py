"""Studies, comparisons and rankings made by hand, without a store and without training."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from hpo.compare.comparison import Comparison
from hpo.compare.eligibility import LeftOut
from hpo.compare.groups import Group, group_studies
from hpo.compare.ledger import InterimAnalysis
from hpo.compare.spending import AnalysisPlan
from hpo.compare.studies import ComparedStudy, from_record
from hpo.compare.tasks import Task, TaskRanking
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


# The same study in the current format.
CURRENT: Mapping[str, Any] = {
    **IDENTITY,
    "format": 2,
    "versions": {"common": {"hpo": "1", "numpy": "2"}, "model": {"keras": "3", "tensorflow": "2"}},
}


def record(name: str, state: str = "finished", **changed: Any) -> StudyRecord:
    """A study record.

    Args:
        changed: tags without their prefix, with ``__`` for a dot, if the value is text; metrics if it is a number.
    """
    told = {key.replace("__", "."): value for key, value in changed.items()}
    metrics = {key: float(value) for key, value in told.items() if not isinstance(value, str)}
    tags = {f"hpo.{key}": value for key, value in told.items() if isinstance(value, str)}
    return StudyRecord(f"run-{name}", "1", name, state, tags, {}, metrics, 0.0, 1.0)


def trial(number: int, score: float | None, epochs: int = 4, seconds: float | None = None) -> Trial:
    """A trial of one fold; it crashed if ``score`` is None."""
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
    base: Mapping[str, Any] = IDENTITY,
    **tags: Any,
) -> ComparedStudy:
    """A finished study of the strategy ``level``.

    Args:
        test: test accuracy of the winner.
        scores: validation scores of the trials, in the order in which they ended.
        identity: values merged into ``base``, by key.
        tags: see :func:`record`.
    """
    made: dict[str, Any] = {**base, "seed": seed, "strategy": {"_target_": f"hpo.strategies.{level}"}}
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
    """A study for each test score.

    Args:
        scores: level → test score by seed.
    """
    studies = [
        study(level, seed, test, **tags) for level, by_seed in scores.items() for seed, test in enumerate(by_seed)
    ]
    return group_studies(studies, "strategy")


BEST = (0.90, 0.92, 0.91, 0.93, 0.92)
WORST = (0.80, 0.81, 0.82, 0.80, 0.83)
AS_BEST = (0.901, 0.919, 0.911, 0.929, 0.920)
NOISY = (0.95, 0.86, 0.99, 0.82, 0.93)


def compared(
    plan: AnalysisPlan | None = None, analyses: Sequence[InterimAnalysis] = (), **scores: Sequence[float]
) -> Comparison:
    """A comparison of levels with these test scores by seed."""
    return Comparison(grouped(scores), plan or AnalysisPlan(), analyses)


def analysed(
    seeds: Sequence[int],
    spent: float,
    levels: Sequence[str] = "ab",
    max_seeds: int | None = None,
    min_effect: float = 0.01,
    alpha: float = 0.05,
) -> InterimAnalysis:
    """An earlier analysis."""
    return InterimAnalysis(tuple(seeds), tuple(levels), spent, max_seeds, min_effect, alpha)


def compared_with_left_out() -> Comparison:
    """A comparison that leaves out an interrupted study."""
    studies = [study(level, seed) for level in ("random", "optuna") for seed in (0, 1)]
    before = [LeftOut("mine", "it is [red]interrupted", "python -m hpo resume mine")]
    return Comparison(group_studies(studies, "strategy", before), AnalysisPlan())


def ranked(*scores: Mapping[str, float], alpha: float = 0.05) -> TaskRanking:
    """A task with two seeds for each mapping of level → mean test score."""
    by_task = [{level: (mean - 0.01, mean + 0.01) for level, mean in means.items()} for means in scores]
    comparisons = [Comparison(grouped(by_level), AnalysisPlan()) for by_level in by_task]
    return TaskRanking("dataset", [Task(f"t{place}", each) for place, each in enumerate(comparisons)], alpha)


def always(n: int, order: Sequence[str] = "abc", alpha: float = 0.05) -> TaskRanking:
    """``n`` tasks on which the levels rank in the same order."""
    means = {level: 0.9 - 0.1 * place for place, level in enumerate(order)}
    return ranked(*(means for _ in range(n)), alpha=alpha)


@functools.cache
def _spreads(n: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Equally likely standard deviations of ``n`` values of a standard normal distribution."""
    return np.asarray(np.sqrt(stats.chi2.ppf((np.arange(2000) + 0.5) / 2000, n - 1) / (n - 1)))


def power_by_quadrature(n: int, sd: float, effect: float, alpha: float) -> float:
    """Power of the two-sided t-test, as the power of a z-test averaged over the standard deviations."""
    spread = _spreads(n)
    critical, shift = stats.t.ppf(1 - alpha / 2, n - 1), effect / sd * math.sqrt(n)
    return float((stats.norm.sf(critical * spread - shift) + stats.norm.cdf(-critical * spread - shift)).mean())
