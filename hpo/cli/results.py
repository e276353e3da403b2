"""Prints the end of a study: why it ended, its best trials, scores, problems and next steps."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hpo.cli.definition import unit_of
from hpo.cli.formatting import show_params, show_seconds
from hpo.core.states import State
from hpo.core.trial import Trial
from hpo.errors import redact
from hpo.run.result import Result, StopCause
from hpo.tracking.outbox import REFUSED_FILE
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
    StopCause.ERROR: "stopped by an error",
}


def print_result(console: Console, result: Result, uri: str, tracking_overrides: str) -> None:
    """Print the end of a study: why it ended, its best trials, the scores of the winner, and the next commands."""
    study, best = result.study, result.best
    states = [trial.state for trial in result.trials]
    failed = states.count(State.FAIL)
    console.print()
    n_saved = sum(trial.epochs_saved for trial in result.trials)
    n_epochs = sum(trial.epochs_run for trial in result.trials)
    saved = f", {n_saved} saved by stopping early or pruning" if n_saved else ""
    done = f"{states.count(State.COMPLETE)} complete, {states.count(State.PRUNED)} pruned"
    console.print(
        f"[bold]{_ENDINGS[result.end]}[/]: {done}, {failed} failed in {show_seconds(result.seconds)}; "
        f"{n_epochs} {unit_of(study, n_epochs)} trained{saved}",
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
            console.print("it was stopped before any trial was complete")
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
        line += "   (no test score and no logged model: an objective returns neither test data nor a model)"
    else:
        line += "   (not tested: only a finished study scores its winner on the test split)"
    console.print(line, highlight=False)
    for problem in result.problems:
        console.print(f"[bold yellow]warning:[/] {escape(problem)}", highlight=False)
    _print_next_steps(console, result, uri, tracking_overrides)


def print_brief(console: Console, result: Result) -> None:
    """Print the end of a study in one line, for a study that is one of many."""
    study, best = result.study, result.best
    n_complete = sum(trial.state is State.COMPLETE for trial in result.trials)
    text = f"{study.name}: {_ENDINGS[result.end]}, {n_complete} of {len(result.trials)} trials complete"
    if best is not None:
        text += f", {study.definition.objective.metric} {best.value:.5f}"
    if result.test:
        metric = study.definition.objective.metric.removeprefix("val_")
        text += f", test {metric} {result.test.metrics.get(metric, math.nan):.5f}"
    console.print(f"{escape(text)}, {show_seconds(result.seconds)}", highlight=False)
    for problem in result.problems:
        console.print(f"[bold yellow]warning:[/] {escape(problem)}", highlight=False)


def _failures(trials: Sequence[Trial]) -> dict[str, list[str]]:
    """Return the messages of failed trials by kind of failure, the most frequent first."""
    kinds: dict[str, list[str]] = {}
    for trial in trials:
        if trial.state is State.FAIL:
            message = trial.error or str(trial.stop_reason)
            error = re.match(r"(\w*(?:Error|Exception|Exhausted|Interrupt|Warning)\w*):", message)
            kind = error.group(1) if error else re.sub(r" (?:after|in) epoch \d+$|=.*$|\d[\d,.]{5,}", "", message)
            kinds.setdefault(kind, []).append(message)
    return dict(sorted(kinds.items(), key=lambda item: -len(item[1])))


def failures_text(trials: Sequence[Trial]) -> str:
    """Summarise failed trials: ``7 failed: 5 × ResourceExhaustedError, 2 × loss is not finite``."""
    kinds = _failures(trials)
    counts = ", ".join(f"{len(examples)} × {kind}" for kind, examples in kinds.items())
    return f"{sum(map(len, kinds.values()))} failed: {counts}"


def refused_text(tracker: Tracker) -> str:
    """Return a warning about records that MLflow refused."""
    where = escape(str(tracker.folder / REFUSED_FILE))
    return f"[bold yellow]warning:[/] MLflow refused {tracker.n_refused} records; they are in {where}, with the reasons"


def undelivered_text(tracker: Tracker, overrides: str) -> str:
    """Return a warning about records that are not delivered yet, with the command that delivers them."""
    why = escape(tracker.trouble or "not in time")
    return (
        f"[bold yellow]warning:[/] MLflow does not answer ({why}); the records are safe in "
        f"{escape(str(tracker.folder))}\n  [cyan]python -m hpo sync{escape(overrides)}[/] delivers them"
    )


def _top_table(result: Result) -> Table:
    study = result.study
    objective, n_folds = study.definition.objective, study.evaluator.n_folds
    has_epochs = unit_of(study) != "fits"
    top = result.front if objective.others else result.top[:N_TOP]
    title = f"Pareto front: {len(top)} trials" if objective.others else f"Best {len(top)} trials"
    table = Table(title=title, title_justify="left", header_style="bold", box=None, padding=(0, 1))
    spread = ["± std"] if n_folds > 1 else []
    epochs = ["best epoch", unit_of(study)] if has_epochs else [unit_of(study)]
    for heading in ("trial", objective.metric, *spread, *objective.others, *epochs, "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("params", overflow="fold")
    for trial in top:
        best_epoch = f"{statistics.median(trial.best_epochs):g}" if trial.best_epochs else "-"
        shown = [str(trial.number), f"{trial.value:.5f}"]
        shown += [f"{trial.std:.5f}" if trial.std is not None else "-"] if n_folds > 1 else []
        shown += [f"{value:.5g}" for value in (trial.values or ())[1:]]
        shown += [best_epoch] if has_epochs else []
        shown += [str(trial.epochs_run), show_seconds(trial.seconds)]
        table.add_row(*shown, show_params(trial.params))
    return table


def _print_next_steps(console: Console, result: Result, uri: str, overrides: str) -> None:
    steps = [("browse every trial", f"python -m hpo ui{overrides}")]
    if result.end in (StopCause.INTERRUPTED, StopCause.FAILURES):
        steps.insert(0, ("continue", f"python -m hpo resume {result.study.name}{overrides}"))
        n_done = sum(trial.state.is_finished for trial in result.trials)
        if result.best is not None:
            finish = f"python -m hpo resume {result.study.name} limits.n_trials={n_done}{overrides}"
            steps.insert(1, ("or test and log the best model of the finished trials", finish))
    if result.best is not None:
        steps.append(("train the best params again", f"python -m hpo best {result.study.name}{overrides}"))
    if result.model_uri:
        store = redact(absolute(uri))
        load = f'import mlflow; mlflow.set_tracking_uri("{store}"); '
        load += f'model = mlflow.pyfunc.load_model("{result.model_uri}"); model.predict(model.input_example)'
        serve = f"mlflow models serve -m {result.model_uri} --env-manager local --port 5001"
        steps += [
            ("load the best model in Python", load),
            ("serve the best model", f"MLFLOW_TRACKING_URI={store} {serve}"),
        ]
    console.print()
    for need, command in steps:
        console.print(f"{need}:", highlight=False)
        console.print(f"  [cyan]{escape(command)}[/]", highlight=False, soft_wrap=True)
