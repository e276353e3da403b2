"""The result of a study, and the causes of its end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hpo.core.trial import Trial, pareto_front
from hpo.evaluation.tasks import TestScore
from hpo.study.study import Study


class StopCause(StrEnum):
    """The cause of a study's end: a limit, an exhausted search space, the user, or an error."""

    N_TRIALS = "n_trials"
    TIMEOUT = "timeout_seconds"
    MAX_EPOCHS = "max_epochs_total"
    FAILURES = "max_consecutive_failures"
    EXHAUSTED = "exhausted"
    INTERRUPTED = "interrupted"
    ERROR = "error"

    @property
    def interrupts_trials(self) -> bool:
        """Whether running trials end too; after other causes they run to their own end."""
        return self in (StopCause.TIMEOUT, StopCause.MAX_EPOCHS, StopCause.INTERRUPTED, StopCause.ERROR)

    @property
    def status(self) -> str:
        """The MLflow status of the study's run."""
        if self in (StopCause.FAILURES, StopCause.ERROR):
            return "FAILED"
        return "KILLED" if self is StopCause.INTERRUPTED else "FINISHED"

    @property
    def state(self) -> str:
        """The value of the tag ``hpo.state``."""
        return {"FINISHED": "finished", "FAILED": "failed", "KILLED": "interrupted"}[self.status]


@dataclass(frozen=True)
class Result:
    """A study that has ended.

    Args:
        end: the cause of its end.
        trials: all trials, by number.
        best: the best COMPLETE trial; None if there is none.
        seconds: of search, over all sessions.
        test: scores of the best model on the test split; None if it was not tested.
        n_tests: how often this study has scored the test split.
        model_uri: URI of the best model in MLflow; None until MLflow has it.
        problems: what failed after the search, in words; the trials are recorded.
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
        """The Pareto front: with several objectives, the trials that no other trial dominates."""
        return pareto_front(self.trials, self.study.definition.objective)
