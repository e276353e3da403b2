"""Fast studies of the toy model, with the real runner and the real tracker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import toy
from mlflow.entities import Run

from hpo.config.definition import Definition
from hpo.core.early_stopping import EarlyStopping
from hpo.core.limits import Limits
from hpo.core.measurement import Measurement
from hpo.core.objective import Objective
from hpo.core.space import SearchSpace
from hpo.core.states import Decision
from hpo.core.trial import Proposal, Trial
from hpo.evaluation.evaluator import Evaluator
from hpo.evaluation.resampling import Holdout, Resampling
from hpo.executors.base import Executor
from hpo.executors.inline import InlineExecutor
from hpo.run.result import Result
from hpo.run.runner import Runner
from hpo.strategies.base import Evaluate, SearchProblem, Strategy, StrategyTags
from hpo.study.study import ChosenOptions, Study
from hpo.tracking.reader import find_study
from hpo.tracking.resume import RecordedStudy, load_from_mlflow
from hpo.tracking.store import open_store
from hpo.tracking.writer import Tracker

SPACE = SearchSpace.from_config(
    {
        "x": {"type": "float", "low": 0, "high": 1},
        "kind": {"type": "categorical", "choices": ["good", "nan", "raise", "memory", "slow"]},
    }
)


class Listed(Strategy):
    """Proposes a list of params, and keeps the trials and measurements that it receives."""

    tags = StrategyTags("optuna")

    def __init__(self, proposals: list[dict[str, Any]], prune_at: int | None = None) -> None:
        self.proposals, self.prune_at = proposals, prune_at
        self.seen: list[Trial] = []
        self.measured: list[Measurement] = []

    def search(self, search: SearchProblem, evaluate: Evaluate) -> None:
        def on_report(measurement: Measurement) -> Decision:
            self.measured.append(measurement)
            return Decision.PRUNE if measurement.epoch == self.prune_at else Decision.CONTINUE

        for params in self.proposals:
            self.seen.append(evaluate(Proposal(params), on_report))


class Silent:
    """A view that shows nothing, and keeps the reasons for stopping."""

    def __init__(self) -> None:
        self.stops: list[str] = []
        self.on_epoch: Callable[[], None] = lambda: None

    def study_started(self, study: Study) -> None: ...
    def study_resumed(self, *_: Any) -> None: ...
    def trial_started(self, number: int, params: Any) -> None: ...
    def epoch_ended(self, *_: Any) -> None:
        self.on_epoch()

    def trial_ended(self, trial: Trial, best: Trial | None) -> None: ...
    def stopping(self, reason: str) -> None:
        self.stops.append(reason)

    def search_ended(self, doing: str) -> None: ...


def study(
    strategy: Strategy,
    limits: Limits,
    max_epochs: int = 3,
    resampling: Resampling | None = None,
    executor: Executor | None = None,
    **stop: Any,
) -> Study:
    objective = Objective.of("val_loss", epoch="best" if stop.get("restore_best_weights", True) else "last")
    stopping = EarlyStopping(**stop)
    evaluator = Evaluator(toy.CurveModel(), toy.dataset(), resampling or Holdout(0.2), objective, stopping, 0)
    return Study(
        name="toy-study",
        names=ChosenOptions("curve", "toy", "listed", "holdout"),
        config={"model": {"_target_": "toy.CurveModel"}, "seed": 0, "limits": {}, "tracking": {"uri": "secret"}},
        definition=Definition(SPACE, objective, stopping, limits, 0, max_epochs),
        model=toy.CurveModel(),
        dataset=toy.dataset(),
        evaluator=evaluator,
        strategy=strategy,
        executor=executor or InlineExecutor(1),
        resampling=resampling or Holdout(0.2),
    )


def trial_runs(runs: list[Run]) -> list[Run]:
    return sorted((r for r in runs if r.data.tags["hpo.kind"] == "trial"), key=lambda r: int(r.data.tags["hpo.trial"]))


def study_run(runs: list[Run]) -> Run:
    (found,) = [r for r in runs if r.data.tags["hpo.kind"] == "study"]
    return found


FOLDER = Path("hpo_runs/studies/toy-study")
GOOD = [{"x": x, "kind": "good"} for x in (0.9, 0.5, 0.7, 0.4)]


class Place:
    """One study in one store, which several sessions run."""

    def __init__(self) -> None:
        self.store = open_store("sqlite:///hpo_runs/mlflow.db", "hpo", Path("hpo_runs"))
        self.client: mlflow.MlflowClient = self.store[0]
        self.is_reachable = True

    def connect(self) -> tuple[mlflow.MlflowClient, str]:
        if not self.is_reachable:
            raise ConnectionError("refused")
        return self.store

    def run(
        self,
        strategy: Strategy,
        n_trials: int,
        view: Silent | None = None,
        recorded: RecordedStudy | None = None,
        resampling: Resampling | None = None,
        max_epochs: int = 3,
        limits: Limits | None = None,
    ) -> Result:
        tracker = Tracker(FOLDER, "toy", self.connect, lambda text: None)
        try:
            built = study(strategy, limits or Limits(n_trials), max_epochs, resampling)
            return Runner(built, tracker, view or Silent(), ["seed=0"], recorded).run()
        finally:
            tracker.close()

    def recorded(self, n_folds: int = 1) -> RecordedStudy:
        found = find_study(self.client, self.store[1], "toy-study")
        assert found is not None
        return load_from_mlflow(self.client, found, ("loss", "val_loss"), n_folds)

    @property
    def runs(self) -> list[Run]:
        return list(self.client.search_runs([self.store[1]]))

    def steps(self, run: Run, metric: str) -> list[int]:
        return [point.step for point in self.client.get_metric_history(run.info.run_id, metric)]
