"""Over- and under-fitting of trials made by hand, with standard errors that are round numbers."""

from collections.abc import Sequence

import pytest

from hpo.core.early_stopping import EarlyStoppingOutcome
from hpo.core.objective import Objective
from hpo.core.states import StopReason
from hpo.core.trial import FoldResult, Trial
from hpo.reporting.generalization import Fit, fit_of, fits_of, has_worsened, standard_error

ACCURACY = Objective("val_accuracy", "maximize")
LOSS = Objective("val_loss", "minimize")
RISES = (0.9, 0.5, 0.7)  # the monitored loss is best at epoch 1 and ends worse
FALLS = (0.9, 0.7, 0.5)


def trial(
    pairs: Sequence[tuple[float, float | None]],
    losses: Sequence[Sequence[float]] | Sequence[float] = RISES,
    metric: str = "accuracy",
    best_epochs: Sequence[int] | None = None,
    number: int = 0,
) -> Trial:
    """A trial with one fold for each pair of training and validation score, each with a monitored curve."""
    curves = [tuple(c) for c in losses] if isinstance(losses[0], tuple | list) else [tuple(losses)] * len(pairs)  # type: ignore[arg-type]
    folds = []
    for place, ((train, score), curve) in enumerate(zip(pairs, curves, strict=True)):
        best = best_epochs[place] if best_epochs else curve.index(min(curve))
        reason = StopReason.EARLY_STOPPED if score is not None else StopReason.PRUNED
        outcome = EarlyStoppingOutcome(
            "val_loss", 2, 0.0, len(curve), 20, len(curve) - 1, best, curve[best], True, reason
        )
        train_scores = {metric: train} if score is not None else {}
        folds.append(FoldResult(place, 1, score, outcome, {"val_loss": curve}, {}, train=train_scores))
    return Trial(number, {}, tuple(folds))


def test_large_gap_and_a_worsened_curve_are_over_fitted() -> None:
    # Gaps 0.3 and 0.28: 0.29 in the mean, with a standard error of 0.01.
    found = trial([(1.0, 0.7), (0.99, 0.71)])
    assert standard_error(found, ACCURACY, 100) == pytest.approx(0.01)
    assert fit_of(found, ACCURACY, 100, median=0.7) is Fit.OVER


def test_training_score_below_the_median_validation_score_is_under_fitted() -> None:
    found = trial([(0.6, 0.59), (0.62, 0.6)])
    assert fit_of(found, ACCURACY, 100, median=0.62) is Fit.UNDER
    assert fit_of(found, ACCURACY, 100, median=0.60) is not Fit.UNDER
    assert fit_of(found, ACCURACY, 100, median=None) is not Fit.UNDER


def test_training_score_equal_to_the_median_is_not_under_fitted() -> None:
    assert fit_of(trial([(0.75, 0.5), (0.75, 0.75)]), ACCURACY, 100, median=0.75) is Fit.WELL


def test_gap_within_two_standard_errors_is_well_fitted() -> None:
    # Gaps 0.04 and -0.02: 0.01 in the mean, with a standard error of 0.03.
    assert fit_of(trial([(0.9, 0.86), (0.88, 0.9)]), ACCURACY, 100, median=0.85) is Fit.WELL


def test_large_gap_without_a_worsened_curve_is_undetermined() -> None:
    pairs = [(1.0, 0.7), (0.99, 0.71)]
    assert fit_of(trial(pairs, FALLS), ACCURACY, 100, median=0.7) is Fit.UNDETERMINED
    assert fit_of(trial(pairs, (0.5,)), ACCURACY, 100, median=0.7) is Fit.UNDETERMINED


def test_missing_training_scores_are_undetermined() -> None:
    without = trial([(0.9, 0.8), (0.9, 0.8)], metric="f1")
    assert fit_of(without, ACCURACY, 100, median=0.7) is Fit.UNDETERMINED
    assert fit_of(Trial(0, {}), ACCURACY, 100, median=0.7) is Fit.UNDETERMINED


@pytest.mark.parametrize(("gaps", "fit"), [((0.75, 0.25), Fit.WELL), ((0.75, 0.2578125), Fit.OVER)])
def test_the_boundary_is_at_two_standard_errors(gaps: tuple[float, float], fit: Fit) -> None:
    """The standard error of two gaps is half their difference, so that a gap three times the other is at the boundary.

    The numbers are sums of powers of two, to avoid rounding.
    """
    found = trial([(1.0, 1.0 - gap) for gap in gaps])
    assert standard_error(found, ACCURACY, 100) == pytest.approx((gaps[0] - gaps[1]) / 2)
    assert fit_of(found, ACCURACY, 100, median=0.5) is fit


def test_one_fold_has_the_standard_error_of_two_proportions() -> None:
    # 0.9 · 0.1 / 100 + 0.8 · 0.2 / 100 = 0.0025, whose root is 0.05.
    found = trial([(0.9, 0.8)])
    assert standard_error(found, ACCURACY, 100) == pytest.approx(0.05)
    assert fit_of(found, ACCURACY, 101, median=0.8) is Fit.OVER  # 0.1 is just more than two of them
    assert fit_of(found, ACCURACY, 99, median=0.8) is Fit.WELL
    assert standard_error(found, ACCURACY, 0) is None


def test_one_fold_of_another_metric_has_no_standard_error() -> None:
    found = trial([(0.2, 0.9)], metric="loss")
    assert standard_error(found, LOSS, 1000) is None
    assert fit_of(found, LOSS, 1000, median=0.9) is Fit.UNDETERMINED


def test_losses_are_minimised() -> None:
    over = trial([(0.10, 0.5), (0.12, 0.5)], metric="loss")
    assert fit_of(over, LOSS, 100, median=0.5) is Fit.OVER
    under = trial([(0.9, 0.91), (0.92, 0.9)], metric="loss")
    assert fit_of(under, LOSS, 100, median=0.5) is Fit.UNDER
    assert fit_of(under, LOSS, 100, median=0.95) is Fit.WELL


def test_better_validation_score_is_well_fitted() -> None:
    assert fit_of(trial([(0.8, 0.9), (0.8, 0.91)]), ACCURACY, 100, median=0.75) is Fit.WELL


def test_curve_has_worsened_on_at_least_half_of_the_folds() -> None:
    pairs = [(0.9, 0.8)] * 3
    assert has_worsened(trial(pairs[:2], [RISES, FALLS]))
    assert not has_worsened(trial(pairs, [RISES, FALLS, FALLS]))
    assert has_worsened(trial(pairs, [RISES, FALLS, (0.5,)]))  # one epoch is not a curve
    assert not has_worsened(Trial(0, {}))


@pytest.mark.parametrize(
    ("curve", "best_epoch"),
    [((0.9, 0.5, 0.5), 1), ((0.90, 0.895, 0.892), 0)],
    ids=["stays at its best", "gains less than min_delta"],
)
def test_flat_curve_has_not_worsened(curve: tuple[float, ...], best_epoch: int) -> None:
    assert not has_worsened(trial([(0.9, 0.8)], curve, best_epochs=[best_epoch]))


def test_all_complete_trials_are_compared_with_their_median_score() -> None:
    trials = [
        trial([(1.0, 0.70), (0.99, 0.71)], number=0),
        trial([(0.60, 0.59), (0.62, 0.60)], number=1),
        trial([(0.90, 0.86), (0.88, 0.90)], number=2),
        trial([(0.90, None), (0.90, None)], number=3),  # pruned
        Trial(4, {}),
    ]
    assert fits_of(trials, ACCURACY, 100) == {0: Fit.OVER, 1: Fit.UNDER, 2: Fit.WELL}  # the median is 0.705
    assert fits_of([], ACCURACY, 100) == {}
    assert fits_of(trials[3:], ACCURACY, 100) == {}
