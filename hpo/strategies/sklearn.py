"""scikit-learn: GridSearchCV, RandomizedSearchCV and their successive-halving forms.

The library chooses the candidates and loops over the folds; a proxy estimator evaluates one fold of the study in
``fit`` and returns its score. https://scikit-learn.org/stable/modules/grid_search.html
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from joblib import parallel_config
from scipy import stats
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 makes the halving searches importable
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    ParameterGrid,
    ParameterSampler,
    RandomizedSearchCV,
)

from hpo.core.params import Params, ParamValue
from hpo.core.space import Categorical, Float, Int, Parameter, SearchSpace
from hpo.strategies import grid
from hpo.strategies.base import Evaluate, Plan, Rung, SearchProblem, Strategy, StrategyTags, option_error
from hpo.strategies.sklearn_folds import FoldEstimator, Folds

PARAMS, BUDGET = "params", "budget"


class SpaceDistribution:
    """A search space as one scipy-like distribution over params; inactive ones are absent."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    def rvs(self, random_state: np.random.RandomState) -> Params:
        """Draw params from the distribution of the space."""
        params: dict[str, ParamValue] = {}
        for name, parameter in self.space.items():
            value = draw(
                parameter, random_state
            )  # also for inactive ones, so that the stream does not depend on other values
            if self.space.is_active(name, params):
                params[name] = value
        return params


def draw(parameter: Parameter, random_state: np.random.RandomState) -> ParamValue:
    """Draw a value from scipy's distribution that is equivalent to ``parameter``."""
    match parameter:
        case Categorical(choices=choices):
            return choices[int(random_state.randint(len(choices)))]
        case Float(low=low, high=high) | Int(low=low, high=high) if low == high:
            return low
        case Float(low=low, high=high, log=True):
            return float(min(high, max(low, stats.loguniform(low, high).rvs(random_state=random_state))))
        case Int(low=low, high=high, log=True):
            # Every integer has an interval of half a step on both sides, as in Optuna.
            real = stats.loguniform(low - 0.5, high + 0.5).rvs(random_state=random_state)
            return int(min(high, max(low, round(float(real)))))
        case Float(low=low, high=high, step=None):
            return float(stats.uniform(low, high - low).rvs(random_state=random_state))
        case Float() | Int():
            points = parameter.steps()
            return points[int(stats.randint(0, len(points)).rvs(random_state=random_state))]
    raise TypeError(f"no distribution for {parameter!r}")


class _Recorded:
    """Keeps the results of the batches or rungs that finished, in case the search is stopped."""

    results: Mapping[str, Any] = {}

    def keep(self, evaluate_candidates: Callable[..., Any]) -> Callable[..., Any]:
        def evaluated(candidates: Any, *args: Any, **options: Any) -> Any:
            self.results = evaluate_candidates(candidates, *args, **options)
            return self.results

        return evaluated


def in_batches(candidates: Iterable[Any], n_workers: int, evaluate: Callable[[list[Any]], Any]) -> None:
    """Pass candidates to ``evaluate`` in batches that grow to a twentieth of all candidates so far.

    After every batch the library builds its whole table again. With several workers a batch has at least four
    candidates per worker, since the library waits for the last one before the next batch.
    """
    iterator, n_done = iter(candidates), 0
    least = 1 if n_workers == 1 else 4 * n_workers
    while batch := list(itertools.islice(iterator, max(least, n_done // 20))):
        evaluate(batch)
        n_done += len(batch)


class _Grid(_Recorded, GridSearchCV):
    def _run_search(self, evaluate_candidates: Callable[..., Any]) -> None:
        in_batches(ParameterGrid(self.param_grid), self.n_jobs, self.keep(evaluate_candidates))


class _Random(_Recorded, RandomizedSearchCV):
    def _run_search(self, evaluate_candidates: Callable[..., Any]) -> None:
        drawn = ParameterSampler(self.param_distributions, self.n_iter, random_state=self.random_state)
        in_batches(drawn, self.n_jobs, self.keep(evaluate_candidates))


class _Rungs(_Recorded):
    """Tells the study which trials each rung of a halving search continues."""

    def _run_search(self, evaluate_candidates: Callable[..., Any], *, callback_ctx: Any) -> None:
        folds: Folds = self.estimator.folds  # type: ignore[attr-defined]
        evaluate = self.keep(evaluate_candidates)

        def rung(candidates: list[dict[str, Any]], *args: Any, **options: Any) -> Any:
            folds.next_rung([candidate[PARAMS] for candidate in candidates])
            return evaluate(candidates, *args, **options)

        super()._run_search(rung, callback_ctx=callback_ctx)  # type: ignore[misc]


class _HalvingGrid(_Rungs, HalvingGridSearchCV):
    pass


class _HalvingRandom(_Rungs, HalvingRandomSearchCV):
    pass


class SklearnStrategy(Strategy):
    """Base of the four strategies: runs a scikit-learn search over row indices and keeps its ``cv_results_``."""

    has_rungs = False

    def __init__(self) -> None:
        self._results: Mapping[str, Any] = {}

    @abstractmethod
    def make(self, estimator: FoldEstimator, search: SearchProblem, options: dict[str, Any]) -> Any:
        """Return the library's search object."""

    def search(self, search: SearchProblem, evaluate: Evaluate) -> None:
        folds = Folds(evaluate, search, self.has_rungs)
        # A failed trial is a missing score; an exception belongs to the study.
        options = {"cv": list(search.row_splits), "refit": False, "n_jobs": search.n_workers, "error_score": "raise"}
        made = self.make(FoldEstimator(folds), search, options)
        rows = np.arange(max(int(max(part.max() for part in split)) for split in search.row_splits) + 1)
        try:
            # Threads, since the study trains in its own processes.
            with parallel_config(backend="threading"), warnings.catch_warnings():
                # Failed trials, which are missing scores here, are recorded with their reason.
                warnings.filterwarnings("ignore", "One or more of the .* scores are non-finite", UserWarning)
                warnings.filterwarnings(
                    "ignore", "Mean of empty slice|invalid value|Degrees of freedom", RuntimeWarning
                )
                made.fit(rows)
        finally:
            self._results = made.results
        folds.finish()

    def tables(self) -> Mapping[str, str]:
        """Return ``cv_results_`` with one column per param; scores of a loss are negative, as in scikit-learn."""
        if not self._results:
            return {}
        results = {name: list(values) for name, values in self._results.items() if not name.startswith("param_")}
        params = [candidate.get(PARAMS, candidate) for candidate in results.pop("params")]
        names = list(dict.fromkeys(name for candidate in params for name in candidate if name != BUDGET))
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow([*(f"param_{name}" for name in names), *results])
        for row, candidate in enumerate(params):
            table.writerow([*(candidate.get(n) for n in names), *(values[row] for values in results.values())])
        return {"cv_results.csv": text.getvalue()}


class GridStrategy(SklearnStrategy):
    """Every combination of grid points, by ``GridSearchCV``.

    Args:
        oversize: how to treat a grid with more points than ``limits.n_trials``: ``refuse``, ``coarsen`` or ``shuffle``.
    """

    tags = StrategyTags("sklearn.model_selection.GridSearchCV", finite=True)

    def __init__(self, oversize: str = "refuse") -> None:
        super().__init__()
        self.oversize = grid.check_oversize(oversize)

    def make(self, estimator: FoldEstimator, search: SearchProblem, options: dict[str, Any]) -> Any:
        return _Grid(estimator, candidates(search, self.oversize, search.n_trials), **options)

    def plan(self, search: SearchProblem) -> Plan:
        size = grid.fit(search, self.oversize).grid_size()
        return Plan(size if search.n_trials is None else min(size, search.n_trials))


def candidates(search: SearchProblem, oversize: str, n_trials: int | None) -> list[dict[str, list[Params]]]:
    """Return the grid for scikit-learn: each candidate is one value of ``params``, so that inactive ones are absent."""
    space = grid.fit(search, oversize)
    size = space.grid_size()
    if oversize == "shuffle":
        return [{PARAMS: grid.shuffled(space, size if n_trials is None else min(n_trials, size), search.seed)}]
    return [{PARAMS: list(ParameterGrid(grid.subgrids(space)))}]


class RandomStrategy(SklearnStrategy):
    """Independent draws from the space, by ``RandomizedSearchCV``."""

    tags = StrategyTags("sklearn.model_selection.RandomizedSearchCV", samples_prior=True)

    def make(self, estimator: FoldEstimator, search: SearchProblem, options: dict[str, Any]) -> Any:
        drawn = {PARAMS: SpaceDistribution(search.space)}
        n_iter = search.n_trials or 1_000_000  # drawn in batches until the study stops
        return _Random(estimator, drawn, n_iter=n_iter, random_state=search.seed, **options)


class HalvingStrategy(SklearnStrategy):
    """Base of both successive-halving searches (Jamieson & Talwalkar 2016).

    Args:
        factor: 1 in ``factor`` trials of a rung continues, with ``factor`` times the budget.
        min_epochs: budget of the first rung; None chooses it such that the last rung gets ``max_epochs``.
    """

    has_rungs = True

    def __init__(self, factor: int = 3, min_epochs: int | None = None) -> None:
        super().__init__()
        if type(factor) is not int or factor < 2:
            raise option_error("factor", factor, "a whole number of at least 2", "3")
        if min_epochs is not None and (type(min_epochs) is not int or min_epochs < 1):
            raise option_error("min_epochs", min_epochs, "a whole number of at least 1, or null", "null")
        self.factor, self.min_epochs = factor, min_epochs

    @abstractmethod
    def n_candidates(self, search: SearchProblem) -> int:
        """Return the number of trials in the first rung."""

    def options(self, search: SearchProblem) -> dict[str, Any]:
        """Return the arguments of both library classes."""
        if self.min_epochs is not None and self.min_epochs > search.max_epochs:
            expected = f"at most max_epochs, which is {search.max_epochs}"
            raise option_error("min_epochs", self.min_epochs, expected, "null")
        least = "exhaust" if self.min_epochs is None else self.min_epochs
        rungs = {"factor": self.factor, "resource": BUDGET, "max_resources": search.max_epochs, "min_resources": least}
        return rungs | {"return_train_score": False, "random_state": search.seed}

    def plan(self, search: SearchProblem) -> Plan:
        # As BaseSuccessiveHalving computes it, without aggressive elimination.
        self.options(search)
        n = self.n_candidates(search)
        needed = 1 + math.floor(math.log(n, self.factor))
        least = self.min_epochs or max(1, search.max_epochs // self.factor ** (needed - 1))
        possible = 1 + math.floor(math.log(search.max_epochs // least, self.factor))
        rungs = []
        for rung in range(min(needed, possible)):
            rungs.append(Rung(n, min(search.max_epochs, self.factor**rung * least)))
            n = math.ceil(n / self.factor)
        return Plan(rungs[0].n_trials, tuple(rungs))


class HalvingGridStrategy(HalvingStrategy):
    """All grid points on a small budget, the best third on three times the budget, and so on.

    Args:
        oversize: as in :class:`GridStrategy`.
    """

    tags = StrategyTags("sklearn.model_selection.HalvingGridSearchCV", finite=True, rungs=True)

    def __init__(self, oversize: str = "refuse", factor: int = 3, min_epochs: int | None = None) -> None:
        super().__init__(factor, min_epochs)
        self.oversize = grid.check_oversize(oversize)

    def n_candidates(self, search: SearchProblem) -> int:
        size = grid.fit(search, self.oversize).grid_size()
        return size if search.planned_trials is None else min(size, search.planned_trials)

    def make(self, estimator: FoldEstimator, search: SearchProblem, options: dict[str, Any]) -> Any:
        listed = candidates(search, self.oversize, self.n_candidates(search))
        return _HalvingGrid(estimator, listed, **options, **self.options(search))


class HalvingRandomStrategy(HalvingStrategy):
    """Random draws on a small budget, the best third on three times the budget, and so on.

    Args:
        n_candidates: trials of the first rung; None takes ``limits.n_trials``.
    """

    tags = StrategyTags("sklearn.model_selection.HalvingRandomSearchCV", rungs=True, samples_prior=True)

    def __init__(self, n_candidates: int | None = None, factor: int = 3, min_epochs: int | None = None) -> None:
        super().__init__(factor, min_epochs)
        self._n_candidates = n_candidates

    def n_candidates(self, search: SearchProblem) -> int:
        n = self._n_candidates or search.planned_trials
        if n is None:
            expected = "a number of trials for the first rung, since limits.n_trials is null"
            raise option_error("n_candidates", None, expected, "27")
        if search.planned_trials is not None and n > search.planned_trials:
            raise option_error("n_candidates", n, f"at most limits.n_trials, {search.n_trials}", str(search.n_trials))
        return n

    def make(self, estimator: FoldEstimator, search: SearchProblem, options: dict[str, Any]) -> Any:
        drawn, n = {PARAMS: SpaceDistribution(search.space)}, self.n_candidates(search)
        return _HalvingRandom(estimator, drawn, n_candidates=n, **options, **self.options(search))
