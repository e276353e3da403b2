import math
from collections.abc import Sequence

import numpy as np
import pytest
import toy

from hpo.core.objective import Objective
from hpo.core.states import StopReason
from hpo.datasets.base import Array
from hpo.evaluation.resampling import Holdout, KFoldResampling, Resampling
from hpo.evaluation.scoring import N_PREDICTIONS, Scorer
from hpo.evaluation.split_data import SplitData
from hpo.models.base import FitLog


class Recording(toy.FittedCurve):
    """Records the rows that it is evaluated on."""

    def __init__(self, loss: float = 0.25) -> None:
        super().__init__(np.zeros(1))
        self.loss = loss
        self.evaluated: list[Array] = []
        self.n_predictions = 0

    def evaluate(self, x: Array, y: Array, extra: Sequence[str] = ()) -> dict[str, float]:
        self.evaluated.append(x)
        return {"loss": self.loss}

    def predict(self, x: Array) -> Array:
        self.n_predictions += 1
        return super().predict(x)


def scorer(resampling: Resampling, objective: Objective | None = None) -> Scorer:
    data = SplitData.for_model(toy.CurveModel(), toy.dataset(), resampling, 0)
    return Scorer(objective or Objective.of("val_loss"), data)


def log(**known: object) -> FitLog:
    history = {"loss": [0.9, 0.8, 0.7], "val_loss": [0.5, 0.3, 0.4]}
    return FitLog(3, history, {"train": 2.0}, epochs_run=3, best_epoch=1, n_weights=7, **known)  # type: ignore[arg-type]


@pytest.mark.parametrize(("epoch", "expected"), [("best", 0.3), ("last", 0.4)])
def test_holdout_score_is_read_at_the_epoch_that_counts(epoch: str, expected: float) -> None:
    fitted = Recording()
    score = scorer(Holdout(0.2), Objective.of("val_loss", epoch=epoch)).score(log(), fitted, 0)
    assert score is not None
    assert score.value == expected
    assert fitted.evaluated == []


def test_fold_score_is_that_of_the_scored_rows() -> None:
    fitted, subject = Recording(), scorer(KFoldResampling(4))
    score = subject.score(log(), fitted, 2)
    assert score is not None
    assert score.value == 0.25
    (rows,) = fitted.evaluated
    expected = subject.data.scored(2)
    assert expected is not None
    assert np.array_equal(rows, expected[0])


def test_score_that_is_not_finite_is_a_diverged_fold() -> None:
    record = log()
    assert scorer(KFoldResampling(4)).score(record, Recording(math.nan), 0) is None
    assert record.stop_reason is StopReason.DIVERGED
    assert record.problem == "val_loss is not finite"


@pytest.mark.parametrize("reason", [StopReason.PRUNED, StopReason.DIVERGED, StopReason.INTERRUPTED])
def test_interrupted_or_failed_training_has_no_score(reason: StopReason) -> None:
    assert scorer(Holdout(0.2)).score(log(stop_reason=reason), Recording(), 0) is None


def test_costs_are_scored_with_the_metrics() -> None:
    others = dict.fromkeys(("n_weights", "train_seconds", "predict_seconds"), "minimize")
    fitted = Recording()
    score = scorer(Holdout(0.2), Objective.of("val_loss", others=others)).score(log(), fitted, 0)
    assert score is not None
    assert set(score.others) == set(others)
    assert (score.others["n_weights"], score.others["train_seconds"]) == (7, 2.0)
    assert score.others["predict_seconds"] >= 0
    assert fitted.n_predictions == N_PREDICTIONS


def test_training_rows_are_scored_on_a_random_sample() -> None:
    fitted, subject = Recording(), scorer(Holdout(0.2))
    assert subject.score_training_rows(fitted, 0, seed=3) == {"loss": 0.25}
    (rows,) = fitted.evaluated
    assert np.array_equal(rows, subject.data.training_sample(0, 3)[0])
    assert not np.array_equal(rows, subject.data.training(0).x_train[: len(rows)])
