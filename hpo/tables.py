"""What of the trials is written to files: tables for people and spreadsheets, curves for programs."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence
from pathlib import Path

from hpo.trial import FoldResult, Trial


def mean_curves(folds: Sequence[FoldResult]) -> list[dict[str, float]]:
    """Metric → mean over folds, epoch by epoch; they end where the shortest fold does."""
    histories = [fold.history for fold in folds if fold.history]
    names = [name for name in histories[0] if all(name in h for h in histories)] if histories else []
    shortest = min((len(h[name]) for h in histories for name in names), default=0)
    return [
        {name: sum(h[name][epoch] for h in histories) / len(histories) for name in names} for epoch in range(shortest)
    ]


def write_history(folds: Sequence[FoldResult], path: Path) -> Path:
    """Every epoch of every fold as a Parquet table: ``fold``, ``epoch`` and a column a metric."""
    import pyarrow  # slow to import, and only needed with folds
    import pyarrow.parquet

    rows = [
        {"fold": fold.fold, "epoch": epoch, **{name: values[epoch] for name, values in fold.history.items()}}
        for fold in folds
        for epoch in range(max(map(len, fold.history.values()), default=0))
    ]
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["fold", "epoch"]
    kinds = {name: pyarrow.int32() if name in ("fold", "epoch") else pyarrow.float64() for name in names}
    table = pyarrow.table({name: pyarrow.array([row.get(name) for row in rows], kinds[name]) for name in names})
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path)
    return path


def trials_csv(trials: tuple[Trial, ...]) -> str:
    """A table of trials: number, state, stop reason, objectives, fold scores, outcome, seconds and params."""
    names = sorted({name for trial in trials for name in trial.params})
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    others = list(dict.fromkeys(name for trial in trials for fold in trial.folds for name in fold.others))
    n_folds = max((len(trial.folds) for trial in trials), default=1)
    columns = ["trial", "state", "stop_reason", "objective", *(f"objective_{name}" for name in others)]
    columns += ["std", *(f"score_fold_{fold}" for fold in range(n_folds))] if n_folds > 1 else []
    columns += ["epochs_run", "best_epoch", "epochs_saved", "seconds"]
    table.writerow([*columns, *(f"params.{name}" for name in names), "error"])
    for trial in trials:
        values = list(trial.values[1:]) if trial.values else [None] * len(others)
        row = [trial.number, trial.state, trial.stop_reason, trial.value, *values]
        if n_folds > 1:
            scores = {fold.fold: fold.score for fold in trial.folds}
            row += [trial.std, *(scores.get(fold) for fold in range(n_folds))]
        best_epoch = statistics.median(trial.best_epochs) if trial.best_epochs else None
        row += [trial.epochs_run, best_epoch, trial.epochs_saved, round(trial.seconds, 3)]
        table.writerow([*row, *(trial.params.get(name) for name in names), trial.error])
    return text.getvalue()
