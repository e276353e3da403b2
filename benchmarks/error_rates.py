"""Measures how often comparisons are wrong, and what they detect, with all their interim analyses.

::

    python -m benchmarks.error_rates                    1,000 repeats, about ten minutes
    python -m benchmarks.error_rates --repeats 50       a quick check
    python -m benchmarks.error_rates --jobs 2 --seed 1

Studies are those of :mod:`benchmarks.populations`; verdicts are those of :class:`hpo.compare.comparison.Comparison`.

In A/A comparisons, random searches of two tables are new in every repeat. All other populations are pools of
``POOL_SEEDS`` study seeds under several labels: a repeat draws seeds without replacement and labels by seed. Repeats
therefore share searches, A/A differences are symmetric, and the true A/B difference is the mean over the pool.

The exit code is 1 if false differences or equivalences are more frequent than promised, or if intervals cover the truth
in less than 93 % of repeats. The bounds allow for the number of repeats.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from benchmarks.populations import (
    LABELS,
    N_TRIALS,
    POOL_SEEDS,
    Array,
    Function,
    Pair,
    Population,
    Table,
    check_draws,
    populate,
    problems,
)
from hpo.compare.comparison import Comparison
from hpo.compare.groups import Group
from hpo.compare.ledger import InterimAnalysis
from hpo.compare.spending import AnalysisPlan
from hpo.compare.statistics import power, seeds_needed
from hpo.compare.studies import ComparedStudy
from hpo.compare.verdicts import Difference, Verdict, compare_pairs
from hpo.core.objective import Objective
from hpo.core.process import prepare_process
from hpo.core.seeds import derive_seed
from hpo.study.previous_format import FORMAT
from hpo.tracking.reader import StudyRecord

ALPHA = 0.05
LEAST_COVERAGE = 0.93
# Trials of the weaker side of an A/B comparison: so few that some searches fail, a rare large difference.
FEW_TRIALS = 3
COVERED_AT = (3, 5, 10, 20)
POWER_AT = (3, 5, 10, 20)
PREDICTED_AT = (3, 5, 10)
# min_effect in standard deviations of the differences: too small for equivalence to hide a false difference.
SMALL_EFFECT = 0.4
# min_effect of the power measurements: ten seeds detect it in 80 % of comparisons, if differences are normal.
EFFECT = 1.0
# Fractions without a bound are estimated from fewer repeats.
DESCRIBED = 2
# Equal differences of exactly min_effect are not rounded to less.
ABOVE = 1 + 1e-9


@dataclass(frozen=True)
class Cell:
    """A fraction of the repeats, and its bounds."""

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
    """An error whose probability is at most ``ALPHA``; the bound allows for the number of repeats."""
    return Cell(count, repeats, most=ALPHA + 1.96 * math.sqrt(ALPHA * (1 - ALPHA) / repeats))


def coverage_cell(count: int, repeats: int) -> Cell:
    """Coverage of 95 % intervals, at least 93 %; the bound allows for the number of repeats."""
    by_chance = 1 - ALPHA - 1.96 * math.sqrt(ALPHA * (1 - ALPHA) / repeats)
    return Cell(count, repeats, least=min(LEAST_COVERAGE, by_chance))


def analyses_up_to(max_seeds: int) -> list[int]:
    """Numbers of seeds of four interim analyses, evenly spaced."""
    return sorted({max(2, round(max_seeds * quarter / 4)) for quarter in (1, 2, 3, 4)})


def compared(scores: Array, maximize: bool) -> dict[str, dict[int, ComparedStudy]]:
    """Label → seed → a study with the values that a verdict depends on."""
    objective = Objective.of("val_accuracy" if maximize else "val_loss")
    tags = {"hpo.objective": f"{objective.direction} {objective.metric}"}
    name = f"test_{objective.metric.removeprefix('val_')}"

    def one(label: str, seed: int, score: float) -> ComparedStudy:
        own = {**tags, "hpo.seed": str(seed), "hpo.strategy": label}
        record = StudyRecord("", "", f"{label}-s{seed}", "finished", own, {}, {name: score}, 0.0, 1.0)
        return ComparedStudy(record, {"format": FORMAT}, _no_table)

    return {
        label: {seed: one(label, seed, float(score)) for seed, score in enumerate(row)}
        for label, row in zip(LABELS, scores, strict=False)
    }


def _no_table(name: str) -> pd.DataFrame:
    raise ValueError(f"verdicts need no table of {name}")


def analyse_in_turn(
    scores: Array, maximize: bool, plan: AnalysisPlan, numbers: Sequence[int]
) -> Iterator[tuple[int, list[Difference]]]:
    """Run interim analyses of growing numbers of seeds, each after those before it.

    Yields:
        The number of seeds, and the difference of each pair.
    """
    studies, analyses = compared(scores, maximize), list[InterimAnalysis]()
    for n in numbers:
        group = Group("strategy", {label: dict(list(s.items())[:n]) for label, s in studies.items()}, ())
        comparison = Comparison(group, plan, analyses)
        yield n, comparison.differences
        analyses.append(comparison.analysis())


def is_called(differences: Sequence[Difference]) -> bool:
    """Whether a pair is called better or worse."""
    return any(each.verdict in (Verdict.BETTER, Verdict.WORSE) for each in differences)


def analyse_once(scores: Array, maximize: bool, min_effect: float) -> Difference:
    """Compare the first row with the second in a single analysis, which spends all of ``ALPHA``."""
    by_seed = {label: dict(enumerate(map(float, row))) for label, row in zip(LABELS, scores[:2], strict=False)}
    return compare_pairs(by_seed, maximize, min_effect, ALPHA)[0]


@dataclass(frozen=True)
class Plan:
    """Size of the benchmark.

    Args:
        max_seeds: study seeds of the last analysis.
        seed: of the draws from the populations.
        pool_seeds: study seeds of a population that repeats share.
    """

    repeats: int
    max_seeds: int
    seed: int
    pool_seeds: int = POOL_SEEDS

    @property
    def n_seeds(self) -> int:
        """Study seeds of one repeat."""
        return max(self.max_seeds, *COVERED_AT, *POWER_AT)

    def rng(self, *parts: object) -> np.random.Generator:
        """Random generator of one measurement."""
        return np.random.default_rng(derive_seed(self.seed, *parts))


def false_differences(population: Population, n_labels: int, plan: Plan) -> Row:
    """A/A comparisons: how often the interim analyses find a difference that does not exist."""
    rng, numbers = plan.rng("A/A", population.name, n_labels), analyses_up_to(plan.max_seeds)
    analysis_plan = AnalysisPlan(SMALL_EFFECT * population.spread, plan.max_seeds, ALPHA)
    at = dict.fromkeys(numbers, 0)
    for repeat in range(plan.repeats):
        scores = population.draw(rng, repeat, plan.n_seeds)[:n_labels]
        for n, differences in analyse_in_turn(scores, population.maximize, analysis_plan, numbers):
            if is_called(differences):
                at[n] += 1
                break
    shares = (f"{count / plan.repeats:.1%}" for count in at.values())
    return [population.name, n_labels, *shares, error_cell(sum(at.values()), plan.repeats)]


def coverage(compared_pair: Population | Pair, plan: Plan) -> tuple[Row, Row]:
    """How often the 95 % interval of a single analysis covers the true mean: 0 for A/A, the populations' for A/B.

    Returns:
        A row of coverages, and a row with how often a pair whose true mean is ``min_effect`` is called equivalent, or
        the wrong level is called better.
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
    for repeat in range(plan.repeats):
        drawn = compared_pair.draw(rng, repeat, plan.n_seeds)
        for n in COVERED_AT:
            found = analyse_once(drawn[:2, :n], maximize, effect)
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
    """Single analyses of several numbers of seeds, with a true difference of ``min_effect`` and with none."""
    rng, effect = plan.rng("power", population.name), EFFECT * population.spread
    shift = np.array([[ABOVE * (effect if population.maximize else -effect)], [0.0]])
    rows: list[Row] = []
    counts = {n: [0, 0, 0] for n in POWER_AT}
    for repeat in range(plan.repeats):
        scores = population.draw(rng, repeat, plan.n_seeds)[:2]
        for n in POWER_AT:
            shifted = analyse_once(scores[:, :n] + shift, population.maximize, effect).verdict
            equal = analyse_once(scores[:, :n], population.maximize, effect).verdict
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
    """Whether the predicted number of seeds resolves a pair whose true difference is ``min_effect``."""
    rng, effect = plan.rng("predictions", population.name), EFFECT * population.spread
    shift = np.array([[ABOVE * (effect if population.maximize else -effect)], [0.0]])
    needed, n_repeats = seeds_needed(population.spread, effect, ALPHA), max(1, plan.repeats // DESCRIBED)
    rows: list[Row] = []
    for n in PREDICTED_AT:
        totals, n_resolved = [], 0
        for _ in range(n_repeats):
            seeds = rng.choice(population.scores.shape[1], plan.pool_seeds, replace=False)
            scores = rng.permuted(population.scores[:, seeds], axis=0)[:2] + shift
            first = analyse_once(scores[:, :n], population.maximize, effect)
            if first.n_more is None:
                continue
            totals.append(min(plan.pool_seeds, n + first.n_more))
            again = analyse_once(scores[:, : totals[-1]], population.maximize, effect)
            n_resolved += again.verdict is not Verdict.UNRESOLVED
        resolved: object = Cell(n_resolved, len(totals)) if totals else "-"
        rows.append([population.name, n, Cell(len(totals), n_repeats), _spread(totals), needed, resolved])
    return rows


def predictions_between_analyses(population: Population, plan: Plan) -> list[Row]:
    """The same at interim analyses, which spend less than ``ALPHA`` each."""
    rng, effect = plan.rng("between looks", population.name), EFFECT * population.spread
    shift = np.array([[ABOVE * (effect if population.maximize else -effect)], [0.0]])
    numbers = analyses_up_to(plan.max_seeds)
    analysis_plan = AnalysisPlan(effect, plan.max_seeds, ALPHA)
    n_repeats = max(1, plan.repeats // DESCRIBED)
    totals: dict[int, list[tuple[int, int | None]]] = {n: [] for n in numbers[:-1]}
    for repeat in range(n_repeats):
        scores = population.draw(rng, repeat, plan.n_seeds)[:2] + shift
        said: dict[int, int] = {}
        resolved: int | None = None
        for n, (difference,) in analyse_in_turn(scores, population.maximize, analysis_plan, numbers):
            if difference.n_more is None:
                resolved = n
                break
            said[n] = n + difference.n_more
        for n in said.keys() & totals.keys():
            totals[n].append((said[n], resolved))
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
    """Print a Markdown table; return a line for each broken bound."""
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
    """Run all studies; populations by name."""
    made = problems()
    tables = parallel(delayed(Table.trained)(each) for each in made if isinstance(each, Table))
    by_name: dict[str, Function | Table] = {each.name: each for each in (*made, *tables)}
    for problem in by_name.values():
        check_draws(problem)
    n_fresh = max(plan.repeats * plan.n_seeds, plan.pool_seeds)
    is_fresh = n_fresh > plan.pool_seeds
    wanted: list[tuple[Any, ...]] = [
        ("branin", "random", N_TRIALS, 1, plan.pool_seeds),
        ("branin", "tpe", N_TRIALS, 3, plan.pool_seeds),
        ("sphere, t noise", "random", N_TRIALS, 2, plan.pool_seeds),
        ("wine svm", "random", N_TRIALS, 3, n_fresh, is_fresh),
        ("digits tree", "random", N_TRIALS, 2, n_fresh, is_fresh),
        ("cancer svm", "random", N_TRIALS, 3, plan.pool_seeds),
        ("diabetes knn", "random", N_TRIALS, 3, plan.pool_seeds),
        *((name, "random", FEW_TRIALS, 3, plan.pool_seeds) for name in ("wine svm", "cancer svm", "digits tree")),
    ]
    found = parallel(delayed(populate)(by_name[name], *options) for name, *options in wanted)
    return {each.name: each for each in found}


def measure(plan: Plan, n_jobs: int) -> list[str]:
    """Print every table; return a line for each broken bound."""
    began = time.monotonic()
    with Parallel(n_jobs=n_jobs) as parallel:
        of = populations(plan, parallel)
        print(f"studies: {time.monotonic() - began:.0f} s", file=sys.stderr)
        whole = [each for each in of.values() if len(each.scores) > 1 and not each.name.endswith(str(FEW_TRIALS))]
        numbers = [str(n) for n in analyses_up_to(plan.max_seeds)]
        tasks = [(each, 2) for each in whole]
        tasks += [(of["branin, tpe"], 3), (of["wine svm, random"], 3)]
        found = parallel(delayed(false_differences)(*task, plan) for task in tasks)
        headings = [
            "strategy under several labels",
            "labels",
            *(f"first called at {n}" for n in numbers),
            "any analysis",
        ]
        broken = print_table(f"False differences ({plan.repeats} repeats)", headings, found)

        pairs = [Pair(of["branin, tpe"], of["branin, random"])]
        names = ("wine svm", "cancer svm", "digits tree")
        pairs += [Pair(of[f"{name}, random"], of[f"{name}, random {FEW_TRIALS}"]) for name in names]
        both = list(parallel(delayed(coverage)(each, plan) for each in (*whole, *pairs)))
        headings = ["pair", "true mean", "sd", "skewness", "zeros", *(f"n = {n}" for n in COVERED_AT)]
        headings += ["no interval", "interval below the truth"]
        broken += print_table("Coverage of 95 % intervals in a single analysis", headings, [row for row, _ in both])
        headings = ["pair", "true mean = min_effect", "sd", *(f"n = {n}" for n in COVERED_AT)]
        title = "Equivalent, or the wrong level better, in a single analysis"
        broken += print_table(title, headings, [row for _, row in both[len(whole) :]])

        chosen = [of["branin, tpe"], of["wine svm, random"], of["digits tree, random"]]
        rows = [row for rows in parallel(delayed(powers)(each, plan) for each in chosen) for row in rows]
        headings = ["differences of", "min_effect", "n", "better", "if normal", "equivalent at 0"]
        headings += ["equivalent or worse"]
        title = f"Power of a single analysis; the true difference is min_effect = {EFFECT:g} sd"
        broken += print_table(title, headings, rows)

        rows = [row for rows in parallel(delayed(predictions)(each, plan) for each in chosen) for row in rows]
        headings = ["differences of", "seeds", "unresolved", "predicted seeds in all", "by the true sd"]
        headings += ["resolved then"]
        print_table('"About N more seeds" in a single analysis (median, 10 to 90 %)', headings, rows)

        rows = [
            row for each in parallel(delayed(predictions_between_analyses)(p, plan) for p in chosen) for row in each
        ]
        headings = [
            "differences of",
            "seeds",
            "unresolved",
            "predicted seeds in all",
            f"resolved at ({plan.max_seeds + 1}: not)",
        ]
        headings += [f"predicted to need more than {plan.max_seeds}", f"of those resolved by {plan.max_seeds}"]
        print_table(f'"About N more seeds" at interim analyses of up to {plan.max_seeds} seeds', headings, rows)
    return broken


def main() -> int:
    """Run the benchmark from the command line."""
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
