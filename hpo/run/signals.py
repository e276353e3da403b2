"""Handles Ctrl-C, SIGTERM and a closed terminal while a study runs."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def handle_interrupts(
    may_stop: Callable[[], bool], stop: Callable[[str], None], detach: Callable[[], None] | None = None
) -> Iterator[None]:
    """Call ``stop`` on the first signal, raise ``KeyboardInterrupt`` on the next; restore the handlers afterwards.

    Python delivers signals to the main thread only; in any other thread nothing is installed.

    Args:
        may_stop: whether the study can stop in an orderly way now; if not, the first signal raises too.
        stop: stops the study in an orderly way; receives a message for the user.
        detach: called before anything else when the terminal was closed; by default, :func:`detach_from_terminal`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGHUP:
            (detach or detach_from_terminal)()
        if not may_stop():
            raise KeyboardInterrupt
        again = "Ctrl-C again stops at once" if signum == signal.SIGINT else f"received {signal.Signals(signum).name}"
        stop(f"ending the running trials; {again}")

    before = {each: signal.signal(each, on_signal) for each in HANDLED}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def detach_from_terminal() -> None:
    """Redirect stdout and stderr to the null device: writing to a closed terminal fails."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)
    os.close(null)
