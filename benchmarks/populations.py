"""Studies of cheap objectives: test scores of winners, by label and study seed, for ``benchmarks/error_rates.py``.

Searches are real: random draws of hpo's search space and Optuna's TPE, with hpo's random streams. Objectives are noisy
analytic functions, and tables of small scikit-learn models. A study seed selects the hold-out split of a table; all
seeds share the test split.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, cast

import numpy as np
import optuna
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.base import BaseEstimator
from sklearn.model_selection import ParameterGrid, ParameterSampler, train_test_split
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from hpo import testing
from hpo.core.objective import Objective
from hpo.core.params import Params
from hpo.core.seeds import derive_seed, fit_seed, search_seed
from hpo.core.space import SearchSpace
from hpo.strategies.optuna import OptunaStrategy
from hpo.strategies.sklearn import PARAMS, RandomStrategy, SpaceDistribution

Array = NDArray[np.float64]
N_TRIALS = 8
LABELS = ("first", "second", "third")
POOL_SEEDS = 700
N_SPLITS = 25


class Problem(Protocol):
    """What a search optimises; ``seed`` is the study seed."""

    name: str
    space: SearchSpace
    objective: Objective

    def validation(self, seed: int, params: Params) -> float:
        """Validation score."""

    def test(self, seed: int, params: Params) -> float:
        """Test score."""


class Function:
    """An analytic function with noise that depends on study seed and params only.

    Args:
        bounds: lower and upper bound of each variable.
        noise: standard deviation of normal noise; with ``is_heavy``, scale of Student's t with 3 degrees of freedom.
    """

    def __init__(self, name: str, bounds: Sequence[tuple[float, float]], noise: float, is_heavy: bool = False) -> None:
        self.name, self._noise, self._is_heavy = name, noise, is_heavy
        spec = {f"x{i}": {"type": "float", "low": low, "high": high} for i, (low, high) in enumerate(bounds)}
        self.space, self.objective = SearchSpace.from_config(spec), Objective.of("val_loss")

    def validation(self, seed: int, params: Params) -> float:
        return self._value(params) + self._draw(fit_seed(seed, params, 0))

    def test(self, seed: int, params: Params) -> float:
        return self._value(params) + self._draw(fit_seed(seed, params, 1))

    def _value(self, params: Params) -> float:
        x = [float(cast(float, value)) for value in params.values()]
        return branin(*x) if self.name == "branin" else sum(each**2 for each in x)

    def _draw(self, seed: int) -> float:
        rng = np.random.default_rng(seed)
        return self._noise * float(rng.standard_t(3) if self._is_heavy else rng.standard_normal())


def branin(x: float, y: float) -> float:
    """Branin and Hoo's function, with three equal minima of 0.398."""
    a = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return a**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


class Table:
    """Scores of a small scikit-learn model, trained in every configuration on every hold-out split.

    Args:
        load: loader of the data.
        grid: hyperparameter → values.
        n_test: rows of the test split, which all seeds share.
    """

    def __init__(
        self, name: str, load: Any, model: BaseEstimator, grid: Mapping[str, Sequence[Any]], n_test: int
    ) -> None:
        self.name, self._load, self._model, self._n_test = name, load, model, n_test
        is_regression = load is datasets.load_diabetes
        self.objective = Objective.of("val_rmse" if is_regression else "val_accuracy")
        self.space = SearchSpace.from_config(
            {name: {"type": "categorical", "choices": list(values)} for name, values in grid.items()}
        )
        self._grid = grid
        self._scores: dict[tuple[Any, ...], Array] = {}

    def trained(self) -> Table:
        """Train every configuration on every split, and return the table itself."""
        x, y = self._load(return_X_y=True)
        strata = None if self.objective.direction == "minimize" else y
        x, x_test, y, y_test = train_test_split(x, y, test_size=self._n_test, random_state=0, stratify=strata)
        strata = None if strata is None else y
        splits = [train_test_split(x, y, test_size=0.25, random_state=s, stratify=strata) for s in range(N_SPLITS)]
        for params in ParameterGrid(dict(self._grid)):
            scores = []
            for x_train, x_val, y_train, y_val in splits:
                model = make_pipeline(StandardScaler(), self._fresh(params)).fit(x_train, y_train)
                scores.append([self._score(model, x_val, y_val), self._score(model, x_test, y_test)])
            self._scores[tuple(params[name] for name in self.space)] = np.array(scores)
        return self

    def _fresh(self, params: Mapping[str, Any]) -> BaseEstimator:
        return type(self._model)(**{**self._model.get_params(), **params})

    def _score(self, model: Any, x: Array, y: Array) -> float:
        predicted = model.predict(x)
        if self.objective.direction == "minimize":
            return float(np.sqrt(np.mean((predicted - y) ** 2)))
        return float(np.mean(predicted == y))

    def validation(self, seed: int, params: Params) -> float:
        return float(self._scores[tuple(params.values())][split_of(seed), 0])

    def test(self, seed: int, params: Params) -> float:
        return float(self._scores[tuple(params.values())][split_of(seed), 1])


@functools.cache
def split_of(seed: int) -> int:
    """Hold-out split of a study seed."""
    return derive_seed("folds", seed) % N_SPLITS


def problems() -> list[Function | Table]:
    """Every problem; tables are not trained yet. Test splits are small, so that accuracies take few values."""
    powers: dict[str, list[Any]] = {"C": [10.0**k for k in range(-2, 4)], "gamma": [10.0**k for k in range(-4, 1)]}
    tree: dict[str, list[Any]] = {
        "max_depth": [4, 6, 8, 10, None],
        "min_samples_leaf": [1, 3, 10, 30],
        "criterion": ["gini", "entropy"],
    }
    neighbours: dict[str, list[Any]] = {
        "n_neighbors": [1, 3, 5, 9, 15, 25],
        "weights": ["uniform", "distance"],
        "p": [1, 2],
    }
    return [
        Function("branin", [(-5.0, 10.0), (0.0, 15.0)], noise=1.0),
        Function("sphere, t noise", [(-1.0, 1.0)], noise=0.2, is_heavy=True),
        Table("wine svm", datasets.load_wine, SVC(), powers, 36),
        Table("cancer svm", datasets.load_breast_cancer, SVC(), powers, 57),
        Table("digits tree", datasets.load_digits, DecisionTreeClassifier(random_state=0), tree, 360),
        Table("diabetes knn", datasets.load_diabetes, KNeighborsRegressor(), neighbours, 89),
    ]


def random_trials(problem: Problem, seed: int, label: str, n_trials: int) -> list[Params]:
    """Params that ``RandomStrategy`` tries, without the overhead of ``RandomizedSearchCV``; see :func:`check_draws`."""
    drawn = {PARAMS: SpaceDistribution(problem.space)}
    return [one[PARAMS] for one in ParameterSampler(drawn, n_trials, random_state=search_seed(seed, label))]


def tpe() -> OptunaStrategy:
    """``strategy=optuna`` without its pruner: these objectives have no epochs."""
    options = {"n_startup_trials": None, "n_ei_candidates": 24, "multivariate": True, "constant_liar": True}
    sampler = partial(optuna.samplers.TPESampler, **options)
    return OptunaStrategy(sampler, optuna.pruners.NopPruner())


def tpe_trials(problem: Problem, seed: int, label: str, n_trials: int) -> list[Params]:
    """Params that TPE tries."""
    return [trial.params for trial in _search(tpe(), problem, seed, label, n_trials)]


def _search(strategy: Any, problem: Problem, seed: int, label: str, n_trials: int) -> list[Any]:
    score = partial(problem.validation, seed)
    metric, own = problem.objective.metric, search_seed(seed, label)
    return testing.run(strategy, problem.space, score, n_trials, seed=own, metric=metric).trials


SEARCHES = {"random": random_trials, "tpe": tpe_trials}


def study(problem: Problem, strategy: str, n_trials: int, seed: int, label: str) -> float:
    """Test score of the winner of one study."""
    best: tuple[float, Params] | None = None
    for params in SEARCHES[strategy](problem, seed, label, n_trials):
        value = problem.validation(seed, params)
        if best is None or problem.objective.better(value, best[0]):
            best = value, params
    assert best is not None
    return problem.test(seed, best[1])


def check_draws(problem: Problem) -> None:
    """Check that :func:`random_trials` draws what ``RandomStrategy`` draws.

    Raises:
        RuntimeError: if it does not.
    """
    for seed in range(3):
        real = [trial.params for trial in _search(RandomStrategy(), problem, seed, LABELS[0], N_TRIALS)]
        if real != random_trials(problem, seed, LABELS[0], N_TRIALS):
            raise RuntimeError(f"{problem.name}: this benchmark draws other params than RandomStrategy")


@dataclass(frozen=True)
class Population:
    """Test scores of studies that differ in label and seed.

    Args:
        scores: test scores; shape ``(n_labels, n_study_seeds)``.
        is_fresh: whether there are enough study seeds that repeats share none.
    """

    name: str
    maximize: bool
    scores: Array
    is_fresh: bool

    @property
    def spread(self) -> float:
        """Standard deviation of the paired A/A differences, in units of the score."""
        return float(math.sqrt(np.mean((self.scores[0] - self.scores[1]) ** 2))) or 1e-9

    def draw(self, rng: np.random.Generator, repeat: int, n_seeds: int) -> Array:
        """Draw ``n_seeds`` study seeds; scores of shape ``(n_labels, n_seeds)``."""
        begin, n = repeat * n_seeds, self.scores.shape[1]
        if self.is_fresh and begin + n_seeds <= n:
            return self.scores[:, begin : begin + n_seeds]
        return rng.permuted(self.scores[:, rng.choice(n, min(n_seeds, n), replace=False)], axis=0)


@dataclass(frozen=True)
class Pair:
    """Two populations, compared over their common study seeds."""

    first: Population
    second: Population

    @property
    def name(self) -> str:
        return f"{self.first.name} − {self.second.name}"

    @property
    def _n(self) -> int:
        return int(min(self.first.scores.shape[1], self.second.scores.shape[1]))

    @property
    def differences(self) -> Array:
        """First minus second, positive if better; shape ``(n_labels_first, n_labels_second, n_study_seeds)``."""
        sign = 1.0 if self.first.maximize else -1.0
        return sign * (self.first.scores[:, None, : self._n] - self.second.scores[None, :, : self._n])

    def draw(self, rng: np.random.Generator, repeat: int, n_seeds: int) -> Array:
        """Draw the same study seeds from both; scores of shape ``(2, n_seeds)``. Repeats may share seeds."""
        seeds = rng.choice(self._n, n_seeds, replace=False)
        return np.stack([rng.permuted(each.scores[:, seeds], axis=0)[0] for each in (self.first, self.second)])


def populate(
    problem: Problem, strategy: str, n_trials: int, n_labels: int, n_seeds: int, is_fresh: bool = False
) -> Population:
    """Run the studies of one strategy under several labels."""
    # Labels are unique to a population, so that the sides of an A/B comparison share no random stream.
    labels = [f"{strategy} {n_trials} {label}" for label in LABELS[:n_labels]]
    found = [[study(problem, strategy, n_trials, seed, label) for seed in range(n_seeds)] for label in labels]
    name = f"{problem.name}, {strategy}" + (f" {n_trials}" if n_trials != N_TRIALS else "")
    return Population(name, problem.objective.direction == "maximize", np.array(found), is_fresh)
