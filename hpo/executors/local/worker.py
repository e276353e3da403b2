"""The process in which trials train; the driver's end is :mod:`hpo.executors.local.handle`.

It imports the model's library once, maps the data into its memory, and runs one task after another. It never outlives
the driver, and writes nothing to MLflow.
"""

from __future__ import annotations

import faulthandler
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path

from hpo.core.process import prepare_process
from hpo.errors import ForkedProcess, StudyFailed, hide, redact
from hpo.executors.messages import (
    NO_TASK,
    Broken,
    Dropped,
    Message,
    Ready,
    RunTask,
    TaskEnded,
    TaskFailed,
)
from hpo.executors.protocol import RemoteControl


def main(connection: Connection, reports: Connection, data_path: Path, log_path: Path, secrets: Sequence[str]) -> None:
    """Run tasks until the driver closes the connection or ends.

    Args:
        connection: to the driver, for both directions.
        reports: to the driver, for messages of forked processes.
        data_path: the file that :func:`hpo.executors.local.pool.write_evaluator` wrote.
        log_path: file for what the model and its library print.
        secrets: values that no message may contain.
    """
    _follow_driver()
    _redirect_output(log_path)
    prepare_process()
    for secret in secrets:
        hide(secret)
    link = DriverLink(connection, reports)
    pid = os.getpid()
    try:
        import joblib

        evaluator = joblib.load(data_path, mmap_mode="r")
    except BaseException as error:  # importing a user's model may raise anything
        link.send(Broken(NO_TASK, pid, redact(f"{type(error).__name__}: {error}")))
        return
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the driver has closed the connection
        link.send(Ready(NO_TASK, pid))
        for message, control in link.tasks():
            try:
                try:
                    answer: Message = TaskEnded(message.task, pid, evaluator.run(message.what, control))
                except StudyFailed as error:
                    answer = TaskFailed(message.task, pid, str(error))
                control.close()
                link.send(answer)
            except ForkedProcess as error:
                link.end_forked_process(message.task, str(error))


class DriverLink:
    """The worker's end of the connection to the driver.

    A thread receives, so that any number of threads of the model can wait for answers. A forked process shares the
    connection's file descriptor: it must neither write to it, which could split a message of this process, nor read
    from it, which would take an answer away. So it closes its copy, and reports through a pipe of its own, in which
    short messages of several processes do not mix (POSIX ``PIPE_BUF``).

    Args:
        connection: to the driver, for both directions.
        reports: to the driver, for :class:`Dropped`.
    """

    def __init__(self, connection: Connection, reports: Connection) -> None:
        self._connection, self._reports = connection, reports
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._tasks: queue.SimpleQueue[tuple[RunTask, RemoteControl] | BaseException | None] = queue.SimpleQueue()
        os.set_blocking(reports.fileno(), False)  # a forked process never waits for the driver
        os.register_at_fork(after_in_child=connection.close)
        threading.Thread(target=self._receive, name="hpo-driver-link", daemon=True).start()

    def send(self, message: Message) -> None:
        """Send ``message``; any thread may call it.

        Raises:
            ForkedProcess: in a process that was forked from the worker.
        """
        if os.getpid() != self._pid:
            raise ForkedProcess(type(message).__name__)
        with self._lock:
            self._connection.send(message)

    def tasks(self) -> Iterator[tuple[RunTask, RemoteControl]]:
        """Yield every task with its control until the driver closes the connection or ends."""
        while (task := self._tasks.get()) is not None:
            if isinstance(task, BaseException):
                raise task
            yield task

    def end_forked_process(self, task: int, kind: str) -> None:
        """Report that this process is a copy of the worker that a model forked, and end it."""
        text = f"hpo: process {os.getpid()} was forked by the model and returned from it ({kind}); it ends here"
        print(text, file=sys.stderr, flush=True)
        with suppress(OSError):
            self._reports.send(Dropped(task, os.getpid(), kind))
        os._exit(0)

    def _receive(self) -> None:
        control: RemoteControl | None = None
        try:
            while True:
                message = self._connection.recv()
                if isinstance(message, RunTask):
                    control = RemoteControl(message.task, self.send)
                    self._tasks.put((message, control))
                elif control is not None:
                    control.receive(message)
        except (EOFError, OSError):
            self._tasks.put(None)
        except BaseException as error:  # such as a task that cannot be unpickled
            self._tasks.put(error)
        if control is not None:
            control.close()


def _follow_driver() -> None:
    """Ignore the terminal's signals, which the driver handles, and end when the driver ends for whatever reason."""
    os.setpgid(0, 0)
    for name in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
    driver = parent_process()
    assert driver is not None, "multiprocessing starts workers"
    sentinel = int(driver.sentinel)
    with suppress(ImportError, OSError, AttributeError):
        # The kernel then ends this process, and those that a model has started, with SIGIO, even if native code never
        # returns to Python.
        import fcntl

        fcntl.fcntl(sentinel, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(sentinel, fcntl.F_SETFL, fcntl.fcntl(sentinel, fcntl.F_GETFL) | os.O_ASYNC)

    def watch() -> None:
        wait([sentinel])
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="hpo-driver-watch", daemon=True).start()


def _redirect_output(log_path: Path) -> None:
    """Write what the model and its library print, and the stack of a crash, to a file; the driver owns the terminal."""
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    faulthandler.enable()
