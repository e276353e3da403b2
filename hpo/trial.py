"""What a study is made of: objective, limits, proposals, trials, folds and their early-stopping outcomes.

Everything here is plain data, checked on construction, and imports no backend.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from hpo.errors import ConfigError

ParamValue = bool | int | float | str | None
Params = Mapping[str, ParamValue]


class State(StrEnum):
    """State of a trial; Optuna's five. An interrupted trial is WAITING: it will be run again."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"

    @property
    def is_finished(self) -> bool:
        """Whether a trial in this state counts towards ``limits.n_trials``."""
        return self in (State.COMPLETE, State.PRUNED, State.FAIL)


class StopReason(StrEnum):
    """Why the training of a fold ended."""

    MAX_EPOCHS = "max_epochs"
    EARLY_STOPPED = "early_stopped"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    NODE_LOST = "node_lost"
    ERROR = "error"
    INTERRUPTED = "interrupted"

    @property
    def state(self) -> State:
        """The trial state that this reason leads to."""
        if self in (StopReason.MAX_EPOCHS, StopReason.EARLY_STOPPED):
            return State.COMPLETE
        if self is StopReason.PRUNED:
            return State.PRUNED
        return State.WAITING if self is StopReason.INTERRUPTED else State.FAIL


class Decision(StrEnum):
    """What the driver answers to a measurement of a running trial."""

    CONTINUE = "continue"
    PRUNE = "prune"
    INTERRUPT = "interrupt"


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
    """The number that a study optimises.

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
        """Of the metric and of the others, in order."""
        return (self.direction, *self.others.values())

    def dominates(self, values: Sequence[float], others: Sequence[float]) -> bool:
        """Whether ``values`` are nowhere worse than ``others`` and somewhere better."""
        signs = [-1 if direction == "maximize" else 1 for direction in self.directions]
        pairs = [(s * a, s * b) for s, a, b in zip(signs, values, others, strict=True)]
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    def better(self, value: float, than: float | None) -> bool:
        """Whether ``value`` beats ``than``; any finite value beats None."""
        if not math.isfinite(value):
            return False
        if than is None:
            return True
        return value > than if self.direction == "maximize" else value < than


@dataclass(frozen=True)
class Limits:
    """What ends a study; all are totals over its whole life. None means no limit.

    Args:
        n_trials: trials in state COMPLETE, PRUNED or FAIL.
        timeout_seconds: wall time of the search; trials still running then are closed as interrupted.
        max_epochs_total: epochs over all folds of all trials.
        max_consecutive_failures: trials in state FAIL in a row before the study gives up.

    Raises:
        ConfigError: for a limit below its least value, or when nothing would end the study.
    """

    n_trials: int | None = None
    timeout_seconds: float | None = None
    max_epochs_total: int | None = None
    max_consecutive_failures: int | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            least = "more than 0 seconds" if name == "timeout_seconds" else "a whole number of at least 1"
            if value is not None and (value <= 0 or not math.isfinite(value)):
                raise ConfigError(f"limits.{name}", value, f"{least}, or null for no limit", f"limits.{name}=20")
        if self.n_trials is None and self.timeout_seconds is None and self.max_epochs_total is None:
            raise ConfigError(
                "limits",
                "nothing that ends the study",
                "n_trials, timeout_seconds or max_epochs_total",
                "limits.n_trials=20",
            )


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
        stopped_epoch: the epoch at which early stopping ended training; None when something else did.
        best_epoch: the epoch with the best value of ``monitor``; None before the first epoch has ended.
        best_value: the value of ``monitor`` there.
        restored_best_weights: whether the model left with the weights of ``best_epoch``.
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
        """Epochs that were allowed and not needed: 0 unless early stopping or a pruner ended training."""
        saves = self.stop_reason in (StopReason.EARLY_STOPPED, StopReason.PRUNED)
        return self.max_epochs - self.epochs_run if saves else 0


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

    def summary(self) -> dict[str, Any]:
        """Everything but the curves, the traceback and the weights, ready for JSON."""
        kept: dict[str, Any] = {"fold": self.fold, "seed": self.seed, "score": self.score, "n_weights": self.n_weights}
        kept |= {"others": dict(self.others)} if self.others else {}
        kept |= {"train": dict(self.train)} if self.train else {}
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
        """The reason of the first fold that did not end by itself, else that of the last; None while running."""
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
        """One line saying what went wrong, if anything did."""
        return next((fold.error for fold in self.folds if fold.error), None)


# A curve that says at which step each report of a model was made, where reports are no epochs.
STEP = "at_step"


def step_of(epoch: int, logs: Mapping[str, float]) -> int:
    """Where a report stands: at its own step if it says so, else at the epoch."""
    return int(logs.get(STEP, epoch))


@dataclass(frozen=True)
class RecordedTrial:
    """A trial of a study that was stopped, as its record has it.

    Args:
        trial: with the last result of every fold that came to its end.
        results: every result by fold and budget, those of smaller budgets included.
        attempt: how often the trial was begun anew before.
        domains: of params that were asked for while it ran, as a search space has them and in the order of asking.
    """

    trial: Trial
    results: Mapping[tuple[int, int], FoldResult]
    attempt: int = 0
    domains: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """What a pruner sees after an epoch.

    Args:
        fold: to be compared with the same fold of other trials only.
        epoch: from 0, or the step of the model's own report.
        value: the objective's metric on the rows that are watched, after that epoch.
    """

    fold: int
    epoch: int
    value: float


OnRung = Callable[[Measurement], Decision]


@dataclass(frozen=True)
class FitPlan:
    """How one fold is to be trained.

    Args:
        max_epochs: the most epochs.
        seed: of everything random in it.
        share: ``max_epochs`` over the study's own, for a budget that is no epochs and for a schedule over all of them.
        extra: metrics of :mod:`hpo.metrics` of the watched rows that are reported besides the model's own.
    """

    max_epochs: int
    seed: int
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    share: float = 1.0
    extra: tuple[str, ...] = ()


def pareto_front(trials: Sequence[Trial], objective: Objective) -> list[Trial]:
    """The COMPLETE trials that no other one dominates, best first."""
    signs = [-1 if direction == "maximize" else 1 for direction in objective.directions]
    pairs = [(trial, trial.values) for trial in trials if trial.values is not None]
    # What dominates a trial comes before it here, so that it need only be held against those that are kept.
    # What is no number dominates nothing, and is last since it cannot be put in order.
    pairs.sort(key=lambda pair: [(math.isnan(v), sign * v) for sign, v in zip(signs, pair[1], strict=True)])
    front: list[tuple[Trial, tuple[float, ...]]] = []
    for trial, values in pairs:
        if not any(objective.dominates(other, values) for _, other in front):
            front.append((trial, values))
    return [trial for trial, _ in front]


def canonical(params: Params) -> str:
    """The one spelling of ``params``: JSON with sorted keys."""
    return json.dumps(dict(params), sort_keys=True, separators=(",", ":"))


def derive_seed(*parts: object) -> int:
    """A seed in [0, 2**31) that depends on all of ``parts`` and on nothing else."""
    text = json.dumps([str(part) for part in parts])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") % 2**31


def seed_for(study_seed: int, params: Params, fold: int, repeat: int = 0) -> int:
    """The training seed of one fit: equal params train equally under every strategy and in any order."""
    return derive_seed("fit", study_seed, canonical(params), fold, repeat)
