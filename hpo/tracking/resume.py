"""A study that was stopped, rebuilt from its record: from MLflow or, while that does not answer, from its outbox.

Nothing that is read is ever instantiated or unpickled.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow

from hpo.core.states import State
from hpo.core.trial import FoldResult, RecordedTrial, Trial
from hpo.errors import TrackingError
from hpo.tracking.outbox import STUDY, read_outbox
from hpo.tracking.reader import StudyRecord, download, fold_summaries, load_history, load_text, trial_runs
from hpo.tracking.schema import Artifact, Metric, Tag, parse_fold_tag

Curves = Mapping[str, tuple[float, ...]]
_History = Mapping[int, Mapping[str, list[float]]]
HISTORY = Artifact.HISTORY


@dataclass(frozen=True)
class RecordedStudy:
    """What a study that goes on starts from.

    Args:
        tags: of its run.
        metrics: of its run, the last value of each.
        texts: reads a text artifact by name, such as ``fingerprint.json``.
        trials: by number.
    """

    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    texts: Callable[[str], str]
    trials: tuple[RecordedTrial, ...]


@dataclass
class _Run:
    """The record of a trial, wherever it was read."""

    tags: dict[str, str]
    metrics: dict[str, float]
    curve: Callable[[str], Sequence[float]]
    table: Callable[[str], _History]


class LazyCurves(Mapping[str, tuple[float, ...]]):
    """The curves of a fold, read when somebody looks at them."""

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


def load_from_mlflow(
    client: mlflow.MlflowClient, study: StudyRecord, metrics: Sequence[str], n_folds: int
) -> RecordedStudy:
    """Read a study back.

    Args:
        metrics: names of what the model reports after an epoch.
        n_folds: folds of every trial.
    """

    def of(run: Any) -> _Run:
        run_id = run.info.run_id

        def table(name: str) -> _History:
            with tempfile.TemporaryDirectory(prefix="hpo-") as cache:
                return _read_history(download(client, run_id, name, Path(cache)))

        return _Run(run.data.tags, run.data.metrics, lambda name: load_history(client, run_id, name), table)

    runs = [of(run) for run in trial_runs(client, study.experiment_id, study.run_id)]
    texts = functools.partial(load_text, client, study)
    return RecordedStudy(study.tags, study.metrics, texts, _trials(runs, metrics, n_folds))


def load_from_outbox(folder: Path, metrics: Sequence[str], n_folds: int) -> RecordedStudy | None:
    """Read a study back from the outbox in its folder; None where that does not hold its beginning."""
    runs: dict[str, _Said] = {}
    for record in read_outbox(folder / "outbox.jsonl"):
        runs.setdefault(record.key, _Said()).hear(record.kind, record.body)
        if "study" in record.body:
            runs.setdefault(STUDY, _Said()).hear("batch", record.body["study"])
    if STUDY not in runs or not runs[STUDY].tags:
        return None
    study = runs.pop(STUDY)

    def of(said: _Said) -> _Run:
        def table(name: str) -> _History:
            paths = [folder / path for path in said.files if Path(path).name == name]
            return _read_history(paths[-1] if paths else None)

        def curve(name: str) -> list[float]:
            points = said.points.get(name, {})
            return [points[step] for step in sorted(points)]

        return _Run(said.tags, said.metrics, curve, table)

    trials = _trials([of(said) for said in runs.values()], metrics, n_folds)
    return RecordedStudy(study.tags, study.metrics, study.texts.__getitem__, trials)


@dataclass
class _Said:
    """Everything that an outbox says of a run, as MLflow would hold it."""

    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    points: dict[str, dict[int, float]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    def hear(self, kind: str, body: Mapping[str, Any]) -> None:
        if kind in ("start", "batch", "end"):
            # What only MLflow knows, such as the address of a model, is at least known to be there.
            self.tags |= {name: str(value) for name, value in body.get("tags", {}).items()}
        if kind == "start":
            self.tags[Tag.RUN_NAME] = body["name"]
            self.texts |= body.get("texts", {})
        for name, value, _, step in body.get("metrics", ()):
            self.points.setdefault(name, {})[step] = value
            self.metrics[name] = value
        if kind == "text":
            self.texts[body["name"]] = body["text"]
        if kind == "file":
            self.files.append(body["path"])


def _trials(runs: Sequence[_Run], metrics: Sequence[str], n_folds: int) -> tuple[RecordedTrial, ...]:
    last: dict[int, _Run] = {}
    for run in sorted(runs, key=lambda run: int(run.tags.get(Tag.ATTEMPT, 0))):
        last[int(run.tags[Tag.TRIAL])] = run
    return tuple(_trial(last[number], metrics, n_folds) for number in sorted(last))


def _trial(run: _Run, metrics: Sequence[str], n_folds: int) -> RecordedTrial:
    state = State(run.tags[Tag.STATE])
    summaries = fold_summaries(run.tags)
    rungs = [json.loads(text) for name, text in run.tags.items() if (parse_fold_tag(name) or (0, None))[1] is not None]
    curves = _curves_of(run, metrics, n_folds)
    folds = tuple(FoldResult.of(summary, curves(summary)) for summary in summaries)
    if not state.is_finished:
        # Only what ended by itself is taken over, and only with its curves.
        ended = [result for result in folds if result.outcome.stop_reason.state is State.COMPLETE]
        folds = tuple(result for result in ended if _has_curves(result))
    earlier = [FoldResult.of(summary, curves(summary)) for summary in rungs]
    results = {
        (result.fold, result.budget or 0): result for result in earlier if state.is_finished or _has_curves(result)
    }
    results |= {(result.fold, result.budget or 0): result for result in folds}
    params = json.loads(run.tags[Tag.PARAMS])
    seconds = run.metrics.get(Metric.TOTAL_SECONDS, 0.0)
    ended_seconds = run.metrics.get(Metric.ENDED_SECONDS)
    trial = Trial(int(run.tags[Tag.TRIAL]), params, folds, seconds, not state.is_finished, ended_seconds)
    try:
        domains = json.loads(run.tags.get(Tag.DOMAINS, "{}"))
    except ValueError as error:  # MLflow cuts long tags, the outbox does not
        expected = "all that the trials asked for, which MLflow keeps up to 8,000 characters of"
        fix = "go on where the study's folder with its outbox is"
        raise TrackingError("study", run.tags.get(Tag.TRIAL, ""), expected, fix) from error
    return RecordedTrial(trial, results, int(run.tags.get(Tag.ATTEMPT, 0)), domains)


def _has_curves(result: FoldResult) -> bool:
    return all(len(result.history[name]) == result.outcome.epochs_run for name in result.history)


def _curves_of(run: _Run, metrics: Sequence[str], n_folds: int) -> Callable[[Mapping[str, Any]], Curves]:
    """What reads the curves of a fold: metrics of the run or, with several folds, its table."""

    @functools.cache
    def table() -> _History:
        return run.table(HISTORY)

    def curves(summary: Mapping[str, Any]) -> Curves:
        fold, n_epochs = summary["fold"], summary["outcome"]["epochs_run"]
        if n_folds == 1:
            return LazyCurves([name for name in metrics if name in run.metrics], n_epochs, run.curve)
        return LazyCurves(metrics, n_epochs, lambda name: table().get(fold, {}).get(name, []))

    return curves


def _read_history(path: Path | None) -> _History:
    """Fold → metric → values; empty where there is no such file."""
    if path is None or not path.exists():
        return {}
    import pyarrow.parquet  # slow to import, and only needed with folds

    columns = pyarrow.parquet.read_table(path).to_pydict()
    found: dict[int, dict[str, list[float]]] = {}
    for row, fold in enumerate(columns["fold"]):
        for name, values in columns.items():
            if name not in ("fold", "epoch"):
                found.setdefault(fold, {}).setdefault(name, []).append(values[row])
    return found
