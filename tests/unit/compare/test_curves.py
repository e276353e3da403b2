"""The best value so far, followed by hand."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.compare.curves import (
    N_POINTS,
    Incumbent,
    area,
    band,
    common_end,
    common_start,
    incumbent,
    target_of,
)


def trials(
    objectives: Sequence[float | None],
    epochs: Sequence[int] | None = None,
    seconds: Sequence[float | None] | None = None,
    order: Sequence[int | None] | None = None,
) -> pd.DataFrame:
    """A table of trials as :mod:`hpo.reporting.tables` makes it."""
    n = len(objectives)
    return pd.DataFrame(
        {
            "trial": range(n),
            "objective": list(objectives),
            "epochs_run": list(epochs or [1] * n),
            "ended_seconds": list(seconds or map(float, range(1, n + 1))),
            "ended_order": list(order or range(n)),
        }
    )


def steps(*pairs: tuple[float, float], end: float) -> Incumbent:
    """A step function from ``(at, value)``."""
    at, values = zip(*pairs, strict=True) if pairs else ((), ())
    return Incumbent(np.array(at, float), np.array(values, float), end)


def pairs(one: Incumbent) -> list[tuple[float, float]]:
    return list(zip(one.at.tolist(), one.values.tolist(), strict=True))


def test_incumbent_keeps_only_improvements() -> None:
    table = trials([0.5, 0.4, 0.7, 0.7, 0.6, 0.8])
    assert pairs(incumbent(table, "trials", maximize=True)) == [(1, 0.5), (3, 0.7), (6, 0.8)]
    assert pairs(incumbent(table, "trials", maximize=False)) == [(1, 0.5), (2, 0.4)]


def test_axes_count_trials_epochs_and_seconds() -> None:
    table = trials([0.5, 0.4, 0.7], epochs=[10, 3, 5], seconds=[2.5, 4.0, 9.0])
    found = {axis: incumbent(table, axis, maximize=True) for axis in ("trials", "epochs", "seconds")}
    assert {axis: pairs(one) for axis, one in found.items()} == {
        "trials": [(1, 0.5), (3, 0.7)],
        "epochs": [(10, 0.5), (18, 0.7)],
        "seconds": [(2.5, 0.5), (9.0, 0.7)],
    }
    assert {axis: one.end for axis, one in found.items()} == {"trials": 3, "epochs": 18, "seconds": 9.0}


def test_trials_count_in_order_of_their_end() -> None:
    table = trials([0.9, 0.5, 0.6], epochs=[20, 1, 2], seconds=[30.0, 5.0, 6.0], order=[2, 0, 1])
    assert pairs(incumbent(table, "trials", maximize=True)) == [(1, 0.5), (2, 0.6), (3, 0.9)]
    assert pairs(incumbent(table, "epochs", maximize=True)) == [(1, 0.5), (3, 0.6), (23, 0.9)]
    assert pairs(incumbent(table, "seconds", maximize=True)) == [(5, 0.5), (6, 0.6), (30, 0.9)]


def test_failed_trial_costs_epochs_without_improvement() -> None:
    table = trials([0.5, None, 0.7, None], epochs=[1, 10, 1, 4])
    one = incumbent(table, "epochs", maximize=True)
    assert pairs(one) == [(1, 0.5), (12, 0.7)]
    assert one.end == 16


def test_first_trial_may_have_failed() -> None:
    for maximize in (True, False):
        one = incumbent(trials([None, None, 0.5]), "trials", maximize)
        assert pairs(one) == [(3, 0.5)]
        assert math.isnan(one.value_at(2.0))


def test_study_of_failures_has_no_incumbent() -> None:
    one = incumbent(trials([None, None]), "trials", maximize=False)
    assert (pairs(one), one.end) == ([], 2.0)
    assert math.isnan(one.value_at(2.0))
    assert one.reaches(0.5, maximize=False) is None


def test_running_trial_does_not_count() -> None:
    one = incumbent(trials([0.5, None, 0.6], epochs=[3, 100, 4], order=[0, None, 1]), "epochs", maximize=True)
    assert pairs(one) == [(3, 0.5), (7, 0.6)]
    nothing = incumbent(trials([]), "trials", maximize=True)
    assert (pairs(nothing), nothing.end) == ([], 0.0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.booleans())
def test_best_value_is_that_of_all_earlier_trials(values: list[float], maximize: bool) -> None:
    one = incumbent(trials(values), "trials", maximize)
    for n in range(1, len(values) + 1):
        assert one.value_at(n) == (max if maximize else min)(values[:n])
        assert one.value_at(n + 0.5) == one.value_at(n)
    assert math.isnan(one.value_at(0.5))
    assert len(one.at) == 1 or np.all(np.diff(one.at) > 0)


def test_time_to_target_is_first_position_that_reaches_it() -> None:
    rising = steps((1, 0.5), (4, 0.7), (9, 0.8), end=10)
    assert [rising.reaches(target, maximize=True) for target in (0.4, 0.5, 0.6, 0.7, 0.8, 0.81)] == [
        1,
        1,
        4,
        4,
        9,
        None,
    ]
    falling = steps((2, 0.9), (3, 0.3), end=10)
    assert [falling.reaches(target, maximize=False) for target in (1.0, 0.9, 0.5, 0.3, 0.2)] == [2, 2, 3, 3, None]


def test_area_is_mean_height_of_steps() -> None:
    one = steps((1, 0.5), (4, 0.7), (9, 0.8), end=10)
    # 0.5 for 3, 0.7 for 5 and 0.8 for 1
    assert area(one, 1, 10) == pytest.approx((0.5 * 3 + 0.7 * 5 + 0.8) / 9)
    assert area(one, 2, 6) == pytest.approx((0.5 * 2 + 0.7 * 2) / 4)
    assert area(one, 4, 9) == pytest.approx(0.7)  # a step at either end
    assert area(one, 5, 6) == pytest.approx(0.7)
    assert area(one, 10, 20) == pytest.approx(0.8)
    assert area(one, 9, 9) == 0.8  # no room: the value there


def test_common_range_is_from_last_start_to_first_end() -> None:
    several = [steps((1, 0.5), end=10), steps((3, 0.4), (8, 0.6), end=8), steps(end=12)]
    assert (common_start(several), common_end(several)) == (3, 8)
    assert (common_start([]), common_end([])) == (0, 0)


def test_band_is_students_interval_at_every_step() -> None:
    made = band([steps((1, 0.4), (3, 0.8), end=5), steps((1, 0.6), (4, 0.7), end=5)], 1, 5)
    assert made.at.tolist() == [1, 3, 4, 5]
    assert made.mean.tolist() == pytest.approx([0.5, 0.7, 0.75, 0.75])
    # Two values that are d apart: sd/√2 = d/2, and Student's quantile with one degree of freedom is 12.7062.
    half = [12.7062 * d / 2 for d in (0.2, 0.2, 0.1, 0.1)]
    assert (made.high - made.mean).tolist() == pytest.approx(half, rel=1e-5)
    assert (made.mean - made.low).tolist() == pytest.approx(half, rel=1e-5)


def test_band_of_one_study_has_no_width() -> None:
    made = band([steps((1, 0.4), (3, 0.8), end=5)], 1, 5)
    assert made.mean.tolist() == made.low.tolist() == made.high.tolist() == [0.4, 0.8, 0.8]


def test_long_band_is_thinned_and_keeps_its_ends() -> None:
    long = steps(*((float(n), float(n)) for n in range(1, 1001)), end=1000)
    made = band([long, long], 1, 1000)
    assert len(made.at) == N_POINTS
    assert (made.at[0], made.at[-1]) == (1, 1000)
    assert made.mean.tolist() == made.at.tolist()


def test_target_is_median_of_weakest_level() -> None:
    finals = {"a": [0.9, 0.8, 0.95], "b": [0.7, 0.99, 0.85]}
    assert target_of(finals, maximize=True) == 0.85
    assert target_of(finals, maximize=False) == 0.9
