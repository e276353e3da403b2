"""The driver's end of one worker process; the process itself runs :mod:`hpo.executors.local.worker`."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import psutil

from hpo.core.states import Decision, StopReason
from hpo.core.trial import FoldResult
from hpo.errors import hidden
from hpo.evaluation.tasks import Task
from hpo.executors.bounds import Bounds
from hpo.executors.local import worker
from hpo.executors.messages import Broken, Dropped, Message, Ready, RunTask, Stop
from hpo.executors.protocol import TaskDialogue
from hpo.models.base import Control, ObjectiveControl

POLL_SECONDS = 0.1
MEMORY_SECONDS = 0.25  # between two measurements of a worker's memory
GRACE_SECONDS = 5.0
"""How long a training that was told to stop may take to end its batch before its process is killed."""
EXIT_POLL_SECONDS = 0.01
LOG_LINES = 60
_SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)


class WorkerLost(Exception):
    """A worker cannot return a result: it is dead, or must be killed.

    Args:
        text: one line saying what happened.
        is_retriable: whether another worker may succeed.
    """

    def __init__(self, reason: StopReason, text: str | None, is_retriable: bool = True) -> None:
        self.reason, self.text, self.is_retriable = reason, text, is_retriable


class WorkerHandle:
    """Starts a worker process and talks to it.

    Args:
        data_path: the file that :func:`hpo.executors.local.pool.write_evaluator` wrote.
        log_path: file for what the worker prints.
        warn: shows a warning to the user.
    """

    def __init__(self, data_path: Path, log_path: Path, warn: Callable[[str], None]) -> None:
        self.log_path, self._warn = log_path, warn
        self._log_start = log_path.stat().st_size if log_path.exists() else 0
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._reports, their_reports = context.Pipe(duplex=False)
        arguments = (theirs, their_reports, data_path, log_path, hidden())
        self._process = context.Process(target=worker.main, args=arguments, name="hpo-worker")
        # The child inherits the blocked signals and unblocks them once it ignores them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        their_reports.close()
        self.pid: int = self._process.pid or 0
        self._memory = psutil.Process(self.pid)
        self.is_ready = False
        self._reports_lock = threading.Lock()
        self._has_reports = True
        self._n_tasks = 0
        self._first_bytes: int | None = None
        self._exit_deadline = math.inf

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    @property
    def private_bytes(self) -> int:
        """Memory of the process without what it shares with others, such as the data."""
        try:
            info = self._memory.memory_info()
        except psutil.Error:
            return 0
        return int(info.rss - getattr(info, "shared", 0))

    def has_grown(self, limit: int) -> bool:
        """Return whether its memory has grown by more than ``limit`` bytes since its first task."""
        if self._n_tasks and self._first_bytes is None:
            self._first_bytes = self.private_bytes
        return self._first_bytes is not None and self.private_bytes - self._first_bytes > limit

    def wait_until_ready(self, control: Control) -> bool:
        """Wait for imports and data; return False if the study is interrupted first.

        Raises:
            WorkerLost: when the worker cannot start.
        """
        while not self.is_ready:
            message = self._receive()
            if isinstance(message, Broken):
                raise WorkerLost(StopReason.CRASHED, message.error, is_retriable=False)
            self.is_ready = isinstance(message, Ready)
            if message is None and control.poll() is Decision.INTERRUPT:
                return False
        return True

    def run(
        self, task: Task, control: ObjectiveControl, epochs: list[Mapping[str, float]], bounds: Bounds
    ) -> FoldResult:
        """Run ``task`` and add the logs of its epochs to ``epochs`` as they arrive.

        Raises:
            WorkerLost: when the process dies or exceeds ``bounds``.
            StudyFailed: when the task failed for a reason that ends the study.
        """
        timeout, max_memory = bounds.trial_timeout_seconds, bounds.max_memory_bytes
        self._n_tasks += 1
        number = self._n_tasks
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        dialogue = TaskDialogue(number, self.pid, control, epochs, self._send, self._warn)
        self._send(RunTask(number, os.getpid(), task))
        ends = math.inf if timeout is None else time.monotonic() + timeout - getattr(task, "spent_seconds", 0.0)
        stopping: StopReason | None = None
        killed_at, memory_at = math.inf, math.inf if max_memory is None else time.monotonic()
        while True:
            message = self._receive()
            ended = None if message is None else dialogue.receive(message)
            if ended is not None:
                assert isinstance(ended.result, FoldResult)
                return _with_reason(ended.result, stopping, timeout)
            now = time.monotonic()
            if stopping is None:
                if control.poll() is Decision.INTERRUPT:
                    stopping = StopReason.INTERRUPTED
                elif now >= ends:
                    stopping = StopReason.TIMEOUT
                if stopping is not None:
                    killed_at = now + GRACE_SECONDS
                    self._send(Stop(number, os.getpid()))
            elif now >= killed_at:
                raise WorkerLost(stopping, _timeout_text(timeout) if stopping is StopReason.TIMEOUT else None)
            if max_memory is not None and now >= memory_at:
                memory_at = now + MEMORY_SECONDS
                if (used := self.private_bytes) > max_memory:
                    text = f"the worker used {used:,} bytes of memory, more than max_memory_bytes={max_memory:,}"
                    raise WorkerLost(StopReason.OUT_OF_MEMORY, text)

    def _receive(self) -> Message | None:
        """Return the next message, or None after a short time."""
        reports = [self._reports] if self._has_reports else []
        sources: list[Any] = [self._connection, *reports, self._process.sentinel]
        try:
            ready = wait(sources, POLL_SECONDS)
            if self._reports in ready:
                self._read_reports()
            # A process that the model forked keeps the sentinel open, so the exit code is checked as well.
            has_died = self._process.sentinel in ready or self._process.exitcode is not None
            if self._connection in ready or (has_died and self._connection.poll()):
                message: Message = self._connection.recv()
                return message
        except (EOFError, OSError):  # it is gone, or another thread has just ended it
            raise self._death() from None
        if has_died:
            raise self._death()
        return None

    def _read_reports(self) -> None:
        """Show what forked processes reported; another thread may do so at the same time."""
        with self._reports_lock:
            try:
                while self._has_reports and self._reports.poll():
                    report: Dropped = self._reports.recv()
                    self._warn(
                        f"a model forked process {report.pid}, which returned from the model as well: hpo dropped what "
                        f"it reported ({report.kind}) and ended it; see {self.log_path}"
                    )
            except (EOFError, OSError):
                self._has_reports = False

    def _send(self, message: Message) -> None:
        try:
            self._connection.send(message)
        except OSError:
            raise self._death() from None

    def _death(self) -> WorkerLost:
        code = self._wait_for_exit(time.monotonic() + GRACE_SECONDS)
        if code is None:
            return WorkerLost(StopReason.CRASHED, "the worker closed its connection to the driver")
        if code >= 0:
            return WorkerLost(StopReason.CRASHED, f"the worker exited with code {code}")
        name = signal.Signals(-code).name
        guess = ", perhaps by the system because memory ran out" if name == "SIGKILL" else ""
        return WorkerLost(StopReason.CRASHED, f"the worker was killed by {name}{guess}")

    def _wait_for_exit(self, deadline: float) -> int | None:
        """Wait for the process to end; return its exit code, or None at ``deadline``.

        ``Process.join`` with a timeout waits for the sentinel instead, which a process that a model forked keeps open.
        """
        while (code := self._process.exitcode) is None and time.monotonic() < deadline:
            time.sleep(EXIT_POLL_SECONDS)
        return code

    def last_lines(self) -> str | None:
        """Return the last lines printed since the task began, such as the stack of a crash."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(self._log_start)
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return None
        return "\n".join(lines[-LOG_LINES:]) or None

    def kill(self) -> None:
        """End the process and all that it has started at once; any thread may call it, and more than once."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with suppress(ProcessLookupError, AttributeError):
            self._process.kill()
        # One deadline for all calls: a process that the system cannot end delays the end of a study only once.
        self._exit_deadline = min(self._exit_deadline, time.monotonic() + GRACE_SECONDS)
        self._wait_for_exit(self._exit_deadline)
        self._read_reports()  # the connections stay open: another thread may be using them


def _with_reason(result: FoldResult, stopping: StopReason | None, timeout: float | None) -> FoldResult:
    """Return ``result`` with the stop reason TIMEOUT if the driver stopped the training for its time."""
    if stopping is not StopReason.TIMEOUT or result.outcome.stop_reason is not StopReason.INTERRUPTED:
        return result
    outcome = replace(result.outcome, stop_reason=StopReason.TIMEOUT)
    return replace(result, outcome=outcome, error=_timeout_text(timeout))


def _timeout_text(timeout: float | None) -> str:
    return f"it took longer than executor.trial_timeout_seconds={timeout:g}"
