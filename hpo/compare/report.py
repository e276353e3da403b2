"""Tables and notes of a report, as text; :mod:`hpo.compare.pages` and :mod:`hpo.compare.screen` lay them out."""

from __future__ import annotations

import math
import statistics

from hpo.compare.comparison import Comparison
from hpo.compare.conclusion import describe_seeds_needed
from hpo.compare.levels import Level
from hpo.compare.tasks import N_RESAMPLES, TaskRanking
from hpo.compare.verdicts import Difference
from hpo.tracking.schema import Tag, group_tag, limit_tag

Rows = tuple[list[str], list[list[str]]]
"""Headings, and the cells of each row."""


def number(value: float | None, digits: int = 4) -> str:
    """Format a number; ``-`` for None and NaN."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def signed(value: float, digits: int) -> str:
    """Format a difference with its sign; zero has a plus."""
    shown = f"{value:+.{digits}f}"
    return shown.replace("-", "+") if float(shown) == 0 else shown


def interval(difference: Difference, digits: int = 4) -> str:
    """Format an interval as ``+0.0041 to +0.0123``, or say why there is none."""
    if not math.isfinite(difference.low):
        return "all differences are equal"
    return f"{difference.low:+.{digits}f} to {difference.high:+.{digits}f}"


def describe_setting(comparison: Comparison) -> str:
    """Describe what was compared: factor, shared parts, limits and seeds."""
    tags, n = comparison.group.example.record.tags, len(comparison.seeds)
    keys = ("model", "dataset", "resampling", "strategy")
    shared = [tags[group_tag(key)] for key in keys if key != comparison.by and group_tag(key) in tags]
    units = {"n_trials": "trials", "timeout_seconds": "seconds", "max_epochs_total": "epochs"}
    limits = {unit: tags.get(limit_tag(key), "None") for key, unit in units.items()}
    given = [f"{limit} {unit}" for unit, limit in limits.items() if limit != "None"]
    trials = f", at most {' or '.join(given)} each" if given else ""
    return f"{comparison.by} on {', '.join(shared)}{trials}, {n} seeds ({', '.join(map(str, comparison.seeds))})"


def levels_table(comparison: Comparison) -> Rows:
    """One row for each level, best mean test score first."""
    axis = "trials"
    headings = [
        comparison.by, f"test {comparison.metric}", "± sd", f"best {comparison.objective.metric}", "over-tuning",
        f"{axis} to {comparison.curves.target:.4g}", "trials", "epochs", "seconds", "epochs saved", "failed",
    ]  # fmt: skip
    return headings, [_level_cells(level, axis, comparison.digits) for level in comparison.levels]


def _level_cells(level: Level, axis: str, digits: int) -> list[str]:
    failed = level.states.get("FAIL", 0)
    return [
        level.name,
        number(level.mean, digits),
        number(statistics.stdev(level.test), digits),
        number(statistics.fmean(level.validation), digits),
        f"{statistics.fmean(level.over_tuning):+.{digits}f}",
        _reached(level, axis),
        f"{statistics.fmean(level.n_trials):g}",
        f"{statistics.fmean(level.epochs):.0f}",
        number(statistics.fmean(level.seconds), 0),
        f"{level.stopping.share_saved:.0%}",
        str(failed),
    ]


def _reached(level: Level, axis: str) -> str:
    """Median position at which the target was reached, and by how many seeds if not by all."""
    reached = [position for position in level.reached[axis] if position is not None]
    when = f"{statistics.median(reached):.4g}" if reached else "-"
    return when + (f" ({len(reached)} of {len(level.test)})" if len(reached) < len(level.test) else "")


def efficiency_table(comparison: Comparison) -> Rows:
    """One row for each level and axis: mean of the best value so far, and when the target was reached."""
    metric = comparison.objective.metric
    headings = [comparison.by, "by", f"mean of the best {metric} so far", f"to {comparison.curves.target:.4g}"]
    return headings, [
        [level.name, axis, number(statistics.fmean(level.areas[axis]), comparison.digits), _reached(level, axis)]
        for level in comparison.levels
        for axis in comparison.curves.axes
    ]


def pairs_table(comparison: Comparison) -> Rows:
    """One row for each pair: the paired difference, its interval, and the verdict."""
    confidence = f"{100 * (1 - comparison.spending.alpha):.4g}% interval"
    headings = ["pair", "difference", confidence, "effect size", "p (difference)", "p (equivalence)", "verdict"]
    return headings, [_pair_cells(comparison, difference) for difference in comparison.differences]


def _pair_cells(comparison: Comparison, difference: Difference) -> list[str]:
    verdict, digits = difference.verdict.value, comparison.digits
    if difference.n_more is not None and (needed := describe_seeds_needed(comparison, difference.n_more)):
        verdict += f": needs {needed}"
    return [
        f"{difference.first} − {difference.second}",
        signed(difference.mean, digits),
        interval(difference, digits),
        # With two differences the corrected effect size is always 0.
        "-" if difference.effect_size is None or difference.n < 3 else f"{difference.effect_size:+.2f}",
        f"{difference.p_adjusted:.3g}",
        f"{difference.p_equivalent:.3g}",
        verdict,
    ]


def list_notes(comparison: Comparison) -> list[str]:
    """What a reader has to know to interpret the numbers."""
    n = len(comparison.seeds)
    n_apart = comparison.spending.n_on_other_seeds
    n_rare = 1 - comparison.plan.alpha ** (1 / n)
    effect = f"The smallest difference that matters (min_effect) is {comparison.min_effect:.3g}"
    found = [
        f"Test scores are those of each study's winner, chosen by validation score. Studies are paired by seed ({n} "
        "seeds).",
        _describe_pairing(comparison.by),
        "Intervals are Student's t intervals of the paired differences, each on its own; p-values are adjusted for the "
        "number of pairs.",
        f"{effect}, a default; set min_effect=… to change it." if comparison.is_default_effect else f"{effect}.",
        _describe_spending(comparison),
    ]
    found += _describe_oversized_grids(comparison)
    if comparison.by.partition(".")[0] != "dataset":
        found.append("Intervals describe variation over seeds, not over test data: all studies share one test split.")
    found.append(f"Failures that affect fewer than {n_rare:.0%} of seeds may not appear in {n} seeds.")
    if n_apart:
        analyses = "analysis of the same question used" if n_apart == 1 else "analyses of the same question used"
        found.append(f"{n_apart} earlier {analyses} other seeds.")
    count = comparison.test_scorings.get(comparison.group.example.record.tags.get(Tag.DATA_DIGEST, ""))
    if count is not None:
        found.append(f"The studies of this experiment have scored this test split {count} times.")
    if "seconds" not in comparison.curves.axes:
        found.append("Seconds are not compared: the hardware of the studies differs or was not recorded.")
    return found


def _describe_pairing(by: str) -> str:
    """What paired studies share."""
    head = by.partition(".")[0]
    shared = {"dataset": "study seed", "resampling": "test split"}.get(head, "test split, folds and stop splits")
    return (
        f"Paired studies have the same {shared}, and train equal hyperparameters with the same seed. Their searches "
        "use independent random streams."
    )


def _describe_spending(comparison: Comparison) -> str:
    """How much of alpha this analysis spends, and what earlier ones spent."""
    plan, spending = comparison.plan, comparison.spending
    same = {*comparison.group.studies}
    earlier = "; ".join(
        f"{len(each.seeds)} seeds" + ("" if {*each.levels} == same else f" of {', '.join(each.levels)}")
        for each in spending.others
    )
    if spending.is_exploratory:
        return (
            f"Earlier analyses ({earlier}) spent the whole alpha of {plan.alpha:g}. This result is a hypothesis, not a "
            "finding: repeat the comparison on other seeds, and set max_seeds=… at its first analysis."
        )
    spent = f"This analysis spends {spending.spent:.3g} of alpha={plan.alpha:g}"
    if plan.max_seeds is None:
        return f"{spent}. To add seeds later, set max_seeds=… at the first analysis."
    known = f" Earlier analyses: {earlier}." if earlier else ""
    return f"{spent}, which is spread over interim analyses of up to {plan.max_seeds} seeds.{known}"


def _describe_oversized_grids(comparison: Comparison) -> list[str]:
    """How levels with a grid of more points than trials choose among the points."""
    ways = {
        "shuffle": "visits the points of its grid in a random order for each seed, up to the number of trials",
        "coarsen": "leaves out points of its grid until the rest fit into the number of trials",
    }
    chosen = {
        level: next(iter(by_seed.values())).identity.get("strategy.oversize")
        for level, by_seed in comparison.group.studies.items()
    }
    return [f"{level} {ways[way]}." for level, way in chosen.items() if way in ways]


TABLES = {"Levels": levels_table, "Pairs": pairs_table, "Search efficiency": efficiency_table}


def ranks_table(ranking: TaskRanking) -> Rows:
    """One row for each task with the mean test score and rank of every level; the last row has the mean ranks."""
    order = list(ranking.mean_ranks)
    columns = [ranking.levels.index(name) for name in order]
    rows = []
    for task, scores, ranks in zip(ranking.tasks, ranking.scores, ranking.ranks, strict=True):
        digits = task.comparison.digits
        metric = f"test {task.comparison.metric}"
        rows.append([task.name, metric, *(f"{number(scores[c], digits)} ({ranks[c]:g})" for c in columns)])
    rows.append(["mean rank", "", *(f"{rank:.2f}" for rank in ranking.mean_ranks.values())])
    return [ranking.over, "mean over seeds (rank)", *order], rows


def list_ranking_notes(ranking: TaskRanking) -> list[str]:
    """What a reader has to know to interpret the ranks."""
    n_levels, n_tasks = len(ranking.levels), len(ranking.tasks)
    smallest = max(math.factorial(n_levels) ** (1.0 - n_tasks), 1 / (N_RESAMPLES + 1))
    found = [
        f"Levels are ranked within each {ranking.over} by their mean test score over seeds; 1 is best.",
        f"The p-value is of Friedman's test with permutations within tasks, at alpha={ranking.alpha:g}. With {n_tasks} "
        f"tasks it cannot be smaller than {smallest:.2g}.",
        "The test says whether levels differ over tasks like these, not by how much; see the report of each task.",
        "Choose the tasks before the comparison: adding tasks until the test is significant makes it invalid.",
    ]
    if n_levels > 2:
        found.insert(
            2,
            f"Mean ranks differ significantly if they differ by more than {ranking.critical_difference:.2f} (Nemenyi) "
            "and Friedman's test finds a difference.",
        )
    return found
