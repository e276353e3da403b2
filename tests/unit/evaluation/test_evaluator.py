import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import toy

from hpo.core.early_stopping import EarlyStopping
from hpo.core.objective import Objective
from hpo.core.seeds import fit_seed
from hpo.core.states import Decision, State, StopReason
from hpo.core.trial import FoldResult
from hpo.errors import ConfigError
from hpo.evaluation.evaluator import Evaluator
from hpo.evaluation.resampling import Holdout
from hpo.evaluation.tasks import FoldTask
from hpo.study.compatibility import check_space_fits


class Control:
    """Prunes at an epoch, or raises, and records the reported epochs."""

    def __init__(self, prune_at: int | None = None, error: Exception | None = None) -> None:
        self.prune_at, self.error = prune_at, error
        self.epochs: list[dict[str, float]] = []

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        self.epochs.append(dict(logs))
        if self.error:
            raise self.error
        return Decision.PRUNE if epoch == self.prune_at else Decision.CONTINUE

    def poll(self) -> Decision:
        return Decision.CONTINUE


def evaluator(objective: Objective | None = None, early_stopping: EarlyStopping | None = None) -> Evaluator:
    stopping = early_stopping or EarlyStopping()
    return Evaluator(toy.CurveModel(), toy.dataset(), Holdout(0.2), objective or Objective.of("val_loss"), stopping, 3)


def run(tmp_path: Path, params: dict[str, Any], control: Control | None = None, **options: Any) -> FoldResult:
    task = FoldTask(params, 0, 4, tmp_path / "trial", **options)
    return evaluator().run(task, control or Control())


def test_fold_result_has_curves_outcome_seed_score_and_weights(tmp_path: Path) -> None:
    control = Control()
    result = run(tmp_path, {"x": 0.5}, control)
    assert result.score == pytest.approx(0.04 + 0.1 / 4)
    assert result.seed == fit_seed(3, {"x": 0.5}, 0)
    assert list(result.history["val_loss"]) == [logs["val_loss"] for logs in control.epochs]
    assert result.outcome.stop_reason is StopReason.MAX_EPOCHS
    assert (result.outcome.epochs_run, result.outcome.best_epoch) == (4, 3)
    assert result.weights_path == str(tmp_path / "trial.npz")
    assert Path(result.weights_path).exists()
    assert {"train", "score"} <= set(result.seconds)


def test_weights_are_saved_only_if_the_score_beats_the_best(tmp_path: Path) -> None:
    assert run(tmp_path, {"x": 0.5}, save_above=0.01).weights_path is None
    assert run(tmp_path, {"x": 0.5}, save_above=0.5).weights_path is not None


@pytest.mark.parametrize(
    ("kind", "reason", "error", "n_epochs"),
    [
        ("raise", StopReason.ERROR, "ValueError: asked for", 1),
        ("memory", StopReason.OUT_OF_MEMORY, "MemoryError: no message", 0),
        ("nan", StopReason.DIVERGED, "loss is not finite after epoch 1", 2),
    ],
)
def test_failed_fold_keeps_its_epochs(tmp_path: Path, kind: str, reason: StopReason, error: str, n_epochs: int) -> None:
    result = run(tmp_path, {"kind": kind})
    assert result.outcome.stop_reason is reason
    assert result.outcome.stop_reason.state is State.FAIL
    assert result.error == error
    assert (result.traceback is None) is (kind == "nan")
    assert result.score is None
    assert result.weights_path is None
    assert len(result.history.get("val_loss", ())) == result.outcome.epochs_run == n_epochs


def test_pruned_fold_keeps_its_epochs_without_a_score(tmp_path: Path) -> None:
    result = run(tmp_path, {"x": 0.5}, Control(prune_at=1))
    assert result.outcome.stop_reason is StopReason.PRUNED
    assert result.outcome.epochs_saved == 2
    assert len(result.history["val_loss"]) == 2
    assert result.score is None


def test_driver_error_is_not_recorded_as_a_model_failure(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="store is gone"):
        run(tmp_path, {"x": 0.5}, Control(error=RuntimeError("store is gone")))


@pytest.mark.parametrize("key", ["objective.metric", "early_stopping.monitor"])
def test_metric_that_the_model_does_not_report_is_refused(key: str) -> None:
    objective = Objective.of("val_auc") if key == "objective.metric" else None
    stopping = EarlyStopping("val_auc") if key != "objective.metric" else None
    with pytest.raises(ConfigError, match=r"a metric of this model and data: .*val_loss") as caught:
        evaluator(objective, stopping)
    assert caught.value.key == key


def test_training_metric_is_refused_as_objective() -> None:
    with pytest.raises(ConfigError, match=r"objective\.metric=val_loss"):
        evaluator(Objective.of("loss"), None)


def test_best_epoch_needs_restored_weights() -> None:
    stopping = EarlyStopping(restore_best_weights=False)
    with pytest.raises(ConfigError, match="restore_best_weights"):
        evaluator(Objective.of("val_loss"), stopping)
    assert evaluator(Objective.of("val_loss", epoch="last"), stopping).n_folds == 1


def test_search_space_may_only_name_parameters_of_the_model() -> None:
    check_space_fits(["x"], toy.CurveModel().tunables)
    with pytest.raises(ConfigError, match="x, kind, depth, rate"):
        check_space_fits(["x", "units"], toy.CurveModel().tunables)


def test_folds_depend_on_the_study_seed_only() -> None:
    def digest(seed: int) -> str:
        found = Evaluator(
            toy.CurveModel(), toy.dataset(), Holdout(0.2), Objective.of("val_loss"), EarlyStopping(), seed
        )
        return found.folds_digest

    assert digest(0) == digest(0) != digest(1)


def test_fold_summary_is_json_without_curves(tmp_path: Path) -> None:
    summary = run(tmp_path, {"x": 0.5}).summary()
    assert summary["outcome"]["epochs_saved"] == 0
    assert summary["outcome"]["stop_reason"] == "max_epochs"
    assert math.isclose(summary["score"], 0.065)
    assert "history" not in summary
