"""The contract of executors, for every one in ``conf/executor``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import objectives
import pytest
import toy

from hpo import config as configs
from hpo.core.early_stopping import EarlyStopping
from hpo.core.objective import Objective
from hpo.core.params import ParamValue
from hpo.core.space import Int, Parameter
from hpo.core.states import Decision, StopReason
from hpo.core.trial import FoldResult
from hpo.errors import SuggestionRefused
from hpo.evaluation.evaluator import Evaluator
from hpo.evaluation.objective_evaluator import ObjectiveEvaluator
from hpo.evaluation.resampling import Holdout
from hpo.evaluation.tasks import FoldTask
from hpo.executors.base import Executor
from hpo.models.base import Undisturbed, WithoutStrategy
from hpo.models.objectives.optuna import OptunaObjective
from hpo.study.build import build_part

from .test_configs import compose


class Control(WithoutStrategy):
    def __init__(self) -> None:
        self.epochs: list[int] = []

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        self.epochs.append(epoch)
        return Decision.PRUNE if epoch == 1 else Decision.CONTINUE


class Suggests(Undisturbed):
    """Suggests the low bound of every parameter, or refuses integers."""

    def __init__(self, takes_ints: bool = True) -> None:
        self.asked: list[str] = []
        self.notes: dict[str, str] = {}
        self._takes_ints = takes_ints

    def suggest(self, parameter: Parameter) -> ParamValue:
        self.asked.append(parameter.name)
        if isinstance(parameter, Int) and not self._takes_ints:
            raise SuggestionRefused("no more integers")
        return parameter.low  # type: ignore[attr-defined]

    def note(self, name: str, text: str) -> None:
        self.notes[name] = text


def without_seconds(result: FoldResult) -> dict[str, Any]:
    return {**result.summary(), "seconds": {}, "history": dict(result.history)}


@pytest.mark.parametrize("name", list(configs.options("executor")))
@pytest.mark.usefixtures("one_ray")
def test_executor_reports_every_epoch_and_stops_when_told(name: str, tmp_path: Path) -> None:
    executor: Executor = build_part(compose(f"executor={name}"), "executor", Executor)
    executor.prepare()
    assert executor.n_workers >= 1
    assert executor.threads_per_trial >= 1
    stopping = EarlyStopping()
    evaluator = Evaluator(toy.CurveModel(), toy.dataset(), Holdout(0.2), Objective.of("val_loss"), stopping, seed=0)
    executor.start(evaluator, tmp_path)
    control = Control()
    result = executor.run(FoldTask({"x": 0.5}, 0, 5, tmp_path / "trial"), control)
    assert control.epochs == [0, 1]
    assert result.outcome.stop_reason is StopReason.PRUNED
    executor.stop()
    executor.stop()


@pytest.mark.parametrize("name", list(configs.options("executor")))
@pytest.mark.usefixtures("one_ray")
def test_executor_passes_on_suggestions_and_notes(name: str, tmp_path: Path) -> None:
    executor: Executor = build_part(compose(f"executor={name}"), "executor", Executor)
    executor.prepare()
    objective = Objective("value", "minimize")
    evaluator = ObjectiveEvaluator(OptunaObjective(objectives.layered), objective, seed=0)
    try:
        executor.start(evaluator, tmp_path)
        control = Suggests()
        result, expected = executor.run(FoldTask({}, 0, 10), control), evaluator.run(FoldTask({}, 0, 10), Suggests())
        assert without_seconds(result) == without_seconds(expected)
        assert control.asked == ["n", "y0"]
        assert control.notes["total"] == "-1.0"
        refused = executor.run(FoldTask({}, 0, 10), Suggests(takes_ints=False))
        assert (refused.outcome.stop_reason, refused.score) == (StopReason.ERROR, None)
        assert refused.error == "SuggestionRefused: no more integers"
        assert executor.run(FoldTask({}, 0, 10), Suggests()).score == -1.0  # the same worker is still usable
    finally:
        executor.stop()
