"""Both ends of the conversation about one task; local workers and Ray differ only in how they send messages."""

from __future__ import annotations

import itertools
import os
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

from hpo.core.params import ParamValue
from hpo.core.space import Parameter
from hpo.core.states import Decision
from hpo.errors import ForkedProcess, StudyFailed, SuggestionRefused
from hpo.executors.messages import (
    Answer,
    Decide,
    EpochEnded,
    Message,
    Note,
    Question,
    Refused,
    Stop,
    Suggest,
    Suggested,
    TaskEnded,
    TaskFailed,
    Warned,
)
from hpo.models.base import ObjectiveControl

Send = Callable[[Message], None]


class RemoteControl:
    """The control of one training whose driver is in another process; any thread may call it.

    Args:
        task: number of the task.
        send: sends a message to the driver; any thread may call it.
    """

    def __init__(self, task: int, send: Send) -> None:
        self._task, self._send = task, send
        self._pid = os.getpid()
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._waiting: dict[int, queue.SimpleQueue[Answer | None]] = {}
        self._is_stopped = self._is_closed = False

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        answer = self._ask(EpochEnded, epoch, dict(logs))
        assert isinstance(answer, Decide), answer
        return Decision.INTERRUPT if self._is_stopped else answer.decision

    def poll(self) -> Decision:
        self._check_process("poll")
        return Decision.INTERRUPT if self._is_stopped else Decision.CONTINUE

    def suggest(self, parameter: Parameter) -> ParamValue:
        answer = self._ask(Suggest, parameter)
        if isinstance(answer, Refused):
            raise SuggestionRefused(answer.reason)
        assert isinstance(answer, Suggested), answer
        return answer.value

    def note(self, name: str, text: str) -> None:
        self._send(Note(self._task, self._pid, name, text))

    def receive(self, message: Message) -> None:
        """Take a message from the driver; a message of another task is dropped."""
        if message.task != self._task:
            return
        if isinstance(message, Stop):
            self._is_stopped = True
        elif isinstance(message, Answer):
            with self._lock:
                waiting = self._waiting.pop(message.question, None)
            if waiting is not None:
                waiting.put(message)

    def close(self) -> None:
        """Let every call that waits for an answer fail, and every later call."""
        with self._lock:
            self._is_closed = True
            waiting, self._waiting = self._waiting, {}
        for each in waiting.values():
            each.put(None)

    def _ask(self, kind: Callable[..., Question], *details: Any) -> Answer:
        self._check_process(kind.__name__)  # first: another thread may have held the lock when this process was forked
        number, answers = next(self._numbers), queue.SimpleQueue[Answer | None]()
        with self._lock:
            is_closed = self._is_closed
            self._waiting[number] = answers
        answer = None
        if not is_closed:
            self._send(kind(self._task, self._pid, number, *details))
            answer = answers.get()
        if answer is None:
            raise RuntimeError("the training has ended, or its driver is gone")
        return answer

    def _check_process(self, kind: str) -> None:
        if os.getpid() != self._pid:
            raise ForkedProcess(f"{kind} was called in a process that the model forked")


class TaskDialogue:
    """The driver's end: answers the messages of one task, and drops those of other tasks and processes.

    Args:
        task: number of the task.
        pid: of the only process whose messages count.
        epochs: the logs of every epoch are added to it.
        send: sends a message to the worker.
        warn: shows a warning to the user.
    """

    def __init__(
        self,
        task: int,
        pid: int,
        control: ObjectiveControl,
        epochs: list[Mapping[str, float]],
        send: Send,
        warn: Callable[[str], None],
    ) -> None:
        self.task = task
        self._pid, self._control, self._epochs, self._send, self._warn = pid, control, epochs, send, warn

    def receive(self, message: Message) -> TaskEnded | None:
        """Answer ``message``; return it if it ends the task.

        Raises:
            StudyFailed: when the task failed for a reason that ends the study.
        """
        if isinstance(message, Warned):
            self._warn(message.text)
            return None
        if (message.task, message.pid) != (self.task, self._pid):
            self._warn(
                f"dropped {type(message).__name__} of task {message.task} from process {message.pid}: "
                f"process {self._pid} runs task {self.task}"
            )
            return None
        me = os.getpid()
        match message:
            case EpochEnded():
                self._epochs.append(message.logs)
                decision = self._control.on_epoch(message.epoch, message.logs)
                self._send(Decide(self.task, me, message.question, decision))
            case Suggest():
                try:
                    value = self._control.suggest(message.parameter)
                    self._send(Suggested(self.task, me, message.question, value))
                except SuggestionRefused as error:
                    self._send(Refused(self.task, me, message.question, str(error)))
            case Note():
                self._control.note(message.name, message.text)
            case TaskFailed():
                raise StudyFailed(message.error)
            case TaskEnded():
                return message
        return None
