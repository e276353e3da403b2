"""Comparisons as MLflow runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpo.tracking.comparisons import load_interim_analyses, log_comparison

from .records import Store, artifacts_of


def tags_of(seeds: int, key: str = "key", verdict: str = "no difference") -> dict[str, str]:
    return {"hpo.comparison_key": key, "hpo.look": json.dumps({"seeds": seeds}), "hpo.verdict": verdict}


def test_interim_analyses_are_loaded_oldest_first(store: Store) -> None:
    assert load_interim_analyses(*store, "key") == []
    for seeds in (2, 4):
        log_comparison(*store, "mine", tags_of(seeds), {}, [])
    log_comparison(*store, "another", tags_of(9, key="another"), {}, [])
    assert load_interim_analyses(*store, "key") == [{"seeds": 2}, {"seeds": 4}]


def test_runs_without_an_interim_analysis_are_ignored(store: Store) -> None:
    """Earlier versions did not record it."""
    store[0].create_run(store[1], tags={"hpo.kind": "comparison", "hpo.comparison_key": "key"})
    assert load_interim_analyses(*store, "key") == []


def test_same_interim_analysis_updates_its_run(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_PASSWORD", "correct-horse")
    report = tmp_path / "report.md"
    report.write_text("text")
    first = log_comparison(*store, "mine", tags_of(2), {"test_loss_a": 1.0}, [])
    again = log_comparison(*store, "mine", tags_of(2, verdict="correct-horse wins"), {"test_loss_a": 2.0}, [report])
    other = log_comparison(*store, "mine", tags_of(3), {}, [])
    assert first == again != other
    run = store[0].get_run(first)
    assert (run.info.run_name, run.info.status) == ("mine", "FINISHED")
    assert (run.data.tags["hpo.kind"], run.data.tags["hpo.verdict"]) == ("comparison", "*** wins")
    assert run.data.metrics == {"test_loss_a": 2.0}
    assert artifacts_of(store, run) == {"report.md"}
