"""Messages between the driver and the processes that train.

Every message carries the number of its task and the pid of its sender, so that the receiver can drop a message of
another task or of another process, such as one that a model has forked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hpo.core.params import ParamValue
from hpo.core.space import Parameter
from hpo.core.states import Decision, StopReason
from hpo.core.trial import FoldResult
from hpo.evaluation.evaluator import Evaluator
from hpo.evaluation.tasks import Task

NO_TASK = 0
"""The task number of messages that belong to no task; tasks are numbered from 1."""


@dataclass(frozen=True)
class Message:
    """Base of all messages.

    Args:
        task: number of the task on its worker, from 1; ``NO_TASK`` outside tasks.
        pid: of the process that sends it.
    """

    task: int
    pid: int


# From the driver


@dataclass(frozen=True)
class RunTask(Message):
    """Start a task."""

    what: Task


@dataclass(frozen=True)
class Answer(Message):
    """Answers the question with number ``question``."""

    question: int


@dataclass(frozen=True)
class Decide(Answer):
    """Answers :class:`EpochEnded`."""

    decision: Decision


@dataclass(frozen=True)
class Suggested(Answer):
    """Answers :class:`Suggest` with a value."""

    value: ParamValue


@dataclass(frozen=True)
class Refused(Answer):
    """Answers :class:`Suggest` with the reason why there is no value."""

    reason: str


@dataclass(frozen=True)
class Stop(Message):
    """Stop the task at the next batch; it still returns a result."""


# From the worker


@dataclass(frozen=True)
class Ready(Message):
    """The libraries are imported and the data are loaded."""


@dataclass(frozen=True)
class Broken(Message):
    """The worker cannot start, and another one could not either."""

    error: str


@dataclass(frozen=True)
class Question(Message):
    """Waits for the :class:`Answer` with the same number.

    Args:
        question: number within the task, from 0.
    """

    question: int


@dataclass(frozen=True)
class EpochEnded(Question):
    """An epoch has ended; see :meth:`hpo.models.base.Control.on_epoch`."""

    epoch: int
    logs: Mapping[str, float]


@dataclass(frozen=True)
class Suggest(Question):
    """Asks for the value of a parameter."""

    parameter: Parameter


@dataclass(frozen=True)
class Note(Message):
    """Records a text under a name for the trial."""

    name: str
    text: str


@dataclass(frozen=True)
class TaskEnded(Message):
    """The task has ended.

    Args:
        result: its result, or what is known if its worker process died.
        weights: content of the weights file, if the driver cannot read the file itself.
    """

    result: FoldResult | UnfinishedTask
    weights: bytes | None = None


@dataclass(frozen=True)
class TaskFailed(Message):
    """The task failed for a reason that ends the study, such as a full disk."""

    error: str


@dataclass(frozen=True)
class Dropped(Message):
    """A forked process, with this pid, tried to send a message of type ``kind``; it was not sent."""

    kind: str


@dataclass(frozen=True)
class Warned(Message):
    """A warning to show to the user."""

    text: str


@dataclass(frozen=True)
class UnfinishedTask:
    """What is known about a task whose worker process ended before it returned a result.

    Args:
        seconds: wall seconds that it ran.
        traceback: last lines of the worker's log, such as the stack of a crash.
    """

    reason: StopReason
    seconds: float = 0.0
    error: str | None = None
    traceback: str | None = None

    def result(self, evaluator: Evaluator, task: Task, epochs: list[Mapping[str, float]]) -> FoldResult:
        """Return the result with the epochs that the worker reported before it ended."""
        result = evaluator.unfinished(task, epochs, self.seconds, self.reason, self.error)
        return replace(result, traceback=self.traceback)
