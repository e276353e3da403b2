"""Runs strategies on formulas instead of models, for the checks of strategies."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hpo.core.early_stopping import EarlyStoppingOutcome
from hpo.core.measurement import Measurement, OnReport
from hpo.core.objective import Objective
from hpo.core.params import Params, ParamValue, canonical
from hpo.core.space import SearchSpace, Suggest
from hpo.core.states import Decision, StopReason
from hpo.core.trial import FoldResult, Proposal, RecordedTrial, Trial
from hpo.errors import SearchStopped
from hpo.run.replay import ReplayedTrial
from hpo.strategies.base import SearchProblem, Strategy

MAX_EPOCHS = 5
PARALLEL_SECONDS = 20.0  # to wait for a second trial, which may take long to start on a busy machine
N_FOLDS = 3
MakeStrategy = Callable[[], Strategy]
Score = Callable[[Params], float]
Curve = Callable[[Params, int, int], float]
"""Value of params on a fold after an epoch."""

_SPACES: dict[str, dict[str, dict[str, Any]]] = {
    "all_types": {
        "rate": {"type": "float", "low": 1e-4, "high": 1.0, "log": True, "grid": [1e-3, 0.1]},
        "drop": {"type": "float", "low": 0.0, "high": 0.6, "step": 0.2, "grid": [0.0, 0.6]},
        "units": {"type": "int", "low": 16, "high": 48, "step": 16, "grid": [16, 48]},
        "depth": {"type": "int", "low": 1, "high": 64, "log": True, "grid": [1, 8]},
        "act": {"type": "categorical", "choices": ["relu", "elu", 3, None], "grid": ["relu", None]},
        "opt": {"type": "categorical", "choices": ["adam", "sgd"]},
        "momentum": {"type": "float", "low": 0.0, "high": 0.9, "grid": [0.0, 0.9], "when": {"opt": ["sgd"]}},
    },
    "one_float": {"x": {"type": "float", "low": -1.0, "high": 2.0, "grid": [-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0]}},
    "one_value": {
        "x": {"type": "float", "low": 0.5, "high": 0.5},
        "n": {"type": "int", "low": 3, "high": 3},
    },
    "categories": {
        "a": {"type": "categorical", "choices": [True, False]},
        "b": {"type": "categorical", "choices": ["x"]},
    },
    "nested": {
        "a": {"type": "categorical", "choices": ["x", "y", "z"]},
        "b": {"type": "int", "low": 1, "high": 3, "when": {"a": ["x", "y"]}},
        "c": {"type": "categorical", "choices": ["p", "q"], "when": {"a": ["z"]}},
        "d": {"type": "float", "low": 0.0, "high": 1.0, "grid": [0.0, 1.0], "when": {"b": [2, 3]}},
        "e": {"type": "int", "low": 1, "high": 9, "log": True, "grid": [1, 9], "when": {"a": ["x"], "b": [1]}},
    },
}
SPACES: Mapping[str, SearchSpace] = {name: SearchSpace.from_config(config) for name, config in _SPACES.items()}


class Evaluation:
    """Replaces a study: scores params with a formula, one value per epoch, and ends the search after ``n_trials``.

    Args:
        stopped: an earlier search; its finished trials are answered from the record.
        seconds: duration of a fold; the first fold also waits until another one runs at the same time.
        asks: the space of the params that a trial asks for while it runs; the strategy then gets an empty space.

    Attributes:
        begun: the trials that were started here, by number.
        replayed: params of the trials that were answered from the record.
        most_at_once: the most folds that ran at the same time.
    """

    def __init__(
        self,
        score: Score,
        n_trials: int,
        curve: Curve | None = None,
        n_folds: int = 1,
        others: Sequence[str] = (),
        stopped: Evaluation | None = None,
        seconds: float = 0.0,
        asks: SearchSpace | None = None,
    ) -> None:
        self._asks = asks
        self._score, self._n_trials, self._n_folds = score, n_trials, n_folds
        self._curve, self._others, self._seconds = curve, others, seconds
        self.begun: list[Running] = []
        self.replayed: list[Params] = []
        self.most_at_once = self._n_at_once = 0
        self._record: dict[str, list[RecordedTrial]] = {}
        for running in stopped.begun if stopped else ():
            if running.is_closed:
                recorded = RecordedTrial(running.trial, dict(running.results))
                self._record.setdefault(canonical(recorded.trial.params), []).append(recorded)
        self._lock = threading.RLock()
        self._another = threading.Condition(self._lock)

    @property
    def trials(self) -> list[Trial]:
        """All trials by number."""
        return [running.trial for running in self.begun]

    def __call__(self, proposal: Proposal, on_report: OnReport | None = None, suggest: Suggest | None = None) -> Trial:
        running = self.open(proposal.params if suggest is None else self._asked(suggest))
        running.train(proposal.max_epochs, on_report)
        return running.close()

    def _asked(self, suggest: Suggest) -> Params:
        """Ask for one param after another, as an objective does while it runs."""
        assert self._asks is not None, "the strategy knows the space of this search"
        params: dict[str, ParamValue] = {}
        for name, parameter in self._asks.items():
            if self._asks.is_active(name, params):
                params[name] = suggest(parameter)
        return params

    def open(self, params: Params) -> Running | ReplayedTrial:
        """See :meth:`hpo.strategies.base.Evaluate.open`."""
        with self._lock:
            if known := self._record.get(canonical(params)):
                self.replayed.append(params)
                return ReplayedTrial(known.pop(0), MAX_EPOCHS, "val_loss")
            if len(self.begun) + len(self.replayed) >= self._n_trials:
                raise SearchStopped
            self.begun.append(Running(self, len(self.begun), params))
            return self.begun[-1]

    def end(self) -> None:
        """Close the trials that the strategy left open, as a study does."""
        for running in self.begun:
            if not running.is_closed:
                running.close(dropped=True)

    def train(self, params: Params, fold: int, max_epochs: int, on_report: OnReport | None) -> FoldResult:
        """Return the result of one fold, with one value per epoch until its end or until it is pruned."""
        with self._lock:
            self._n_at_once += 1
            self.most_at_once = max(self.most_at_once, self._n_at_once)
            self._another.notify_all()
            if self._seconds and not self._another.wait_for(lambda: self.most_at_once > 1, PARALLEL_SECONDS):
                self._seconds = 0.0  # the strategy runs one trial at a time
        time.sleep(self._seconds)
        with self._lock:
            self._n_at_once -= 1
        value, reason = self._score(params), StopReason.MAX_EPOCHS
        values: list[float] = []
        for epoch in range(max_epochs):
            values.append(self._curve(params, fold, epoch) if self._curve else value)
            decision = on_report(Measurement(fold, epoch, values[-1])) if on_report else Decision.CONTINUE
            if decision is Decision.PRUNE and self._curve and epoch + 1 < max_epochs:
                reason = StopReason.PRUNED
                break
        if not math.isfinite(value):
            reason = StopReason.DIVERGED
        outcome = EarlyStoppingOutcome(
            "val_loss", None, 0.0, len(values), max_epochs, None, len(values) - 1, values[-1], False, reason
        )
        score = (values[-1] if self._curve else value) if reason is StopReason.MAX_EPOCHS else None
        others = dict.fromkeys(self._others, -value) if score is not None else {}
        curves = {"val_loss": tuple(values)}
        return FoldResult(fold, 1, score, outcome, curves, {}, others=others, budget=max_epochs)

    @property
    def n_folds(self) -> int:
        """Folds of every trial."""
        return self._n_folds


class Running:
    """A trial of an :class:`Evaluation`; see :class:`hpo.strategies.base.OpenTrial`."""

    def __init__(self, evaluation: Evaluation, number: int, params: Params) -> None:
        self._evaluation, self.number, self._params = evaluation, number, dict(params)
        self._folds: dict[int, FoldResult] = {}
        self.results: dict[tuple[int, int], FoldResult] = {}
        self.budgets: list[tuple[int, int]] = []
        self.is_closed = False

    @property
    def trial(self) -> Trial:
        return Trial(self.number, self._params, tuple(self._folds[fold] for fold in sorted(self._folds)))

    def train_fold(
        self, fold: int, max_epochs: int | None = None, on_report: OnReport | None = None
    ) -> FoldResult | None:
        assert not self.is_closed, "a closed trial was trained again"
        if any(result.outcome.stop_reason is not StopReason.MAX_EPOCHS for result in self._folds.values()):
            return None
        budget = min(max_epochs or MAX_EPOCHS, MAX_EPOCHS)
        self.budgets.append((fold, budget))
        result = self._evaluation.train(self._params, fold, budget, on_report)
        self._folds[fold] = self.results[fold, budget] = result
        return result

    def train(self, max_epochs: int | None = None, on_report: OnReport | None = None) -> Trial:
        for fold in range(self._evaluation.n_folds):
            if self.train_fold(fold, max_epochs, on_report) is None:
                break
        return self.trial

    def close(self, dropped: bool = False) -> Trial:
        assert not self.is_closed, "a trial was closed twice"
        self.is_closed = True
        for fold, result in self._folds.items():
            if dropped and result.outcome.stop_reason is StopReason.MAX_EPOCHS:
                pruned = replace(result.outcome, stop_reason=StopReason.PRUNED, max_epochs=MAX_EPOCHS)
                self._folds[fold] = replace(result, outcome=pruned)
        return self.trial


def run(
    strategy: Strategy,
    space: SearchSpace,
    score: Score,
    n_trials: int,
    *,
    seed: int = 0,
    metric: str = "val_loss",
    others: Mapping[str, str | None] | None = None,
    curve: Curve | None = None,
    n_folds: int = 1,
    default: Params | None = None,
    enqueued: tuple[Params, ...] = (),
    stop_after: int | None = None,
    stopped: Evaluation | None = None,
    n_workers: int = 1,
    seconds: float = 0.0,
    defined_by_run: bool = False,
) -> Evaluation:
    """Search ``space`` with ``strategy`` for ``n_trials``; a finite strategy gets one per grid point.

    Args:
        stop_after: stop after this many trials, as if the study were killed.
        stopped: a search that was stopped this way, to resume.
        defined_by_run: whether trials ask for the params of ``space`` while they run.

    Returns:
        The trials and how they were run.
    """
    if strategy.tags.finite:
        n_trials = max(n_trials, space.grid_size())
    folds = np.arange(3 * n_folds).reshape(n_folds, 3)
    splits = [(np.setdiff1d(folds.ravel(), part), part) if n_folds > 1 else (part[:2], part[2:]) for part in folds]
    search = SearchProblem(
        SearchSpace([]) if defined_by_run else space,
        Objective.of(metric, others=others),
        n_trials,
        MAX_EPOCHS,
        seed,
        default,
        enqueued,
        tuple(splits),
        n_workers,
        tuple(trial.params for trial in stopped.trials) if stopped else (),
        defined_by_run=defined_by_run,
    )
    asks = space if defined_by_run else None
    evaluation = Evaluation(score, stop_after or n_trials, curve, n_folds, list(others or ()), stopped, seconds, asks)
    strategy.plan(search)
    with contextlib.suppress(SearchStopped):
        strategy.search(search, evaluation)
    if stop_after is None:
        evaluation.end()
    return evaluation


def bowl(params: Params) -> float:
    """Return the sum of squares of all numbers, plus 1 for every other value: a minimum at 0."""
    return sum(float(v) ** 2 if isinstance(v, int | float) else 1.0 for v in params.values())


def number(params: Params, name: str) -> float:
    """Return a param as a float."""
    return float(str(params[name]))
