"""The process in which trials train; started by :mod:`hpo.executors.local.executor`, and warm for as long as it lives.

It imports the model's library once, maps the data into its memory, and carries out one task after another. It never
outlives the driver, and writes to no record.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from hpo.core.params import ParamValue
from hpo.core.space import Parameter
from hpo.core.states import Decision
from hpo.errors import StudyFailed, SuggestionRefused, hide, redact


def main(connection: Connection, data_path: Path, log_path: Path, secrets: Sequence[str]) -> None:
    """Answer the driver until it says ``exit`` or is gone.

    Messages from the driver are ``("task", number, task)``, ``("decision", decision)``, ``("suggested", value)``,
    ``("refused", text)``, ``("stop", number)`` and ``("exit",)``; to the driver ``("ready",)``, ``("broken", text)``,
    ``("epoch", metrics)``, ``("suggest", parameter)``, ``("note", name, text)``, ``("result", result)`` and
    ``("failed", text)``.
    """
    _follow_the_driver()
    _write_to(log_path)
    for secret in secrets:
        hide(secret)
    try:
        import joblib

        evaluator = joblib.load(data_path, mmap_mode="r")
    except BaseException as error:  # importing a user's model may raise anything
        connection.send(("broken", redact(f"{type(error).__name__}: {error}")))
        return
    connection.send(("ready",))
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the driver has let go of this process
        while (message := connection.recv())[0] != "exit":
            if message[0] == "task":
                _, number, task = message
                try:
                    answer: tuple[str, Any] = ("result", evaluator.run(task, _Line(connection, number)))
                except StudyFailed as error:
                    answer = ("failed", str(error))
                connection.send(answer)


class _Line:
    """The control of a training, which is in another process; see :class:`hpo.models.base.Control`."""

    def __init__(self, connection: Connection, number: int) -> None:
        self._connection, self._number = connection, number
        self._is_stopped = False

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        _, decision = self._asked(("epoch", dict(logs)), "decision")
        return Decision.INTERRUPT if self._is_stopped else Decision(decision)

    def suggest(self, parameter: Parameter) -> ParamValue:
        kind, answer = self._asked(("suggest", parameter), "suggested", "refused")
        if kind == "refused":
            raise SuggestionRefused(answer)
        value: ParamValue = answer
        return value

    def note(self, name: str, text: str) -> None:
        self._connection.send(("note", name, text))

    def _asked(self, question: tuple[Any, ...], *kinds: str) -> tuple[Any, ...]:
        """The driver's answer, which is of one of these kinds."""
        self._connection.send(question)
        while True:
            message: tuple[Any, ...] = self._connection.recv()
            if message[0] in kinds:
                return message
            self._hear(message)

    def poll(self) -> Decision:
        while self._connection.poll():
            self._hear(self._connection.recv())
        return Decision.INTERRUPT if self._is_stopped else Decision.CONTINUE

    def _hear(self, message: tuple[Any, ...]) -> None:
        # One that was meant for an earlier task came too late.
        self._is_stopped = self._is_stopped or message == ("stop", self._number)


def _follow_the_driver() -> None:
    """Leave signals from the terminal to the driver, and end when it ends, however that comes about."""
    os.setpgid(0, 0)
    for name in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
    driver = parent_process()
    assert driver is not None, "a worker is started by multiprocessing"
    sentinel = int(driver.sentinel)
    with suppress(ImportError, OSError, AttributeError):
        # The kernel then ends this process, and those that a model has started, with SIGIO: even one that computes
        # without ever letting Python run.
        import fcntl

        fcntl.fcntl(sentinel, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(sentinel, fcntl.F_SETFL, fcntl.fcntl(sentinel, fcntl.F_GETFL) | os.O_ASYNC)

    def watch() -> None:
        wait([sentinel])
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="hpo-driver-watch", daemon=True).start()


def _write_to(log_path: Path) -> None:
    """Send what the model and its library print, and the stack of a crash, to a file: the terminal is the driver's."""
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    faulthandler.enable()
