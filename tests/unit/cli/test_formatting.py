import pytest

from hpo.cli.formatting import show_limits, show_params, show_seconds
from hpo.core.limits import Limits


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (59, "59 s"), (65, "1 min 05 s"), (7380, "2 h 03 min")]
)
def test_seconds_are_shown_as_people_say_them(seconds: float, shown: str) -> None:
    assert show_seconds(seconds) == shown


def test_params_and_limits_fit_on_a_line() -> None:
    assert show_params({"rate": 0.000123456, "units": 64, "act": "relu"}) == "rate=0.0001235 units=64 act=relu"
    assert show_limits(Limits(n_trials=3, timeout_seconds=60)) == "3 trials or 1 min 00 s"
    assert show_limits(Limits(max_epochs_total=9)) == "9 epochs in all"
