"""The executor contract: where the folds of trials are trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from hpo.evaluation import Evaluator, FoldTask
from hpo.models.base import Control
from hpo.trial import FoldResult


class Executor(ABC):
    """Runs fold tasks, each blocking the thread that asked for it.

    Attributes:
        n_workers: tasks that run at the same time.
        threads_per_trial: cores that one task computes on; results change with it.
    """

    n_workers: int
    threads_per_trial: int

    @abstractmethod
    def prepare(self) -> None:
        """Set up before any model or data is loaded, so that libraries start with the right number of threads."""

    @abstractmethod
    def start(self, make_evaluator: Callable[[], Evaluator]) -> None:
        """Get ready to run tasks of the evaluator that ``make_evaluator`` returns."""

    @abstractmethod
    def run(self, task: FoldTask, control: Control) -> FoldResult:
        """Train one fold; ``control`` hears of every epoch and may stop it."""

    @abstractmethod
    def stop(self) -> None:
        """Release everything; safe to call twice."""
