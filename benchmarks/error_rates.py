"""How often a comparison is wrong, and what it finds: its whole protocol of looks, over cheap objectives.

::

    python -m benchmarks.error_rates                    1,000 repeats, about ten minutes
    python -m benchmarks.error_rates --repeats 50       a quick look
    python -m benchmarks.error_rates --jobs 2 --seed 1

Searches are real ones: random draws of hpo's own space and Optuna's TPE, each with the stream that hpo derives from
study seed and label. Objectives are analytic functions with noise, and tables of small scikit-learn models that are
trained here, of which a study seed takes the hold-out split and all seeds share the test split. Verdicts are those of
:class:`hpo.compare.comparison.Comparison`.

Random searches of two tables are fresh for every repeat of an A/A comparison. The others are pools of ``POOL_SEEDS``
study seeds under several labels: a repeat draws its seeds without replacement and its labels by seed, so that repeats
share searches, A/A differences are symmetric whatever the pool holds, and the truth of A/B is the pool's mean.

Exit code 1 if a difference or an equivalence that is not there is found more often than promised, or if intervals cover
less than 93 % of the time. Bounds allow for the error of the repeats themselves.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, Protocol, cast
from unittest import mock

import numpy as np
import optuna
from joblib import Parallel, delayed
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
from hpo.compare.comparison import Comparison, Settings
from hpo.compare.statistics import Difference, Verdict, compare_pairs, power, seeds_needed
from hpo.compare.studies import ComparedStudy, Group
from hpo.core.objective import Objective
from hpo.core.params import Params
from hpo.core.process import prepare_process
from hpo.core.seeds import derive_seed, fit_seed
from hpo.core.space import SearchSpace
from hpo.strategies.optuna import OptunaStrategy
from hpo.strategies.sklearn import PARAMS, RandomStrategy, SpaceDistribution
from hpo.study.study import Study
from hpo.tracking.reader import StudyRecord

Array = NDArray[np.float64]
ALPHA = 0.05
LEAST_COVERAGE = 0.93
N_TRIALS = 8
# Of the weaker side of an A/B comparison: so few that a search now and then finds nothing, a rare large difference.
FEW_TRIALS = 3
LABELS = ("first", "second", "third")
POOL_SEEDS = 700
N_SPLITS = 25
COVERED_AT = (3, 5, 10, 20)
POWER_AT = (3, 5, 10, 20)
PREDICTED_AT = (3, 5, 10)
# In standard deviations of the differences: so small that equivalence cannot hide a false difference at 20 seeds.
SMALL_EFFECT = 0.4
# The same for power: ten seeds find it in four of five comparisons, if differences are normal.
EFFECT = 1.0
# Shares that have no bound are estimated from fewer repeats.
DESCRIBED = 2
# So that equal differences of just min_effect are not rounded to less.
ABOVE = 1 + 1e-9


class Problem(Protocol):
    """What a search is scored by; ``seed`` is the study's."""

    name: str
    space: SearchSpace
    objective: Objective

    def validation(self, seed: int, params: Params) -> float:
        """What the search sees."""

    def test(self, seed: int, params: Params) -> float:
        """What the winner scores."""


class Function:
    """An analytic function with noise that follows from study seed and params, as the training seed does.

    Args:
        bounds: of every variable, in its own units.
        noise: standard deviation of normal noise or, with ``is_heavy``, the scale of Student's t with 3 degrees.
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
    """Branin and Hoo's function: three equal minima of 0.398."""
    a = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return a**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


class Table:
    """A small model on data of scikit-learn, trained in every configuration on every hold-out split.

    Args:
        grid: parameter → values.
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
        """Itself, with validation and test score by split of every configuration."""
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
    """The hold-out split of a study seed."""
    return derive_seed("folds", seed) % N_SPLITS


def problems() -> list[Function | Table]:
    """All of them, tables not trained yet; the test splits are small, so that accuracies are few values."""
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


def stream(study_seed: int, label: str) -> int:
    """The seed of a search, as :attr:`hpo.study.study.Study.search` derives it; checked by :func:`check_streams`."""
    return derive_seed("strategy", study_seed, label)


def random_trials(problem: Problem, seed: int, label: str, n_trials: int) -> list[Params]:
    """What ``RandomStrategy`` would try, without the table that scikit-learn makes after every candidate."""
    drawn = {PARAMS: SpaceDistribution(problem.space)}
    return [one[PARAMS] for one in ParameterSampler(drawn, n_trials, random_state=stream(seed, label))]


def tpe() -> OptunaStrategy:
    """As ``strategy=optuna`` without its pruner, since these objectives have no epochs."""
    options = {"n_startup_trials": None, "n_ei_candidates": 24, "multivariate": True, "constant_liar": True}
    sampler = partial(optuna.samplers.TPESampler, **options)
    return OptunaStrategy(sampler, optuna.pruners.NopPruner())


def tpe_trials(problem: Problem, seed: int, label: str, n_trials: int) -> list[Params]:
    """What TPE tries."""
    return [trial.params for trial in _search(tpe(), problem, seed, label, n_trials)]


def _search(strategy: Any, problem: Problem, seed: int, label: str, n_trials: int) -> list[Any]:
    score = partial(problem.validation, seed)
    metric, own = problem.objective.metric, stream(seed, label)
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


def check_streams(problem: Problem) -> None:
    """Raise where this file no longer does what hpo does: its stream, and its random draws."""
    space, label = problem.space, LABELS[0]
    for seed in range(3):
        definition = SimpleNamespace(
            space=space, objective=problem.objective, max_epochs=1, seed=seed, enqueue=(),
            limits=SimpleNamespace(n_trials=N_TRIALS),
        )  # fmt: skip
        parts = SimpleNamespace(
            definition=definition, names=SimpleNamespace(strategy=label), model=SimpleNamespace(tunables={}),
            evaluator=SimpleNamespace(row_splits=()),
        )  # fmt: skip
        search = cast(Any, Study.search).fget(parts)
        real = [trial.params for trial in _search(RandomStrategy(), problem, seed, label, N_TRIALS)]
        if search.seed != stream(seed, label) or real != random_trials(problem, seed, label, N_TRIALS):
            raise RuntimeError(f"{problem.name}: hpo searches with other draws than this benchmark")


@dataclass(frozen=True)
class Population:
    """Test scores of studies that differ in label and seed.

    Args:
        scores: label × study seed.
        is_fresh: whether there are enough seeds for no repeat to share one.
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
        """Scores of ``n_seeds`` study seeds: label × seed."""
        begin, n = repeat * n_seeds, self.scores.shape[1]
        if self.is_fresh and begin + n_seeds <= n:
            return self.scores[:, begin : begin + n_seeds]
        return rng.permuted(self.scores[:, rng.choice(n, min(n_seeds, n), replace=False)], axis=0)


@dataclass(frozen=True)
class Pair:
    """Two populations, compared over the study seeds that both have."""

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
        """First minus second, better being positive: label of the first × label of the second × seed."""
        sign = 1.0 if self.first.maximize else -1.0
        return sign * (self.first.scores[:, None, : self._n] - self.second.scores[None, :, : self._n])

    def draw(self, rng: np.random.Generator, repeat: int, n_seeds: int) -> Array:
        """Scores of both for the same study seeds, which repeats may share: 2 × seed."""
        seeds = rng.choice(self._n, n_seeds, replace=False)
        return np.stack([rng.permuted(each.scores[:, seeds], axis=0)[0] for each in (self.first, self.second)])


def populate(problem: Problem, strategy: str, n_trials: int, n_labels: int, n_seeds: int) -> Population:
    """Run the studies of one strategy under several labels."""
    # The label says what is compared, so that the sides of an A/B comparison share no stream.
    labels = [f"{strategy} {n_trials} {label}" for label in LABELS[:n_labels]]
    found = [[study(problem, strategy, n_trials, seed, label) for seed in range(n_seeds)] for label in labels]
    name = f"{problem.name}, {strategy}" + (f" {n_trials}" if n_trials != N_TRIALS else "")
    return Population(name, problem.objective.direction == "maximize", np.array(found), n_seeds > POOL_SEEDS)


@dataclass(frozen=True)
class Cell:
    """A share of the repeats, and the bound that it has to keep to."""

    count: int
    repeats: int
    most: float = 1.0
    least: float = 0.0

    @property
    def share(self) -> float:
        return self.count / self.repeats

    @property
    def is_broken(self) -> bool:
        return not self.least <= self.share <= self.most

    def __str__(self) -> str:
        return f"{self.share:.1%}{' BROKEN' * self.is_broken}"


Row = list[object]


def error_cell(count: int, repeats: int) -> Cell:
    """An error that may be made with probability ``ALPHA``."""
    return Cell(count, repeats, most=ALPHA + 1.96 * math.sqrt(ALPHA * (1 - ALPHA) / repeats))


def coverage_cell(count: int, repeats: int) -> Cell:
    """Intervals of 95 % may cover 93 %; few repeats may show less by chance."""
    by_chance = 1 - ALPHA - 1.96 * math.sqrt(ALPHA * (1 - ALPHA) / repeats)
    return Cell(count, repeats, least=min(LEAST_COVERAGE, by_chance))


def looks_up_to(max_seeds: int) -> list[int]:
    """Four looks, evenly spaced."""
    return sorted({max(2, round(max_seeds * quarter / 4)) for quarter in (1, 2, 3, 4)})


def compared(scores: Array, maximize: bool) -> dict[str, dict[int, ComparedStudy]]:
    """Label → seed → a study as it is read back, with as much as a verdict asks for."""
    objective = Objective.of("val_accuracy" if maximize else "val_loss")
    tags = {"hpo.objective": f"{objective.direction} {objective.metric}"}
    name = f"test_{objective.metric.removeprefix('val_')}"

    def one(label: str, seed: int, score: float) -> ComparedStudy:
        own = {**tags, "hpo.seed": str(seed), "hpo.strategy": label}
        record = StudyRecord("", "", f"{label}-s{seed}", "finished", own, {}, {name: score}, 0.0, 1.0)
        return ComparedStudy(record, {}, None)

    return {
        label: {seed: one(label, seed, float(score)) for seed, score in enumerate(row)}
        for label, row in zip(LABELS, scores, strict=False)
    }


def look_by_look(
    scores: Array, maximize: bool, settings: Settings, looks: Sequence[int]
) -> Iterator[tuple[int, list[Difference]]]:
    """What the protocol says at every look, to a person who adds seeds in between."""
    studies, spent = compared(scores, maximize), dict[tuple[int, ...], float]()
    for n in looks:
        group = Group("strategy", {label: dict(list(s.items())[:n]) for label, s in studies.items()}, ())
        comparison = Comparison(group, settings, spent)
        yield n, comparison.differences
        spent[tuple(comparison.seeds)] = comparison.spent


def is_called(differences: Sequence[Difference]) -> bool:
    """Whether a difference is said to be there."""
    return any(each.verdict in (Verdict.BETTER, Verdict.WORSE) for each in differences)


def at_one_look(scores: Array, maximize: bool, min_effect: float) -> Difference:
    """The first of two rows against the second, compared once, at all of ``ALPHA``."""
    by_seed = {label: dict(enumerate(map(float, row))) for label, row in zip(LABELS, scores[:2], strict=False)}
    return compare_pairs(by_seed, maximize, min_effect, ALPHA)[0]


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Args:
        max_seeds: study seeds at the last look.
        seed: of the draws from the populations.
    """

    repeats: int
    max_seeds: int
    seed: int

    @property
    def n_seeds(self) -> int:
        """Study seeds of a repeat."""
        return max(self.max_seeds, *COVERED_AT, *POWER_AT)

    def rng(self, *parts: object) -> np.random.Generator:
        """Of one measurement."""
        return np.random.default_rng(derive_seed(self.seed, *parts))


def false_differences(population: Population, n_labels: int, plan: Plan) -> Row:
    """A/A: how often the looks, taken together, find a difference."""
    rng, looks = plan.rng("A/A", population.name, n_labels), looks_up_to(plan.max_seeds)
    settings = Settings(SMALL_EFFECT * population.spread, plan.max_seeds, ALPHA)
    at = dict.fromkeys(looks, 0)
    # The prediction of seeds, which no verdict rests on, takes most of the time.
    with mock.patch("hpo.compare.statistics.seeds_needed", return_value=1):
        for repeat in range(plan.repeats):
            scores = population.draw(rng, repeat, plan.n_seeds)[:n_labels]
            for n, differences in look_by_look(scores, population.maximize, settings, looks):
                if is_called(differences):
                    at[n] += 1
                    break
    shares = (f"{count / plan.repeats:.1%}" for count in at.values())
    return [population.name, n_labels, *shares, error_cell(sum(at.values()), plan.repeats)]


def coverage(compared_pair: Population | Pair, plan: Plan) -> tuple[Row, Row]:
    """How often the 95 % interval of one look holds the true mean: 0 for A/A, that of the populations for A/B.

    Returns:
        A row on coverage, and one on how often a pair whose true mean is ``min_effect`` is called equivalent, or the
        wrong one of the two is called better.
    """
    rng = plan.rng("coverage", compared_pair.name)
    if isinstance(compared_pair, Pair):
        differences, maximize = compared_pair.differences.ravel(), compared_pair.first.maximize
        truth = float(differences.mean())
    else:
        differences, maximize = compared_pair.scores[0] - compared_pair.scores[1], compared_pair.maximize
        truth = 0.0
    right = Verdict.BETTER if truth > 0 else Verdict.WORSE
    effect = abs(truth) or 1e9  # of no consequence where there is no difference
    counts = {n: [0, 0, 0, 0] for n in COVERED_AT}
    with mock.patch("hpo.compare.statistics.seeds_needed", return_value=1):
        for repeat in range(plan.repeats):
            drawn = compared_pair.draw(rng, repeat, plan.n_seeds)
            for n in COVERED_AT:
                found = at_one_look(drawn[:2, :n], maximize, effect)
                is_wrong = found.verdict not in (right, Verdict.UNRESOLVED)
                for place, is_so in enumerate(
                    (found.low <= truth <= found.high, not math.isfinite(found.low), found.high < truth, is_wrong)
                ):
                    counts[n][place] += is_so
    covered, missing, below, wrong = zip(*counts.values(), strict=True)
    shape = float(np.mean((differences - differences.mean()) ** 3) / differences.std() ** 3)
    described = [compared_pair.name, f"{truth:+.4g}", f"{differences.std():.3g}", f"{shape:+.1f}"]
    described.append(f"{np.mean(np.abs(differences) < 1e-12):.0%}")
    cells: Row = [coverage_cell(count, plan.repeats) for count in covered]
    cells += [" / ".join(f"{count / plan.repeats:.1%}" for count in each) for each in (missing, below)]
    return [*described, *cells], [*described[:3], *(error_cell(count, plan.repeats) for count in wrong)]


def powers(population: Population, plan: Plan) -> list[Row]:
    """One look at each of several numbers of seeds, with a true difference of ``min_effect`` and with none."""
    rng, effect = plan.rng("power", population.name), EFFECT * population.spread
    shift = np.array([[ABOVE * (effect if population.maximize else -effect)], [0.0]])
    rows: list[Row] = []
    counts = {n: [0, 0, 0] for n in POWER_AT}
    for repeat in range(plan.repeats):
        scores = population.draw(rng, repeat, plan.n_seeds)[:2]
        for n in POWER_AT:
            shifted = at_one_look(scores[:, :n] + shift, population.maximize, effect).verdict
            equal = at_one_look(scores[:, :n], population.maximize, effect).verdict
            for place, is_so in enumerate(
                (shifted is Verdict.BETTER, equal is Verdict.EQUIVALENT, shifted in (Verdict.EQUIVALENT, Verdict.WORSE))
            ):
                counts[n][place] += is_so
    for n, (better, equivalent, wrong) in counts.items():
        expected = power(n, population.spread, effect, ALPHA)
        cells = [Cell(better, plan.repeats), f"{expected:.1%}", Cell(equivalent, plan.repeats)]
        rows.append([population.name, f"{effect:.3g}", n, *cells, error_cell(wrong, plan.repeats)])
    return rows


def predictions(population: Population, plan: Plan) -> list[Row]:
    """Whether as many more seeds as are predicted settle a pair whose true difference is ``min_effect``."""
    rng, effect = plan.rng("predictions", population.name), EFFECT * population.spread
    shift = np.array([[ABOVE * (effect if population.maximize else -effect)], [0.0]])
    needed, n_repeats = seeds_needed(population.spread, effect, ALPHA), max(1, plan.repeats // DESCRIBED)
    rows: list[Row] = []
    for n in PREDICTED_AT:
        totals, n_settled = [], 0
        for _ in range(n_repeats):
            seeds = rng.choice(population.scores.shape[1], POOL_SEEDS, replace=False)
            scores = rng.permuted(population.scores[:, seeds], axis=0)[:2] + shift
            first = at_one_look(scores[:, :n], population.maximize, effect)
            if first.n_more is None:
                continue
            totals.append(min(POOL_SEEDS, n + first.n_more))
            again = at_one_look(scores[:, : totals[-1]], population.maximize, effect)
            n_settled += again.verdict is not Verdict.UNRESOLVED
        settled: object = Cell(n_settled, len(totals)) if totals else "-"
        rows.append([population.name, n, Cell(len(totals), n_repeats), _spread(totals), needed, settled])
    return rows


def predictions_between_looks(population: Population, plan: Plan) -> list[Row]:
    """The same at the looks of the protocol, which spend less than ``ALPHA`` each."""
    rng, effect = plan.rng("between looks", population.name), EFFECT * population.spread
    shift = np.array([[ABOVE * (effect if population.maximize else -effect)], [0.0]])
    looks, settings = looks_up_to(plan.max_seeds), Settings(effect, plan.max_seeds, ALPHA)
    n_repeats = max(1, plan.repeats // DESCRIBED)
    totals: dict[int, list[tuple[int, int | None]]] = {n: [] for n in looks[:-1]}
    for repeat in range(n_repeats):
        scores = population.draw(rng, repeat, plan.n_seeds)[:2] + shift
        said: dict[int, int] = {}
        settled: int | None = None
        for n, (difference,) in look_by_look(scores, population.maximize, settings, looks):
            if difference.n_more is None:
                settled = n
                break
            said[n] = n + difference.n_more
        for n in said.keys() & totals.keys():
            totals[n].append((said[n], settled))
    rows: list[Row] = []
    for n, found in totals.items():
        beyond = [at for total, at in found if total > plan.max_seeds]
        came: object = Cell(sum(at is not None for at in beyond), len(beyond)) if beyond else "-"
        actual = _spread([at if at is not None else plan.max_seeds + 1 for _, at in found])
        predicted = _spread([total for total, _ in found])
        share = Cell(len(beyond), len(found)) if found else "-"
        rows.append([population.name, n, Cell(len(found), n_repeats), predicted, actual, share, came])
    return rows


def _spread(values: Sequence[int]) -> str:
    if not values:
        return "-"
    low, middle, high = np.percentile(values, [10, 50, 90])
    return f"{middle:.0f} ({low:.0f} to {high:.0f})"


def print_table(title: str, headings: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Print a Markdown table; return what breaks a bound, a line each."""
    print(f"\n## {title}\n")
    print(f"| {' | '.join(headings)} |\n| {' | '.join('---' for _ in headings)} |")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |", flush=True)
    return [
        f"{title}: {row[0]}, {heading}: {cell.share:.1%}"
        for row in rows
        for heading, cell in zip(headings, row, strict=True)
        if isinstance(cell, Cell) and cell.is_broken
    ]


def populations(plan: Plan, parallel: Parallel) -> dict[str, Population]:
    """All studies, by name."""
    made = problems()
    tables = parallel(delayed(Table.trained)(each) for each in made if isinstance(each, Table))
    by_name: dict[str, Function | Table] = {each.name: each for each in (*made, *tables)}
    for problem in by_name.values():
        check_streams(problem)
    n_fresh = max(plan.repeats * plan.n_seeds, POOL_SEEDS)
    wanted = [
        ("branin", "random", N_TRIALS, 1, POOL_SEEDS),
        ("branin", "tpe", N_TRIALS, 3, POOL_SEEDS),
        ("sphere, t noise", "random", N_TRIALS, 2, POOL_SEEDS),
        ("wine svm", "random", N_TRIALS, 3, n_fresh),
        ("digits tree", "random", N_TRIALS, 2, n_fresh),
        ("cancer svm", "random", N_TRIALS, 3, POOL_SEEDS),
        ("diabetes knn", "random", N_TRIALS, 3, POOL_SEEDS),
        *((name, "random", FEW_TRIALS, 3, POOL_SEEDS) for name in ("wine svm", "cancer svm", "digits tree")),
    ]
    found = parallel(delayed(populate)(by_name[name], *options) for name, *options in wanted)
    return {each.name: each for each in found}


def measure(plan: Plan, n_jobs: int) -> list[str]:
    """Print everything; return what breaks a bound."""
    began = time.monotonic()
    with Parallel(n_jobs=n_jobs) as parallel:
        of = populations(plan, parallel)
        print(f"studies: {time.monotonic() - began:.0f} s", file=sys.stderr)
        whole = [each for each in of.values() if len(each.scores) > 1 and not each.name.endswith(str(FEW_TRIALS))]
        looks = [str(n) for n in looks_up_to(plan.max_seeds)]
        tasks = [(each, 2) for each in whole]
        tasks += [(of["branin, tpe"], 3), (of["wine svm, random"], 3)]
        found = parallel(delayed(false_differences)(*task, plan) for task in tasks)
        headings = ["strategy under several labels", "labels", *(f"first called at {n}" for n in looks), "any look"]
        broken = print_table(f"Differences that are not there ({plan.repeats} repeats)", headings, found)

        pairs = [Pair(of["branin, tpe"], of["branin, random"])]
        names = ("wine svm", "cancer svm", "digits tree")
        pairs += [Pair(of[f"{name}, random"], of[f"{name}, random {FEW_TRIALS}"]) for name in names]
        both = list(parallel(delayed(coverage)(each, plan) for each in (*whole, *pairs)))
        headings = ["pair", "true mean", "sd", "skewness", "zeros", *(f"n = {n}" for n in COVERED_AT)]
        headings += ["no interval", "interval below the truth"]
        broken += print_table("Coverage of 95 % intervals at one look", headings, [row for row, _ in both])
        headings = ["pair", "true mean = min_effect", "sd", *(f"n = {n}" for n in COVERED_AT)]
        title = "Equivalent, or the wrong one better, at one look"
        broken += print_table(title, headings, [row for _, row in both[len(whole) :]])

        chosen = [of["branin, tpe"], of["wine svm, random"], of["digits tree, random"]]
        rows = [row for rows in parallel(delayed(powers)(each, plan) for each in chosen) for row in rows]
        headings = ["differences of", "min_effect", "n", "better", "if normal", "equivalent at 0"]
        headings += ["equivalent or worse"]
        title = f"Power at one look, min_effect = {EFFECT:g} sd, which is the true difference"
        broken += print_table(title, headings, rows)

        rows = [row for rows in parallel(delayed(predictions)(each, plan) for each in chosen) for row in rows]
        headings = ["differences of", "look at", "unresolved", "predicted seeds in all", "by the true sd"]
        headings += ["settled there"]
        print_table('"About N more seeds", at one look (median, 10 to 90 %)', headings, rows)

        rows = [row for each in parallel(delayed(predictions_between_looks)(p, plan) for p in chosen) for row in each]
        headings = [
            "differences of",
            "look at",
            "unresolved",
            "predicted seeds in all",
            f"settled at ({plan.max_seeds + 1}: not)",
        ]
        headings += [f"said to need more than {plan.max_seeds}", f"of those settled by {plan.max_seeds}"]
        print_table(f'"About N more seeds", between looks up to {plan.max_seeds} seeds', headings, rows)
    return broken


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--max-seeds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parsed = parser.parse_args()
    began = time.monotonic()
    broken = measure(Plan(parsed.repeats, parsed.max_seeds, parsed.seed), parsed.jobs)
    print(f"\n{time.monotonic() - began:.0f} s")
    for each in broken:
        print(f"broken: {each}")
    return int(bool(broken))


if __name__ == "__main__":
    prepare_process()
    sys.exit(main())
