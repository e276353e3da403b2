"""Whole studies of a model with known curves, recorded in MLflow on SQLite."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
import toy
from mlflow.entities import Run
from toy_study import Listed, Silent, study, study_run, trial_runs

from hpo.core.limits import Limits
from hpo.core.states import State, StopReason
from hpo.core.trial import FoldResult
from hpo.errors import StudyFailed
from hpo.evaluation.resampling import StratifiedKFoldResampling
from hpo.evaluation.tasks import Task
from hpo.executors.inline import InlineExecutor
from hpo.models.base import Fit, ObjectiveControl
from hpo.reporting import plots
from hpo.run.result import Result, StopCause
from hpo.run.runner import Runner
from hpo.run.trials import MAX_LOST_NODES
from hpo.strategies.base import Evaluate, SearchProblem, Strategy
from hpo.tracking.store import open_store
from hpo.tracking.writer import Tracker

pytestmark = pytest.mark.mlflow


@pytest.fixture
def run(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Result, mlflow.MlflowClient, list[Run]]]:
    # MLflow cannot load the folder that the toy model writes.
    monkeypatch.setattr(Tracker, "log_model", lambda *_: None)

    def start(
        strategy: Strategy,
        limits: Limits,
        view: Silent | None = None,
        clock: Callable[[], float] = time.monotonic,
        **options: Any,
    ) -> tuple[Result, mlflow.MlflowClient, list[Run]]:
        client, experiment = open_store("sqlite:///hpo_runs/mlflow.db", "hpo", Path("hpo_runs"))
        folder = Path("hpo_runs/studies/toy-study")
        tracker = Tracker(folder, "toy", lambda: (client, experiment), lambda text: None)
        try:
            built = study(strategy, limits, **options)
            result = Runner(built, tracker, view or Silent(), ["seed=0"], clock=clock).run()
        finally:
            tracker.close()
        return result, client, client.search_runs([experiment], order_by=["attributes.start_time ASC"])

    return start


def test_study_ends_when_the_space_is_exhausted(run: Callable[..., Any]) -> None:
    strategy = Listed([{"x": 0.9, "kind": "good"}, {"x": 0.3, "kind": "good"}, {"x": 0.5, "kind": "good"}])
    result, _, runs = run(strategy, Limits(n_trials=10))
    assert result.end is StopCause.EXHAUSTED
    assert result.best is not None
    assert (result.best.number, [t.number for t in result.top]) == (1, [1, 2, 0])
    assert result.test is not None
    assert result.test.metrics["loss"] == 0.0
    assert {"loss", "f1", "precision", "recall", "roc_auc"} == set(result.test.metrics)
    parent = study_run(runs)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["n_complete"] == 3
    assert parent.data.metrics["test_loss"] == 0.0
    assert parent.data.tags["hpo.best_trial"] == "1"
    assert json.loads(parent.data.tags["hpo.best_params"]) == {"x": 0.3, "kind": "good"}
    points = mlflow.MlflowClient().get_metric_history(parent.info.run_id, "best_objective")
    values = [t.value for t in result.trials]
    assert [(p.step, p.value) for p in points] == [(0, values[0]), (1, values[1]), (2, values[1])]


def test_params_of_a_study_are_its_definition_without_secrets(run: Callable[..., Any]) -> None:
    _, client, runs = run(Listed([{"x": 0.5, "kind": "good"}]), Limits(n_trials=1))
    parent = study_run(runs)
    assert "secret" not in str(parent.data.tags)
    for name in ("config.yaml", "fingerprint.json", "search_space.yaml", "trials.csv", "best.json"):
        assert "secret" not in Path(client.download_artifacts(parent.info.run_id, name)).read_text()
    assert parent.data.params == {"model._target_": "toy.CurveModel", "seed": "0"}
    assert parent.data.tags["hpo.limits.n_trials"] == "1"
    (data,) = parent.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("toy", toy.dataset().digest)


def test_only_the_best_weights_stay_on_disk(run: Callable[..., Any]) -> None:
    run(Listed([{"x": x, "kind": "good"} for x in (0.9, 0.5, 0.8, 0.4)]), Limits(n_trials=9))
    assert [p.name for p in Path("hpo_runs/studies/toy-study").glob("*.npz")] == ["trial-0003.npz"]


def test_n_trials_counts_complete_and_failed_trials(run: Callable[..., Any]) -> None:
    proposals = [{"x": 0.5, "kind": kind} for kind in ("good", "nan", "raise", "memory", "good", "good")]
    result, client, runs = run(Listed(proposals), Limits(n_trials=5))
    assert result.end is StopCause.N_TRIALS
    children = trial_runs(runs)
    assert [r.data.tags["hpo.state"] for r in children] == ["COMPLETE", "FAIL", "FAIL", "FAIL", "COMPLETE"]
    assert [r.info.status for r in children] == ["FINISHED", "FAILED", "FAILED", "FAILED", "FINISHED"]
    assert [r.data.tags["hpo.stop_reason"] for r in children][1:4] == ["diverged", "error", "out_of_memory"]
    assert children[2].data.tags["hpo.error"] == "ValueError: asked for"
    names = [a.path for a in client.list_artifacts(children[2].info.run_id)]
    assert names == ["traceback_fold_0.txt"]
    assert result.best is not None
    assert result.best.state is State.COMPLETE


def test_pruned_trial_is_recorded_with_its_curve(run: Callable[..., Any]) -> None:
    strategy = Listed([{"x": 0.5, "kind": "good"}], prune_at=1)
    result, client, runs = run(strategy, Limits(n_trials=1))
    assert [(m.fold, m.epoch) for m in strategy.measured] == [(0, 0), (0, 1)]
    (child,) = trial_runs(runs)
    assert (child.data.tags["hpo.state"], child.info.status) == ("PRUNED", "FINISHED")
    assert child.data.metrics["epochs_saved"] == 1
    assert "objective" not in child.data.metrics
    assert len(client.get_metric_history(child.info.run_id, "val_loss")) == 2
    assert result.best is None


def test_consecutive_failures_end_a_study_as_failed(run: Callable[..., Any]) -> None:
    kinds = ("raise", "good", "raise", "raise", "good")
    result, _, runs = run(Listed([{"x": 0.5, "kind": k} for k in kinds]), Limits(9, max_consecutive_failures=2))
    assert result.end is StopCause.FAILURES
    assert len(result.trials) == 4
    assert study_run(runs).info.status == "FAILED"


def test_epochs_do_not_exceed_their_limit(run: Callable[..., Any]) -> None:
    proposals = [{"x": 0.5, "kind": "good"}] * 5
    result, _, runs = run(Listed(proposals), Limits(n_trials=5, max_epochs_total=7))
    assert result.end is StopCause.MAX_EPOCHS
    assert sum(t.epochs_run for t in result.trials) == 7
    assert [t.state for t in result.trials] == [State.COMPLETE, State.COMPLETE, State.WAITING]
    assert trial_runs(runs)[-1].info.status == "KILLED"
    exact, _, _ = run(Listed(proposals), Limits(n_trials=5, max_epochs_total=6))
    assert [t.state for t in exact.trials] == [State.COMPLETE, State.COMPLETE]


def test_timeout_interrupts_the_running_trial(run: Callable[..., Any]) -> None:
    view, now = Silent(), [0.0]

    def wait() -> None:
        now[0] += 0.25

    view.on_epoch = wait
    proposals = [{"x": 0.5, "kind": "good"}] * 5
    result, _, runs = run(Listed(proposals), Limits(timeout_seconds=1.0), view, max_epochs=3, clock=lambda: now[0])
    assert (result.end, result.seconds) == (StopCause.TIMEOUT, 1.0)
    assert [trial.epochs_run for trial in result.trials] == [3, 1]
    assert result.trials[-1].stop_reason is StopReason.INTERRUPTED
    assert study_run(runs).info.status == "FINISHED"
    assert study_run(runs).data.metrics["n_interrupted"] == 1


def test_ctrl_c_interrupts_the_running_trial_and_keeps_the_record(run: Callable[..., Any]) -> None:
    view = Silent()
    epochs = 0

    def interrupt() -> None:
        nonlocal epochs
        epochs += 1
        if epochs == 5:
            signal.raise_signal(signal.SIGINT)

    view.on_epoch = interrupt
    result, _, runs = run(Listed([{"x": 0.5, "kind": "good"}] * 4), Limits(n_trials=4), view)
    assert result.end is StopCause.INTERRUPTED
    assert [t.state for t in result.trials] == [State.COMPLETE, State.WAITING]
    assert len(view.stops) == 1
    assert result.test is None
    assert (study_run(runs).info.status, study_run(runs).data.tags["hpo.state"]) == ("KILLED", "interrupted")
    assert [r.info.status for r in trial_runs(runs)] == ["FINISHED", "KILLED"]


def test_failed_plot_is_a_problem_and_not_a_failed_study(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("no ink")

    monkeypatch.setattr(plots, "draw", fail)
    result, _, runs = run(Listed([{"x": 0.5, "kind": "good"}]), Limits(n_trials=1))
    assert "no ink" in result.problems[0]
    parent = study_run(runs)
    assert parent.info.status == "FINISHED"
    assert "no ink" in parent.data.tags["hpo.problems"]
    assert parent.data.metrics["test_loss"] == result.test.metrics["loss"]


def test_epochs_of_interrupted_trials_are_counted_apart(run: Callable[..., Any]) -> None:
    result, _, runs = run(Listed([{"x": 0.5, "kind": "good"}] * 3), Limits(max_epochs_total=4))
    assert [t.epochs_run for t in result.trials] == [3, 1]
    metrics = study_run(runs).data.metrics
    assert (metrics["epochs_total"], metrics["epochs_interrupted"]) == (3, 1)


def test_error_of_a_strategy_closes_the_study_as_failed(run: Callable[..., Any], workdir: Path) -> None:
    class Broken(Listed):
        def search(self, search: SearchProblem, evaluate: Evaluate) -> None:
            super().search(search, evaluate)
            raise LookupError("a bug")

    with pytest.raises(StudyFailed, match="LookupError: a bug"):
        run(Broken([{"x": 0.5, "kind": "good"}]), Limits(n_trials=3))
    client = mlflow.MlflowClient()
    runs = client.search_runs([client.get_experiment_by_name("hpo").experiment_id])
    assert study_run(runs).info.status == "FAILED"
    assert [r.info.status for r in trial_runs(runs)] == ["FINISHED"]


FOLDS = StratifiedKFoldResampling(2)


class TwoRungs(Listed):
    """Trains two trials for one epoch, and the second for three."""

    def search(self, search: SearchProblem, evaluate: Evaluate) -> None:
        opened = [evaluate.open(params) for params in self.proposals]
        for trial in opened:
            trial.train(1)
        opened[0].close(dropped=True)
        opened[1].train(3)
        opened[1].close()


def test_larger_budget_continues_the_trial_and_records_each_epoch_once(run: Callable[..., Any]) -> None:
    proposals = [{"x": 0.9, "kind": "good"}, {"x": 0.5, "kind": "good"}]
    result, client, runs = run(TwoRungs(proposals), Limits(n_trials=2), resampling=FOLDS)
    dropped, kept = trial_runs(runs)
    assert [t.state for t in sorted(result.trials, key=lambda t: t.number)] == [State.PRUNED, State.COMPLETE]
    assert (dropped.data.metrics["epochs_run"], dropped.data.metrics["epochs_saved"]) == (2, 4)
    assert "objective" not in dropped.data.metrics
    assert dropped.data.metrics["rung_objective"] == pytest.approx(0.36)
    points = client.get_metric_history(kept.info.run_id, "fold_1/val_loss")
    assert [p.step for p in sorted(points, key=lambda p: p.step)] == [0, 1, 2]
    scores = client.get_metric_history(kept.info.run_id, "fold_1/score")
    assert sorted(p.step for p in scores) == [1, 3]
    parent = study_run(runs)
    assert (parent.data.metrics["n_complete"], parent.data.metrics["n_pruned"]) == (1, 1)
    assert parent.data.metrics["epochs_total"] == 2 + 2 + 6
    assert parent.data.metrics["refit_epochs"] == 3


class LosingExecutor(InlineExecutor):
    """Loses the worker after each of its first tasks."""

    retries = 1

    def __init__(self, reason: StopReason, n_times: int) -> None:
        super().__init__(1)
        self._reason, self._n_left = reason, n_times

    def run(self, task: Task, control: ObjectiveControl) -> FoldResult:
        result = super().run(task, control)
        if not self._n_left:
            return result
        self._n_left -= 1
        assert self._evaluator is not None
        return self._evaluator.unfinished(task, [], 0.0, self._reason, "gone")


@pytest.mark.parametrize(
    ("reason", "n_times", "n_attempts", "state"),
    [
        (StopReason.CRASHED, 1, 2, "COMPLETE"),
        (StopReason.CRASHED, 2, 2, "FAIL"),
        (StopReason.NODE_LOST, MAX_LOST_NODES, MAX_LOST_NODES + 1, "COMPLETE"),
        (StopReason.NODE_LOST, MAX_LOST_NODES + 1, MAX_LOST_NODES + 1, "FAIL"),
    ],
)
def test_node_loss_retries_are_bounded(
    run: Callable[..., Any], reason: StopReason, n_times: int, n_attempts: int, state: str
) -> None:
    _, _, runs = run(Listed([{"x": 0.5, "kind": "good"}]), Limits(n_trials=1), executor=LosingExecutor(reason, n_times))
    attempts = sorted(trial_runs(runs), key=lambda attempt: int(attempt.data.tags["hpo.attempt"]))
    assert [attempt.data.tags["hpo.state"] for attempt in attempts] == ["WAITING"] * (n_attempts - 1) + [state]
    assert {attempt.data.tags["hpo.stop_reason"] for attempt in attempts[:-1]} == {reason.value}


def test_failed_trials_of_successive_halving_count_as_consecutive_failures(run: Callable[..., Any]) -> None:
    from hpo.strategies.sklearn import HalvingRandomStrategy

    result, _, runs = run(HalvingRandomStrategy(min_epochs=3), Limits(n_trials=12), resampling=FOLDS)
    failing = [trial for trial in result.trials if trial.params["kind"] in ("raise", "memory", "nan")]
    assert failing
    assert all(trial.state is State.FAIL for trial in failing)
    assert study_run(runs).data.metrics["n_failed"] == len(failing)
    limited, _, _ = run(HalvingRandomStrategy(), Limits(n_trials=12, max_consecutive_failures=1), resampling=FOLDS)
    assert limited.end is StopCause.FAILURES


def test_refit_of_the_last_epoch_trains_as_long_as_the_folds(run: Callable[..., Any]) -> None:
    listed = Listed([{"x": 0.5, "kind": "good"}])
    _, _, runs = run(listed, Limits(n_trials=1), resampling=FOLDS, max_epochs=5, restore_best_weights=False)
    assert study_run(runs).data.metrics["refit_epochs"] == 5


def test_failed_refit_is_a_problem_and_the_result_is_kept(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = toy.CurveModel.fit

    def fail(model: toy.CurveModel, given: Fit) -> Any:
        if given.data.is_refit:
            raise ValueError("no room")
        return fit(model, given)

    monkeypatch.setattr(toy.CurveModel, "fit", fail)
    result, client, runs = run(Listed([{"x": 0.5, "kind": "good"}]), Limits(n_trials=1), resampling=FOLDS)
    assert "no room" in result.problems[0]
    parent = study_run(runs)
    assert (parent.info.status, parent.data.tags["hpo.best_trial"]) == ("FINISHED", "0")
    assert "trials.csv" in [artifact.path for artifact in client.list_artifacts(parent.info.run_id)]
