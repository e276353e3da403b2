"""States, stop reasons and decisions."""

import pytest

from hpo.core.states import State, StopReason


@pytest.mark.parametrize("state", State)
def test_finished_states_count_towards_the_number_of_trials(state: State) -> None:
    assert state.is_finished is (state in (State.COMPLETE, State.PRUNED, State.FAIL))


def test_interrupted_training_is_run_again() -> None:
    assert StopReason.INTERRUPTED.state is State.WAITING
    assert not StopReason.INTERRUPTED.state.is_finished


def test_recorded_names_never_change() -> None:
    assert [reason.value for reason in StopReason] == [
        "max_epochs", "early_stopped", "pruned", "diverged", "timeout", "out_of_memory", "crashed", "node_lost",
        "error", "interrupted",
    ]  # fmt: skip
    assert [state.value for state in State] == ["WAITING", "RUNNING", "COMPLETE", "PRUNED", "FAIL"]
