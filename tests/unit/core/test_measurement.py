"""Reports of a running trial."""

from hpo.core.measurement import STEP, step_of


def test_step_of_a_report_is_its_own_or_the_epoch() -> None:
    assert step_of(3, {"loss": 0.5}) == 3
    assert step_of(3, {"loss": 0.5, STEP: 15.0}) == 15
