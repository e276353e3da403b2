"""The limits of a study."""

import math

import pytest

from hpo.core.limits import Limits
from hpo.errors import ConfigError


@pytest.mark.parametrize("name", ["n_trials", "timeout_seconds", "max_epochs_total", "max_consecutive_failures"])
@pytest.mark.parametrize("value", [0, -1])
def test_limit_below_one_is_refused(name: str, value: int) -> None:
    with pytest.raises(ConfigError) as caught:
        Limits(**{"n_trials": 1, name: value})
    assert caught.value.key == f"limits.{name}"


def test_study_without_an_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="limits"):
        Limits(max_consecutive_failures=3)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_limit_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match=r"limits\.timeout_seconds"):
        Limits(timeout_seconds=value)


@pytest.mark.parametrize("name", ["n_trials", "timeout_seconds", "max_epochs_total"])
def test_each_limit_alone_ends_a_study(name: str) -> None:
    assert getattr(Limits(**{name: 1}), name) == 1
