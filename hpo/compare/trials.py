"""``python -m hpo trials``: the trials of a study, how each training ended, and what stopping early saved and cost."""

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

from hpo.compare.comparison import early_stopping_of
from hpo.compare.figures import COLORS
from hpo.compare.load import read
from hpo.compare.pages import render
from hpo.compare.stopping import Ledger, ledger
from hpo.compare.studies import ComparedStudy
from hpo.core.early_stopping import EarlyStopping
from hpo.errors import ConfigError
from hpo.tracking.reader import StudyRecord
from hpo.tracking.schema import Tag

N_AGAIN = 3
N_CURVES = 12
_STYLES = {"COMPLETE": "green", "PRUNED": "yellow", "FAIL": "red", "WAITING": "magenta", "RUNNING": "magenta"}
_COLUMNS = """\
train: the same score on as many training rows, of the kept weights without dropout or augmentation
gap: how much better that is; fit: what score, gap and curve say together
best: the epoch that was kept, counted from 0 as in Keras"""
Command = Callable[..., str]
"""See :func:`hpo.cli.commands.best_command`."""


def show(console: Console, client: Any, record: StudyRecord, folder: Path, command: Command) -> None:
    """Print the ledger of a study, and write its learning curves to ``trials.html`` in its folder.

    Raises:
        ConfigError: when no trial has come to an end.
    """
    with tempfile.TemporaryDirectory(prefix="hpo-") as cache:
        study = read(client, record, Path(cache))
        if study is None or not len(study.trials) or not len(study.folds):
            expected = f"a study with trials that have ended; this one is {record.state}"
            raise ConfigError("study", record.name, expected, "python -m hpo list")
        stopping = early_stopping_of(study)
        console.print(f"[bold]{escape(record.name)}[/]: {record.tags[Tag.OBJECTIVE]}\n", highlight=False)
        console.print(_trials_table(study), highlight=False)
        console.print(_COLUMNS, style="dim", highlight=False)
        if _has_budget(study):
            found = ledger(study.trials, study.folds, study.epochs, stopping, study.objective)
            _print_ledger(console, found, stopping)
            _offer_longer(console, study, command, stopping.patience)
        else:
            console.print("\nit trains without a number of epochs that is planned, so that stopping early saves none")
        folder.mkdir(parents=True, exist_ok=True)
        page = write_curves(study, folder / "trials.html")
        console.print("\nlearning curves of the best, the over-fitted and the under-fitted trials:", highlight=False)
        console.print(f"  [cyan]{escape(str(page))}[/]", highlight=False, soft_wrap=True)


def _has_budget(study: ComparedStudy) -> bool:
    """Whether there are epochs to save: not where a model is trained in one go, or an objective trains as it likes."""
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


def _print_ledger(console: Console, found: Ledger, stopping: EarlyStopping) -> None:
    patience = stopping.patience
    watched = f"early stopping watches {stopping.monitor}"
    watched += ", and stops nothing" if patience is None else f" with a patience of {patience}"
    reasons = ", ".join(f"{count} × {reason}" for reason, count in found.stop_reasons.items())
    console.print(
        f"\n{watched}\n{found.epochs_run:,} epochs run of {found.epochs_allowed:,} that were allowed; "
        f"{found.epochs_saved:,} ({found.share_saved:.0%}) saved by stopping early or pruning\n"
        f"folds ended by: {reasons}",
        highlight=False,
    )
    if not found.shorter:
        return
    table = Table(title="With a shorter patience", title_justify="left", header_style="bold", box=None)
    for heading in ("patience", "more epochs saved", "trials that would keep another epoch", "winner"):
        table.add_column(heading, justify="right")
    for each in found.shorter:
        winner = "unknown: folds are scored once" if each.winner is None else f"trial {each.winner}"
        winner += "" if each.winner_score is None else f" with {each.winner_score:.4f}"
        table.add_row(str(each.patience), f"{each.epochs_saved:,}", str(each.n_changed), winner)
    console.print()
    console.print(table, highlight=False)


def _offer_longer(console: Console, study: ComparedStudy, command: Command, patience: int | None) -> None:
    """What a longer patience would have done is not in the curves: it takes a training without stopping."""
    stopped = study.folds.loc[study.folds["stop_reason"] == "early_stopped", "trial"]
    complete = study.trials[study.trials["objective"].notna() & study.trials["trial"].isin(stopped)]
    if patience is None or not len(complete):
        return
    best = complete.nlargest if study.objective.direction == "maximize" else complete.nsmallest
    params: Sequence[Mapping[str, Any]] = [json.loads(str(text)) for text in best(N_AGAIN, "objective")["params"]]
    overrides = json.loads(study.record.tags[Tag.OVERRIDES])
    console.print("\na longer patience is not in these curves; this trains the best again without stopping:")
    print(command(overrides, *params, options=["early_stopping.patience=null"]))


def write_curves(study: ComparedStudy, path: Path) -> Path:
    """Training and validation curves of the trials that are worth a look, on one page that needs no network."""
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
        setting=f"{monitor} by epoch: solid on watched rows, dotted on training rows; a dot marks the epoch kept",
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
