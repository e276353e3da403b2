"""What every executor in ``conf/executor`` keeps to."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import toy

from hpo import config as configs
from hpo.evaluation import Evaluator, FoldTask
from hpo.executors.base import Executor
from hpo.resampling import Holdout
from hpo.study import _build
from hpo.trial import Decision, EarlyStopping, Objective, StopReason

from .test_configs import compose


class Control:
    def __init__(self) -> None:
        self.epochs: list[int] = []

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        self.epochs.append(epoch)
        return Decision.PRUNE if epoch == 1 else Decision.CONTINUE

    def poll(self) -> Decision:
        return Decision.CONTINUE


@pytest.mark.parametrize("name", list(configs.options("executor")))
@pytest.mark.usefixtures("one_ray")
def test_an_executor_trains_reports_every_epoch_and_obeys(name: str, tmp_path: Path) -> None:
    executor: Executor = _build(compose(f"executor={name}"), "executor", Executor)
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
