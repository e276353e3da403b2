"""A pool of worker processes on this machine, which stay warm and are replaced when one is lost.

A worker that dies, hangs, or exceeds its memory limit fails only the trial that it trains.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hpo.core.states import Decision, StopReason
from hpo.core.trial import FoldResult
from hpo.errors import ConfigError, StudyFailed
from hpo.evaluation.evaluator import Evaluator
from hpo.evaluation.tasks import Task
from hpo.executors.bounds import Bounds
from hpo.executors.local.handle import POLL_SECONDS, WorkerHandle, WorkerLost
from hpo.executors.messages import UnfinishedTask
from hpo.models.base import Control, ObjectiveControl, Undisturbed

MAX_FAILED_STARTS = 3


def write_evaluator(evaluator: Evaluator, path: Path, executor: str) -> None:
    """Write the evaluator to a file that all workers map into their memory.

    Args:
        executor: name of the config option, for messages.

    Raises:
        StudyFailed: when the disk is full or cannot be written to.
        ConfigError: when the model or the data cannot be pickled.
    """
    import joblib

    try:
        # Only the user may read it: a model's options may contain a secret.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        joblib.dump(evaluator, path)
    except OSError as error:
        raise StudyFailed(f"the data cannot be written for the workers: {error}") from error
    except Exception as error:  # pickling may fail in many ways
        expected = f"a model and data that can be pickled ({type(error).__name__}: {error})"
        raise ConfigError("executor", executor, expected, "executor=inline, or make the model picklable") from error


class WorkerPool:
    """A fixed number of warm workers, each of which runs one task at a time.

    Args:
        data_path: the file that :func:`write_evaluator` wrote.
        folder: for the workers' logs.
        warn: shows a warning to the user.
    """

    def __init__(
        self, bounds: Bounds, data_path: Path, folder: Path, n_workers: int, warn: Callable[[str], None]
    ) -> None:
        self._bounds, self._data_path, self._folder, self._n_workers = bounds, data_path, folder, n_workers
        self._warn = warn
        self._idle: queue.LifoQueue[WorkerHandle] = queue.LifoQueue()
        self._all: set[WorkerHandle] = set()
        self._lock = threading.Lock()
        self._n_started = self._n_failed_starts = 0
        self._is_stopped = False

    @property
    def pids(self) -> frozenset[int]:
        """The processes of all workers."""
        with self._lock:
            return frozenset(each.pid for each in self._all)

    def start(self) -> None:
        """Start all workers and wait until they are ready, so that no trial pays for it.

        Raises:
            StudyFailed: when one cannot start.
        """
        for _ in range(self._n_workers):
            self._add()
        with ExitStack() as ready:
            for _ in range(self._n_workers):
                ready.enter_context(self._acquire(Undisturbed()))

    def _add(self) -> None:
        with self._lock:
            if self._is_stopped:
                return
            number = self._n_started % self._n_workers
            self._n_started += 1
            new = WorkerHandle(self._data_path, self._folder / f"worker-{number}.log", self._warn)
            self._all.add(new)
        self._idle.put(new)

    def run(
        self, task: Task, control: ObjectiveControl, epochs: list[Mapping[str, float]]
    ) -> FoldResult | UnfinishedTask:
        """Run ``task`` on a free worker and add the logs of its epochs to ``epochs`` as they arrive.

        Raises:
            StudyFailed: when no worker can start, or the task failed for a reason that ends the study.
        """
        with self._acquire(control) as worker:
            began = time.monotonic()
            if worker is None:  # interrupted before one was ready
                return UnfinishedTask(StopReason.INTERRUPTED)
            try:
                return worker.run(task, control, epochs, self._bounds)
            except WorkerLost as lost:
                worker.kill()
                seconds = time.monotonic() - began
                if self._is_stopped or lost.reason is StopReason.INTERRUPTED:
                    return UnfinishedTask(StopReason.INTERRUPTED, seconds)
                return UnfinishedTask(lost.reason, seconds, lost.text, worker.last_lines())

    @contextmanager
    def _acquire(self, control: Control) -> Iterator[WorkerHandle | None]:
        """Hold a ready worker for one task; replace it afterwards if it was lost or has grown too much."""
        worker = self._take(control)
        if worker is None:
            yield None
            return
        try:
            yield worker
        except BaseException:
            worker.kill()
            raise
        finally:
            if worker.is_alive and not worker.has_grown(self._bounds.recycle_growth_bytes):
                self._n_failed_starts = 0
                self._idle.put(worker)
            else:
                self._replace(worker)

    def _take(self, control: Control) -> WorkerHandle | None:
        """Return a ready worker; None if the study is interrupted first."""
        while True:
            try:
                worker = self._idle.get(timeout=POLL_SECONDS)
            except queue.Empty:
                if self._is_stopped or control.poll() is Decision.INTERRUPT:
                    return None
                continue
            if worker.is_ready and not worker.is_alive:  # it died while it was idle
                self._replace(worker)
                continue
            try:
                if worker.wait_until_ready(control):
                    return worker
                self._idle.put(worker)
                return None
            except WorkerLost as lost:
                self._discard(worker)
                if self._is_stopped:
                    return None
                self._n_failed_starts += 1
                if self._n_failed_starts >= MAX_FAILED_STARTS or not lost.is_retriable:
                    self._idle.put(worker)  # so that the next caller fails as well
                    raise StudyFailed(
                        f"a worker could not start ({lost.text}); {worker.log_path} may say why"
                    ) from None
                self._add()

    def _replace(self, lost: WorkerHandle) -> None:
        self._discard(lost)
        self._add()

    def _discard(self, lost: WorkerHandle) -> None:
        lost.kill()
        with self._lock:
            self._all.discard(lost)

    def stop(self) -> None:
        """End all workers at once; safe to call twice."""
        with self._lock:
            self._is_stopped = True
            workers = list(self._all)
            self._all.clear()
        for each in workers:
            each.kill()
