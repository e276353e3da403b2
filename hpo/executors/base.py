"""The executor contract: where the folds of trials are trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from hpo.core.identity import PartIdentity
from hpo.core.trial import FoldResult
from hpo.evaluation.evaluator import Evaluator
from hpo.evaluation.tasks import Task
from hpo.models.base import ObjectiveControl


class Executor(ABC):
    """Carries out tasks, each blocking the thread that asked for it.

    Attributes:
        n_workers: tasks that run at the same time.
        threads_per_trial: cores that one task computes on; results change with it.
        retries: how often a trial is begun anew after a worker was lost without the model's fault.
        hardware: what trains, once that is known; None for this machine.
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
        """Get ready to run tasks of ``evaluator``; files that are needed meanwhile go to ``folder``.

        Args:
            n_workers: how many tasks there will be at the same time, where that is fewer than it could run.
        """

    @abstractmethod
    def run(self, task: Task, control: ObjectiveControl) -> FoldResult:
        """Carry out one task; ``control`` hears of every epoch and may stop it.

        Raises:
            StudyFailed: when no task can be carried out any more.
        """

    @abstractmethod
    def stop(self) -> None:
        """Release everything at once; safe to call twice."""
