"""A comparison in the terminal and as Markdown for a pull request."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hpo.compare.comparison import Comparison, Level
from hpo.compare.statistics import Difference
from hpo.tracking.schema import Tag, group_tag, limit_tag

Rows = tuple[list[str], list[list[str]]]
"""Headings, and cells by row."""


def number(value: float | None, digits: int = 4) -> str:
    """A number as people read it; ``-`` for none."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def signed(value: float, digits: int) -> str:
    """A difference, with its sign; one that is shown as zero has a plus."""
    shown = f"{value:+.{digits}f}"
    return shown.replace("-", "+") if float(shown) == 0 else shown


def interval(difference: Difference, digits: int = 4) -> str:
    """``0.0041 to 0.0123``, or why there is none."""
    if not math.isfinite(difference.low):
        return "all differences are equal"
    return f"{difference.low:+.{digits}f} to {difference.high:+.{digits}f}"


def setting(comparison: Comparison) -> str:
    """What was compared, in a sentence."""
    study, n = comparison.group.any, len(comparison.seeds)
    tags = study.record.tags
    keys = ("model", "dataset", "resampling", "strategy")
    shared = [tags[group_tag(key)] for key in keys if key != comparison.by and group_tag(key) in tags]
    units = {"n_trials": "trials", "timeout_seconds": "seconds", "max_epochs_total": "epochs"}
    limits = {unit: tags.get(limit_tag(key), "None") for key, unit in units.items()}
    given = [f"{limit} {unit}" for unit, limit in limits.items() if limit != "None"]
    trials = f", at most {' or '.join(given)} each" if given else ""
    return f"{comparison.by} on {', '.join(shared)}{trials}, {n} seeds ({', '.join(map(str, comparison.seeds))})"


def levels_table(comparison: Comparison) -> Rows:
    """A row a level, the best mean test score first."""
    axis = "trials"
    headings = [
        comparison.by, f"test {comparison.metric}", "± sd", f"best {comparison.objective.metric}", "over-tuning",
        f"{axis} to {comparison.target:.4g}", "trials", "epochs", "seconds", "epochs saved", "failed",
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
    """The median place at which the target was reached, and by how many where it was not by all."""
    reached = [place for place in level.reached[axis] if place is not None]
    when = f"{statistics.median(reached):.4g}" if reached else "-"
    return when + (f" ({len(reached)} of {len(level.test)})" if len(reached) < len(level.test) else "")


def efficiency_table(comparison: Comparison) -> Rows:
    """A row a level and budget: the best value so far on the mean of the search, and when the target was reached."""
    metric = comparison.objective.metric
    headings = [comparison.by, "by", f"mean of the best {metric} so far", f"to {comparison.target:.4g}"]
    return headings, [
        [level.name, axis, number(statistics.fmean(level.areas[axis]), comparison.digits), _reached(level, axis)]
        for level in comparison.levels
        for axis in comparison.axes
    ]


def pairs_table(comparison: Comparison) -> Rows:
    """A row a pair: the paired difference, its interval, and what can be said of it."""
    confidence = f"{100 * (1 - comparison.alpha):.4g}% interval"
    headings = ["pair", "difference", confidence, "effect size", "p", "p of equivalence", "verdict"]
    return headings, [_pair_cells(comparison, difference) for difference in comparison.differences]


def _pair_cells(comparison: Comparison, difference: Difference) -> list[str]:
    verdict, digits = difference.verdict.value, comparison.digits
    if difference.n_more is not None and (settles := comparison.settles(difference.n_more)):
        verdict += f": {settles}"
    return [
        f"{difference.first} − {difference.second}",
        signed(difference.mean, digits),
        interval(difference, digits),
        # Of two differences the corrected effect size is 0, whatever they are.
        "-" if difference.effect_size is None or difference.n < 3 else f"{difference.effect_size:+.2f}",
        f"{difference.p_adjusted:.3g}",
        f"{difference.p_equivalent:.3g}",
        verdict,
    ]


def notes(comparison: Comparison) -> list[str]:
    """What a reader has to know to trust the numbers."""
    settings, n = comparison.settings, len(comparison.seeds)
    effect = f"Differences below {comparison.min_effect:.3g} do not matter"
    effect += " (a default; min_effect=… states your own)." if comparison.is_default_effect else "."
    spent = f"This look spends {comparison.spent:.3g} of an error of {settings.alpha:g}"
    if comparison.is_exploratory:
        looks = "; ".join(comparison.earlier_looks)
        spent = f"Looks at {looks} have spent what may be spent of an error of {settings.alpha:g}: what this one finds"
        spent += " is a reason to compare again, on other seeds and with max_seeds=… declared, and no result."
    elif settings.max_seeds is None:
        spent += "; to add seeds and look again, declare max_seeds=… at the first look."
    else:
        spent += f" that is spread over looks up to {settings.max_seeds} seeds"
        spent += f"; earlier looks: {'; '.join(comparison.earlier_looks)}." if comparison.earlier_looks else "."
    found = [
        f"Test scores are of each study's winner, which was chosen by validation, on {n} seeds as pairs.",
        _sharing(comparison.by),
        "Intervals are Student's t of the paired differences, each by itself; p values are adjusted over the pairs.",
        effect,
        spent,
    ]
    if some := _some_of_grids(comparison):
        found.append(some)
    if comparison.by.partition(".")[0] != "dataset":
        found.append("Intervals are about other seeds, not about other test data: all studies share one test split.")
    n_rare = 1 - settings.alpha ** (1 / n)
    found.append(f"On {n} seeds nothing is seen, and nothing said, of what fails in fewer than {n_rare:.0%} of them.")
    if comparison.n_apart:
        found.append(f"The same question was asked {comparison.n_apart} times before, on other seeds.")
    for digest, count in comparison.test_scorings.items():
        if digest == comparison.group.any.record.tags.get(Tag.DATA_DIGEST):
            found.append(
                f"The test split of these data has been scored {count} times by the studies of this experiment."
            )
    if "seconds" not in comparison.axes:
        found.append("The studies ran on different machines, so that their seconds are not compared.")
    return found


def _some_of_grids(comparison: Comparison) -> str:
    """How levels that search a grid choose among its points, where there are more than trials; else nothing."""
    ways = {
        level: next(iter(by_seed.values())).identity.get("strategy.oversize")
        for level, by_seed in comparison.group.studies.items()
    }
    said = {
        "shuffle": "the points of the grid are visited in an order that is random per seed, up to the number of trials",
        "coarsen": "points of the grid are left out until the others fit into the number of trials",
    }
    return " ".join(f"With {level} {said[way]}." for level, way in ways.items() if way in said)


def _sharing(by: str) -> str:
    """What the studies of a seed have in common."""
    head = by.partition(".")[0]
    shared = {"dataset": "the study seed", "resampling": "the test split"}.get(head, "test split, folds, stop splits")
    return f"A pair shares {shared} and the training seed of equal params, and no random stream."


TABLES = {"Levels": levels_table, "Pairs": pairs_table, "Search efficiency": efficiency_table}


def print_comparison(console: Console, comparison: Comparison, paths: Sequence[str] = ()) -> None:
    """The whole of it in the terminal, the verdict last, where the eye is."""
    console.print(f"[bold]{escape(setting(comparison))}[/]\n", highlight=False)
    for title, make in TABLES.items():
        print_table(console, title, *make(comparison))
    for note in notes(comparison):
        console.print(f"[dim]{escape(note)}[/]", highlight=False)
    for left_out in comparison.group.left_out:
        fix = f"; {left_out.fix}" if left_out.fix else ""
        console.print(f"[yellow]left out:[/] {escape(left_out.name)}: {escape(left_out.reason + fix)}", highlight=False)
    console.print(f"\n[bold green]{escape(comparison.verdict)}[/]", highlight=False)
    for path in paths:
        console.print(f"  [cyan]{escape(path)}[/]", highlight=False, soft_wrap=True)


def print_table(console: Console, title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table and an empty line."""
    table = Table(title=title, title_justify="left", header_style="bold", box=None, padding=(0, 1))
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if place == 0 or heading == "verdict" else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table, highlight=False)
    console.print()


def markdown(comparison: Comparison) -> str:
    """``report.md``: the same for a pull request."""
    lines = [f"# {setting(comparison)[0].upper()}{setting(comparison)[1:]}", "", f"**{comparison.verdict}**", ""]
    for title, (headings, rows) in ((title, make(comparison)) for title, make in TABLES.items()):
        lines += [f"## {title}", "", *markdown_table(headings, rows), ""]
    lines += [f"- {note}" for note in notes(comparison)]
    if comparison.group.left_out:
        lines += ["", "## Left out", ""]
        lines += [f"- `{left.name}`: {left.reason}" for left in comparison.group.left_out]
    return "\n".join(lines) + "\n"


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    return [_row(headings), _row(["---"] * len(headings)), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
