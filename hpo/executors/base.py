"""The executor contract: where the folds of trials are trained."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from pathlib import Path

from hpo.core.identity import PartIdentity
from hpo.core.trial import FoldResult
from hpo.errors import redact
from hpo.evaluation.evaluator import Evaluator
from hpo.evaluation.tasks import Task
from hpo.models.base import ObjectiveControl


class Executor(ABC):
    """Runs tasks; each call blocks the thread that makes it.

    Attributes:
        n_workers: tasks that run at the same time.
        threads_per_trial: cores that one task uses; results depend on it.
        retries: how often a trial is retried after its worker was lost through no fault of the model.
        hardware: what the trials train on, once that is known; None for this machine.
    """

    n_workers: int = 1
    threads_per_trial: int
    retries: int = 0
    hardware: str | None = None

    @property
    def identity(self) -> PartIdentity:
        """What results depend on; all other options of an executor may change when a study is resumed."""
        return PartIdentity(values={"threads_per_trial": self.threads_per_trial})

    @abstractmethod
    def prepare(self) -> None:
        """Set up before any model or data is loaded, so that libraries start with the right number of threads."""

    @abstractmethod
    def start(self, evaluator: Evaluator, folder: Path, n_workers: int | None = None) -> None:
        """Get ready to run tasks of ``evaluator``.

        Args:
            folder: for files that are needed until :meth:`stop`.
            n_workers: tasks that will run at the same time, if fewer than the executor could run.

        Raises:
            StudyFailed: when no worker can start.
            ConfigError: when the model or the data cannot be sent to a worker.
        """

    @abstractmethod
    def run(self, task: Task, control: ObjectiveControl) -> FoldResult:
        """Run one task; ``control`` receives every epoch and may stop the task.

        Raises:
            StudyFailed: when no further task can run.
        """

    @abstractmethod
    def stop(self) -> None:
        """Release everything at once; safe to call twice."""


class WarnOnce:
    """Shows the first of the warnings that a model causes in its workers; the workers' logs have them all."""

    def __init__(self) -> None:
        self._has_warned = False

    def __call__(self, text: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            logging.getLogger("hpo.executors").warning("warning: %s", redact(text))
