"""Trials in the driver's own process, one after another: for debugging, since what a trial breaks is the study's."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hpo.core.trial import FoldResult
from hpo.errors import ConfigError
from hpo.evaluation.evaluator import Evaluator
from hpo.evaluation.tasks import Task
from hpo.executors.base import Executor
from hpo.executors.threads import check_whole, limit_threads, usable_cores
from hpo.models.base import ObjectiveControl


class InlineExecutor(Executor):
    """Trains in the thread that asks.

    Args:
        threads_per_trial: cores to compute on; None takes all that this process may use.

    Raises:
        ConfigError: for fewer than one thread.
    """

    def __init__(self, threads_per_trial: int | None = None) -> None:
        check_whole("threads_per_trial", threads_per_trial, 1, "all cores")
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
        limit_threads(self.threads_per_trial)

    def start(self, evaluator: Evaluator, folder: Path, n_workers: int | None = None) -> None:
        self._evaluator = evaluator

    def run(self, task: Task, control: ObjectiveControl) -> FoldResult:
        assert self._evaluator is not None, "start() comes first"
        return self._evaluator.run(task, control)

    def stop(self) -> None:
        self._evaluator = None
