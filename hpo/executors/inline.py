"""Trials in the driver's own process, one after another."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from hpo.errors import ConfigError
from hpo.evaluation import Evaluator, FoldTask
from hpo.executors.base import Executor
from hpo.models.base import Control
from hpo.trial import FoldResult


def usable_cores() -> int:
    """Cores that this process may use, where the system can tell them from those there are."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


class InlineExecutor(Executor):
    """Trains in the thread that asks.

    Args:
        threads_per_trial: cores to compute on; None takes all that this process may use.

    Raises:
        ConfigError: for fewer than one thread.
    """

    n_workers = 1

    def __init__(self, threads_per_trial: int | None = None) -> None:
        if threads_per_trial is not None and (not isinstance(threads_per_trial, int) or threads_per_trial < 1):
            raise ConfigError(
                "executor.threads_per_trial",
                threads_per_trial,
                "a whole number of at least 1, or null for all cores",
                "executor.threads_per_trial=1",
            )
        self.threads_per_trial = threads_per_trial or usable_cores()
        self._evaluator: Evaluator | None = None

    def prepare(self) -> None:
        # TensorFlow reads these once in a process; a second study with other threads would only seem to have them.
        started = os.environ.get("TF_NUM_INTRAOP_THREADS")
        if "tensorflow" in sys.modules and started not in (None, str(self.threads_per_trial)):
            raise ConfigError(
                "executor.threads_per_trial",
                self.threads_per_trial,
                f"{started}, with which TensorFlow has started in this process",
                "start a command of its own for every number of threads",
            )
        os.environ["TF_NUM_INTRAOP_THREADS"] = str(self.threads_per_trial)
        os.environ["TF_NUM_INTEROP_THREADS"] = str(self.threads_per_trial)
        os.environ["OMP_NUM_THREADS"] = str(self.threads_per_trial)

    def start(self, make_evaluator: Callable[[], Evaluator]) -> None:
        self._evaluator = make_evaluator()

    def run(self, task: FoldTask, control: Control) -> FoldResult:
        assert self._evaluator is not None, "start() comes first"
        return self._evaluator.evaluate_fold(task, control)

    def stop(self) -> None:
        self._evaluator = None
