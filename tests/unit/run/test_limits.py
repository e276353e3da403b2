"""What ends a study, with a clock that only moves when told to."""

import threading

import pytest

from hpo.core.limits import Limits
from hpo.core.states import Decision, State
from hpo.errors import SearchStopped
from hpo.run.limits import StudyLimits
from hpo.run.result import StopCause


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def check(limits: StudyLimits, n_open: int = 0) -> StopCause | None:
    """The cause of the end after one more trial was requested; None if it may start."""
    try:
        limits.require_new_trial(n_open)
    except SearchStopped:
        assert limits.cause is not None
        return limits.cause
    assert limits.cause is None
    return None


def test_finished_and_open_trials_count_towards_n_trials() -> None:
    limits = StudyLimits(Limits(n_trials=4))
    for state in (State.COMPLETE, State.PRUNED, State.WAITING):
        limits.count_trial(state)
    assert limits.n_finished == 2
    assert check(limits, n_open=1) is None
    assert check(limits, n_open=2) is StopCause.N_TRIALS
    assert [limits.n_in(state) for state in (State.COMPLETE, State.PRUNED, State.FAIL, State.WAITING)] == [1, 1, 0, 1]


def test_running_trials_continue_after_the_last_one_has_started() -> None:
    limits = StudyLimits(Limits(n_trials=1))
    assert check(limits, n_open=1) is StopCause.N_TRIALS
    assert limits.decide() is Decision.CONTINUE


def test_consecutive_failures_end_a_study_unless_another_trial_comes_between() -> None:
    limits = StudyLimits(Limits(9, max_consecutive_failures=2))
    for state in (State.FAIL, State.COMPLETE, State.FAIL):
        limits.count_trial(state)
    assert check(limits) is None
    limits.count_trial(State.PRUNED)
    limits.count_trial(State.FAIL)
    assert check(limits) is None
    limits.count_trial(State.WAITING)  # an interrupted trial is neither a failure nor a success
    limits.count_trial(State.FAIL)
    assert check(limits) is StopCause.FAILURES
    assert limits.decide() is Decision.CONTINUE


def test_seconds_count_from_the_first_trial_and_over_sessions() -> None:
    clock = Clock()
    limits = StudyLimits(Limits(timeout_seconds=10.0), clock)
    limits.restore([], seconds=4.0, epochs=0)
    clock.now += 50
    assert limits.seconds == 4.0
    limits.start_clock()
    clock.now += 3
    limits.start_clock()  # only the first call counts
    assert limits.seconds == 7.0
    clock.now += 2.5
    assert limits.decide() is Decision.CONTINUE
    clock.now += 0.5
    assert limits.decide() is Decision.INTERRUPT
    assert check(limits) is StopCause.TIMEOUT


def test_epochs_count_over_sessions_and_interrupt_running_trials() -> None:
    limits = StudyLimits(Limits(max_epochs_total=5))
    limits.restore([], seconds=0.0, epochs=3)
    limits.count_epoch()
    assert (limits.epochs, limits.decide()) == (4, Decision.CONTINUE)
    assert check(limits) is None
    limits.count_epoch()
    assert (limits.epochs, limits.decide()) == (5, Decision.INTERRUPT)
    assert check(limits) is StopCause.MAX_EPOCHS


def test_restored_trials_count_and_restored_failures_do_not() -> None:
    limits = StudyLimits(Limits(n_trials=3, max_consecutive_failures=2))
    limits.restore([State.FAIL, State.FAIL], seconds=0.0, epochs=0)
    assert (limits.n_finished, limits.n_in(State.FAIL)) == (2, 2)
    assert check(limits) is None
    limits.count_trial(State.FAIL)
    assert check(limits) is StopCause.N_TRIALS


def test_new_study_has_spent_nothing() -> None:
    limits = StudyLimits(Limits(9, max_consecutive_failures=1))
    assert (limits.seconds, limits.epochs, limits.n_finished, limits.is_interrupted) == (0.0, 0, 0, False)
    assert check(limits) is None


def test_without_a_limit_nothing_ends_a_study() -> None:
    limits = StudyLimits(Limits(n_trials=10_000))
    limits.start_clock()
    for _ in range(100):
        limits.count_epoch()
        limits.count_trial(State.FAIL)
    assert check(limits) is None
    assert limits.decide() is Decision.CONTINUE


@pytest.mark.parametrize("later", list(StopCause))
@pytest.mark.parametrize("first", list(StopCause))
def test_first_cause_stays_unless_later_one_interrupts(first: StopCause, later: StopCause) -> None:
    limits = StudyLimits(Limits(1))
    limits.stop(first)
    limits.stop(later)
    replaces = later.interrupts_trials and not first.interrupts_trials
    assert limits.cause is (later if replaces else first)


@pytest.mark.parametrize("first", list(StopCause))
def test_interrupt_takes_precedence_over_every_cause(first: StopCause) -> None:
    limits = StudyLimits(Limits(1))
    limits.stop(first)
    assert not limits.is_interrupted
    limits.interrupt()
    limits.stop(StopCause.TIMEOUT)
    assert (limits.cause, limits.is_interrupted) == (StopCause.INTERRUPTED, True)
    assert limits.decide() is Decision.INTERRUPT


def test_interrupt_does_not_wait_for_the_lock() -> None:
    """A signal handler must not wait for a thread that it has interrupted, or that waits for the main thread."""

    class Held(Clock):
        def __init__(self) -> None:
            super().__init__()
            self.is_read, self.may_return = threading.Event(), threading.Event()
            self.is_blocking = False

        def __call__(self) -> float:
            if self.is_blocking:
                self.is_read.set()
                assert self.may_return.wait(30)
            return self.now

    clock = Held()
    limits = StudyLimits(Limits(timeout_seconds=10.0), clock)
    limits.start_clock()
    clock.is_blocking = True
    decisions: list[Decision] = []
    thread = threading.Thread(target=lambda: decisions.append(limits.decide()))
    thread.start()
    assert clock.is_read.wait(30)  # the other thread holds the lock
    limits.interrupt()
    clock.may_return.set()
    thread.join(30)
    assert decisions == [Decision.INTERRUPT]


@pytest.mark.parametrize(
    ("n_done", "cause"), [(2, StopCause.EXHAUSTED), (3, StopCause.N_TRIALS), (4, StopCause.EXHAUSTED)]
)
def test_ended_search_is_exhausted_unless_all_trials_are_done(n_done: int, cause: StopCause) -> None:
    limits = StudyLimits(Limits(n_trials=3))
    for _ in range(n_done):
        limits.count_trial(State.COMPLETE)
    assert limits.cause is None
    assert limits.final_cause is cause
    limits.stop(StopCause.ERROR)
    assert limits.final_cause is StopCause.ERROR


def test_epochs_of_many_threads_are_all_counted() -> None:
    limits = StudyLimits(Limits(1))
    threads = [threading.Thread(target=lambda: [limits.count_epoch() for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert limits.epochs == 2000
