"""The figures of ``benchmarks/scale.py``, from marks that are known, and the study that it times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.scale import ROOT, Figures, Job, Mark, broken
from hpo.tracking.reader import list_studies, load_trials
from hpo.tracking.store import open_store


def figures(engine: str, n: int, ms: float, last_ms: float | None = None, seconds: float = 0.0) -> Figures:
    """Of a search whose trials take twice their CPU as wall time, and nothing after the last one."""
    marks = [Mark(1, 10.0, 5.0)]
    for number in range(2, n + 1):
        cost = (ms if last_ms is None or number <= n // 2 else last_ms) / 1000
        marks.append(Mark(number, marks[-1].wall + 2 * cost, marks[-1].cpu + cost))
    return Figures(Job(engine, n, 2, seconds, "random"), 9.0, marks, marks[-1])


def test_costs_are_computed_from_marks() -> None:
    even = figures("local", 100, 10.0)
    assert even.cpu_ms == even.search_cpu_ms == pytest.approx(10.0)
    assert (even.wall_ms, even.throughput, even.growth) == pytest.approx((20.0, 50.0, 1.0))
    assert figures("local", 100, 10.0, last_ms=30.0).growth == pytest.approx(3.0)


def test_cost_includes_work_after_the_search() -> None:
    search = figures("local", 101, 10.0)
    last = search.end
    whole = Figures(search.job, search.began, search.marks, Mark(101, last.wall + 1, last.cpu + 1))
    assert (whole.cpu_ms, whole.search_cpu_ms) == pytest.approx((20.0, 10.0))


def test_idle_time_excludes_sleep_of_trials() -> None:
    """Two workers, ten trials of one second: five seconds if nothing is lost."""
    found = Figures(
        Job("local", 10, 2, 1.0, "random"), 0.0, [Mark(1, 1.0, 0.0), Mark(10, 6.0, 0.1)], Mark(10, 6.0, 0.1)
    )
    assert found.between_ms == pytest.approx(200.0)


def test_growth_and_cheaper_ray_tune_exceed_bounds() -> None:
    few, many = figures("local", 100, 10.0), figures("local", 1000, 14.0)
    assert broken([few, many]) == []
    assert broken([few, many, figures("tune", 1000, 20.0), figures("optuna", 1000, 1.0)]) == []
    assert "local: 1,000 trials cost 16.0 ms each, 100 10.0 ms" in broken([few, figures("local", 1000, 16.0)])
    assert "local: a trial of 1,000 costs 14.0 ms, with Ray Tune 9.0 ms" in broken([many, figures("tune", 1000, 9.0)])


def test_null_study_runs(hpo: Callable[..., int]) -> None:
    arguments = ("model=nothing", "strategy=random", "limits.n_trials=3", "executor.threads_per_trial=1")
    assert hpo(f"--config-dir={ROOT / 'benchmarks' / 'conf'}", *arguments) == 0
    client, experiment = open_store("sqlite:///hpo_runs/mlflow.db", "hpo", Path("hpo_runs"))
    (study,) = list_studies(client, experiment)
    assert [trial.state for trial in load_trials(client, study)] == ["COMPLETE"] * 3
    assert study.tags["hpo.best_model_uri"]
    assert not study.tags["hpo.problems"]
