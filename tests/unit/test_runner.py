"""The runner with a model whose curves are a formula and the real tracker on SQLite."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
import toy
from mlflow.entities import Run

from hpo import plots, tracking
from hpo.errors import StudyFailed
from hpo.evaluation import Evaluator
from hpo.executors.inline import InlineExecutor
from hpo.resampling import Holdout, Resampling, StratifiedKFoldResampling
from hpo.runner import End, Result, Runner
from hpo.space import SearchSpace
from hpo.strategies.base import Evaluate, Search, Strategy, StrategyTags
from hpo.study import Names, Study
from hpo.trial import Decision, EarlyStopping, Limits, Measurement, Objective, Proposal, State, StopReason, Trial

SPACE = SearchSpace.from_config(
    {
        "x": {"type": "float", "low": 0, "high": 1},
        "kind": {"type": "categorical", "choices": ["good", "nan", "raise", "memory", "slow"]},
    }
)


class Listed(Strategy):
    """Proposes a list of params, and keeps what came back."""

    tags = StrategyTags("optuna")

    def __init__(self, proposals: list[dict[str, Any]], prune_at: int | None = None) -> None:
        self.proposals, self.prune_at = proposals, prune_at
        self.seen: list[Trial] = []
        self.measured: list[Measurement] = []

    def search(self, search: Search, evaluate: Evaluate) -> None:
        def on_rung(measurement: Measurement) -> Decision:
            self.measured.append(measurement)
            return Decision.PRUNE if measurement.epoch == self.prune_at else Decision.CONTINUE

        for params in self.proposals:
            self.seen.append(evaluate(Proposal(params), on_rung))


class Silent:
    """A view that keeps what it is told."""

    def __init__(self) -> None:
        self.stops: list[str] = []
        self.on_epoch: Callable[[], None] = lambda: None

    def study_started(self, study: Study) -> None: ...
    def trial_started(self, number: int, params: Any) -> None: ...
    def epoch_ended(self, *_: Any) -> None:
        self.on_epoch()

    def trial_ended(self, trial: Trial, best: Trial | None) -> None: ...
    def stopping(self, reason: str) -> None:
        self.stops.append(reason)

    def search_ended(self, doing: str) -> None: ...


def study(
    strategy: Strategy, limits: Limits, max_epochs: int = 3, resampling: Resampling | None = None, **stop: Any
) -> Study:
    from hpo.config import Definition

    objective = Objective.of("val_loss", epoch="best" if stop.get("restore_best_weights", True) else "last")
    stopping = EarlyStopping(**stop)
    evaluator = Evaluator(toy.CurveModel(), toy.dataset(), resampling or Holdout(0.2), objective, stopping, 0)
    return Study(
        name="toy-study",
        names=Names("curve", "toy", "listed", "holdout"),
        config={"model": {"_target_": "toy.CurveModel"}, "seed": 0, "limits": {}, "tracking": {"uri": "secret"}},
        definition=Definition(SPACE, objective, stopping, limits, 0, max_epochs),
        model=toy.CurveModel(),
        dataset=toy.dataset(),
        evaluator=evaluator,
        strategy=strategy,
        executor=InlineExecutor(1),
    )


@pytest.fixture
def run(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Result, mlflow.MlflowClient, list[Run]]]:
    # The toy has no library of its own that MLflow could log a model of.
    monkeypatch.setattr(tracking.Tracker, "log_model", lambda *_: "models:/toy")

    def start(
        strategy: Strategy, limits: Limits, view: Silent | None = None, **options: Any
    ) -> tuple[Result, mlflow.MlflowClient, list[Run]]:
        client, experiment = tracking.open_store("sqlite:///hpo_runs/mlflow.db", "hpo", Path("hpo_runs"))
        tracker = tracking.Tracker(client, experiment)
        try:
            built = study(strategy, limits, **options)
            result = Runner(built, tracker, view or Silent(), Path("hpo_runs"), ["seed=0"]).run()
        finally:
            tracker.close()
        return result, client, client.search_runs([experiment], order_by=["attributes.start_time ASC"])

    return start


def trial_runs(runs: list[Run]) -> list[Run]:
    return sorted((r for r in runs if r.data.tags["hpo.kind"] == "trial"), key=lambda r: int(r.data.tags["hpo.trial"]))


def study_run(runs: list[Run]) -> Run:
    (found,) = [r for r in runs if r.data.tags["hpo.kind"] == "study"]
    return found


def test_a_study_ends_when_the_space_is_exhausted(run: Callable[..., Any]) -> None:
    strategy = Listed([{"x": 0.9, "kind": "good"}, {"x": 0.3, "kind": "good"}, {"x": 0.5, "kind": "good"}])
    result, _, runs = run(strategy, Limits(n_trials=10))
    assert result.end is End.EXHAUSTED
    assert result.best is not None
    assert (result.best.number, [t.number for t in result.top]) == (1, [1, 2, 0])
    assert result.test is not None
    assert result.test.metrics == {"loss": 0.0}
    parent = study_run(runs)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["n_complete"] == 3
    assert parent.data.metrics["test_loss"] == 0.0
    assert parent.data.tags["hpo.best_trial"] == "1"
    assert json.loads(parent.data.tags["hpo.best_params"]) == {"x": 0.3, "kind": "good"}
    points = mlflow.MlflowClient().get_metric_history(parent.info.run_id, "best_objective")
    values = [t.value for t in result.trials]
    assert [(p.step, p.value) for p in points] == [(0, values[0]), (1, values[1]), (2, values[1])]


def test_only_what_defines_a_study_becomes_a_param_and_no_secret_is_kept(run: Callable[..., Any]) -> None:
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


def test_n_trials_counts_complete_pruned_and_failed_trials_exactly(run: Callable[..., Any]) -> None:
    proposals = [{"x": 0.5, "kind": kind} for kind in ("good", "nan", "raise", "memory", "good", "good")]
    result, client, runs = run(Listed(proposals), Limits(n_trials=5))
    assert result.end is End.N_TRIALS
    children = trial_runs(runs)
    assert [r.data.tags["hpo.state"] for r in children] == ["COMPLETE", "FAIL", "FAIL", "FAIL", "COMPLETE"]
    assert [r.info.status for r in children] == ["FINISHED", "FAILED", "FAILED", "FAILED", "FINISHED"]
    assert [r.data.tags["hpo.stop_reason"] for r in children][1:4] == ["diverged", "error", "out_of_memory"]
    assert children[2].data.tags["hpo.error"] == "ValueError: asked for"
    names = [a.path for a in client.list_artifacts(children[2].info.run_id)]
    assert names == ["traceback_fold_0.txt"]
    assert result.best is not None
    assert result.best.state is State.COMPLETE


def test_pruning_is_recorded_with_what_was_measured(run: Callable[..., Any]) -> None:
    strategy = Listed([{"x": 0.5, "kind": "good"}], prune_at=1)
    result, client, runs = run(strategy, Limits(n_trials=1))
    assert [(m.fold, m.epoch) for m in strategy.measured] == [(0, 0), (0, 1)]
    (child,) = trial_runs(runs)
    assert (child.data.tags["hpo.state"], child.info.status) == ("PRUNED", "FINISHED")
    assert child.data.metrics["epochs_saved"] == 1
    assert "objective" not in child.data.metrics
    assert len(client.get_metric_history(child.info.run_id, "val_loss")) == 2
    assert result.best is None


def test_failures_in_a_row_end_a_study_as_failed(run: Callable[..., Any]) -> None:
    kinds = ("raise", "good", "raise", "raise", "good")
    result, _, runs = run(Listed([{"x": 0.5, "kind": k} for k in kinds]), Limits(9, max_consecutive_failures=2))
    assert result.end is End.FAILURES
    assert len(result.trials) == 4
    assert study_run(runs).info.status == "FAILED"


def test_epochs_are_never_spent_beyond_their_limit(run: Callable[..., Any]) -> None:
    proposals = [{"x": 0.5, "kind": "good"}] * 5
    result, _, runs = run(Listed(proposals), Limits(n_trials=5, max_epochs_total=7))
    assert result.end is End.MAX_EPOCHS
    assert sum(t.epochs_run for t in result.trials) == 7
    assert [t.state for t in result.trials] == [State.COMPLETE, State.COMPLETE, State.WAITING]
    assert trial_runs(runs)[-1].info.status == "KILLED"
    exact, _, _ = run(Listed(proposals), Limits(n_trials=5, max_epochs_total=6))
    assert [t.state for t in exact.trials] == [State.COMPLETE, State.COMPLETE]


def test_a_timeout_closes_the_running_trial_as_interrupted(run: Callable[..., Any]) -> None:
    proposals = [{"x": 0.5, "kind": "slow"}] * 5
    result, _, runs = run(Listed(proposals), Limits(timeout_seconds=0.6), max_epochs=8)
    assert result.end is End.TIMEOUT
    assert result.seconds < 1.5
    assert result.trials[-1].stop_reason is StopReason.INTERRUPTED
    assert study_run(runs).info.status == "FINISHED"
    assert study_run(runs).data.metrics["n_interrupted"] == 1


def test_ctrl_c_closes_the_running_trial_and_keeps_what_was_done(run: Callable[..., Any]) -> None:
    import signal

    view = Silent()
    epochs = 0

    def interrupt() -> None:
        nonlocal epochs
        epochs += 1
        if epochs == 5:
            signal.raise_signal(signal.SIGINT)

    view.on_epoch = interrupt
    result, _, runs = run(Listed([{"x": 0.5, "kind": "good"}] * 4), Limits(n_trials=4), view)
    assert result.end is End.INTERRUPTED
    assert [t.state for t in result.trials] == [State.COMPLETE, State.WAITING]
    assert len(view.stops) == 1
    assert result.test is None
    assert (study_run(runs).info.status, study_run(runs).data.tags["hpo.state"]) == ("KILLED", "interrupted")
    assert [r.info.status for r in trial_runs(runs)] == ["FINISHED", "KILLED"]


def test_a_plot_that_fails_costs_a_warning_and_not_the_study(
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


def test_epochs_of_interrupted_trials_are_counted(run: Callable[..., Any]) -> None:
    result, _, runs = run(Listed([{"x": 0.5, "kind": "good"}] * 3), Limits(max_epochs_total=4))
    assert [t.epochs_run for t in result.trials] == [3, 1]
    assert study_run(runs).data.metrics["epochs_total"] == 4


def test_a_strategy_that_breaks_leaves_a_closed_study(run: Callable[..., Any], workdir: Path) -> None:
    class Broken(Listed):
        def search(self, search: Search, evaluate: Evaluate) -> None:
            super().search(search, evaluate)
            raise LookupError("a bug")

    with pytest.raises(StudyFailed, match="LookupError: a bug"):
        run(Broken([{"x": 0.5, "kind": "good"}]), Limits(n_trials=3))
    client = mlflow.MlflowClient()
    runs = client.search_runs([client.get_experiment_by_name("hpo").experiment_id])
    assert study_run(runs).info.status == "FAILED"
    assert [r.info.status for r in trial_runs(runs)] == ["FINISHED"]


def test_a_store_that_refuses_writes_ends_the_study(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking.writer, "ATTEMPTS", 1)
    view = Silent()

    def break_store() -> None:
        for path in Path("hpo_runs").glob("mlflow.db*"):
            path.write_bytes(b"no database")

    view.on_epoch = break_store
    with pytest.raises(StudyFailed, match="no longer takes records"):
        run(Listed([{"x": 0.5, "kind": "good"}] * 50), Limits(n_trials=50), view)


FOLDS = StratifiedKFoldResampling(2)


class Raising(Listed):
    """Takes two proposals of one trial each through two rungs."""

    def search(self, search: Search, evaluate: Evaluate) -> None:
        opened = [evaluate.open(params) for params in self.proposals]
        for trial in opened:
            trial.train(1)
        opened[0].close(dropped=True)
        opened[1].train(3)
        opened[1].close()


def test_a_rung_goes_on_with_the_same_trial_and_records_every_epoch_once(run: Callable[..., Any]) -> None:
    proposals = [{"x": 0.9, "kind": "good"}, {"x": 0.5, "kind": "good"}]
    result, client, runs = run(Raising(proposals), Limits(n_trials=2), resampling=FOLDS)
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


def test_failed_trials_of_a_halving_search_are_failed_and_count_in_a_row(run: Callable[..., Any]) -> None:
    from hpo.strategies.sklearn import HalvingRandomStrategy

    result, _, runs = run(HalvingRandomStrategy(min_epochs=3), Limits(n_trials=12), resampling=FOLDS)
    failing = [trial for trial in result.trials if trial.params["kind"] in ("raise", "memory", "nan")]
    assert failing
    assert all(trial.state is State.FAIL for trial in failing)
    assert study_run(runs).data.metrics["n_failed"] == len(failing)
    limited, _, _ = run(HalvingRandomStrategy(), Limits(n_trials=12, max_consecutive_failures=1), resampling=FOLDS)
    assert limited.end is End.FAILURES


def test_the_last_epoch_is_refitted_for_as_long_as_the_folds_trained(run: Callable[..., Any]) -> None:
    listed = Listed([{"x": 0.5, "kind": "good"}])
    _, _, runs = run(listed, Limits(n_trials=1), resampling=FOLDS, max_epochs=5, restore_best_weights=False)
    assert study_run(runs).data.metrics["refit_epochs"] == 5


def test_a_winner_that_cannot_be_refitted_costs_a_warning_and_not_the_result(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("no room")

    monkeypatch.setattr(Evaluator, "refit", fail)
    result, client, runs = run(Listed([{"x": 0.5, "kind": "good"}]), Limits(n_trials=1), resampling=FOLDS)
    assert "no room" in result.problems[0]
    parent = study_run(runs)
    assert (parent.info.status, parent.data.tags["hpo.best_trial"]) == ("FINISHED", "0")
    assert "trials.csv" in [artifact.path for artifact in client.list_artifacts(parent.info.run_id)]
