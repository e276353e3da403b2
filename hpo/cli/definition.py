"""Prints what a study consists of, and what it would do."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hpo.cli.formatting import show_limits, show_value
from hpo.core.params import ParamValue
from hpo.core.space import Categorical, Int, Numeric, Parameter
from hpo.errors import redact
from hpo.strategies.base import Rung
from hpo.study.study import Study


def unit_of(study: Study, count: int = 2) -> str:
    """Return what a study counts as epochs: epochs, fits, or reports of an objective."""
    unit = "report" if study.is_defined_by_run else "epoch" if study.model.has_epochs else "fit"
    return unit if count == 1 else f"{unit}s"


def print_definition(console: Console, study: Study, uri: str | None) -> None:
    """Print what a study consists of and, if ``uri`` is given, where it is recorded."""
    rows, definition = study.evaluator.n_samples, study.definition
    folds = study.evaluator.n_folds
    stop = f"{rows['stop']:,} stop split, " if "stop" in rows else ""
    counts = "loads and splits its own data"
    if rows:
        counts = f"{rows['train']:,} train, {stop}{rows['validation']:,} validation, {rows['test']:,} test"
    table = Table.grid(padding=(0, 2))
    if uri is not None:
        table.add_row("[bold]study", study.name)
    table.add_row("[bold]model", f"{study.names.model} on {study.dataset.name} ({counts})")
    if origin := study.model.origin:
        table.add_row("[bold]base", f"{study.config['model'].get('base')} ({origin.uri})")
    tags = study.strategy.tags
    over = (
        "the params that the objective asks for" if study.is_defined_by_run else f"{len(definition.space)} parameters"
    )
    table.add_row("[bold]search", f"{study.names.strategy} ({tags.backend}) over {over}")
    over = f", mean over {folds} folds ({study.names.resampling})" if folds > 1 else ""
    others = "".join(f", {way} {name}" for name, way in definition.objective.others.items())
    table.add_row("[bold]objective", f"{definition.objective.direction} {definition.objective.metric}{others}{over}")
    threads = study.executor.threads_per_trial
    table.add_row("[bold]limit", f"{show_limits(definition.limits)}, whichever comes first")
    most = study.model.describe_budget(definition.max_epochs, 1.0)
    most = most if study.is_defined_by_run else f"at most {most}"
    each = " per fold" if folds > 1 else ""
    parallel = f", {study.n_at_once} in parallel" if study.n_at_once > 1 else ""
    table.add_row("[bold]trial", f"{most}{each}, {threads} thread{'s' * (threads > 1)}{parallel}")
    if uri is not None:
        table.add_row("[bold]record", f"{redact(uri)}")
    console.print(table)
    if study.dataset_note:
        console.print(f"[bold yellow]warning:[/] {escape(study.dataset_note)}")
    if study.n_at_once < study.executor.n_workers:
        text = f"strategy={study.names.strategy} proposes one trial after another, so only one worker trains"
        console.print(f"[bold yellow]warning:[/] {escape(text)}, not {study.executor.n_workers}")
    if outside := study.defaults_outside:
        text = f"the model's defaults are outside the search space ({', '.join(outside)}): no trial starts from them"
        console.print(f"[bold yellow]warning:[/] {escape(text)}")
    console.print()


def print_plan(console: Console, study: Study) -> None:
    """Print what a study would do: its search space, and how many trials, folds, fits and epochs."""
    print_definition(console, study, None)
    space, search = study.definition.space, study.search
    if study.is_defined_by_run:
        console.print(
            "The objective asks for its params while it runs, and loads and splits its own data. So the search"
        )
        console.print("space and the cost of a trial are unknown, and there is no model to test or log.")
        return
    parameters = Table(header_style="bold", box=None, padding=(0, 2), title="Search space", title_justify="left")
    for heading in ("parameter", "values", "grid points", "when"):
        parameters.add_column(heading, overflow="fold")
    for name, parameter in space.items():
        points = parameter.points()
        shown = "none (continuous)" if points is None else _few(points)
        when = "; ".join(
            f"{parent} is {' or '.join(map(str, values))}" for parent, values in (parameter.when or {}).items()
        )
        parameters.add_row(name, _domain(parameter), shown, when)
    console.print(parameters)
    console.print()
    plan, n_folds = study.strategy.plan(search), study.evaluator.n_folds
    continuous = [name for name, parameter in space.items() if parameter.points() is None]
    size, n_trials = space.size(), plan.n_trials
    costs = Table.grid(padding=(0, 2))
    costs.add_row("[bold]space", "continuous" if size is None else f"{size:,} combinations")
    costs.add_row(
        "[bold]grid",
        f"none ({', '.join(continuous)}: no grid points)" if continuous else f"{space.grid_size():,} points",
    )
    costs.add_row("[bold]trials", "until another limit is reached" if n_trials is None else f"at most {n_trials:,}")
    costs.add_row("[bold]folds", f"{n_folds:,} per trial" if n_folds > 1 else "1 (hold-out)")
    rungs = plan.rungs or (() if n_trials is None else (Rung(n_trials, study.max_epochs),))
    if rungs:
        n_fits = sum(rung.n_trials for rung in rungs) * n_folds
        n_epochs = sum(rung.n_trials * rung.max_epochs for rung in rungs) * n_folds
        again = ", plus the refit of the winner" if study.evaluator.refits_winner else ""
        once = " per round of brackets" if n_trials is None else ""
        costs.add_row("[bold]fits", f"at most {n_fits:,}{once}{again}")
        if study.model.has_epochs:
            costs.add_row("[bold]epochs", f"at most {n_epochs:,}, fewer if training stops early")
    console.print(costs, highlight=False)
    if plan.rungs:
        console.print()
        schedule = Table(header_style="bold", box=None, padding=(0, 2), title="Rungs", title_justify="left")
        for heading in ("bracket", "trials", "budget per fold", "fits"):
            schedule.add_column(heading, justify="right")
        for rung in plan.rungs:
            budget = study.model.describe_budget(rung.max_epochs, rung.max_epochs / study.max_epochs)
            schedule.add_row(str(rung.bracket), str(rung.n_trials), budget, str(rung.n_trials * n_folds))
        console.print(schedule)


def _few(values: Sequence[ParamValue], most: int = 6) -> str:
    if len(values) <= most:
        return ", ".join(map(show_value, values))
    head = ", ".join(map(show_value, values[: most - 2]))
    return f"{head}, … {show_value(values[-1])} ({len(values):,})"


def _domain(parameter: Parameter) -> str:
    if isinstance(parameter, Categorical):
        return _few(parameter.choices)
    assert isinstance(parameter, Numeric)
    scale = " (log)" if parameter.log else ""
    step = f" in steps of {show_value(parameter.step)}" if parameter.step is not None else ""
    kind = "integers " if isinstance(parameter, Int) and not step else ""
    return f"{kind}{show_value(parameter.low)} … {show_value(parameter.high)}{scale}{step}"
