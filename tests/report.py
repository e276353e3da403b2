"""Recomputes every number of a comparison's report from MLflow's runs, independently of the report's code."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run
from scipy import stats

from hpo.core.states import State

SAVING = ("early_stopped", "pruned")
AXES = ("trials", "epochs", "seconds")
Scores = dict[str, dict[int, float]]
"""Level → seed → score."""


class _Page(HTMLParser):
    """Cells of each table, by the table's id, and the verdict."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.verdict = ""
        self._rows: list[list[str]] = []
        self._in: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self._rows = self.tables.setdefault(str(dict(attrs)["id"]), [])
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
            self._in = "cell"
        elif dict(attrs).get("id") == "verdict":
            self._in = "verdict"

    def handle_endtag(self, tag: str) -> None:
        self._in = None

    def handle_data(self, data: str) -> None:
        if self._in == "cell":
            self._rows[-1][-1] += data
        elif self._in == "verdict":
            self.verdict += data


def read_page(path: Path) -> _Page:
    """Read the body of a report."""
    page = _Page()
    page.feed(path.read_text(encoding="utf-8").partition("<body>")[2])
    return page


def all_runs(client: mlflow.MlflowClient, experiment: str) -> list[Run]:
    """Every run of an experiment."""
    runs, token = [], None
    while True:
        found = client.search_runs([experiment], max_results=1000, page_token=token)
        runs += found
        token = found.token
        if not token:
            return runs


def check_report(
    client: mlflow.MlflowClient, experiment: str, folder: Path, by: str, min_effect: float, alpha: float = 0.05
) -> None:
    """Check the report in ``folder`` against the runs of its studies.

    Args:
        by: tag of the factor, such as ``hpo.strategy``.
    """
    page, runs = read_page(folder / "report.html"), all_runs(client, experiment)
    of_page = {row[3] for row in page.tables["studies"][1:]}
    studies = {run.info.run_id: run for run in runs if run.info.run_id in of_page}
    assert len(studies) == len(page.tables["studies"]) - 1 >= 4
    trials: dict[str, list[Run]] = {run_id: [] for run_id in studies}
    for run in sorted(runs, key=lambda run: (run.info.end_time, int(run.data.tags.get("hpo.trial", 0)))):
        tags = run.data.tags
        if tags.get("mlflow.parentRunId") in trials and "hpo.superseded" not in tags:
            trials[tags["mlflow.parentRunId"]].append(run)

    placed: dict[str, dict[int, str]] = {}
    for run_id, run in sorted(studies.items(), key=lambda item: int(item[1].data.tags["hpo.seed"])):
        placed.setdefault(run.data.tags[by], {})[int(run.data.tags["hpo.seed"])] = run_id
    direction, metric = next(iter(studies.values())).data.tags["hpo.objective"].split(" ", 1)
    sign, test_metric = {"maximize": 1, "minimize": -1}[direction], f"test_{metric.removeprefix('val_')}"
    test: Scores = {
        level: {seed: studies[run_id].data.metrics[test_metric] for seed, run_id in found.items()}
        for level, found in placed.items()
    }
    best: Scores = {
        level: {seed: sign * max(sign * v for v in _objectives(trials[run_id])) for seed, run_id in found.items()}
        for level, found in placed.items()
    }
    target = sign * min(sign * float(np.median(list(found.values()))) for found in best.values())

    headings, *rows = page.tables["levels"]
    assert headings[5] == f"trials to {target:.4g}"
    assert sorted(row[0] for row in rows) == sorted(test)
    means = [sign * np.mean(list(test[row[0]].values())) for row in rows]
    assert means == sorted(means, reverse=True)
    for level, *cells in rows:
        found = [trials[run_id] for run_id in placed[level].values()]
        search_seconds = [studies[run_id].data.metrics["search_seconds"] for run_id in placed[level].values()]
        assert cells == _level(test[level], best[level], found, search_seconds, target, sign)

    headings, *rows = page.tables["efficiency"]
    assert headings[3] == f"to {target:.4g}"
    paths = {
        (level, axis): [_path(trials[run_id], axis, sign) for run_id in found.values()]
        for level, found in placed.items()
        for axis in AXES
    }
    assert sorted(tuple(row[:2]) for row in rows) == sorted(paths)
    for level, axis, *cells in rows:
        everyone = [path for (_, other), found in paths.items() if other == axis for path in found]
        begin, end = max(path[0][0] for path in everyone), min(path[-1][0] for path in everyone)
        means = [_mean_between(path, begin, end) for path in paths[level, axis]]
        assert cells[0] == f"{np.mean(means):.4f}"
        assert cells[1] == _when([_first(path, target, sign) for path in paths[level, axis]])

    headings, *rows = page.tables["pairs"]
    assert headings[2] == f"{100 * (1 - alpha):.4g}% interval"
    pairs = [tuple(row[0].split(" − ")) for row in rows]
    assert {frozenset(pair) for pair in pairs} == {frozenset((a, b)) for a in test for b in test if a != b}
    values = [np.array([sign * (test[a][seed] - test[b][seed]) for seed in test[a]]) for a, b in pairs]
    p_values = [*(_p_different(v) for v in values), *(_p_equal(v, min_effect) for v in values)]
    different, equal = np.split(np.array(_adjusted(p_values, len(pairs))), 2)
    for (_, *cells), found, p, q in zip(rows, values, different, equal, strict=True):
        assert cells[:3] == _pair(found, alpha)
        assert cells[3:] == [f"{p:.3g}", f"{q:.3g}", cells[-1]]
        settled = "equivalent" if q <= alpha else ("better" if found.mean() > 0 else "worse") if p <= alpha else None
        assert cells[-1] == settled if settled else cells[-1].startswith("unresolved: needs about ")
    assert page.verdict.lower().startswith(page.tables["levels"][1][0].lower())
    _check_tables(folder, studies, trials)


def _level(
    test: dict[int, float],
    best: dict[int, float],
    trials: list[list[Run]],
    search_seconds: list[float],
    target: float,
    sign: int,
) -> list[str]:
    scores, found = np.array(list(test.values())), np.array(list(best.values()))
    outcomes = [outcome for each in trials for trial in each for outcome in _outcomes(trial)]
    saved = sum(o["max_epochs"] - o["epochs_run"] for o in outcomes if o["stop_reason"] in SAVING)
    epochs = [sum(run.data.metrics["epochs_run"] for run in each) for each in trials]
    return [
        f"{scores.mean():.4f}",
        f"{scores.std(ddof=1):.4f}",
        f"{found.mean():.4f}",
        f"{(sign * (found - scores)).mean():+.4f}",
        _when([_first(_path(each, "trials", sign), target, sign) for each in trials]),
        f"{np.mean([len(each) for each in trials]):g}",
        f"{np.mean(epochs):.0f}",
        f"{np.mean(search_seconds):.0f}",
        f"{saved / sum(o['max_epochs'] for o in outcomes):.0%}",
        str(sum(run.data.tags["hpo.state"] == State.FAIL for each in trials for run in each)),
    ]


def _objectives(runs: list[Run]) -> list[float]:
    return [run.data.metrics["objective"] for run in runs if run.data.tags["hpo.state"] == State.COMPLETE]


def _outcomes(run: Run) -> list[dict[str, Any]]:
    """Early-stopping outcome of each fold, at its largest budget."""
    folds = {key: text for key, text in run.data.tags.items() if key.startswith("hpo.fold_") and "_at_" not in key}
    return [json.loads(text)["outcome"] for text in folds.values()]


def _path(runs: list[Run], axis: str, sign: int) -> list[tuple[float, float]]:
    """Position and best value at the end of each trial, from the first value on."""
    found, spent, best = [], 0.0, -math.inf
    for number, run in enumerate(runs, 1):
        spent += run.data.metrics["epochs_run"]
        if run.data.tags["hpo.state"] == State.COMPLETE:
            best = max(best, sign * run.data.metrics["objective"])
        places = {"trials": number, "epochs": spent, "seconds": run.data.metrics["ended_seconds"]}
        found.append((places[axis], sign * best))
    return [(at, value) for at, value in found if math.isfinite(value)]


def _mean_between(path: list[tuple[float, float]], begin: float, end: float) -> float:
    """Mean height of the steps between two positions."""
    if end <= begin:
        return [value for at, value in path if at <= begin][-1]
    total = 0.0
    for (at, value), (until, _) in zip(path, [*path[1:], (math.inf, 0.0)], strict=True):
        total += value * max(0.0, min(end, until) - max(begin, at))
    return total / (end - begin)


def _first(path: list[tuple[float, float]], target: float, sign: int) -> float | None:
    return next((at for at, value in path if sign * value >= sign * target), None)


def _when(places: list[float | None]) -> str:
    reached = [place for place in places if place is not None]
    shown = f"{np.median(reached):.4g}" if reached else "-"
    return shown + (f" ({len(reached)} of {len(places)})" if len(reached) < len(places) else "")


def _p_different(values: Any) -> float:
    if np.ptp(values) < 1e-12:
        return 1.0 if abs(values[0]) < 1e-12 else 0.5 ** (len(values) - 1)
    return float(stats.ttest_rel(values, np.zeros(len(values))).pvalue)


def _p_equal(values: Any, margin: float) -> float:
    if np.ptp(values) < 1e-12:
        return 0.5 ** len(values) if abs(values[0]) < margin else 1.0
    error = values.std(ddof=1) / math.sqrt(len(values))
    sides = [(values.mean() + margin) / error, (margin - values.mean()) / error]
    return float(max(stats.t.sf(side, len(values) - 1) for side in sides))


def _adjusted(p_values: list[float], n_pairs: int) -> list[float]:
    """Shaffer's step-down adjustment: at most one true hypothesis per pair."""
    ranked = sorted(p_values)
    steps = np.maximum.accumulate([min(1.0, min(n_pairs, len(ranked) - i) * p) for i, p in enumerate(ranked)])
    return [float(max(steps[i] for i, other in enumerate(ranked) if other == p)) for p in p_values]


def _pair(values: Any, alpha: float) -> list[str]:
    mean, sd, n = values.mean(), values.std(ddof=1), len(values)
    if np.ptp(values) < 1e-12:
        return [f"{mean:+.4f}", "all differences are equal", "-"]
    half = stats.t.ppf(1 - alpha / 2, n - 1) * sd / math.sqrt(n)
    correction = 1 - 3 / (4 * (n - 1) - 1)  # approximation of Hedges' correction
    effect = "-" if n == 2 else f"{mean / sd * correction:+.2f}"
    return [f"{mean:+.4f}", f"{mean - half:+.4f} to {mean + half:+.4f}", effect]


def _check_tables(folder: Path, studies: dict[str, Run], trials: dict[str, list[Run]]) -> None:
    """Check the exported tables against the runs."""
    table = pd.read_parquet(folder / "trials.parquet").set_index(["study", "trial"])
    assert len(table) == sum(map(len, trials.values())) == len(pd.read_csv(folder / "trials.csv"))
    folds = pd.read_parquet(folder / "folds.parquet").set_index(["study", "trial", "fold"])
    for run_id, found in trials.items():
        name = studies[run_id].info.run_name
        for run in found:
            number = int(run.data.tags["hpo.trial"])
            row = table.loc[(name, number)]
            assert row["state"] == run.data.tags["hpo.state"]
            assert json.loads(row["params"]) == json.loads(run.data.tags["hpo.params"])
            assert row["epochs_run"] == run.data.metrics["epochs_run"]
            if row["state"] == State.COMPLETE:
                assert row["objective"] == pytest.approx(run.data.metrics["objective"], rel=1e-12)
            for fold, outcome in enumerate(_outcomes(run)):
                assert folds.loc[(name, number, fold), "stop_reason"] == outcome["stop_reason"]
                assert folds.loc[(name, number, fold), "epochs_run"] == outcome["epochs_run"]
