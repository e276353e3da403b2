"""Worker processes of this machine: kept warm, watched, and replaced when one is lost.

A worker that dies, hangs, or takes too much memory takes down the trial that it trains and nothing else.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import psutil

from hpo.core.states import Decision, StopReason
from hpo.core.trial import FoldResult
from hpo.errors import ConfigError, StudyFailed, SuggestionRefused, hidden
from hpo.evaluation.evaluator import Evaluator
from hpo.evaluation.tasks import Task
from hpo.executors.local import worker
from hpo.executors.threads import check_whole
from hpo.models.base import Control, ObjectiveControl, Undisturbed

POLL_SECONDS = 0.1
MEMORY_SECONDS = 0.25  # between two looks at the memory of a worker
# What a training gets to come to the end of a batch before its process is killed.
GRACE_SECONDS = 5.0
MAX_FAILED_STARTS = 3
LOG_LINES = 60
_SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)


@dataclass(frozen=True)
class Bounds:
    """What a trial and its worker may take.

    Args:
        trial_timeout_seconds: wall seconds of training that a trial may take over all its folds; None for no limit.
        max_memory_bytes: memory that a worker may have for itself; None for no limit.
        recycle_growth_bytes: a worker that has grown by more since its first task is replaced between two tasks.

    Raises:
        ConfigError: for a value that is no number or too small.
    """

    trial_timeout_seconds: float | None = None
    max_memory_bytes: int | None = None
    recycle_growth_bytes: int = 500_000_000

    def __post_init__(self) -> None:
        seconds = self.trial_timeout_seconds
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if seconds is not None and not (is_number and 0 < seconds < math.inf):
            expected = "a number of seconds above 0, or null for no limit"
            fix = "executor.trial_timeout_seconds=3600"
            raise ConfigError("executor.trial_timeout_seconds", seconds, expected, fix)
        check_whole("max_memory_bytes", self.max_memory_bytes, 1, "no limit")
        check_whole("recycle_growth_bytes", self.recycle_growth_bytes, 1)


@dataclass(frozen=True)
class Unfinished:
    """What is known of a task whose worker did not live to give a result.

    Args:
        seconds: wall seconds that it took.
        traceback: the last lines that were printed: the stack of a crash.
    """

    reason: StopReason
    seconds: float = 0.0
    error: str | None = None
    traceback: str | None = None

    def result(self, evaluator: Evaluator, task: Task, epochs: list[Mapping[str, float]]) -> FoldResult:
        """As a result with the epochs that were reported."""
        result = evaluator.unfinished(task, epochs, self.seconds, self.reason, self.error)
        return replace(result, traceback=self.traceback)


def write_evaluator(evaluator: Evaluator, path: Path, executor: str) -> None:
    """Write what workers map into their memory: one copy for all of them, and none to send.

    Args:
        executor: as the user calls it.

    Raises:
        StudyFailed: when the disk does not take it.
        ConfigError: when it cannot be sent to another process.
    """
    import joblib

    try:
        # For nobody else to read: a model's options may hold what is a secret.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        joblib.dump(evaluator, path)
    except OSError as error:
        raise StudyFailed(f"the data cannot be written for the workers: {error}") from error
    except Exception as error:  # pickling may fail in many ways
        expected = f"a model and data that can be sent to another process ({type(error).__name__}: {error})"
        raise ConfigError("executor", executor, expected, "executor=inline, or mend the model") from error


class Workers:
    """A fixed number of warm workers, each of which carries out one task at a time.

    Args:
        data_path: what :func:`write_evaluator` wrote.
        folder: where workers log what models print.
    """

    def __init__(self, bounds: Bounds, data_path: Path, folder: Path, n_workers: int) -> None:
        self._bounds, self._data_path, self._folder, self._n_workers = bounds, data_path, folder, n_workers
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()
        self.all: set[Worker] = set()
        self._lock = threading.Lock()
        self._n_started = self._n_failed_starts = 0
        self._is_stopped = False

    def start(self) -> None:
        """Start all workers and wait until they are ready: what that takes is not a trial's time.

        Raises:
            StudyFailed: when one cannot start.
        """
        for _ in range(self._n_workers):
            self._add()
        with ExitStack() as ready:
            for _ in range(self._n_workers):
                ready.enter_context(self._taken(Undisturbed()))

    def _add(self) -> None:
        with self._lock:
            if self._is_stopped:
                return
            number = self._n_started % self._n_workers
            self._n_started += 1
            made = Worker(self._data_path, self._folder / f"worker-{number}.log")
            self.all.add(made)
        self._idle.put(made)

    def carry_out(
        self, task: Task, control: ObjectiveControl, epochs: list[Mapping[str, float]]
    ) -> FoldResult | Unfinished:
        """Have ``task`` carried out; its epochs are added to ``epochs`` as they come."""
        with self._taken(control) as chosen:
            began = time.monotonic()
            if chosen is None:  # interrupted before it was ready
                return Unfinished(StopReason.INTERRUPTED)
            try:
                return chosen.carry_out(task, control, epochs, self._bounds)
            except _Lost as lost:
                chosen.kill()
                seconds = time.monotonic() - began
                if self._is_stopped or lost.reason is StopReason.INTERRUPTED:  # by us
                    return Unfinished(StopReason.INTERRUPTED, seconds)
                return Unfinished(lost.reason, seconds, lost.text, chosen.last_lines())

    @contextmanager
    def _taken(self, control: Control) -> Iterator[Worker | None]:
        """A worker that is ready, for one task; one that is lost meanwhile, or has grown too much, is replaced."""
        while True:
            try:
                chosen = self._idle.get(timeout=POLL_SECONDS)
            except queue.Empty:
                if self._is_stopped or control.poll() is Decision.INTERRUPT:
                    yield None
                    return
                continue
            if chosen.was_ready and not chosen.is_alive:  # it died while it had nothing to do
                self._discard(chosen)
                self._add()
                continue
            try:
                is_ready = chosen.wait_until_ready(control)
            except _Lost as lost:
                self._discard(chosen)
                if self._is_stopped:
                    yield None
                    return
                self._n_failed_starts += 1
                if self._n_failed_starts >= MAX_FAILED_STARTS or not lost.is_worth_a_retry:
                    self._idle.put(chosen)  # for the next one who asks to fail as well
                    raise StudyFailed(
                        f"a worker could not start ({lost.text}); {chosen.log_path} may say why"
                    ) from None
                self._add()
                continue
            break
        try:
            yield chosen if is_ready else None
        except BaseException:
            chosen.kill()
            raise
        finally:
            if chosen.is_alive and not chosen.has_grown(self._bounds.recycle_growth_bytes):
                self._n_failed_starts = 0
                self._idle.put(chosen)
            else:
                self._discard(chosen)
                self._add()

    def _discard(self, lost: Worker) -> None:
        lost.kill()
        with self._lock:
            self.all.discard(lost)

    def stop(self) -> None:
        """End all of them at once; safe to call twice."""
        with self._lock:
            self._is_stopped = True
            workers = list(self.all)
            self.all.clear()
        for each in workers:
            each.kill()


class _Lost(Exception):
    """A worker gives no result: it is dead, or is killed for this."""

    def __init__(self, reason: StopReason, text: str | None, is_worth_a_retry: bool = True) -> None:
        self.reason, self.text, self.is_worth_a_retry = reason, text, is_worth_a_retry


class Worker:
    """The driver's end of a worker process."""

    def __init__(self, data_path: Path, log_path: Path) -> None:
        self.log_path = log_path
        self._log_start = log_path.stat().st_size if log_path.exists() else 0
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        arguments = (theirs, data_path, log_path, hidden())
        self._process = context.Process(target=worker.main, args=arguments, name="hpo-worker")
        # Blocked in the child too, which unblocks them once it leaves them to the driver.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self._memory = psutil.Process(self._process.pid)
        self._is_ready = False
        self._n_tasks = 0
        self._first_bytes: int | None = None

    @property
    def was_ready(self) -> bool:
        return self._is_ready

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    @property
    def own_bytes(self) -> int:
        """Memory that nobody else has a part of; the data are shared."""
        try:
            info = self._memory.memory_info()
        except psutil.Error:
            return 0
        return int(info.rss - getattr(info, "shared", 0))

    def has_grown(self, most: int) -> bool:
        """Whether it has grown by more than ``most`` bytes since its first task."""
        if self._n_tasks and self._first_bytes is None:
            self._first_bytes = self.own_bytes
        return self._first_bytes is not None and self.own_bytes - self._first_bytes > most

    def wait_until_ready(self, control: Control) -> bool:
        """Wait for the imports and the data; False where the study is interrupted before that."""
        while not self._is_ready:
            message = self._hear()
            if message is not None and message[0] == "broken":
                raise _Lost(StopReason.CRASHED, message[1], is_worth_a_retry=False)
            self._is_ready = message == ("ready",)
            if message is None and control.poll() is Decision.INTERRUPT:
                return False
        return True

    def carry_out(
        self,
        task: Task,
        control: ObjectiveControl,
        epochs: list[Mapping[str, float]],
        bounds: Bounds,
    ) -> FoldResult:
        """Have ``task`` carried out; its epochs are added to ``epochs`` as they come."""
        timeout, max_memory = bounds.trial_timeout_seconds, bounds.max_memory_bytes
        self._n_tasks += 1
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        self._say("task", self._n_tasks, task)
        ends = math.inf if timeout is None else time.monotonic() + timeout - getattr(task, "spent_seconds", 0.0)
        stopping: StopReason | None = None
        killed_at = memory_at = math.inf if max_memory is None else time.monotonic()
        killed_at = math.inf
        while True:
            message = self._hear()
            now = time.monotonic()
            match message:
                case ("epoch", logs):
                    epochs.append(logs)
                    self._say("decision", control.on_epoch(len(epochs) - 1, logs).value)
                case ("suggest", parameter):
                    try:
                        self._say("suggested", control.suggest(parameter))
                    except SuggestionRefused as error:
                        self._say("refused", str(error))
                case ("note", name, text):
                    control.note(name, text)
                case ("failed", text):
                    raise StudyFailed(text)
                case ("result", FoldResult() as result):
                    return self._with_reason(result, stopping, timeout)
            if stopping is None:
                if control.poll() is Decision.INTERRUPT:
                    stopping = StopReason.INTERRUPTED
                elif now >= ends:
                    stopping = StopReason.TIMEOUT
                if stopping is not None:
                    killed_at = now + GRACE_SECONDS
                    self._say("stop", self._n_tasks)
            elif now >= killed_at:
                raise _Lost(stopping, _timeout_text(timeout) if stopping is StopReason.TIMEOUT else None)
            if max_memory is not None and now >= memory_at:
                memory_at = now + MEMORY_SECONDS
                if (taken := self.own_bytes) > max_memory:
                    text = f"the worker took {taken:,} bytes of memory, more than max_memory_bytes={max_memory:,}"
                    raise _Lost(StopReason.OUT_OF_MEMORY, text)

    def _with_reason(self, result: FoldResult, stopping: StopReason | None, timeout: float | None) -> FoldResult:
        """A training that was stopped for its time has ended for that reason, and not for an interruption."""
        if stopping is not StopReason.TIMEOUT or result.outcome.stop_reason is not StopReason.INTERRUPTED:
            return result
        outcome = replace(result.outcome, stop_reason=StopReason.TIMEOUT)
        return replace(result, outcome=outcome, error=_timeout_text(timeout))

    def _hear(self) -> tuple[Any, ...] | None:
        """The next message, or None after a short time."""
        try:
            ready = wait([self._connection, self._process.sentinel], POLL_SECONDS)
            if self._connection in ready:
                message: tuple[Any, ...] = self._connection.recv()
                return message
        except (EOFError, OSError):  # it is gone, or another thread has just ended it
            raise self._died() from None
        if ready:
            raise self._died()
        return None

    def _say(self, *message: Any) -> None:
        try:
            self._connection.send(message)
        except OSError:
            raise self._died() from None

    def _died(self) -> _Lost:
        self._process.join(GRACE_SECONDS)
        code = self._process.exitcode
        if code is None:
            return _Lost(StopReason.CRASHED, "the worker closed its line to the driver")
        if code >= 0:
            return _Lost(StopReason.CRASHED, f"the worker exited with code {code}")
        name = signal.Signals(-code).name
        guess = ", perhaps by the system for want of memory" if name == "SIGKILL" else ""
        return _Lost(StopReason.CRASHED, f"the worker was killed by {name}{guess}")

    def last_lines(self) -> str | None:
        """The end of what was printed since the task began: the stack of a crash."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(self._log_start)
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return None
        return "\n".join(lines[-LOG_LINES:]) or None

    def kill(self) -> None:
        """End it and what it has started, at once."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid or 0, signal.SIGKILL)
        with suppress(ProcessLookupError, AttributeError):
            self._process.kill()
        self._process.join(GRACE_SECONDS)
        self._connection.close()


def _timeout_text(timeout: float | None) -> str:
    return f"it took longer than executor.trial_timeout_seconds={timeout:g}"
