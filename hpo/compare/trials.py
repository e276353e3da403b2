"""``python -m hpo trials``: the trials of a study, why each training ended, and what early stopping saved and cost."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hpo.compare.early_stopping import EarlyStoppingSummary, early_stopping_of, summarize_study
from hpo.compare.figures import COLORS
from hpo.compare.load import read
from hpo.compare.pages import render
from hpo.compare.studies import ComparedStudy
from hpo.core.early_stopping import EarlyStopping
from hpo.errors import ConfigError
from hpo.tracking.reader import StudyRecord
from hpo.tracking.schema import Tag

N_RETRAINED = 3
N_CURVES = 12
_STYLES = {"COMPLETE": "green", "PRUNED": "yellow", "FAIL": "red", "WAITING": "magenta", "RUNNING": "magenta"}
_COLUMNS = """\
train: score on as many training rows, with the kept weights, without dropout or augmentation
gap: how much better the training score is; fit: verdict from score, gap and learning curve
best: epoch of the kept weights, from 0 as in Keras"""
Command = Callable[..., str]
"""Returns a command line that trains given params; see :func:`hpo.cli.command_lines.best_command`."""


def show(console: Console, client: Any, record: StudyRecord, folder: Path, command: Command) -> None:
    """Print the trials of a study, and write their learning curves to ``trials.html``.

    Args:
        folder: of the study.
        command: returns the command line that trains given params again.

    Raises:
        ConfigError: if no trial has ended.
    """
    with tempfile.TemporaryDirectory(prefix="hpo-") as cache:
        study = read(client, record, Path(cache))
        if study is None or not len(study.trials) or not len(study.folds):
            expected = f"a study with at least one trial that has ended; this one is {record.state}"
            raise ConfigError("study", record.name, expected, "python -m hpo list")
        stopping = early_stopping_of(study)
        console.print(f"[bold]{escape(record.name)}[/]: {record.tags[Tag.OBJECTIVE]}\n", highlight=False)
        console.print(_trials_table(study), highlight=False)
        console.print(_COLUMNS, style="dim", highlight=False)
        if _has_budget(study):
            _print_early_stopping(console, summarize_study(study), stopping)
            _offer_longer_patience(console, study, command, stopping.patience)
        else:
            console.print("\nthe model does not train for a planned number of epochs, so early stopping saves none")
        folder.mkdir(parents=True, exist_ok=True)
        page = write_curves(study, folder / "trials.html")
        console.print("\nlearning curves of the best, overfitted and underfitted trials:", highlight=False)
        console.print(f"  [cyan]{escape(str(page))}[/]", highlight=False, soft_wrap=True)


def _has_budget(study: ComparedStudy) -> bool:
    """Whether epochs can be saved: not if a model trains in one step, or an objective has its own training loop."""
    return study.record.tags.get(Tag.RESAMPLING) != "own" and int(study.folds["max_epochs"].max()) > 1


def _trials_table(study: ComparedStudy) -> Table:
    allowed = study.folds.groupby("trial")["max_epochs"].sum()
    has_budget = _has_budget(study)
    table = Table(header_style="bold", box=None, padding=(0, 1))
    for heading in ("trial", "state", "stopped by", study.objective.metric, "train", "gap", "epochs", "best", "saved"):
        table.add_column(heading, justify="left" if heading in ("state", "stopped by") else "right", no_wrap=True)
    table.add_column("fit")
    for row in study.trials.to_dict("records"):
        most = int(allowed.get(row["trial"], 0))
        table.add_row(
            str(row["trial"]),
            f"[{_STYLES.get(row['state'], 'white')}]{row['state'].lower()}[/]",
            row["stop_reason"],
            _number(row["mean_score"]),
            _number(row["train_score"]),
            _number(row["generalisation_gap"], "+.4f"),
            f"{row['epochs_run']}/{most}" if has_budget else str(row["epochs_run"]),
            _number(row["best_epoch"], "g"),
            str(row["epochs_saved"]) if has_budget else "-",
            row["fit"] if isinstance(row["fit"], str) else "",
        )
    return table


def _number(value: Any, form: str = ".4f") -> str:
    return "-" if value is None or pd.isna(value) else format(value, form)


def _print_early_stopping(console: Console, found: EarlyStoppingSummary, stopping: EarlyStopping) -> None:
    patience = stopping.patience
    monitored = f"early stopping monitors {stopping.monitor}"
    monitored += " and never stops (patience=null)" if patience is None else f" with patience={patience}"
    reasons = ", ".join(f"{count} × {reason}" for reason, count in found.stop_reasons.items())
    console.print(
        f"\n{monitored}\n{found.epochs_run:,} of {found.epochs_allowed:,} allowed epochs run; "
        f"{found.epochs_saved:,} ({found.share_saved:.0%}) saved by early stopping or pruning\n"
        f"stop reasons of folds: {reasons}",
        highlight=False,
    )
    if not found.shorter:
        return
    table = Table(title="With a shorter patience", title_justify="left", header_style="bold", box=None)
    for heading in ("patience", "more epochs saved", "trials with another best epoch", "winner"):
        table.add_column(heading, justify="right")
    for each in found.shorter:
        winner = "unknown (folds are scored once)" if each.winner is None else f"trial {each.winner}"
        winner += "" if each.winner_score is None else f" with {each.winner_score:.4f}"
        table.add_row(str(each.patience), f"{each.epochs_saved:,}", str(each.n_changed), winner)
    console.print()
    console.print(table, highlight=False)


def _offer_longer_patience(console: Console, study: ComparedStudy, command: Command, patience: int | None) -> None:
    """Print the command that trains the best trials without early stopping, which shows a longer patience."""
    stopped = study.folds.loc[study.folds["stop_reason"] == "early_stopped", "trial"]
    complete = study.trials[study.trials["objective"].notna() & study.trials["trial"].isin(stopped)]
    if patience is None or not len(complete):
        return
    best = complete.nlargest if study.objective.direction == "maximize" else complete.nsmallest
    params: Sequence[Mapping[str, Any]] = [json.loads(str(text)) for text in best(N_RETRAINED, "objective")["params"]]
    overrides = json.loads(study.record.tags[Tag.OVERRIDES])
    console.print("\nto see the effect of a longer patience, train the best trials again without early stopping:")
    print(command(overrides, *params, options=["early_stopping.patience=null"]))


def write_curves(study: ComparedStudy, path: Path) -> Path:
    """Write training and validation curves of the best, overfitted and underfitted trials to one HTML file."""
    trials = study.trials[study.trials["objective"].notna()]
    ranked = trials.sort_values("objective", ascending=study.objective.direction != "maximize")
    notable = ranked[ranked["fit"].isin(["over-fitted", "under-fitted"])].head(N_CURVES // 2)
    chosen = pd.concat([ranked.head(N_CURVES - len(notable)), notable]).drop_duplicates("trial")
    monitor = str(study.folds["monitor"].iloc[0])
    drawn = {}
    for row in chosen.to_dict("records") if monitor in study.epochs else ():
        title = f"Trial {row['trial']}: {study.objective.metric} {row['objective']:.4f}"
        fit = row["fit"] if isinstance(row["fit"], str) else "undetermined"
        drawn[f"trial-{row['trial']}"] = (f"{title} ({fit})", _curves(study, int(row["trial"]), monitor))
    return render(
        path,
        drawn,
        title=f"Learning curves of {study.name}",
        setting=f"{monitor} by epoch: solid on validation rows, dotted on training rows; a dot marks the kept epoch",
    )


def _curves(study: ComparedStudy, trial: int, monitor: str) -> go.Figure:
    figure, epochs = go.Figure(), study.epochs[study.epochs["trial"] == trial]
    kept = study.folds[study.folds["trial"] == trial].set_index("fold")["best_epoch"]
    for fold, curve in epochs.groupby("fold"):
        color = COLORS[int(str(fold)) % len(COLORS)]
        for name, dash in ((monitor, "solid"), (monitor.removeprefix("val_"), "dot")):
            if name in curve:
                figure.add_scatter(
                    x=curve["epoch"], y=curve[name], mode="lines", name=f"fold {fold} {name}",
                    line={"color": color, "dash": dash}, showlegend=False,
                )  # fmt: skip
        best = kept.get(fold)
        if best is not None and not pd.isna(best):
            at = curve[curve["epoch"] == int(best)]
            figure.add_scatter(
                x=at["epoch"], y=at[monitor], mode="markers", marker={"color": color, "size": 9}, showlegend=False
            )
    figure.update_layout(template="plotly_white", height=280, margin={"l": 10, "r": 10, "t": 10, "b": 10})
    figure.update_xaxes(title_text="epoch", automargin=True)
    figure.update_yaxes(title_text=monitor, automargin=True)
    return figure
