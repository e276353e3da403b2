"""Prints lists: strategies, studies, and the best trial of a study."""

from __future__ import annotations

import datetime
import json
import socket
from collections.abc import Collection, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hpo.strategies.base import StrategyTags
from hpo.tracking.reader import StudyRecord, TrialRecord
from hpo.tracking.schema import Metric, Tag, group_tag, metric_on_test, read_metrics_on_test

StrategyRow = tuple[str, StrategyTags | None, str]
_ABILITIES = {
    "conditional": "conditions",
    "pruning": "prunes",
    "rungs": "rungs",
    "parallel": "parallel",
    "deterministic": "reproducible",
    "several_objectives": "multi-objective",
}


def _abilities(tags: StrategyTags) -> list[str]:
    return ["yes" if getattr(tags, name) else "" for name in _ABILITIES]


def print_strategies(console: Console, rows: Sequence[StrategyRow]) -> None:
    """Print the search strategies, each with its library and abilities."""
    table = Table(header_style="bold", box=None, padding=(0, 1))
    for heading in ("strategy", "backend"):
        table.add_column(heading, no_wrap=True)
    table.add_column("abilities", overflow="fold", ratio=1)
    table.add_column("when to use it", overflow="fold", ratio=2)
    for name, tags, description in rows:
        can = [label for key, label in _ABILITIES.items() if tags is not None and getattr(tags, key)]
        table.add_row(f"[bold]{name}[/]", tags.backend if tags else "", ", ".join(can), escape(description))
    console.print(table, highlight=False)


def strategies_markdown(rows: Sequence[StrategyRow]) -> str:
    """Return the search strategies as a Markdown table."""
    headings = ["strategy", "backend", *_ABILITIES.values(), "when to use it"]
    lines = [headings, ["---"] * len(headings)]
    for name, tags, description in rows:
        backend, abilities = (f"`{tags.backend}`", _abilities(tags)) if tags else ("", [""] * len(_ABILITIES))
        lines.append([f"`{name}`", backend, *abilities, description])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def print_studies(
    console: Console, studies: Sequence[StudyRecord], held: Collection[str], waiting: Sequence[str]
) -> None:
    """Print a table of studies, newest first.

    Args:
        held: names of the studies that a process of this machine is running.
        waiting: names of the studies with undelivered records.
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
    """Return whether the state says running although the study ran on this machine."""
    driver = json.loads(study.tags.get(Tag.DRIVER, "{}"))
    return study.state == "running" and driver.get("host") == socket.gethostname()


def print_best(console: Console, study: StudyRecord, trial: TrialRecord, command: str) -> None:
    """Print the best trial of a study and the command that trains it again."""
    metric = study.tags.get(Tag.OBJECTIVE, "objective").rpartition(" ")[2]
    console.print(f"[bold]{study.name}[/]: trial {trial.number}, {metric} {trial.value:.5f}", highlight=False)
    tests = read_metrics_on_test(study.metrics)
    if tests:
        scores = ", ".join(f"{name} {value:.5f}" for name, value in tests.items())
        console.print(f"test: {scores}", highlight=False)
    for name, value in trial.params.items():
        console.print(f"  {name} = {value}", highlight=False)
    console.print(
        "\nto train these params again (or, with a higher limits.n_trials, to search further from them):",
        highlight=False,
    )
    # Never wrapped, so that it can be copied.
    print(command)
    if uri := study.tags.get(Tag.BEST_MODEL_URI):
        console.print(f'\nthe model: mlflow.pyfunc.load_model("{uri}")', highlight=False, soft_wrap=True)
