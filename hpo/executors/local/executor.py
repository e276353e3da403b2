"""Trials in worker processes of this machine, so that what a trial breaks is its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hpo.core.trial import FoldResult
from hpo.evaluation.evaluator import Evaluator
from hpo.evaluation.tasks import Task
from hpo.executors.base import Executor
from hpo.executors.local.pool import Bounds, Workers, write_evaluator
from hpo.executors.threads import check_whole, limit_threads, usable_cores
from hpo.models.base import ObjectiveControl


class LocalExecutor(Executor):
    """Trains in persistent worker processes, each with its share of the cores.

    Args:
        workers: trials that train at the same time, by strategies that can propose several.
        threads_per_trial: cores that one trial computes on; None shares those of this process among the workers.
        trial_timeout_seconds, max_memory_bytes, recycle_growth_bytes: see :class:`hpo.executors.local.pool.Bounds`.
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
        self._bounds = Bounds(trial_timeout_seconds, max_memory_bytes, recycle_growth_bytes)
        self._evaluator: Evaluator | None = None
        self._workers: Workers | None = None

    def prepare(self) -> None:
        limit_threads(self.threads_per_trial)

    def start(self, evaluator: Evaluator, folder: Path, n_workers: int | None = None) -> None:
        self._evaluator, self._data_path = evaluator, folder / "evaluator.joblib"
        write_evaluator(evaluator, self._data_path, "local")
        n_needed = min(self.n_workers, n_workers or self.n_workers)
        self._workers = Workers(self._bounds, self._data_path, folder, n_needed)
        self._workers.start()

    def run(self, task: Task, control: ObjectiveControl) -> FoldResult:
        evaluator, workers = self._evaluator, self._workers
        assert evaluator is not None and workers is not None, "start() comes first"
        epochs: list[Mapping[str, float]] = []
        ended = workers.carry_out(task, control, epochs)
        return ended if isinstance(ended, FoldResult) else ended.result(evaluator, task, epochs)

    def stop(self) -> None:
        if self._workers is not None:
            self._workers.stop()
        if self._evaluator is not None:
            self._data_path.unlink(missing_ok=True)
        self._evaluator = None
