"""What people see in the terminal: a live view of a running study, and tables. Plain lines where it is no terminal."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hpo.errors import redact
from hpo.runner import End, Result
from hpo.study import Study
from hpo.tracking import StudyRecord, TrialRecord, absolute
from hpo.trial import Limits, Params, ParamValue, State, Trial

N_TOP = 5
_STYLES = {State.COMPLETE: "green", State.PRUNED: "yellow", State.FAIL: "red", State.WAITING: "magenta"}
_ENDINGS = {
    End.N_TRIALS: "all trials are done",
    End.TIMEOUT: "the time limit was reached",
    End.MAX_EPOCHS: "the limit on epochs was reached",
    End.FAILURES: "too many trials failed in a row",
    End.EXHAUSTED: "the search space is exhausted",
    End.INTERRUPTED: "interrupted",
    End.ERROR: "an error ended it",
}


def show_value(value: ParamValue) -> str:
    """A param as people write it: floats in four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def show_params(params: Params) -> str:
    """Params on one line."""
    return " ".join(f"{name}={show_value(value)}" for name, value in params.items())


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


class TerminalView:
    """Watches a study: a live panel on a terminal, a line a trial elsewhere."""

    def __init__(self, console: Console, uri: str) -> None:
        self._console, self._uri = console, uri
        self._live: Live | None = None
        self._study: Study | None = None
        self._began = time.monotonic()
        self._running: dict[int, tuple[Params, int, int, Mapping[str, float]]] = {}
        self._trials: list[Trial] = []
        self._best: Trial | None = None
        self._doing: str | None = None

    def study_started(self, study: Study) -> None:
        """Say what will happen and where it is recorded, then watch."""
        self._study, self._began = study, time.monotonic()
        rows, definition = study.evaluator.n_samples, study.definition
        counts = f"{rows['train']:,} train, {rows['validation']:,} validation, {rows['test']:,} test"
        table = Table.grid(padding=(0, 2))
        table.add_row("[bold]study", study.name)
        table.add_row("[bold]model", f"{study.names.model} on {study.dataset.name} ({counts})")
        table.add_row("[bold]search", f"{study.names.strategy} over {len(definition.space)} parameters")
        table.add_row("[bold]objective", f"{definition.objective.direction} {definition.objective.metric}")
        threads = study.executor.threads_per_trial
        table.add_row("[bold]limit", f"{show_limits(definition.limits)}, whichever comes first")
        table.add_row("[bold]trial", f"at most {definition.max_epochs} epochs, {threads} thread{'s' * (threads > 1)}")
        table.add_row("[bold]record", f"{redact(self._uri)}")
        self._console.print(table)
        if study.dataset_note:
            self._console.print(f"[bold yellow]warning:[/] {escape(study.dataset_note)}")
        if outside := study.defaults_outside:
            said = f"the model's own {', '.join(outside)} outside the search space: no trial starts from its defaults"
            self._console.print(f"[bold yellow]warning:[/] {escape(said)}")
        self._console.print()
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._panel, console=self._console, refresh_per_second=4)
            self._live.start()

    def trial_started(self, number: int, params: Params) -> None:
        """A trial begins."""
        self._running[number] = (params, 0, 0, {})

    def epoch_ended(self, number: int, fold: int, epoch: int, logs: Mapping[str, float]) -> None:
        """An epoch of a running trial is done."""
        params, *_ = self._running[number]
        self._running[number] = (params, fold, epoch + 1, dict(logs))

    def trial_ended(self, trial: Trial, best: Trial | None) -> None:
        """A trial is done: one line stays on the screen."""
        self._running.pop(trial.number, None)
        self._trials.append(trial)
        self._best = best
        state = {State.WAITING: "interrupted", State.FAIL: "failed"}.get(trial.state, trial.state.value.lower())
        value = f"{trial.value:.5f}" if trial.value is not None else "-"
        star = " [bold green]best[/]" if best is trial else ""
        line = f"trial {trial.number:>3}  [{_STYLES[trial.state]}]{state:<11}[/] {value:>9}"
        line += f"  {trial.epochs_run:>2} epochs  {show_seconds(trial.seconds):>11}"
        detail = f"[dim]{escape(trial.error or show_params(trial.params))}[/]{star}"
        if self._live is None:
            self._console.print(f"{line}  {detail}", highlight=False, soft_wrap=True)
            return
        row = Table.grid(padding=(0, 2))
        row.add_column(no_wrap=True)
        row.add_row(line, detail)
        self._console.print(row, highlight=False)

    def stopping(self, reason: str) -> None:
        """The user asked to stop."""
        self._doing = reason
        self._console.print(f"[bold yellow]stopping:[/] {reason}")

    def search_ended(self, doing: str) -> None:
        """The search is over; what remains is ``doing``."""
        self._doing = doing
        if not self._console.is_terminal:
            self._console.print(f"{doing} …")

    def close(self) -> None:
        """Take the live panel away."""
        if self._live is not None:
            live, self._live = self._live, None
            live.transient = True
            live.stop()

    def _panel(self) -> RenderableType:
        study = self._study
        assert study is not None
        limits = study.definition.limits
        states = [trial.state for trial in self._trials]
        done = sum(state.is_finished for state in states)
        elapsed = time.monotonic() - self._began
        share, left = self._progress(limits, done, elapsed)
        counts = Text.from_markup(
            f"[bold]{done}[/] trials   [green]{states.count(State.COMPLETE)} complete[/]   "
            f"[yellow]{states.count(State.PRUNED)} pruned[/]   [red]{states.count(State.FAIL)} failed[/]   "
            f"elapsed {show_seconds(elapsed)}   {left}"
        )
        bar = Table.grid()
        bar.add_row(ProgressBar(total=1.0, completed=min(1.0, share), width=60))
        rows: list[RenderableType] = [counts, bar]
        if self._best is not None:
            rows.append(
                Text.from_markup(
                    f"[bold green]best {self._best.value:.5f}[/] (trial {self._best.number})  "
                    f"{escape(show_params(self._best.params))}"
                )
            )
        for number, (params, fold, epochs, logs) in sorted(self._running.items()):
            metrics = "  ".join(f"{name} {value:.4f}" for name, value in logs.items()) or "first epoch …"
            where = f"fold {fold + 1}, " if study.evaluator.n_folds > 1 else ""
            progress = f"{where}epoch {epochs}/{study.definition.max_epochs}"
            rows.append(Text.from_markup(f"[bold cyan]trial {number}[/]  {progress}  {metrics}"))
            rows.append(Text(f"         {show_params(params)}", style="dim"))
        if self._doing:
            rows.append(Text(f"{self._doing} …", style="bold yellow"))
        return Panel(Group(*rows), title=study.name, title_align="left", border_style="cyan")

    def _progress(self, limits: Limits, done: int, elapsed: float) -> tuple[float, str]:
        """Share of the study that is done, and what is left in words, by the limit that will end it."""
        ends = []
        if limits.timeout_seconds is not None:
            ends.append((elapsed / limits.timeout_seconds, limits.timeout_seconds - elapsed))
        if limits.n_trials is not None and done:
            ends.append((done / limits.n_trials, elapsed / done * (limits.n_trials - done)))
        if not ends:
            return 0.0, ""
        share, left = max(ends)
        return share, f"about {show_seconds(max(0.0, left))} left"


def print_result(console: Console, result: Result, uri: str, tracking_overrides: str) -> None:
    """The end of a study: why it ended, the best trials, the winner's scores, and what to do next."""
    study, best = result.study, result.best
    states = [trial.state for trial in result.trials]
    failed = states.count(State.FAIL)
    console.print()
    done = f"{states.count(State.COMPLETE)} complete, {states.count(State.PRUNED)} pruned"
    console.print(
        f"[bold]{_ENDINGS[result.end]}[/]: {done}, {failed} failed in {show_seconds(result.seconds)}; "
        f"{sum(t.epochs_run for t in result.trials)} epochs trained, "
        f"{sum(t.epochs_saved for t in result.trials)} saved by stopping early",
        highlight=False,
    )
    if study.dataset_note:
        console.print(f"[bold yellow]warning:[/] {escape(study.dataset_note)}")
    if failed:
        for reason in dict.fromkeys(trial.error for trial in result.trials if trial.state is State.FAIL):
            count = sum(trial.error == reason for trial in result.trials if trial.state is State.FAIL)
            console.print(f"  [red]{count} × {escape(str(reason))}[/]", highlight=False)
    if best is None:
        if result.end is End.INTERRUPTED:
            console.print("it was stopped before a trial was complete")
        else:
            console.print("[bold red]no trial was completed[/]: see the errors above, or raise limits.timeout_seconds")
        _print_next_steps(console, result, uri, tracking_overrides)
        return
    console.print(_top_table(result))
    metric = study.definition.objective.metric
    line = f"[bold green]best: trial {best.number}[/]  {metric} [bold]{best.value:.5f}[/]"
    if result.test:
        scores = ", ".join(f"{name} {value:.5f}" for name, value in result.test.metrics.items())
        line += f"   test ({result.test.n_samples:,} {study.dataset.name} samples, scored once): [bold]{scores}[/]"
    else:
        line += "   (not tested: only a finished study scores its winner on the test split)"
    console.print(line, highlight=False)
    for problem in result.problems:
        console.print(f"[bold yellow]warning:[/] {escape(problem)}", highlight=False)
    _print_next_steps(console, result, uri, tracking_overrides)


def _top_table(result: Result) -> Table:
    top = result.top[:N_TOP]
    table = Table(title=f"Best {len(top)} trials", title_justify="left", header_style="bold", box=None, padding=(0, 1))
    for heading in ("trial", result.study.definition.objective.metric, "best epoch", "epochs", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("params", overflow="fold")
    for trial in top:
        outcome = trial.folds[0].outcome
        shown = [str(trial.number), f"{trial.value:.5f}", str(outcome.best_epoch), str(outcome.epochs_run)]
        table.add_row(*shown, show_seconds(trial.seconds), show_params(trial.params))
    return table


def _print_next_steps(console: Console, result: Result, uri: str, overrides: str) -> None:
    steps = [("browse every trial", f"python -m hpo ui{overrides}")]
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


def print_studies(console: Console, studies: Sequence[StudyRecord]) -> None:
    """A table of studies, newest first."""
    table = Table(header_style="bold", box=None, padding=(0, 1))
    for heading in ("study", "strategy", "model", "dataset", "state"):
        table.add_column(heading, overflow="fold")
    for heading in ("trials", "best", "test", "started"):
        table.add_column(heading, justify="right")
    for study in studies:
        best = study.metrics.get("best_objective")
        metric = study.tags.get("hpo.objective", "").rpartition(" ")[2].removeprefix("val_")
        test = study.metrics.get(f"test_{metric}")
        table.add_row(
            study.name,
            *(study.tags.get(f"hpo.{key}", "") for key in ("strategy", "model", "dataset")),
            study.state,
            str(int(sum(study.metrics.get(key, 0) for key in ("n_complete", "n_pruned", "n_failed")))),
            "" if best is None else f"{best:.5f}",
            "" if test is None else f"{test:.5f}",
            datetime.datetime.fromtimestamp(study.started).strftime("%Y-%m-%d %H:%M"),
        )
    console.print(table)


def print_best(console: Console, study: StudyRecord, trial: TrialRecord, command: str) -> None:
    """The best trial of a study and the command that trains it again."""
    metric = study.tags.get("hpo.objective", "objective").rpartition(" ")[2]
    console.print(f"[bold]{study.name}[/]: trial {trial.number}, {metric} {trial.value:.5f}", highlight=False)
    tests = {name: value for name, value in study.metrics.items() if name.startswith("test_")}
    if tests:
        scores = ", ".join(f"{name.removeprefix('test_')} {value:.5f}" for name, value in tests.items())
        console.print(f"test: {scores}", highlight=False)
    for name, value in trial.params.items():
        console.print(f"  {name} = {value}", highlight=False)
    console.print(
        "\nthis trains just these params again; raise limits.n_trials to search on from them:", highlight=False
    )
    # Never wrapped, so that it can be copied whole.
    print(command)
    if uri := study.tags.get("hpo.best_model_uri"):
        console.print(f'\nthe model: mlflow.pyfunc.load_model("{uri}")', highlight=False, soft_wrap=True)
