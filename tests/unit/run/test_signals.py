"""Signals to this process while a study runs; every handler is restored afterwards."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpo.run.signals import HANDLED, handle_interrupts


class Study:
    """Stops once, as a runner does."""

    def __init__(self) -> None:
        self.is_searching = True
        self.messages: list[str] = []
        self.n_detached = 0

    def may_stop(self) -> bool:
        return self.is_searching and not self.messages

    def stop(self, message: str) -> None:
        self.messages.append(message)

    def detach(self) -> None:
        self.n_detached += 1


@pytest.fixture(autouse=True)
def before() -> Iterator[dict[signal.Signals, object]]:
    """Handlers of our own, so that restoring them differs from restoring the defaults."""
    handlers = {each: (lambda signum, frame: None) for each in HANDLED}
    previous = {each: signal.signal(each, handler) for each, handler in handlers.items()}
    yield dict(handlers)
    for each, handler in previous.items():
        signal.signal(each, handler)


def handlers() -> dict[signal.Signals, object]:
    return {each: signal.getsignal(each) for each in HANDLED}


def test_handlers_are_restored_after_a_study(before: dict[signal.Signals, object]) -> None:
    study = Study()
    with handle_interrupts(study.may_stop, study.stop, study.detach):
        assert all(handlers()[each] is not before[each] for each in HANDLED)
    assert handlers() == before


def test_handlers_are_restored_after_an_error(before: dict[signal.Signals, object]) -> None:
    study = Study()
    with pytest.raises(ValueError, match="of the study"), handle_interrupts(study.may_stop, study.stop, study.detach):
        raise ValueError("of the study")
    assert handlers() == before


def test_handlers_are_restored_after_an_interrupt(before: dict[signal.Signals, object]) -> None:
    study = Study()
    study.is_searching = False
    with pytest.raises(KeyboardInterrupt), handle_interrupts(study.may_stop, study.stop, study.detach):
        signal.raise_signal(signal.SIGINT)
    assert handlers() == before


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGINT, "ending the running trials; Ctrl-C again stops at once"),
        (signal.SIGTERM, "ending the running trials; received SIGTERM"),
        (signal.SIGHUP, "ending the running trials; received SIGHUP"),
    ],
)
def test_first_signal_stops_the_study_and_the_next_raises(number: signal.Signals, message: str) -> None:
    study = Study()
    with handle_interrupts(study.may_stop, study.stop, study.detach):
        signal.raise_signal(number)
        assert study.messages == [message]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert study.messages == [message]
    assert study.n_detached == (2 if number is signal.SIGHUP else 0)


def test_signal_outside_of_the_search_raises_at_once() -> None:
    study = Study()
    study.is_searching = False
    with handle_interrupts(study.may_stop, study.stop, study.detach), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert study.messages == []


def test_nothing_is_installed_outside_of_the_main_thread(before: dict[signal.Signals, object]) -> None:
    study, seen = Study(), []

    def run() -> None:
        with handle_interrupts(study.may_stop, study.stop, study.detach):
            seen.append(handlers())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]


DETACHED = """
import os, signal, sys
from hpo.run.signals import handle_interrupts
stopped = []
with handle_interrupts(lambda: True, stopped.append):
    signal.raise_signal(signal.SIGHUP)
    print("lost", flush=True)
    print("lost", file=sys.stderr, flush=True)
    os.write(1, b"lost")
with open(sys.argv[1], "w") as file:
    file.write(stopped[0])
"""


def test_closed_terminal_is_detached_before_anything_is_written(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DETACHED, str(tmp_path / "message")]
    done = subprocess.run(command, capture_output=True, check=True, env={**os.environ})
    assert (done.stdout, done.stderr) == (b"", b"")
    assert (tmp_path / "message").read_text() == "ending the running trials; received SIGHUP"
