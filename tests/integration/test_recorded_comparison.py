"""A comparison that was recorded before identities had a format: it is found again, with the alpha that it spent."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from report import all_runs
from rich.console import Console

from hpo.compare.command import compare_studies, find_finished
from hpo.compare.comparison import Comparison
from hpo.compare.conclusion import conclude
from hpo.compare.eligibility import PlannedStudy
from hpo.compare.ledger import InterimAnalysis
from hpo.compare.spec import ComparisonSpec, parse
from hpo.study.previous_format import upgraded
from hpo.tracking.reader import list_studies
from hpo.tracking.store import open_store

DATA = Path(__file__).parent.parent / "data" / "recorded_comparison"
RECORDED = json.loads((DATA / "runs.json").read_text(encoding="utf-8"))
COMMAND = (
    *("strategies=[random,optuna]", "seeds=2", "model=decision_tree", "dataset=iris"),
    *("resampling=stratified_kfold", "resampling.n_splits=3", "limits.n_trials=3", "executor.threads_per_trial=1"),
)
ANALYSIS = InterimAnalysis((0, 1), ("optuna", "random"), 0.05, max_seeds=None, min_effect=0.01, alpha=0.05)


def add_study(client: Any, experiment: str, name: str, study: Mapping[str, Any], tables: Path) -> None:
    run = client.create_run(experiment, run_name=name, tags={**study["tags"], "hpo.kind": "study"}).info.run_id
    for metric, value in study["metrics"].items():
        client.log_metric(run, metric, value)
    client.log_dict(run, study["identity"], "fingerprint.json")
    client.log_artifacts(run, str(tables), "tables")
    client.set_terminated(run)


@pytest.fixture
def store(workdir: Path) -> tuple[Any, str]:
    """The working folder's store, with the runs as the earlier version recorded them."""
    client, experiment = open_store("sqlite:///hpo_runs/mlflow.db", "hpo", Path("hpo_runs"))
    for name, study in RECORDED["studies"].items():
        add_study(client, experiment, name, study, DATA / name)
    run = client.create_run(experiment, run_name=RECORDED["comparison"]["name"], tags=RECORDED["comparison"]["tags"])
    client.set_terminated(run.info.run_id)
    comparisons = workdir / "hpo_runs" / "comparisons"
    comparisons.mkdir()
    shutil.copy(DATA / "looks.json", comparisons)
    return client, experiment


def compare(store: tuple[Any, str], spec: ComparisonSpec) -> Comparison:
    return compare_studies(spec, *store, Path("hpo_runs"), Console(file=io.StringIO()), is_logged=True)


def test_recorded_studies_have_finished(store: tuple[Any, str]) -> None:
    spec = parse(COMMAND)
    plans = {}
    for level in spec.levels:
        study = RECORDED["studies"][spec.study(level, 0)]
        limits = {key: value for key, value in study["tags"].items() if key.startswith("hpo.limits.")}
        limits.pop("hpo.limits.max_consecutive_failures")
        plans[level] = PlannedStudy({**upgraded(study["identity"]), "format": 2}, limits, {})
    found = find_finished(spec, store[0], list_studies(*store), plans)
    assert found == set(RECORDED["studies"])


@pytest.mark.parametrize("is_in_mlflow_only", [False, True])
def test_recorded_analysis_is_repeated_at_no_cost(
    is_in_mlflow_only: bool, store: tuple[Any, str], workdir: Path
) -> None:
    ledger = workdir / "hpo_runs" / "comparisons" / "looks.json"
    if is_in_mlflow_only:
        ledger.unlink()
    comparison = compare(store, parse(COMMAND))
    assert comparison.spending.repeated == ANALYSIS
    assert comparison.spending.spent == 0.05
    assert conclude(comparison).startswith("Optuna has the same mean as random")
    assert ledger.exists() is not is_in_mlflow_only
    if not is_in_mlflow_only:
        assert json.loads(ledger.read_text()) == json.loads((DATA / "looks.json").read_text())
    (run,) = [run for run in all_runs(*store) if run.data.tags["hpo.kind"] == "comparison"]
    assert json.loads(run.data.tags["hpo.look"]) == ANALYSIS.to_record()
    assert run.data.tags["hpo.comparison_key"] == RECORDED["comparison"]["tags"]["hpo.comparison_key"]


def test_recorded_analysis_spends_alpha_of_larger_one(store: tuple[Any, str]) -> None:
    spec = parse([word.replace("seeds=2", "seeds=3") for word in COMMAND])
    for level in spec.levels:
        old = RECORDED["studies"][spec.study(level, 1)]
        new = {**upgraded(old["identity"]), "format": 2, "seed": 2, "folds_digest": "f2"}
        tags = old["tags"] | {"hpo.seed": "2", "hpo.folds_digest": "f2"}
        add_study(*store, spec.study(level, 2), {**old, "tags": tags, "identity": new}, DATA / spec.study(level, 1))
    comparison = compare(store, spec)
    assert comparison.seeds == [0, 1, 2]
    assert comparison.group.left_out == ()
    assert comparison.spending.earlier == [ANALYSIS]
    assert comparison.spending.is_exploratory
