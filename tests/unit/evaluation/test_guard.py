"""Errors of the driver end the study, whatever the model does with them; errors of the model are its own."""

import errno
import os
from collections.abc import Callable, Mapping

import pytest

from hpo.core.params import ParamValue
from hpo.core.space import Float, Parameter
from hpo.core.states import Decision, StopReason
from hpo.errors import StudyFailed, SuggestionRefused, one_line
from hpo.evaluation.guard import Guard, run_guarded
from hpo.models.base import WithoutStrategy

PARAMETER = Float("x", low=0.0, high=1.0)


class BrokenDriver:
    """Raises on every call, as a driver does when its store is gone."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        raise self._error

    def poll(self) -> Decision:
        raise self._error

    def suggest(self, parameter: Parameter) -> ParamValue:
        raise self._error

    def note(self, name: str, text: str) -> None:
        raise self._error


CALLS: dict[str, Callable[[Guard], object]] = {
    "on_epoch": lambda guard: guard.on_epoch(0, {"loss": 1.0}),
    "poll": lambda guard: guard.poll(),
    "suggest": lambda guard: guard.suggest(PARAMETER),
    "note": lambda guard: guard.note("name", "text"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_driver_error_is_raised_although_the_model_swallows_it(call: Callable[[Guard], object]) -> None:
    gone = ConnectionError("the store is gone")

    def train(guard: Guard) -> None:
        try:
            call(guard)
        except Exception:
            return

    with pytest.raises(ConnectionError) as caught:
        run_guarded(train, BrokenDriver(gone))
    assert caught.value is gone


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_driver_error_is_raised_although_the_model_replaces_it(call: Callable[[Guard], object]) -> None:
    gone = ConnectionError("the store is gone")

    def train(guard: Guard) -> None:
        try:
            call(guard)
        except Exception:
            raise ValueError("training failed") from None

    with pytest.raises(ConnectionError) as caught:
        run_guarded(train, BrokenDriver(gone))
    assert caught.value is gone
    assert isinstance(caught.value.__cause__, ValueError)


def test_driver_error_passes_through_the_model() -> None:
    with pytest.raises(ConnectionError):
        run_guarded(lambda guard: guard.poll(), BrokenDriver(ConnectionError("the store is gone")))  # type: ignore[arg-type,return-value]


def test_refused_suggestion_is_an_error_of_the_objective() -> None:
    failure = run_guarded(lambda guard: guard.suggest(PARAMETER), BrokenDriver(SuggestionRefused("not in the space")))  # type: ignore[arg-type,return-value]
    assert failure is not None
    assert failure.reason is StopReason.ERROR
    assert failure.error == "SuggestionRefused: not in the space"


class OutOfMemoryError(RuntimeError):
    """Named like the error of PyTorch."""


@pytest.mark.parametrize(
    ("error", "reason", "line"),
    [
        (ValueError("wrong\nin two lines"), StopReason.ERROR, "ValueError: wrong"),
        (MemoryError(), StopReason.OUT_OF_MEMORY, "MemoryError: no message"),
        (OutOfMemoryError("CUDA"), StopReason.OUT_OF_MEMORY, "OutOfMemoryError: CUDA"),
    ],
)
def test_model_error_is_a_failure_with_its_traceback(error: Exception, reason: StopReason, line: str) -> None:
    def train(guard: Guard) -> None:
        raise error

    failure = run_guarded(train, WithoutStrategy())
    assert failure is not None
    assert (failure.reason, failure.error) == (reason, line)
    assert "in train" in failure.traceback


def test_model_that_ends_by_itself_has_no_failure() -> None:
    assert run_guarded(lambda guard: None, WithoutStrategy()) is None


def test_full_disk_ends_the_study() -> None:
    def train(guard: Guard) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StudyFailed, match="the disk is full"):
        run_guarded(train, WithoutStrategy())


def test_error_description_is_one_short_line() -> None:
    assert one_line(ValueError("  \n" + "x" * 400)) == ("ValueError: " + "x" * 400)[:300]


class ListeningDriver:
    """Keeps what it receives."""

    def __init__(self) -> None:
        self.received: list[object] = []

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        self.received.append((epoch, logs))
        return Decision.PRUNE

    def poll(self) -> Decision:
        return Decision.INTERRUPT

    def suggest(self, parameter: Parameter) -> ParamValue:
        self.received.append(parameter)
        return 0.5

    def note(self, name: str, text: str) -> None:
        self.received.append((name, text))


def test_calls_and_answers_pass_through_the_guard() -> None:
    driver = ListeningDriver()
    guard = Guard(driver)
    assert [call(guard) for call in CALLS.values()] == [Decision.PRUNE, Decision.INTERRUPT, 0.5, None]
    assert driver.received == [(0, {"loss": 1.0}), PARAMETER, ("name", "text")]
