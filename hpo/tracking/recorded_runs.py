"""Trials rebuilt from the tags, metrics and curves that their runs recorded."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo.core.states import State
from hpo.core.trial import FoldResult, RecordedTrial, Trial
from hpo.errors import TrackingError
from hpo.tracking.reader import read_fold_summaries
from hpo.tracking.schema import Artifact, Metric, Tag, parse_fold_tag

Curves = Mapping[str, tuple[float, ...]]
History = Mapping[int, Mapping[str, list[float]]]
"""Fold → metric → one value for each epoch."""


@dataclass(frozen=True)
class RecordedRun:
    """The record of one attempt at a trial, from MLflow or an outbox.

    Args:
        metrics: the last value of each.
        curve: reads all values of a metric, by step.
        history: reads a Parquet file among the artifacts, with the curves of every fold.
    """

    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    curve: Callable[[str], Sequence[float]]
    history: Callable[[str], History]


class LazyCurves(Mapping[str, tuple[float, ...]]):
    """The curves of a fold; each is read when it is used first."""

    def __init__(self, names: Sequence[str], n_epochs: int, read: Callable[[str], Sequence[float]]) -> None:
        self._names, self._n_epochs, self._read = tuple(names), n_epochs, functools.cache(read)

    def __getitem__(self, name: str) -> tuple[float, ...]:
        if name not in self._names:
            raise KeyError(name)
        return tuple(self._read(name)[: self._n_epochs])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def rebuild_trials(runs: Sequence[RecordedRun], metrics: Sequence[str], n_folds: int) -> tuple[RecordedTrial, ...]:
    """Rebuild the trials of a study in order of their numbers, each from its newest attempt.

    Args:
        metrics: names of the metrics that the model reports for each epoch.
        n_folds: number of folds of each trial.

    Raises:
        TrackingError: if MLflow has cut off a tag that is needed.
    """
    newest: dict[int, RecordedRun] = {}
    for run in sorted(runs, key=lambda run: int(run.tags.get(Tag.ATTEMPT, 0))):
        newest[int(run.tags[Tag.TRIAL])] = run
    return tuple(_rebuild_trial(newest[number], metrics, n_folds) for number in sorted(newest))


def read_history(path: Path | None) -> History:
    """Read a Parquet file with the curves of every fold; None or a missing file has no curves."""
    if path is None or not path.exists():
        return {}
    import pyarrow.parquet  # slow to import, and only needed with several folds

    columns = pyarrow.parquet.read_table(path).to_pydict()
    found: dict[int, dict[str, list[float]]] = {}
    for row, fold in enumerate(columns["fold"]):
        for name, values in columns.items():
            if name not in ("fold", "epoch"):
                found.setdefault(fold, {}).setdefault(name, []).append(values[row])
    return found


def _rebuild_trial(run: RecordedRun, metrics: Sequence[str], n_folds: int) -> RecordedTrial:
    is_finished = State(run.tags[Tag.STATE]).is_finished
    curves = _curves_reader(run, metrics, n_folds)
    folds = tuple(FoldResult.of(summary, curves(summary)) for summary in read_fold_summaries(run.tags))
    rungs = [FoldResult.of(summary, curves(summary)) for summary in _smaller_budgets(run.tags)]
    if not is_finished:
        # Only folds that trained to their end and have all curves are reused; the others are trained again.
        folds = tuple(f for f in folds if f.outcome.stop_reason.state is State.COMPLETE and _has_curves(f))
        rungs = [rung for rung in rungs if _has_curves(rung)]
    trial = Trial(
        number=int(run.tags[Tag.TRIAL]),
        params=json.loads(run.tags[Tag.PARAMS]),
        folds=folds,
        seconds=run.metrics.get(Metric.TOTAL_SECONDS, 0.0),
        interrupted=not is_finished,
        ended_seconds=run.metrics.get(Metric.ENDED_SECONDS),
    )
    results = {(result.fold, result.budget or 0): result for result in [*rungs, *folds]}
    return RecordedTrial(trial, results, int(run.tags.get(Tag.ATTEMPT, 0)), _domains(run))


def _smaller_budgets(tags: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """Outcomes of folds at budgets below the largest one."""
    parsed = ((parse_fold_tag(name), text) for name, text in tags.items())
    return [json.loads(text) for fold, text in parsed if fold is not None and fold[1] is not None]


def _has_curves(result: FoldResult) -> bool:
    return all(len(result.history[name]) == result.outcome.epochs_run for name in result.history)


def _domains(run: RecordedRun) -> dict[str, Any]:
    try:
        domains: dict[str, Any] = json.loads(run.tags.get(Tag.DOMAINS, "{}"))
    except ValueError as error:  # MLflow cuts long tags; the outbox does not
        expected = "parameters of at most 8,000 characters in all, the length of an MLflow tag"
        fix = "resume it on the machine that has the study's folder with its outbox"
        raise TrackingError("study", f"trial {run.tags[Tag.TRIAL]}", expected, fix) from error
    return domains


def _curves_reader(run: RecordedRun, metrics: Sequence[str], n_folds: int) -> Callable[[Mapping[str, Any]], Curves]:
    """Return a function that takes a fold's summary and reads its curves.

    With one fold they are metrics of the run, with several they are in a file.
    """

    @functools.cache
    def history() -> History:
        return run.history(Artifact.HISTORY)

    def read(summary: Mapping[str, Any]) -> Curves:
        fold, n_epochs = summary["fold"], summary["outcome"]["epochs_run"]
        if n_folds == 1:
            return LazyCurves([name for name in metrics if name in run.metrics], n_epochs, run.curve)
        return LazyCurves(metrics, n_epochs, lambda name: history().get(fold, {}).get(name, []))

    return read
