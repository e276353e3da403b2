"""Tables of trials, folds and epochs, as Parquet and CSV files."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpo.core.objective import Objective
from hpo.core.trial import FoldResult, Trial


def mean_curves(folds: Sequence[FoldResult]) -> list[dict[str, float]]:
    """Mean over folds of each metric, epoch by epoch, up to the end of the shortest fold."""
    histories = [fold.history for fold in folds if fold.history]
    names = [name for name in histories[0] if all(name in h for h in histories)] if histories else []
    shortest = min((len(h[name]) for h in histories for name in names), default=0)
    return [
        {name: sum(h[name][epoch] for h in histories) / len(histories) for name in names} for epoch in range(shortest)
    ]


def write_history(folds: Sequence[FoldResult], path: Path) -> Path:
    """Write every epoch of every fold as a Parquet table with columns ``fold``, ``epoch`` and one for each metric."""
    import pyarrow  # slow to import, and needed with several folds only
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
    partial = path.with_name(f"partial-{path.name}")  # MLflow may be reading the old file
    pyarrow.parquet.write_table(table, partial)
    partial.replace(path)
    return path


def trial_rows(trials: Sequence[Trial], objective: Objective, fits: Mapping[int, str]) -> list[dict[str, Any]]:
    """Build one row for each trial, by number.

    Args:
        fits: how well each trial generalises, by number; see :mod:`hpo.reporting.generalization`.

    Returns:
        Rows with the state, scores, epochs, seconds and params of a trial; ``ended_order`` counts from 0 in the order
        in which trials ended.
    """
    ended = sorted((t for t in trials if t.state.is_finished), key=lambda t: (t.ended_seconds or 0.0, t.number))
    order = {trial.number: place for place, trial in enumerate(ended)}
    rows = []
    for trial in sorted(trials, key=lambda trial: trial.number):
        others = dict(zip(objective.others, (trial.values or ())[1:], strict=False))
        gaps = trial.gaps(objective)
        row: dict[str, Any] = {
            "trial": trial.number,
            "state": trial.state.value,
            "stop_reason": str(trial.stop_reason or ""),
            "objective": trial.value,
            "mean_score": trial.mean_score,
            **{f"objective_{name}": value for name, value in others.items()},
            "std": trial.std,
            "standard_error": trial.standard_error,
            "train_score": trial.train_score(objective),
            "generalisation_gap": statistics.fmean(gaps) if gaps else None,
            "fit": fits.get(trial.number),
            "n_folds": len(trial.folds),
            "epochs_run": trial.epochs_run,
            "best_epoch": statistics.median(trial.best_epochs) if trial.best_epochs else None,
            "epochs_saved": trial.epochs_saved,
            "seconds": trial.seconds,
            "ended_seconds": trial.ended_seconds,
            "ended_order": order.get(trial.number),
            "error": trial.error,
            "params": json.dumps(dict(trial.params), sort_keys=True),
        }
        rows.append(row | {f"param_{name}": value for name, value in trial.params.items()})
    return rows


def fold_rows(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Build one row for each fold of each trial: its scores and its early-stopping outcome."""
    return [
        {
            "trial": trial.number,
            "fold": fold.fold,
            "seed": fold.seed,
            "score": fold.score,
            **{f"train_{name}": value for name, value in fold.train.items()},
            **{name: getattr(fold.outcome, name) for name in fold.outcome.__dataclass_fields__},
            "stop_reason": fold.outcome.stop_reason.value,
            "epochs_saved": fold.outcome.epochs_saved,
            "n_weights": fold.n_weights,
            **{f"{phase}_seconds": value for phase, value in fold.seconds.items()},
        }
        for trial in trials
        for fold in trial.folds
    ]


def epoch_rows(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Build one row for each epoch of each fold, with every metric that the model reports."""
    return [
        {"trial": trial.number, "fold": fold.fold, "epoch": epoch, **{name: curve[epoch] for name, curve in curves}}
        for trial in trials
        for fold in trial.folds
        for curves in [list(fold.history.items())]
        for epoch in range(max((len(curve) for _, curve in curves), default=0))
    ]


def write_table(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Write rows as a Parquet file; a column with values of several types becomes text."""
    import pyarrow  # slow to import
    import pyarrow.parquet

    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    table = pyarrow.table({name: pyarrow.array(_of_one_type(values)) for name, values in columns.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"partial-{path.name}")
    pyarrow.parquet.write_table(table, partial)
    partial.replace(path)
    return path


def _of_one_type(values: list[Any]) -> list[Any]:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and len(kinds) == 2:
        return [None if value is None else float(value) for value in values]
    return [None if value is None else str(value) for value in values] if len(kinds) > 1 else values


def trials_csv(trials: tuple[Trial, ...]) -> str:
    """Format trials as CSV: number, state, stop reason, objectives, fold scores, epochs, seconds, params, error."""
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
