"""Reports of a running trial."""

from hpo.core.measurement import STEP, step_of


def test_report_step_defaults_to_epoch() -> None:
    assert step_of(3, {"loss": 0.5}) == 3
    assert step_of(3, {"loss": 0.5, STEP: 15.0}) == 15
