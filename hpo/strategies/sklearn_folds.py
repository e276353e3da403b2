"""Maps the ``fit`` calls of a scikit-learn search to the folds of a study's trials."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from hpo.core.params import Params, canonical
from hpo.core.states import State
from hpo.strategies.base import Evaluate, OpenTrial, SearchProblem


class Folds:
    """Maps the library's ``fit`` calls to open trials of the study; any thread may call it.

    There is one call per candidate and fold. Params that the library draws twice are two trials; a larger budget
    continues the trial with the same params.
    """

    def __init__(self, evaluate: Evaluate, search: SearchProblem, has_rungs: bool) -> None:
        self._evaluate, self._search, self._has_rungs = evaluate, search, has_rungs
        self._fold_of = {
            np.asarray(train, dtype="int64").tobytes(): fold for fold, (train, _) in enumerate(search.row_splits)
        }
        self._open: dict[str, list[_Candidate]] = {}
        self._lock = threading.RLock()

    def __deepcopy__(self, memo: object) -> Folds:
        return self  # scikit-learn clones an estimator together with its params

    def score(self, params: Params, rows: Any, budget: int | None) -> float:
        """Evaluate ``params`` on the fold that trains on ``rows``; greater is better, NaN if it failed."""
        fold, key = self._fold_of[np.asarray(rows, dtype="int64").tobytes()], canonical(params)
        with self._lock:
            waiting = self._open.setdefault(key, [])
            candidate = next((one for one in waiting if fold not in one.begun), None)
            if candidate is None:
                candidate = _Candidate(self._evaluate.open(params))
                waiting.append(candidate)
            candidate.begun.add(fold)
        result = None if candidate.has_ended else candidate.trial.train_fold(fold, budget)
        with self._lock:
            candidate.done.add(fold)
            if result is None or result.outcome.stop_reason.state is not State.COMPLETE:
                candidate.has_ended = True
            is_last = len(candidate.done) == len(self._search.row_splits)
            if candidate.done == candidate.begun and (candidate.has_ended or (is_last and not self._has_rungs)):
                candidate.close()
            if is_last and not self._has_rungs:
                waiting.remove(candidate)
        if result is None or result.score is None:
            return math.nan
        return result.score if self._search.objective.direction == "maximize" else -result.score

    def next_rung(self, candidates: Sequence[Params]) -> None:
        """Drop the trials that are not among ``candidates``, and prepare the others for another round of folds."""
        kept: dict[str, int] = {}
        for params in candidates:
            kept[canonical(params)] = kept.get(canonical(params), 0) + 1
        for key, waiting in list(self._open.items()):
            going_on, dropped = waiting[: kept.get(key, 0)], waiting[kept.get(key, 0) :]
            for candidate in dropped:
                candidate.close(dropped=True)
            for candidate in going_on:
                candidate.begun.clear()
                candidate.done.clear()
            self._open[key] = going_on

    def finish(self) -> None:
        """Close the trials of the last rung, which have had the whole budget."""
        for waiting in self._open.values():
            for candidate in waiting:
                candidate.close()
        self._open.clear()


@dataclass
class _Candidate:
    """A trial with the folds that the library has started and finished at the present budget."""

    trial: OpenTrial
    begun: set[int] = field(default_factory=set)
    done: set[int] = field(default_factory=set)
    has_ended: bool = False
    is_closed: bool = False

    def close(self, dropped: bool = False) -> None:
        """End the trial, once."""
        if not self.is_closed:
            self.is_closed = True
            self.trial.close(dropped)


class FoldEstimator(BaseEstimator):
    """Proxy estimator for a scikit-learn search: ``fit`` on the row indices of a fold evaluates that fold.

    Args:
        folds: evaluates the fold.
        params: of the candidate.
        budget: most epochs; None for all.
    """

    def __init__(self, folds: Folds | None = None, params: Params | None = None, budget: int | None = None) -> None:
        self.folds, self.params, self.budget = folds, params, budget

    def fit(self, rows: Any, y: Any = None) -> FoldEstimator:
        assert self.folds is not None
        self.score_ = self.folds.score(dict(self.params or {}), np.ravel(rows), self.budget)
        return self

    def score(self, rows: Any, y: Any = None) -> float:
        """Return the score of the fold; greater is better."""
        return float(self.score_)
