"""Trials in worker processes of this machine, so that what a trial breaks is its own.

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
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import psutil

from hpo.errors import ConfigError, StudyFailed, SuggestionRefused, hidden
from hpo.evaluation import Evaluator, Task
from hpo.executors import worker
from hpo.executors.base import Executor
from hpo.executors.threads import check_whole, limit_threads, usable_cores
from hpo.models.base import Control, Undisturbed
from hpo.trial import Decision, FoldResult, StopReason

POLL_SECONDS = 0.1
MEMORY_SECONDS = 0.25  # between two looks at the memory of a worker
# What a training gets to come to the end of a batch before its process is killed.
GRACE_SECONDS = 5.0
MAX_FAILED_STARTS = 3
LOG_LINES = 60
_SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)


class LocalExecutor(Executor):
    """Trains in persistent worker processes, each with its share of the cores.

    Args:
        workers: trials that train at the same time, by strategies that can propose several.
        threads_per_trial: cores that one trial computes on; None shares those of this process among the workers.
        trial_timeout_seconds: wall seconds of training that a trial may take over all its folds; None for no limit.
        max_memory_bytes: memory that a worker may have for itself; None for no limit.
        recycle_growth_bytes: a worker that has grown by more since its first task is replaced between two tasks.
        retries: how often a trial is begun anew after its worker has died.

    Raises:
        ConfigError: for a value that is no number or too small.
    """

    def __init__(
        self,
        workers: int = 1,
        threads_per_trial: int | None = None,
        trial_timeout_seconds: float | None = None,
        max_memory_bytes: int | None = None,
        recycle_growth_bytes: int = 500_000_000,
        retries: int = 1,
    ) -> None:
        self.n_workers = int(check_whole("workers", workers, 1))
        check_whole("threads_per_trial", threads_per_trial, 1, "this process's cores over workers")
        self.threads_per_trial = threads_per_trial or max(1, usable_cores() // self.n_workers)
        self.retries = int(check_whole("retries", retries, 0))
        is_number = isinstance(trial_timeout_seconds, int | float) and not isinstance(trial_timeout_seconds, bool)
        if trial_timeout_seconds is not None and not (is_number and 0 < trial_timeout_seconds < math.inf):
            expected = "a number of seconds above 0, or null for no limit"
            fix = "executor.trial_timeout_seconds=3600"
            raise ConfigError("executor.trial_timeout_seconds", trial_timeout_seconds, expected, fix)
        self._timeout = trial_timeout_seconds
        self._max_memory = check_whole("max_memory_bytes", max_memory_bytes, 1, "no limit")
        self._recycle_growth = check_whole("recycle_growth_bytes", recycle_growth_bytes, 1)
        self._evaluator: Evaluator | None = None
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        self._all: set[_Worker] = set()
        self._lock = threading.Lock()
        self._n_started = self._n_failed_starts = 0
        self._is_stopped = True

    def prepare(self) -> None:
        limit_threads(self.threads_per_trial)

    def start(self, evaluator: Evaluator, folder: Path, n_workers: int | None = None) -> None:
        import joblib

        self._evaluator, self._folder = evaluator, folder
        # Workers map the arrays in this file into their memory: one copy for all of them, and none to send.
        self._data_path = folder / "evaluator.joblib"
        try:
            # For nobody else to read: a model's options may hold what is a secret.
            os.close(os.open(self._data_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
            joblib.dump(evaluator, self._data_path)
        except OSError as error:
            raise StudyFailed(f"the data cannot be written for the workers: {error}") from error
        except Exception as error:  # pickling may fail in many ways
            expected = f"a model and data that can be sent to another process ({type(error).__name__}: {error})"
            raise ConfigError("executor", "local", expected, "executor=inline, or mend the model") from error
        self._is_stopped = False
        n_needed = min(self.n_workers, n_workers or self.n_workers)
        for _ in range(n_needed):
            self._add_worker()
        # All have begun to start; what that takes is not a trial's time.
        with ExitStack() as ready:
            for _ in range(n_needed):
                ready.enter_context(self._worker(Undisturbed()))

    def _add_worker(self) -> None:
        with self._lock:
            if self._is_stopped:
                return
            number = self._n_started % self.n_workers
            self._n_started += 1
            made = _Worker(self._data_path, self._folder / f"worker-{number}.log")
            self._all.add(made)
        self._idle.put(made)

    def run(self, task: Task, control: Control) -> FoldResult:
        evaluator = self._evaluator
        assert evaluator is not None, "start() comes first"
        epochs: list[Mapping[str, float]] = []
        with self._worker(control) as chosen:
            began = time.monotonic()
            if chosen is None:  # interrupted before it was ready
                return evaluator.unfinished(task, epochs, 0.0, StopReason.INTERRUPTED, None)
            try:
                return chosen.carry_out(task, control, epochs, self._timeout, self._max_memory)
            except _Lost as lost:
                chosen.kill()
                seconds = time.monotonic() - began
                if self._is_stopped or lost.reason is StopReason.INTERRUPTED:  # by us
                    return evaluator.unfinished(task, epochs, seconds, StopReason.INTERRUPTED, None)
                result = evaluator.unfinished(task, epochs, seconds, lost.reason, lost.text)
                return replace(result, traceback=chosen.last_lines())

    @contextmanager
    def _worker(self, control: Control) -> Iterator[_Worker | None]:
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
                self._add_worker()
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
                self._add_worker()
                continue
            break
        try:
            yield chosen if is_ready else None
        except BaseException:
            chosen.kill()
            raise
        finally:
            if chosen.is_alive and not chosen.has_grown(self._recycle_growth):
                self._n_failed_starts = 0
                self._idle.put(chosen)
            else:
                self._discard(chosen)
                self._add_worker()

    def _discard(self, lost: _Worker) -> None:
        lost.kill()
        with self._lock:
            self._all.discard(lost)

    def stop(self) -> None:
        with self._lock:
            self._is_stopped = True
            workers = list(self._all)
            self._all.clear()
        for each in workers:
            each.kill()
        if self._evaluator is not None:
            self._data_path.unlink(missing_ok=True)
        self._evaluator = None


class _Lost(Exception):
    """A worker gives no result: it is dead, or is killed for this."""

    def __init__(self, reason: StopReason, text: str | None, is_worth_a_retry: bool = True) -> None:
        self.reason, self.text, self.is_worth_a_retry = reason, text, is_worth_a_retry


class _Worker:
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
        control: Control,
        epochs: list[Mapping[str, float]],
        timeout: float | None,
        max_memory: int | None,
    ) -> FoldResult:
        """Have ``task`` carried out; its epochs are added to ``epochs`` as they come."""
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
        ready = wait([self._connection, self._process.sentinel], POLL_SECONDS)
        if self._connection in ready:
            try:
                message: tuple[Any, ...] = self._connection.recv()
                return message
            except (EOFError, OSError):
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
