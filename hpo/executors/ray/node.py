"""What runs on a node of a Ray cluster: an actor with one worker process.

The worker process is that of :mod:`hpo.executors.local`, so crashes, timeouts and memory limits are handled on the
node where the trial runs. The actor itself imports no model library.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import socket
import sys
import threading
import traceback
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpo.core.packages import versions_of
from hpo.core.process import prepare_process
from hpo.core.trial import FoldResult
from hpo.errors import StudyFailed, hide, redact
from hpo.executors.bounds import Bounds
from hpo.executors.local.pool import WorkerPool
from hpo.executors.messages import NO_TASK, Message, RunTask, TaskEnded, TaskFailed, Warned
from hpo.executors.protocol import RemoteControl
from hpo.executors.ray.node_folder import NodeFolder
from hpo.executors.threads import limit_threads

# Libraries that results depend on, and that messages between driver and node are made of.
_PACKAGES = (
    "hpo", "numpy", "sklearn", "imblearn", "lightgbm", "xgboost", "keras", "tensorflow", "jax", "torch", "optuna",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Return the installed versions of the libraries that must be equal on driver and nodes."""
    return versions_of(_PACKAGES)


@dataclass(frozen=True)
class Session:
    """What the actors of a driver have in common.

    Args:
        name: unique to the driver's session.
        bounds: of every trial.
        n_threads: cores of a trial.
        path: the driver's module search path, for nodes that have the same folders.
        environment: variables that a training reads.
        secrets: values that no message may contain.
        versions: of the driver; see :func:`versions`.
        has_gpu: whether a trial has a GPU, or a part of one.
    """

    name: str
    bounds: Bounds
    n_threads: int
    path: Sequence[str]
    environment: Mapping[str, str]
    secrets: Sequence[str]
    versions: Mapping[str, str]
    has_gpu: bool


@dataclass(frozen=True)
class Site:
    """Where an actor runs: Ray's id of the node, the host, and the actor's process."""

    node_id: str
    host: str
    pid: int


class Trainer:
    """The actor; :class:`hpo.executors.ray.handle.ActorHandle` calls its methods.

    Args:
        data: a list with a reference to what :func:`hpo.executors.local.pool.write_evaluator` wrote; in a list, so that
            Ray does not fetch it for actors whose node has it already.
    """

    def __init__(self, session: Session, data: list[Any]) -> None:
        self._session, self._data = session, data
        self._messages: deque[Message] = deque()
        self._has_messages = asyncio.Event()
        self._control: RemoteControl | None = None
        self._folder: NodeFolder | None = None
        self._workers: WorkerPool | None = None
        # Runs before the handler of multiprocessing, which was registered earlier and would wait for the worker.
        atexit.register(self._close)

    async def set_up(self) -> Site:
        """Start the worker; raises when the node is not as the driver needs it."""
        import ray

        self._loop = asyncio.get_running_loop()
        try:
            await asyncio.to_thread(self._set_up)
        except BaseException as error:
            self._close()
            if not isinstance(error, StudyFailed):
                raise
            raise StudyFailed(f"on node {socket.gethostname()}: {error}") from None
        return Site(ray.get_runtime_context().get_node_id(), socket.gethostname(), os.getpid())

    def _set_up(self) -> None:
        session = self._session
        others = [f"{name} {here}, not {session.versions[name]}" for name, here in versions().items()
                  if session.versions.get(name, here) != here]  # fmt: skip
        if others:
            raise StudyFailed(f"other versions than the driver's: {', '.join(others)}")
        sys.path.extend(folder for folder in session.path if folder not in sys.path)
        _prepare_node_process(session)
        self._folder = NodeFolder(session.name, self._fetch)
        self._workers = WorkerPool(session.bounds, self._folder.data_path, self._folder.folder, 1, self._warn)
        self._workers.start()

    def _fetch(self) -> Any:
        import ray

        return ray.get(self._data[0])

    def _warn(self, text: str) -> None:
        self._send(Warned(NO_TASK, os.getpid(), f"on node {socket.gethostname()}: {text}"))

    async def begin(self, message: RunTask) -> None:
        """Start a task; :meth:`receive` returns what it reports."""
        self._control = RemoteControl(message.task, self._send)
        threading.Thread(target=self._run, args=(message, self._control), name="hpo-task", daemon=True).start()

    async def receive(self, seconds: float) -> list[Message]:
        """Return the messages for the driver as soon as there are some; none after ``seconds``."""
        if not self._messages:
            self._has_messages.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._has_messages.wait(), seconds)
        messages = list(self._messages)
        self._messages.clear()
        return messages

    async def answer(self, message: Message) -> None:
        """Take an answer of the driver, or its :class:`hpo.executors.messages.Stop`."""
        if self._control is not None:
            self._control.receive(message)

    async def close(self) -> None:
        """End the worker and remove its files."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        if self._workers is not None:
            self._workers.stop()
        if self._folder is not None:
            self._folder.leave()

    def _send(self, message: Message) -> None:
        def add() -> None:
            self._messages.append(message)
            self._has_messages.set()

        self._loop.call_soon_threadsafe(add)

    def _run(self, message: RunTask, control: RemoteControl) -> None:
        workers, folder, task = self._workers, self._folder, message.what
        assert workers is not None and folder is not None, "set_up() comes first"
        number, pid, host = message.task, os.getpid(), socket.gethostname()
        try:
            if task.weights_path is not None:
                task = replace(task, weights_path=folder.folder / task.weights_path.name)
            result, weights = workers.run(task, control, []), None
            if isinstance(result, FoldResult) and result.weights_path is not None:
                path = Path(result.weights_path)
                weights = path.read_bytes()
                path.unlink()
            self._send(TaskEnded(number, pid, result, weights))
        except StudyFailed as error:
            self._send(TaskFailed(number, pid, f"on node {host}: {error}"))
        except BaseException:
            self._send(TaskFailed(number, pid, redact(f"on node {host}: {traceback.format_exc()}")))


def _prepare_node_process(session: Session) -> None:
    """Set up the actor's process, whose settings its worker process inherits."""
    os.environ.update(session.environment)
    prepare_process()
    limit_threads(session.n_threads)
    # A trial without a GPU must not see any; one with a part of a GPU must leave the rest to others.
    sharing = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    os.environ.update(sharing if session.has_gpu else {"CUDA_VISIBLE_DEVICES": ""})
    for secret in session.secrets:
        hide(secret)
