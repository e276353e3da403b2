"""How the cause of a study's end is shown in MLflow."""

import pytest

from hpo.run.result import StopCause


@pytest.mark.parametrize(
    ("cause", "status", "state", "interrupts_trials"),
    [
        (StopCause.N_TRIALS, "FINISHED", "finished", False),
        (StopCause.EXHAUSTED, "FINISHED", "finished", False),
        (StopCause.TIMEOUT, "FINISHED", "finished", True),
        (StopCause.MAX_EPOCHS, "FINISHED", "finished", True),
        (StopCause.FAILURES, "FAILED", "failed", False),
        (StopCause.ERROR, "FAILED", "failed", True),
        (StopCause.INTERRUPTED, "KILLED", "interrupted", True),
    ],
)
def test_cause_decides_status_state_and_running_trials(
    cause: StopCause, status: str, state: str, interrupts_trials: bool
) -> None:
    assert (cause.status, cause.state, cause.interrupts_trials) == (status, state, interrupts_trials)
