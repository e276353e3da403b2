"""Trains in worker processes of this machine, so that a crash fails only its trial."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hpo.core.trial import FoldResult
from hpo.evaluation.evaluator import Evaluator
from hpo.evaluation.tasks import Task
from hpo.executors.base import Executor, WarnOnce
from hpo.executors.bounds import Bounds
from hpo.executors.local.pool import WorkerPool, write_evaluator
from hpo.executors.threads import check_whole, limit_threads, usable_cores
from hpo.models.base import ObjectiveControl


class LocalExecutor(Executor):
    """Trains in persistent worker processes that share the cores.

    Args:
        workers: trials that train at the same time, if the strategy can propose several.
        threads_per_trial: cores of one trial; None divides the cores of this process by ``workers``.
        trial_timeout_seconds, max_memory_bytes, recycle_growth_bytes: see :class:`hpo.executors.bounds.Bounds`.
        retries: how often a trial is retried after its worker died.

    Raises:
        ConfigError: when a value is not a number or is too small.
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
        check_whole("threads_per_trial", threads_per_trial, 1, "this process's cores divided by workers")
        self.threads_per_trial = threads_per_trial or max(1, usable_cores() // self.n_workers)
        self.retries = int(check_whole("retries", retries, 0))
        self._bounds = Bounds(trial_timeout_seconds, max_memory_bytes, recycle_growth_bytes)
        self._evaluator: Evaluator | None = None
        self._workers: WorkerPool | None = None

    @property
    def worker_pids(self) -> frozenset[int]:
        """The worker processes; empty before :meth:`start`."""
        return self._workers.pids if self._workers else frozenset()

    def prepare(self) -> None:
        limit_threads(self.threads_per_trial)

    def start(self, evaluator: Evaluator, folder: Path, n_workers: int | None = None) -> None:
        self._evaluator, self._data_path = evaluator, folder / "evaluator.joblib"
        write_evaluator(evaluator, self._data_path, "local")
        n_needed = min(self.n_workers, n_workers or self.n_workers)
        self._workers = WorkerPool(self._bounds, self._data_path, folder, n_needed, WarnOnce())
        self._workers.start()

    def run(self, task: Task, control: ObjectiveControl) -> FoldResult:
        evaluator, workers = self._evaluator, self._workers
        assert evaluator is not None and workers is not None, "start() comes first"
        epochs: list[Mapping[str, float]] = []
        ended = workers.run(task, control, epochs)
        return ended if isinstance(ended, FoldResult) else ended.result(evaluator, task, epochs)

    def stop(self) -> None:
        if self._workers is not None:
            self._workers.stop()
        if self._evaluator is not None:
            self._data_path.unlink(missing_ok=True)
        self._evaluator = None
