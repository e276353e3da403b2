"""The driver's end of an actor; the actor itself is in :mod:`hpo.executors.ray.node`."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpo.core.states import Decision, StopReason
from hpo.core.trial import FoldResult
from hpo.errors import StudyFailed, full_disk_ends_the_study, redact
from hpo.evaluation.tasks import Task
from hpo.executors.local.handle import GRACE_SECONDS
from hpo.executors.messages import Message, RunTask, Stop, TaskEnded, UnfinishedTask, Warned
from hpo.executors.protocol import TaskDialogue
from hpo.executors.ray.node import Site
from hpo.models.base import ObjectiveControl

POLL_SECONDS = 0.1
RECEIVE_SECONDS = 10.0  # of one call that waits for messages
UNCLEAR_SECONDS = 5.0  # how long Ray may take to find out whether an actor is gone
MAX_TEXT = 500
# How long an actor may take to end a training, beyond what the training itself may take.
MARGIN_SECONDS = 10.0


@dataclass(eq=False)
class ActorLost(Exception):
    """An actor cannot return a result: it is gone, or must be killed.

    Args:
        text: one line saying what happened.
        has_begun: whether it had a task.
        is_final: whether another actor would fail as well.
    """

    reason: StopReason
    text: str | None = None
    has_begun: bool = True
    is_final: bool = False


class ActorHandle:
    """Talks to an actor.

    Args:
        actor: Ray's own handle.
        warn: shows a warning to the user.
    """

    def __init__(self, actor: Any, warn: Callable[[str], None]) -> None:
        self.actor, self._warn = actor, warn
        self.ready = actor.set_up.remote()
        self.site: Site | None = None
        self._received: Any = None
        self._is_killed = False
        self._n_tasks = 0

    def complete_start(self) -> None:
        """Take the outcome of the start, once :attr:`ready` has one.

        Raises:
            ActorLost: when it has not started.
        """
        import ray

        try:
            self.site = ray.get(self.ready)
        except ray.exceptions.RayTaskError as error:
            raise ActorLost(StopReason.CRASHED, one_line(error), is_final=True) from None
        except ray.exceptions.RuntimeEnvSetupError as error:
            text = f"with executor.runtime_env: {one_line(error)}"
            raise ActorLost(StopReason.CRASHED, text, is_final=True) from None
        except ray.exceptions.RayError as error:
            raise self._loss(error) from None
        self._received = self.actor.receive.remote(RECEIVE_SECONDS)

    @property
    def is_alive(self) -> bool:
        """Whether an idle actor is not known to be gone."""
        import ray

        if self._is_killed:
            return False
        try:
            if ray.wait([self._received], timeout=0)[0]:
                for message in ray.get(self._received):
                    if isinstance(message, Warned):
                        self._warn(message.text)
                self._received = self.actor.receive.remote(RECEIVE_SECONDS)
        except ray.exceptions.RayError:
            return False
        return True

    def run(
        self, task: Task, control: ObjectiveControl, epochs: list[Mapping[str, float]]
    ) -> FoldResult | UnfinishedTask:
        """Run ``task`` and add the logs of its epochs to ``epochs`` as they arrive.

        Raises:
            ActorLost: when the actor is gone.
            StudyFailed: when the task failed for a reason that ends the study.
        """
        assert self.site is not None, "complete_start() comes first"
        self._n_tasks += 1
        number, killed_at = self._n_tasks, math.inf
        dialogue = TaskDialogue(number, self.site.pid, control, epochs, self._send, self._warn)
        begun: Any = self.actor.begin.remote(RunTask(number, os.getpid(), task))
        while True:
            try:
                messages = self._receive(POLL_SECONDS)
            except ActorLost as lost:
                lost.has_begun = begun is None
                raise
            for message in messages:
                begun = None if message.task == number else begun
                if (ended := dialogue.receive(message)) is not None:
                    return _store_weights(ended, task)
            if begun is not None and ray_is_done(begun):
                self._check_begun(begun)
                begun = None
            now = time.monotonic()
            if math.isinf(killed_at) and control.poll() is Decision.INTERRUPT:
                killed_at = now + GRACE_SECONDS + MARGIN_SECONDS
                self._send(Stop(number, os.getpid()))
            elif now >= killed_at:
                raise ActorLost(StopReason.INTERRUPTED)

    def _check_begun(self, begun: Any) -> None:
        import ray

        try:
            ray.get(begun)
        except ray.exceptions.RayTaskError as error:  # such as of a class that the node does not have
            raise StudyFailed(f"a node cannot run a trial: {one_line(error)}") from None
        except ray.exceptions.RayError as error:
            raise self._loss(error, has_begun=False) from None

    def _send(self, message: Message) -> None:
        self.actor.answer.remote(message)

    def _receive(self, seconds: float) -> list[Message]:
        """Return the messages that arrive within ``seconds``."""
        import ray

        if not ray.wait([self._received], timeout=seconds)[0]:
            return []
        try:
            messages: list[Message] = ray.get(self._received)
        except ray.exceptions.RayError as error:
            raise self._loss(error) from None
        self._received = self.actor.receive.remote(RECEIVE_SECONDS)
        return messages

    def _loss(self, error: Exception, has_begun: bool = True) -> ActorLost:
        """Find out from an error of Ray's whether the node is gone or only a process on it."""
        import ray

        ends = time.monotonic() + UNCLEAR_SECONDS
        while isinstance(error, ray.exceptions.ActorUnavailableError) and time.monotonic() < ends:
            try:  # until Ray knows more
                ray.get(self.actor.receive.remote(0), timeout=POLL_SECONDS)
                break  # it is there, but its messages may be lost
            except ray.exceptions.GetTimeoutError:
                pass
            except ray.exceptions.RayError as later:
                error = later
                time.sleep(POLL_SECONDS)
        site = self.site
        is_node_alive = site is None or any(n["Alive"] and n["NodeID"] == site.node_id for n in ray.nodes())
        has_process_died = isinstance(error, ray.exceptions.ActorDiedError) and is_node_alive
        reason = StopReason.CRASHED if has_process_died else StopReason.NODE_LOST
        where = f" on node {site.host}" if site else ""
        return ActorLost(reason, f"the actor of the worker{where} was lost: {one_line(error)}", has_begun)

    def kill(self) -> None:
        """End the actor and its worker at once."""
        import ray

        self._is_killed = True
        with suppress(Exception):
            ray.kill(self.actor)


def ray_is_done(reference: Any) -> bool:
    """Return whether Ray has the outcome of a call."""
    import ray

    return bool(ray.wait([reference], timeout=0)[0])


def _store_weights(ended: TaskEnded, task: Task) -> FoldResult | UnfinishedTask:
    """Write the weights that came with the result to the path that the task names."""
    result = ended.result
    if isinstance(result, UnfinishedTask) or ended.weights is None:
        return result
    assert result.weights_path is not None and task.weights_path is not None
    path = task.weights_path.with_name(Path(result.weights_path).name)
    with full_disk_ends_the_study():
        path.write_bytes(ended.weights)
    return replace(result, weights_path=str(path))


def one_line(error: Exception) -> str:
    """Return what Ray says, or what was raised on a node, without stacks and ids."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, StudyFailed):
        return str(cause)
    if isinstance(cause, Exception):
        return redact(f"{type(cause).__name__}: {cause}")[:MAX_TEXT]
    lines = [line.strip() for line in str(error).splitlines() if not line.startswith(("\t", "  "))]
    return redact(" ".join(lines))[:MAX_TEXT]
