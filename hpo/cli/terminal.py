"""What people see in the terminal before and after a study: definitions, plans, results and lists."""

from __future__ import annotations

import datetime
import json
import math
import re
import socket
import statistics
from collections.abc import Collection, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hpo.core.limits import Limits
from hpo.core.params import Params, ParamValue
from hpo.core.space import Categorical, Int, Numeric, Parameter
from hpo.core.states import State
from hpo.core.trial import Trial
from hpo.errors import redact
from hpo.run.result import Result, StopCause
from hpo.strategies.base import Rung, StrategyTags
from hpo.study.study import Study
from hpo.tracking.reader import StudyRecord, TrialRecord
from hpo.tracking.schema import Metric, Tag, group_tag, metric_on_test, read_metrics_on_test
from hpo.tracking.store import absolute
from hpo.tracking.writer import Tracker

N_TOP = 5
_ENDINGS = {
    StopCause.N_TRIALS: "all trials are done",
    StopCause.TIMEOUT: "the time limit was reached",
    StopCause.MAX_EPOCHS: "the limit on epochs was reached",
    StopCause.FAILURES: "too many trials failed in a row",
    StopCause.EXHAUSTED: "the search space is exhausted",
    StopCause.INTERRUPTED: "interrupted",
    StopCause.ERROR: "an error ended it",
}


def show_value(value: ParamValue) -> str:
    """A param as people write it: floats in four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def show_params(params: Params) -> str:
    """Params on one line."""
    # A copy, since a running trial may be given one more meanwhile.
    return " ".join(f"{name}={show_value(value)}" for name, value in list(params.items()))


def show_seconds(seconds: float) -> str:
    """``7.5 s``, ``1 min 05 s`` or ``2 h 03 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def show_limits(limits: Limits) -> str:
    """The limits that are set, in words."""
    parts = []
    if limits.n_trials is not None:
        parts.append(f"{limits.n_trials} trials")
    if limits.timeout_seconds is not None:
        parts.append(show_seconds(limits.timeout_seconds))
    if limits.max_epochs_total is not None:
        parts.append(f"{limits.max_epochs_total} epochs in all")
    return " or ".join(parts)


def unit_of(study: Study) -> str:
    """What the epochs of a study are."""
    if study.is_defined_by_run:
        return "reports"
    return "epochs" if study.model.has_epochs else "fits"


def print_definition(console: Console, study: Study, uri: str | None) -> None:
    """What a study is made of, and where it is recorded if it is."""
    rows, definition = study.evaluator.n_samples, study.definition
    folds = study.evaluator.n_folds
    stop = f"{rows['stop']:,} to stop by, " if "stop" in rows else ""
    counts = "its own data and splits, not known here"
    if rows:
        counts = f"{rows['train']:,} train, {stop}{rows['validation']:,} validation, {rows['test']:,} test"
    table = Table.grid(padding=(0, 2))
    if uri is not None:
        table.add_row("[bold]study", study.name)
    table.add_row("[bold]model", f"{study.names.model} on {study.dataset.name} ({counts})")
    if origin := study.model.origin:
        table.add_row("[bold]base", f"{study.config['model'].get('base')} ({origin.uri})")
    tags = study.strategy.tags
    over = "what the objective asks for" if study.is_defined_by_run else f"{len(definition.space)} parameters"
    table.add_row("[bold]search", f"{study.names.strategy} ({tags.backend}) over {over}")
    over = f", mean over the folds of {study.names.resampling}: {folds}" if folds > 1 else ""
    others = "".join(f", {way} {name}" for name, way in definition.objective.others.items())
    table.add_row("[bold]objective", f"{definition.objective.direction} {definition.objective.metric}{others}{over}")
    threads = study.executor.threads_per_trial
    table.add_row("[bold]limit", f"{show_limits(definition.limits)}, whichever comes first")
    most = study.model.describe_budget(definition.max_epochs, 1.0)
    most = most if study.is_defined_by_run else f"at most {most}"
    each = " a fold" if folds > 1 else ""
    at_once = f", {study.n_at_once} at a time" if study.n_at_once > 1 else ""
    table.add_row("[bold]trial", f"{most}{each}, {threads} thread{'s' * (threads > 1)}{at_once}")
    if uri is not None:
        table.add_row("[bold]record", f"{redact(uri)}")
    console.print(table)
    if study.dataset_note:
        console.print(f"[bold yellow]warning:[/] {escape(study.dataset_note)}")
    if study.n_at_once < study.executor.n_workers:
        said = f"strategy={study.names.strategy} proposes one trial after another, so that one worker trains"
        console.print(f"[bold yellow]warning:[/] {escape(said)} and not {study.executor.n_workers}")
    if outside := study.defaults_outside:
        said = f"the model's own {', '.join(outside)} outside the search space: no trial starts from its defaults"
        console.print(f"[bold yellow]warning:[/] {escape(said)}")
    console.print()


def print_plan(console: Console, study: Study) -> None:
    """What a study would do: its space, and how much of it at what cost."""
    print_definition(console, study, None)
    space, search = study.definition.space, study.search
    if study.is_defined_by_run:
        said = "The objective asks for its parameters while it runs, and loads and splits its data itself: neither the"
        console.print(f"{said}\nspace nor the cost of a trial is known before. There is no model to test or to log.")
        return
    parameters = Table(header_style="bold", box=None, padding=(0, 2), title="Search space", title_justify="left")
    for heading in ("parameter", "values", "grid points", "when"):
        parameters.add_column(heading, overflow="fold")
    for name, parameter in space.items():
        points = parameter.points()
        shown = "none: continuous" if points is None else _few(points)
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
    costs.add_row("[bold]space", "continuous" if size is None else f"{size:,} different params")
    costs.add_row(
        "[bold]grid", f"none: {', '.join(continuous)} without points" if continuous else f"{space.grid_size():,}"
    )
    costs.add_row("[bold]trials", "until another limit ends it" if n_trials is None else f"at most {n_trials:,}")
    costs.add_row("[bold]folds", f"{n_folds:,} a trial" if n_folds > 1 else "one: hold-out")
    rungs = plan.rungs or (() if n_trials is None else (Rung(n_trials, study.max_epochs),))
    if rungs:
        n_fits = sum(rung.n_trials for rung in rungs) * n_folds
        n_epochs = sum(rung.n_trials * rung.max_epochs for rung in rungs) * n_folds
        again = ", and the winner once more" if study.evaluator.refits_winner else ""
        once = " for each round of brackets" if n_trials is None else ""
        costs.add_row("[bold]fits", f"at most {n_fits:,}{once}{again}")
        if study.model.has_epochs:
            costs.add_row("[bold]epochs", f"at most {n_epochs:,}, fewer where training stops early")
    console.print(costs, highlight=False)
    if plan.rungs:
        console.print()
        schedule = Table(header_style="bold", box=None, padding=(0, 2), title="Rungs", title_justify="left")
        for heading in ("bracket", "trials", "budget of a fold", "fits"):
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
    whole = "whole " if isinstance(parameter, Int) and not step else ""
    return f"{whole}{show_value(parameter.low)} … {show_value(parameter.high)}{scale}{step}"


StrategyRow = tuple[str, StrategyTags | None, str]
_ABILITIES = {
    "conditional": "conditions",
    "pruning": "prunes",
    "rungs": "rungs",
    "parallel": "several at once",
    "deterministic": "same again",
    "several_objectives": "several objectives",
}


def _abilities(tags: StrategyTags) -> list[str]:
    return ["yes" if getattr(tags, name) else "" for name in _ABILITIES]


def print_strategies(console: Console, rows: Sequence[StrategyRow]) -> None:
    """The ways of searching, each with its library and what it can do."""
    table = Table(header_style="bold", box=None, padding=(0, 1))
    for heading in ("strategy", "backend"):
        table.add_column(heading, no_wrap=True)
    table.add_column("can", overflow="fold", ratio=1)
    table.add_column("when to use it", overflow="fold", ratio=2)
    for name, tags, description in rows:
        can = [label for key, label in _ABILITIES.items() if tags is not None and getattr(tags, key)]
        table.add_row(f"[bold]{name}[/]", tags.backend if tags else "", ", ".join(can), escape(description))
    console.print(table, highlight=False)


def strategies_markdown(rows: Sequence[StrategyRow]) -> str:
    """The same as a Markdown table."""
    headings = ["strategy", "backend", *_ABILITIES.values(), "when to use it"]
    lines = [headings, ["---"] * len(headings)]
    for name, tags, description in rows:
        backend, abilities = (f"`{tags.backend}`", _abilities(tags)) if tags else ("", [""] * len(_ABILITIES))
        lines.append([f"`{name}`", backend, *abilities, description])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def print_result(console: Console, result: Result, uri: str, tracking_overrides: str) -> None:
    """The end of a study: why it ended, the best trials, the winner's scores, and what to do next."""
    study, best = result.study, result.best
    states = [trial.state for trial in result.trials]
    failed = states.count(State.FAIL)
    console.print()
    n_saved = sum(trial.epochs_saved for trial in result.trials)
    saved = f", {n_saved} saved by stopping early or pruning" if n_saved else ""
    done = f"{states.count(State.COMPLETE)} complete, {states.count(State.PRUNED)} pruned"
    console.print(
        f"[bold]{_ENDINGS[result.end]}[/]: {done}, {failed} failed in {show_seconds(result.seconds)}; "
        f"{sum(t.epochs_run for t in result.trials)} {unit_of(study)} trained{saved}",
        highlight=False,
    )
    if study.dataset_note:
        console.print(f"[bold yellow]warning:[/] {escape(study.dataset_note)}")
    if failed:
        console.print(f"[red]{escape(failures_text(result.trials))}[/]", highlight=False)
        for kind, examples in _failures(result.trials).items():
            if examples[0] != kind:
                console.print(f"  [dim]{escape(examples[0])}[/]", highlight=False)
    if best is None:
        if result.end is StopCause.INTERRUPTED:
            console.print("it was stopped before a trial was complete")
        else:
            console.print("[bold red]no trial was completed[/]: see the errors above, or raise limits.timeout_seconds")
        _print_next_steps(console, result, uri, tracking_overrides)
        return
    console.print(_top_table(result))
    metric = study.definition.objective.metric
    line = f"[bold green]best: trial {best.number}[/]  {metric} [bold]{best.value:.5f}[/]"
    if result.test:
        own = (metric, *study.evaluator.metric_names)
        shown = dict.fromkeys(name.removeprefix("val_") for name in own)
        scores = ", ".join(f"{n} {result.test.metrics[n]:.5f}" for n in shown if n in result.test.metrics)
        times = "once" if result.n_tests == 1 else f"{result.n_tests} times by this study"
        line += f"   test ({result.test.n_samples:,} {study.dataset.name} samples, scored {times}): [bold]{scores}[/]"
    elif not study.evaluator.has_model:
        line += "   (no test score and no logged model: an objective hands over neither test data nor a model)"
    else:
        line += "   (not tested: only a finished study scores its winner on the test split)"
    console.print(line, highlight=False)
    for problem in result.problems:
        console.print(f"[bold yellow]warning:[/] {escape(problem)}", highlight=False)
    _print_next_steps(console, result, uri, tracking_overrides)


def print_brief(console: Console, result: Result) -> None:
    """The end of a study that is one of many, in a line."""
    study, best = result.study, result.best
    n_complete = sum(trial.state is State.COMPLETE for trial in result.trials)
    said = f"{study.name}: {_ENDINGS[result.end]}, {n_complete} of {len(result.trials)} trials complete"
    if best is not None:
        said += f", {study.definition.objective.metric} {best.value:.5f}"
    if result.test:
        metric = study.definition.objective.metric.removeprefix("val_")
        said += f", test {metric} {result.test.metrics.get(metric, math.nan):.5f}"
    console.print(f"{escape(said)}, {show_seconds(result.seconds)}", highlight=False)
    for problem in result.problems:
        console.print(f"[bold yellow]warning:[/] {escape(problem)}", highlight=False)


def _failures(trials: Sequence[Trial]) -> dict[str, list[str]]:
    """Kinds of failure, the most frequent first, each with what was said."""
    kinds: dict[str, list[str]] = {}
    for trial in trials:
        if trial.state is State.FAIL:
            said = trial.error or str(trial.stop_reason)
            error = re.match(r"(\w*(?:Error|Exception|Exhausted|Interrupt|Warning)\w*):", said)
            kind = error.group(1) if error else re.sub(r" (?:after|in) epoch \d+$|=.*$|\d[\d,.]{5,}", "", said)
            kinds.setdefault(kind, []).append(said)
    return dict(sorted(kinds.items(), key=lambda item: -len(item[1])))


def failures_text(trials: Sequence[Trial]) -> str:
    """``7 failed: 5 × ResourceExhaustedError, 2 × loss is not finite``."""
    kinds = _failures(trials)
    counts = ", ".join(f"{len(examples)} × {kind}" for kind, examples in kinds.items())
    return f"{sum(map(len, kinds.values()))} failed: {counts}"


def refused_text(tracker: Tracker) -> str:
    """What MLflow will never take."""
    where = escape(str(tracker.folder / "refused.jsonl"))
    return (
        f"[bold yellow]warning:[/] MLflow refused {tracker.n_refused} records for good; they are in {where}, with why"
    )


def undelivered_text(tracker: Tracker, overrides: str) -> str:
    """What to do about records that MLflow does not have."""
    why = escape(tracker.trouble or "not in time")
    return (
        f"[bold yellow]warning:[/] MLflow does not answer ({why}); the records are safe in "
        f"{escape(str(tracker.folder))}\n  [cyan]python -m hpo sync{escape(overrides)}[/] delivers them"
    )


def _top_table(result: Result) -> Table:
    objective = result.study.definition.objective
    n_folds = result.study.evaluator.n_folds
    top = result.front if objective.others else result.top[:N_TOP]
    title = f"Pareto front: {len(top)} trials" if objective.others else f"Best {len(top)} trials"
    table = Table(title=title, title_justify="left", header_style="bold", box=None, padding=(0, 1))
    spread = ["± std"] if n_folds > 1 else []
    for heading in ("trial", objective.metric, *spread, *objective.others, "best epoch", "epochs", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("params", overflow="fold")
    for trial in top:
        best_epoch = f"{statistics.median(trial.best_epochs):g}" if trial.best_epochs else "-"
        shown = [str(trial.number), f"{trial.value:.5f}"]
        shown += [f"{trial.std:.5f}" if trial.std is not None else "-"] if n_folds > 1 else []
        shown += [f"{value:.5g}" for value in (trial.values or ())[1:]]
        shown += [best_epoch, str(trial.epochs_run), show_seconds(trial.seconds)]
        table.add_row(*shown, show_params(trial.params))
    return table


def _print_next_steps(console: Console, result: Result, uri: str, overrides: str) -> None:
    steps = [("browse every trial", f"python -m hpo ui{overrides}")]
    if result.end in (StopCause.INTERRUPTED, StopCause.FAILURES):
        steps.insert(0, ("go on", f"python -m hpo resume {result.study.name}{overrides}"))
        n_done = sum(trial.state.is_finished for trial in result.trials)
        if result.best is not None:
            finish = f"python -m hpo resume {result.study.name} limits.n_trials={n_done}{overrides}"
            steps.insert(1, ("or test and log the best model of those that are done", finish))
    if result.best is not None:
        steps.append(("the best params, to train again", f"python -m hpo best {result.study.name}{overrides}"))
    if result.model_uri:
        store = redact(absolute(uri))
        load = f'import mlflow; mlflow.set_tracking_uri("{store}"); '
        load += f'model = mlflow.pyfunc.load_model("{result.model_uri}"); model.predict(model.input_example)'
        serve = f"mlflow models serve -m {result.model_uri} --env-manager local --port 5001"
        steps += [("the best model, in Python", load), ("and as a server", f"MLFLOW_TRACKING_URI={store} {serve}")]
    console.print()
    for need, command in steps:
        console.print(f"{need}:", highlight=False)
        console.print(f"  [cyan]{escape(command)}[/]", highlight=False, soft_wrap=True)


def print_studies(
    console: Console, studies: Sequence[StudyRecord], held: Collection[str], waiting: Sequence[str]
) -> None:
    """A table of studies, newest first.

    Args:
        held: names of the studies that a driver of this machine is running.
        waiting: names of the studies with records that MLflow does not have.
    """
    table = Table(header_style="bold", box=None, padding=(0, 1))
    for heading in ("study", "strategy", "model", "dataset", "state"):
        table.add_column(heading, overflow="fold")
    for heading in ("trials", "best", "test", "started"):
        table.add_column(heading, justify="right")
    for study in studies:
        best = study.metrics.get(Metric.BEST_OBJECTIVE)
        metric = study.tags.get(Tag.OBJECTIVE, "").rpartition(" ")[2].removeprefix("val_")
        test = study.metrics.get(metric_on_test(metric))
        table.add_row(
            study.name,
            *(study.tags.get(group_tag(key), "") for key in ("strategy", "model", "dataset")),
            "stopped" if study.name not in held and _is_left_running(study) else study.state,
            str(int(sum(study.metrics.get(key, 0) for key in (Metric.N_COMPLETE, Metric.N_PRUNED, Metric.N_FAILED)))),
            "" if best is None else f"{best:.5f}",
            "" if test is None else f"{test:.5f}",
            datetime.datetime.fromtimestamp(study.started).strftime("%Y-%m-%d %H:%M"),
        )
    console.print(table)
    if waiting:
        console.print(f"{', '.join(waiting)}: records wait on disk; python -m hpo sync delivers them")


def _is_left_running(study: StudyRecord) -> bool:
    """Whether its driver, on this machine, did not live to say that it ended."""
    driver = json.loads(study.tags.get(Tag.DRIVER, "{}"))
    return study.state == "running" and driver.get("host") == socket.gethostname()


def print_best(console: Console, study: StudyRecord, trial: TrialRecord, command: str) -> None:
    """The best trial of a study and the command that trains it again."""
    metric = study.tags.get(Tag.OBJECTIVE, "objective").rpartition(" ")[2]
    console.print(f"[bold]{study.name}[/]: trial {trial.number}, {metric} {trial.value:.5f}", highlight=False)
    tests = read_metrics_on_test(study.metrics)
    if tests:
        scores = ", ".join(f"{name} {value:.5f}" for name, value in tests.items())
        console.print(f"test: {scores}", highlight=False)
    for name, value in trial.params.items():
        console.print(f"  {name} = {value}", highlight=False)
    console.print(
        "\nthis trains just these params again; raise limits.n_trials to search on from them:", highlight=False
    )
    # Never wrapped, so that it can be copied whole.
    print(command)
    if uri := study.tags.get(Tag.BEST_MODEL_URI):
        console.print(f'\nthe model: mlflow.pyfunc.load_model("{uri}")', highlight=False, soft_wrap=True)
