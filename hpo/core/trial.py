"""Trials and the results of their folds: plain data, checked on construction."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hpo.core.early_stopping import EarlyStoppingOutcome
from hpo.core.objective import Objective
from hpo.core.params import Params
from hpo.core.states import State, StopReason


@dataclass(frozen=True)
class FoldResult:
    """One fold of one trial, trained and scored.

    Args:
        fold: index from 0.
        seed: the training seed.
        score: the objective on the fold's scored part; None unless training came to a natural end.
        outcome: how training ended.
        history: metric name → one value an epoch, as in Keras's ``History``.
        seconds: wall seconds by phase: ``build``, ``first_step``, ``train``, ``score``.
        n_weights: trainable and other weights of the model; None where it has none or was not built.
        error: one line saying what went wrong, if anything did.
        traceback: the whole traceback of an exception.
        weights_path: where the weights were saved, if they were.
        others: the objective's other metrics, by name; empty without a score.
        budget: the most epochs that it was given; None in records that do not say.
        train: metrics on training rows, at the kept weights and as in prediction; empty without a score.
        shared_by: phase → number of trials that shared its work, if more than one; ``seconds`` is one trial's part.
    """

    fold: int
    seed: int
    score: float | None
    outcome: EarlyStoppingOutcome
    history: Mapping[str, tuple[float, ...]]
    seconds: Mapping[str, float]
    n_weights: int | None = None
    error: str | None = None
    traceback: str | None = None
    weights_path: str | None = None
    others: Mapping[str, float] = field(default_factory=dict)
    budget: int | None = None
    train: Mapping[str, float] = field(default_factory=dict)
    shared_by: Mapping[str, int] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Everything but the curves, the traceback and the weights, ready for JSON."""
        kept: dict[str, Any] = {"fold": self.fold, "seed": self.seed, "score": self.score, "n_weights": self.n_weights}
        kept |= {"others": dict(self.others)} if self.others else {}
        kept |= {"train": dict(self.train)} if self.train else {}
        kept |= {"shared_by": dict(self.shared_by)} if self.shared_by else {}
        outcome = asdict(self.outcome) | {"epochs_saved": self.outcome.epochs_saved}
        return kept | {"error": self.error, "outcome": outcome, "seconds": dict(self.seconds), "budget": self.budget}

    @classmethod
    def of(cls, summary: Mapping[str, Any], history: Mapping[str, tuple[float, ...]]) -> FoldResult:
        """The fold whose :meth:`summary` was read back, numbers that JSON has not being text there."""
        outcome = {name: value for name, value in summary["outcome"].items() if name != "epochs_saved"}
        outcome["stop_reason"] = StopReason(outcome["stop_reason"])
        outcome["best_value"] = None if outcome["best_value"] is None else float(outcome["best_value"])
        return cls(
            fold=summary["fold"],
            seed=summary["seed"],
            score=summary["score"],
            outcome=EarlyStoppingOutcome(**outcome),
            history=history,
            seconds={name: float(value) for name, value in summary["seconds"].items()},
            n_weights=summary["n_weights"],
            error=summary["error"],
            others={name: float(value) for name, value in summary.get("others", {}).items()},
            budget=summary.get("budget"),
            train={name: float(value) for name, value in summary.get("train", {}).items()},
            shared_by={name: int(value) for name, value in summary.get("shared_by", {}).items()},
        )


@dataclass(frozen=True)
class Proposal:
    """Params asked for by a strategy, with the most epochs that they may train (None: the study's ``max_epochs``)."""

    params: Params
    max_epochs: int | None = None


@dataclass(frozen=True)
class Trial:
    """A proposal, numbered from 0 and evaluated on its folds.

    Args:
        interrupted: whether it was stopped between two folds or budgets, so that none of its folds says so.
        ended_seconds: when it ended, in seconds of searching since the study began; None while it has not.
    """

    number: int
    params: Params
    folds: tuple[FoldResult, ...] = ()
    seconds: float = 0.0
    interrupted: bool = False
    ended_seconds: float | None = None

    @property
    def stop_reason(self) -> StopReason | None:
        """Stop reason of the first fold that did not complete, else of the last fold; None while running."""
        if self.interrupted:
            return StopReason.INTERRUPTED
        reasons = [fold.outcome.stop_reason for fold in self.folds]
        return next((r for r in reasons if r.state is not State.COMPLETE), reasons[-1] if reasons else None)

    @property
    def state(self) -> State:
        """Derived from the folds."""
        return self.stop_reason.state if self.stop_reason else State.RUNNING

    @property
    def scores(self) -> list[float]:
        """Of the folds that have one."""
        return [fold.score for fold in self.folds if fold.score is not None]

    @property
    def mean_score(self) -> float | None:
        """Mean of the fold scores, at whatever budget they were reached; None without one."""
        return statistics.fmean(self.scores) if self.scores else None

    @property
    def value(self) -> float | None:
        """Mean of the fold scores; None unless the trial is COMPLETE."""
        return self.mean_score if self.state is State.COMPLETE else None

    @property
    def values(self) -> tuple[float, ...] | None:
        """The objective and its other metrics, each the mean over folds; None unless the trial is COMPLETE."""
        if self.value is None:
            return None
        others = (statistics.fmean(fold.others[name] for fold in self.folds) for name in self.folds[0].others)
        return (self.value, *others)

    @property
    def std(self) -> float | None:
        """Standard deviation of the fold scores (n - 1 in the denominator); None below two."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    @property
    def standard_error(self) -> float | None:
        """``std`` over the root of the number of folds; naive, since folds share training rows."""
        return None if self.std is None else self.std / math.sqrt(len(self.scores))

    @property
    def best_epochs(self) -> list[int]:
        """The kept epoch of every fold that has one."""
        return [fold.outcome.best_epoch for fold in self.folds if fold.outcome.best_epoch is not None]

    @property
    def epochs_run(self) -> int:
        """Epochs over all folds."""
        return sum(fold.outcome.epochs_run for fold in self.folds)

    @property
    def epochs_saved(self) -> int:
        """Epochs over all folds that early stopping or pruning made unnecessary."""
        return sum(fold.outcome.epochs_saved for fold in self.folds)

    def gaps(self, objective: Objective) -> list[float]:
        """How much better the objective's metric is on training rows than on those that are scored, by fold."""
        name = objective.metric.removeprefix("val_")
        sign = -1 if objective.direction == "minimize" else 1
        scored = [fold for fold in self.folds if fold.score is not None and name in fold.train]
        return [sign * (fold.train[name] - (fold.score or 0.0)) for fold in scored]

    def train_score(self, objective: Objective) -> float | None:
        """The objective's metric on training rows, the mean over folds; None where it was not taken."""
        name = objective.metric.removeprefix("val_")
        scores = [fold.train[name] for fold in self.folds if name in fold.train]
        return statistics.fmean(scores) if scores else None

    @property
    def error(self) -> str | None:
        """One line that describes the first error; None without one."""
        return next((fold.error for fold in self.folds if fold.error), None)


@dataclass(frozen=True)
class RecordedTrial:
    """A trial of a stopped study, as recorded.

    Args:
        trial: with the last result of every fold that came to its end.
        results: every result by fold and budget, those of smaller budgets included.
        attempt: how often the trial was restarted before.
        domains: of params that were asked for while it ran, as a search space has them and in the order of asking.
    """

    trial: Trial
    results: Mapping[tuple[int, int], FoldResult]
    attempt: int = 0
    domains: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def pareto_front(trials: Sequence[Trial], objective: Objective) -> list[Trial]:
    """The COMPLETE trials that no other one dominates, best first."""
    signs = [-1 if direction == "maximize" else 1 for direction in objective.directions]
    pairs = [(trial, trial.values) for trial in trials if trial.values is not None]
    # Sorted, a trial can be dominated only by those before it, so comparing with the kept ones is enough.
    # NaN dominates nothing and has no order, so it comes last.
    pairs.sort(key=lambda pair: [(math.isnan(v), sign * v) for sign, v in zip(signs, pair[1], strict=True)])
    front: list[tuple[Trial, tuple[float, ...]]] = []
    for trial, values in pairs:
        if not any(objective.dominates(other, values) for _, other in front):
            front.append((trial, values))
    return [trial for trial, _ in front]
