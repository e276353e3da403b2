"""Early stopping of curves made by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.compare.early_stopping import PATIENCES, EarlyStoppingSummary, replay, summarize_tables
from hpo.core.early_stopping import EarlyStopping, EarlyStoppingOutcome
from hpo.core.objective import Objective
from hpo.core.states import StopReason
from hpo.core.trial import FoldResult, Trial
from hpo.reporting.tables import epoch_rows, fold_rows, trial_rows

LOSS = Objective("val_loss", "minimize")
ACCURACY = Objective("val_accuracy", "maximize")
MAX_EPOCHS = 20
STOPPING = EarlyStopping(patience=3)
#         epoch:  0    1    2    3    4    5    6    7    8    9
DIPS_TWICE = (0.9, 0.7, 0.8, 0.6, 0.7, 0.65, 0.5, 0.6, 0.6, 0.6)
FALLS = (0.8, 0.7, 0.64, 0.62, 0.61, 0.6, 0.59, 0.58, 0.57, 0.56)
JUST_RISES = (0.55, 0.6, 0.7, 0.8)


def fold(
    values: Sequence[float],
    stopping: EarlyStopping,
    number: int = 0,
    reason: StopReason = StopReason.EARLY_STOPPED,
    curves: Mapping[str, Sequence[float]] | None = None,
) -> FoldResult:
    """A fold that ended after the last of its values."""
    best = (min if stopping.mode == "min" else max)(values)
    at, n = list(values).index(best), len(values)
    stopped = n - 1 if reason is StopReason.EARLY_STOPPED else None
    outcome = EarlyStoppingOutcome(
        stopping.monitor, stopping.patience, 0.0, n, MAX_EPOCHS, stopped, at, best, True, reason
    )
    history = {stopping.monitor: tuple(values), **{k: tuple(v) for k, v in (curves or {}).items()}}
    score = best if reason.state.value == "COMPLETE" else None
    return FoldResult(number, 1, score, outcome, history, {})


def summary_of(trials: Sequence[Trial], stopping: EarlyStopping, objective: Objective = LOSS) -> EarlyStoppingSummary:
    """By way of the tables that are recorded."""
    tables: list[list[dict[str, Any]]] = [trial_rows(trials, objective, {}), fold_rows(trials), epoch_rows(trials)]
    return summarize_tables(*map(pd.DataFrame, tables), stopping, objective)


STOPPING = EarlyStopping(patience=3)


def two_trials() -> list[Trial]:
    return [Trial(0, {}, (fold(DIPS_TWICE, STOPPING),)), Trial(1, {}, (fold(JUST_RISES, STOPPING),))]


def test_epochs_are_summed_over_folds_and_trials() -> None:
    trials = [
        Trial(0, {}, (fold(DIPS_TWICE, STOPPING), fold(JUST_RISES, STOPPING, 1))),
        Trial(1, {}, (fold(FALLS, STOPPING, reason=StopReason.PRUNED),)),
        Trial(2, {}, (fold(FALLS[:5], STOPPING, reason=StopReason.MAX_EPOCHS),)),
        Trial(3, {}, (fold(FALLS[:2], STOPPING, reason=StopReason.CRASHED),)),
    ]
    found = summary_of(trials, STOPPING)
    assert (found.n_trials, found.epochs_run, found.epochs_allowed) == (4, 10 + 4 + 10 + 5 + 2, 5 * MAX_EPOCHS)
    # A crash and a training that came to its end have saved nothing.
    assert found.epochs_saved == (20 - 10) + (20 - 4) + (20 - 10)
    assert found.stop_reasons == {"early_stopped": 2, "pruned": 1, "max_epochs": 1, "crashed": 1}
    assert found.share_saved == pytest.approx(36 / 100)


def test_share_saved_is_zero_without_epochs() -> None:
    assert EarlyStoppingSummary(0, 0, 0, 0, {}, ()).share_saved == 0.0


def test_shorter_patience_is_replayed_on_recorded_curves() -> None:
    one, two = summary_of(two_trials(), STOPPING).shorter
    # Patience 1 stops the first at its first rise, after epoch 2, and keeps epoch 1 rather than 6: 0.7, not 0.5.
    # The second stops after epoch 1 and keeps its first epoch, as it did.
    assert (one.patience, one.epochs_run, one.epochs_saved) == (1, 3 + 2, 14 - 5)
    assert (one.n_changed, one.winner, one.winner_score) == (1, 1, 0.55)
    # Patience 2 gets over epoch 2, and stops after epochs 4 and 5: 0.6 at epoch 3.
    assert (two.patience, two.epochs_run, two.epochs_saved) == (2, 6 + 3, 14 - 9)
    assert (two.n_changed, two.winner, two.winner_score) == (1, 1, 0.55)


def test_replay_maximizes_rising_metrics() -> None:
    stopping = EarlyStopping(monitor="val_accuracy", patience=3)
    rises, falls = [[1 - value for value in curve] for curve in (DIPS_TWICE, JUST_RISES)]
    trials = [Trial(0, {}, (fold(rises, stopping),)), Trial(1, {}, (fold(falls, stopping),))]
    one, two = summary_of(trials, stopping, ACCURACY).shorter
    assert [(each.epochs_run, each.epochs_saved, each.n_changed) for each in (one, two)] == [(5, 9, 1), (9, 5, 1)]
    assert (one.winner, one.winner_score) == (1, pytest.approx(0.45))


def test_winner_is_by_objective_at_kept_epoch() -> None:
    accuracy = (0.1, 0.9, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85)
    trials = [
        Trial(0, {}, (fold(DIPS_TWICE, STOPPING, curves={"val_accuracy": accuracy}),)),
        Trial(1, {}, (fold(JUST_RISES, STOPPING, curves={"val_accuracy": (0.5, 0.4, 0.3, 0.2)}),)),
    ]
    one, two = summary_of(trials, STOPPING, ACCURACY).shorter
    assert (one.winner, one.winner_score) == (0, 0.9)  # epoch 1 is kept
    assert (two.winner, two.winner_score) == (1, 0.5)  # epoch 3 is kept, with 0.3


@pytest.mark.parametrize("patience", [1, 2, 3, 4, 8, 30])
def test_only_shorter_patiences_are_replayed(patience: int) -> None:
    stopping = EarlyStopping(patience=patience)
    found = summary_of([Trial(0, {}, (fold(DIPS_TWICE, stopping),))], stopping)
    assert [each.patience for each in found.shorter] == [p for p in (1, 2, 3, 5, 8, 13, 21) if p < patience]


def test_without_patience_all_up_to_longest_curve_are_replayed() -> None:
    stopping = EarlyStopping(patience=None)
    trials = [Trial(0, {}, (fold(DIPS_TWICE, stopping, reason=StopReason.MAX_EPOCHS),))]
    found = summary_of(trials, stopping)
    assert [each.patience for each in found.shorter] == [1, 2, 3, 5, 8]
    assert [each.epochs_run for each in found.shorter] == [3, 6, 10, 10, 10]
    assert [each.n_changed for each in found.shorter] == [1, 1, 0, 0, 0]


def test_winner_is_unknown_with_several_folds() -> None:
    trials = [Trial(0, {}, (fold(DIPS_TWICE, STOPPING), fold(FALLS, STOPPING, 1)))]
    one, two = summary_of(trials, STOPPING).shorter
    assert (one.winner, one.winner_score, two.winner, two.winner_score) == (None,) * 4
    assert (one.epochs_run, one.n_changed) == (3 + 10, 1)  # a trial, on whatever number of folds


def test_last_epoch_is_kept_without_restoring_best_weights() -> None:
    stopping = EarlyStopping(patience=3, restore_best_weights=False)
    trials = [Trial(0, {}, (fold(JUST_RISES, stopping),))]
    one, two = summary_of(trials, stopping, Objective("val_loss", "minimize", "last")).shorter
    # It would have ended, and so been kept, at epoch 1 and 2 rather than 3.
    assert (one.epochs_run, two.epochs_run) == (2, 3)
    assert (one.n_changed, two.n_changed) == (1, 1)


def test_only_complete_trials_are_replayed() -> None:
    pruned = Trial(2, {}, (fold(FALLS, STOPPING, reason=StopReason.PRUNED),))
    with_it, without = (summary_of(trials, STOPPING).shorter for trials in ([*two_trials(), pruned], two_trials()))
    assert with_it == without
    assert summary_of([pruned], STOPPING).shorter == ()


def test_unrecorded_metric_is_not_replayed() -> None:
    assert summary_of(two_trials(), EarlyStopping(monitor="val_mae", patience=3)).shorter == ()


def test_replay_respects_min_delta_and_start_from_epoch() -> None:
    values = (1.0, 0.99, 0.98, 0.5, 0.49, 0.48)
    assert replay(values, EarlyStopping(patience=2)) == (6, 5)
    assert replay(values, EarlyStopping(patience=2, min_delta=0.1)) == (3, 0)
    assert replay(values, EarlyStopping(patience=3, min_delta=0.1)) == (6, 3)
    assert replay(values, EarlyStopping(patience=2, min_delta=0.1, start_from_epoch=2)) == (6, 3)
    assert replay((), EarlyStopping(patience=1)) == (0, None)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=25), st.sampled_from(PATIENCES))
def test_replay_stops_after_patience_epochs_without_improvement(values: list[float], patience: int) -> None:
    n_run, kept = replay(values, EarlyStopping(patience=patience))
    assert kept is not None
    seen = values[:n_run]
    assert seen[kept] == min(seen)
    assert kept == seen.index(min(seen))
    assert (n_run - 1 - kept == patience) if n_run < len(values) else (n_run - 1 - kept <= patience)
