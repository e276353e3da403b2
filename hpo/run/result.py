"""How a study ended, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hpo.core.trial import Trial, pareto_front
from hpo.evaluation.tasks import TestScore
from hpo.study.study import Study


class StopCause(StrEnum):
    """What ended a study."""

    N_TRIALS = "n_trials"
    TIMEOUT = "timeout_seconds"
    MAX_EPOCHS = "max_epochs_total"
    FAILURES = "max_consecutive_failures"
    EXHAUSTED = "exhausted"
    INTERRUPTED = "interrupted"
    ERROR = "error"

    @property
    def status(self) -> str:
        """The MLflow status of the study's run."""
        if self in (StopCause.FAILURES, StopCause.ERROR):
            return "FAILED"
        return "KILLED" if self is StopCause.INTERRUPTED else "FINISHED"


@dataclass(frozen=True)
class Result:
    """A study that has ended.

    Args:
        seconds: of searching, over the whole life of the study.
        n_tests: how often the test split has been scored, by winners of this study.
        model_uri: of the best model in MLflow; None while MLflow does not have it.
        problems: what went wrong after the search, in words; the trials are safe.
    """

    study: Study
    end: StopCause
    trials: tuple[Trial, ...]
    best: Trial | None
    seconds: float
    test: TestScore | None = None
    n_tests: int = 0
    model_uri: str | None = None
    problems: tuple[str, ...] = ()

    @property
    def top(self) -> list[Trial]:
        """COMPLETE trials, best first."""
        complete = [trial for trial in self.trials if trial.value is not None]
        sign = -1 if self.study.definition.objective.direction == "maximize" else 1
        return sorted(complete, key=lambda trial: (sign * (trial.value or 0.0), trial.number))

    @property
    def front(self) -> list[Trial]:
        """With several objectives the trials that no other one dominates."""
        return pareto_front(self.trials, self.study.definition.objective)
