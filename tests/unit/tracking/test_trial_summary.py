"""Tags and metrics at the end of a trial."""

from __future__ import annotations

import json
import math

import pytest

from hpo.core.objective import Objective
from hpo.core.states import StopReason
from hpo.core.trial import Trial
from hpo.tracking.trial_summary import final_metrics, final_status, final_tags

from .records import LOSS, fold


def test_metrics_of_one_fold() -> None:
    trial = Trial(0, {}, (fold(train={"loss": 0.2}),), seconds=9.0, ended_seconds=11.0)
    assert final_metrics(trial, LOSS) == {
        "objective": 0.5,
        "train_score": 0.2,
        "generalisation_gap": pytest.approx(0.3),
        "epochs_run": 3,
        "epochs_saved": 0,
        "best_epoch": 1,
        "best_val_loss": 0.4,
        "total_seconds": 9.0,
        "ended_seconds": 11.0,
        "train_seconds": 2.0,
        "score_seconds": 0.5,
        "n_weights": 10,
    }


def test_metrics_over_folds_are_means_medians_and_sums() -> None:
    early = {"epochs_run": 2, "max_epochs": 5, "best_value": 0.2}
    folds = [
        fold(number, score, StopReason.EARLY_STOPPED, outcome={**early, "best_epoch": best, "stopped_epoch": stopped})
        for number, score, best, stopped in ((0, 0.2, 0, 2), (1, 0.4, 1, 3), (2, 0.6, 9, 7))
    ]
    metrics = final_metrics(Trial(0, {}, tuple(folds)), LOSS)
    assert metrics["objective"] == pytest.approx(0.4)
    assert metrics["objective_std"] == pytest.approx(0.2)
    assert metrics["objective_se"] == pytest.approx(0.2 / math.sqrt(3))
    assert (metrics["best_epoch"], metrics["stopped_epoch"]) == (1, 3)
    assert metrics["best_val_loss"] == pytest.approx(0.2)
    assert (metrics["epochs_run"], metrics["epochs_saved"]) == (6, 9)
    assert (metrics["train_seconds"], metrics["score_seconds"]) == (6.0, 1.5)


def test_stopped_epoch_needs_all_folds() -> None:
    stopped = fold(0, reason=StopReason.EARLY_STOPPED, outcome={"stopped_epoch": 2})
    assert "stopped_epoch" not in final_metrics(Trial(0, {}, (stopped, fold(1))), LOSS)


def test_pruned_trial_has_the_score_of_its_rung() -> None:
    trial = Trial(0, {}, (fold(0, 0.4), fold(1, 0.6, StopReason.PRUNED)))
    metrics = final_metrics(trial, LOSS)
    assert metrics["rung_objective"] == pytest.approx(0.5)
    assert "objective" not in metrics
    assert final_status(trial) == "FINISHED"


def test_further_objectives_have_metrics_of_their_own() -> None:
    objective = Objective("val_loss", "minimize", others={"val_accuracy": "maximize"})
    trial = Trial(0, {}, (fold(others={"val_accuracy": 0.75}),))
    assert final_metrics(trial, objective)["objective_val_accuracy"] == 0.75


def test_trial_without_folds_has_only_totals() -> None:
    assert final_metrics(Trial(0, {}, interrupted=True), LOSS) == {
        "epochs_run": 0,
        "epochs_saved": 0,
        "total_seconds": 0.0,
    }


@pytest.mark.parametrize(
    ("reason", "state", "status"),
    [
        (StopReason.MAX_EPOCHS, "COMPLETE", "FINISHED"),
        (StopReason.PRUNED, "PRUNED", "FINISHED"),
        (StopReason.ERROR, "FAIL", "FAILED"),
        (StopReason.INTERRUPTED, "WAITING", "KILLED"),
    ],
)
def test_state_is_recorded_in_tag_and_status(reason: StopReason, state: str, status: str) -> None:
    trial = Trial(0, {}, (fold(reason=reason, score=None),))
    tags = final_tags(trial)
    assert (tags["hpo.state"], tags["hpo.stop_reason"], final_status(trial)) == (state, str(reason), status)
    assert "hpo.error" not in tags


def test_folds_are_recorded_as_json_without_nan() -> None:
    trial = Trial(0, {}, (fold(3, None, StopReason.DIVERGED, outcome={"best_value": math.inf}, error="NaN"),))
    tags = final_tags(trial)
    assert tags["hpo.error"] == "NaN"
    summary = json.loads(tags["hpo.fold_3"], parse_constant=lambda text: pytest.fail(text))
    assert (summary["fold"], summary["outcome"]["best_value"]) == (3, "inf")
