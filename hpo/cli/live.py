"""Shows a running study: a live panel on a terminal, one line per trial elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hpo.cli.definition import print_definition, unit_of
from hpo.cli.formatting import show_params, show_seconds
from hpo.core.limits import Limits
from hpo.core.params import Params
from hpo.core.states import State
from hpo.core.trial import Trial
from hpo.study.study import Study

_STYLES = {State.COMPLETE: "green", State.PRUNED: "yellow", State.FAIL: "red", State.WAITING: "magenta"}


class TerminalView:
    """Shows a running study: a live panel on a terminal, one line per trial elsewhere.

    Args:
        is_brief: show only failed trials, for a study that is one of many.
    """

    def __init__(self, console: Console, uri: str, is_brief: bool = False) -> None:
        self._console, self._uri, self._is_brief = console, uri, is_brief
        self._live: Live | None = None
        self._study: Study | None = None
        self._began = time.monotonic()
        self._running: dict[int, tuple[Params, int, int, Mapping[str, float]]] = {}
        self._n_by_state: Counter[State] = Counter()
        self._best: Trial | None = None
        self._doing: str | None = None

    def study_started(self, study: Study) -> None:
        """Print the definition of the study and start the panel."""
        self._study, self._began = study, time.monotonic()
        if not self._is_brief:
            print_definition(self._console, study, self._uri)
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._panel, console=self._console, refresh_per_second=4)
            self._live.start()

    def study_resumed(self, finished: Sequence[Trial], n_unfinished: int, best: Trial | None) -> None:
        """Print what the record of a resumed study holds."""
        self._n_by_state, self._best = Counter(trial.state for trial in finished), best
        again = f", {n_unfinished} will run again" if n_unfinished else ""
        found = f"; the best so far is trial {best.number} with {best.value:.5f}" if best else ""
        self._console.print(
            f"[bold cyan]resumed:[/] {len(finished)} trials of the record are done{again}{found}", highlight=False
        )

    def note(self, text: str) -> None:
        """Print a note; the study continues."""
        self._console.print(f"[bold yellow]note:[/] {escape(text)}", highlight=False)

    def trial_started(self, number: int, params: Params) -> None:
        """Show a trial that has started."""
        self._running[number] = (params, 0, 0, {})

    def epoch_ended(self, number: int, fold: int, epoch: int, logs: Mapping[str, float]) -> None:
        """Show the last epoch of a running trial."""
        params, *_ = self._running.pop(number)  # moves it to the end: the latest trials are shown
        self._running[number] = (params, fold, epoch + 1, dict(logs))

    def trial_ended(self, trial: Trial, best: Trial | None) -> None:
        """Print one line for a trial that has ended."""
        self._running.pop(trial.number, None)
        self._n_by_state[trial.state] += 1
        self._best = best
        if self._is_brief and trial.state is not State.FAIL:
            return
        state = {State.WAITING: "interrupted", State.FAIL: "failed"}.get(trial.state, trial.state.value.lower())
        value = f"{trial.value:.5f}" if trial.value is not None else "-"
        if trial.value is not None and trial.std is not None:
            value += f" ± {trial.std:.5f}"
        star = " [bold green]best[/]" if best is trial else ""
        line = f"trial {trial.number:>3}  [{_STYLES[trial.state]}]{state:<11}[/] {value:>9}"
        unit = self._unit(trial.epochs_run).ljust(len(self._unit(2)))
        line += f"  {trial.epochs_run:>2} {unit}  {show_seconds(trial.seconds):>11}"
        detail = f"[dim]{escape(trial.error or show_params(trial.params))}[/]{star}"
        if self._live is None:
            self._console.print(f"{line}  {detail}", highlight=False, soft_wrap=True)
            return
        row = Table.grid(padding=(0, 2))
        row.add_column(no_wrap=True)
        row.add_row(line, detail)
        self._console.print(row, highlight=False)

    def stopping(self, reason: str) -> None:
        """Print why the study is stopping."""
        self._doing = reason
        self._console.print(f"[bold yellow]stopping:[/] {reason}")

    def search_ended(self, doing: str) -> None:
        """Show what the study is ``doing`` after its search."""
        self._doing = doing
        if not self._console.is_terminal and not self._is_brief:
            self._console.print(f"{doing} …")

    def close(self) -> None:
        """Remove the live panel."""
        if self._live is not None:
            live, self._live = self._live, None
            live.transient = True
            live.stop()

    def _unit(self, count: int) -> str:
        assert self._study is not None
        return unit_of(self._study, count)

    def _panel(self) -> RenderableType:
        study = self._study
        assert study is not None
        limits = study.definition.limits
        states = self._n_by_state
        done = sum(n for state, n in states.items() if state.is_finished)
        elapsed = time.monotonic() - self._began
        share, left = self._progress(limits, done, elapsed)
        counts = Text.from_markup(
            f"[bold]{done}[/] trials   [green]{states[State.COMPLETE]} complete[/]   "
            f"[yellow]{states[State.PRUNED]} pruned[/]   [red]{states[State.FAIL]} failed[/]   "
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
        training = list(self._running.items())[-study.n_at_once :]
        for number, (params, fold, epochs, logs) in training:
            metrics = "  ".join(f"{name} {value:.4f}" for name, value in logs.items()) or "first epoch …"
            where = f"fold {fold + 1}, " if study.evaluator.n_folds > 1 else ""
            of = "" if study.is_defined_by_run else f"/{study.definition.max_epochs}"
            progress = f"{where}epoch {epochs}{of}"
            rows.append(Text.from_markup(f"[bold cyan]trial {number}[/]  {progress}  {metrics}"))
            rows.append(Text(f"         {show_params(params)}", style="dim"))
        if waiting := len(self._running) - len(training):
            rows.append(Text(f"{waiting} trials wait for a decision about a larger budget", style="dim"))
        if self._doing:
            rows.append(Text(f"{self._doing} …", style="bold yellow"))
        return Panel(Group(*rows), title=study.name, title_align="left", border_style="cyan")

    def _progress(self, limits: Limits, done: int, elapsed: float) -> tuple[float, str]:
        """Return the finished fraction of the study and the remaining time, by the limit that will be reached first."""
        ends = []
        if limits.timeout_seconds is not None:
            ends.append((elapsed / limits.timeout_seconds, limits.timeout_seconds - elapsed))
        if limits.n_trials is not None and done:
            ends.append((done / limits.n_trials, elapsed / done * (limits.n_trials - done)))
        if not ends:
            return 0.0, ""
        share, left = max(ends)
        return share, f"about {show_seconds(max(0.0, left))} left"
