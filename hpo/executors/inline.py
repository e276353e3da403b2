"""Trains in the driver's own process, for debugging: a crash ends the study."""

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
    """Trains in the thread that calls :meth:`run`, one trial after another.

    Args:
        threads_per_trial: cores that a trial uses; None takes all cores of this process.

    Raises:
        ConfigError: for fewer than one thread.
    """

    def __init__(self, threads_per_trial: int | None = None) -> None:
        check_whole("threads_per_trial", threads_per_trial, 1, "all cores")
        self.threads_per_trial = threads_per_trial or usable_cores()
        self._evaluator: Evaluator | None = None

    def prepare(self) -> None:
        # TensorFlow reads these once per process, so a second study could not change them.
        started = os.environ.get("TF_NUM_INTRAOP_THREADS")
        if "tensorflow" in sys.modules and started not in (None, str(self.threads_per_trial)):
            raise ConfigError(
                "executor.threads_per_trial",
                self.threads_per_trial,
                f"{started}, with which TensorFlow has started in this process",
                "start a separate command for every number of threads",
            )
        limit_threads(self.threads_per_trial)

    def start(self, evaluator: Evaluator, folder: Path, n_workers: int | None = None) -> None:
        self._evaluator = evaluator

    def run(self, task: Task, control: ObjectiveControl) -> FoldResult:
        assert self._evaluator is not None, "start() comes first"
        pid = os.getpid()
        try:
            return self._evaluator.run(task, control)
        finally:
            if os.getpid() != pid:  # the model forked, and both processes have returned
                print(f"hpo: process {os.getpid()} was forked by the model and returned from it", file=sys.stderr)
                sys.stderr.flush()
                os._exit(0)

    def stop(self) -> None:
        self._evaluator = None
