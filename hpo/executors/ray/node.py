"""What runs on a node of a Ray cluster: an actor with a worker process of its own, and a line to the driver.

The worker process is the one of :mod:`hpo.executors.local`, so crashes, timeouts and memory limits are handled on the
node where the trial runs. The actor itself imports no model library.
"""

from __future__ import annotations

import asyncio
import atexit
import fcntl
import os
import queue
import shutil
import socket
import sys
import tempfile
import threading
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from hpo.core.packages import versions_of
from hpo.core.params import ParamValue
from hpo.core.space import Parameter
from hpo.core.states import Decision
from hpo.core.trial import FoldResult
from hpo.errors import StudyFailed, SuggestionRefused, hide, redact
from hpo.evaluation.tasks import Task
from hpo.executors.local.pool import Bounds, Workers
from hpo.executors.threads import limit_threads

PREFIX = "hpo-ray-"
DATA = "evaluator.joblib"
# What results depend on, and what messages between driver and node are made of.
_PACKAGES = (
    "hpo", "numpy", "sklearn", "imblearn", "lightgbm", "xgboost", "keras", "tensorflow", "jax", "torch", "optuna",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of the libraries that driver and nodes must have in common, where they are installed."""
    return versions_of(_PACKAGES)


@dataclass(frozen=True)
class Order:
    """What a driver has its actors do.

    Args:
        name: unique to the driver's session.
        path: where the driver finds modules, for nodes that have the same folders.
        environment: variables that a training reads.
        secrets: what no message may show.
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
    """Where an actor is: Ray's id of the node, the host, and the actor's process."""

    node_id: str
    host: str
    pid: int


class Trainer:
    """The actor; its methods are called by :class:`hpo.executors.ray.executor.RayExecutor`.

    Args:
        data: in a list, so that Ray does not fetch it before it is asked for: a reference to what
            :func:`hpo.executors.local.pool.write_evaluator` wrote.
    """

    def __init__(self, order: Order, data: list[Any]) -> None:
        self._order, self._data = order, data
        self._messages: deque[tuple[Any, ...]] = deque()
        self._has_messages = asyncio.Event()
        self._line: _Line | None = None
        self._place: _Place | None = None
        self._workers: Workers | None = None
        # Before the handler of multiprocessing, registered earlier, which would wait for the worker.
        atexit.register(self._close)

    async def set_up(self) -> Site:
        """Start the worker; fails where the node is not as the driver needs it."""
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
        order = self._order
        others = [f"{name} {here}, not {order.versions[name]}" for name, here in versions().items()
                  if order.versions.get(name, here) != here]  # fmt: skip
        if others:
            raise StudyFailed(f"other versions than the driver's: {', '.join(others)}")
        sys.path.extend(folder for folder in order.path if folder not in sys.path)
        os.environ.update(order.environment)
        limit_threads(order.n_threads)
        # Without a share in a GPU a trial must not see any; with one it must leave the others theirs.
        sharing = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        os.environ.update(sharing if order.has_gpu else {"CUDA_VISIBLE_DEVICES": ""})
        for secret in order.secrets:
            hide(secret)
        self._place = _Place(order.name, self._fetch)
        self._workers = Workers(order.bounds, self._place.data_path, self._place.folder, 1)
        self._workers.start()

    def _fetch(self) -> Any:
        import ray

        return ray.get(self._data[0])

    async def begin(self, number: int, task: Task) -> None:
        """Begin with a task; what comes of it is heard."""
        self._line = _Line(number, self._tell)
        threading.Thread(target=self._carry_out, args=(self._line, task), name="hpo-task", daemon=True).start()

    async def hear(self, seconds: float) -> list[tuple[Any, ...]]:
        """What there is to tell the driver, as soon as there is something; nothing after some time.

        Messages are those of :mod:`hpo.executors.local.worker`, after the number of the task; in place of a result:
        ``("ended", result, weights)``.
        """
        if not self._messages:
            self._has_messages.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._has_messages.wait(), seconds)
        heard = list(self._messages)
        self._messages.clear()
        return heard

    async def answer(self, number: int, message: tuple[Any, ...]) -> None:
        """The driver's answer to a message of a task, or ``("stop",)``."""
        if self._line is not None and self._line.number == number:
            self._line.hear(message)

    async def close(self) -> None:
        """End the worker and leave nothing behind."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        if self._workers is not None:
            self._workers.stop()
        if self._place is not None:
            self._place.leave()

    def _tell(self, *message: Any) -> None:
        def add() -> None:
            self._messages.append(message)
            self._has_messages.set()

        self._loop.call_soon_threadsafe(add)

    def _carry_out(self, line: _Line, task: Task) -> None:
        workers, place = self._workers, self._place
        assert workers is not None and place is not None, "set_up() comes first"
        try:
            if task.weights_path is not None:
                task = replace(task, weights_path=place.folder / task.weights_path.name)
            ended, weights = workers.carry_out(task, line, []), None
            if isinstance(ended, FoldResult) and ended.weights_path is not None:
                path = Path(ended.weights_path)
                weights = path.read_bytes()
                path.unlink()
            line.tell("ended", ended, weights)
        except StudyFailed as error:
            line.tell("failed", f"on node {socket.gethostname()}: {error}")
        except BaseException:
            line.tell("failed", redact(f"on node {socket.gethostname()}: {traceback.format_exc()}"))


class _Line:
    """The control of a task, which is in the driver; see :class:`hpo.models.base.Control`."""

    def __init__(self, number: int, tell: Callable[..., None]) -> None:
        self.number, self._tell = number, tell
        self._answers: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._is_stopped = False

    def tell(self, *message: Any) -> None:
        self._tell(self.number, *message)

    def hear(self, message: tuple[Any, ...]) -> None:
        if message == ("stop",):
            self._is_stopped = True
        else:
            self._answers.put(message)

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        self.tell("epoch", dict(logs))
        return Decision(self._answers.get()[1])

    def poll(self) -> Decision:
        return Decision.INTERRUPT if self._is_stopped else Decision.CONTINUE

    def suggest(self, parameter: Parameter) -> ParamValue:
        self.tell("suggest", parameter)
        kind, answer = self._answers.get()
        if kind == "refused":
            raise SuggestionRefused(answer)
        value: ParamValue = answer
        return value

    def note(self, name: str, text: str) -> None:
        self.tell("note", name, text)


class _Place:
    """A folder on this node that the actors of one session share, with the data, and in it one for this actor.

    Whoever uses it holds a lock that ends with the process; a place without one was left by processes that were killed.
    """

    def __init__(self, name: str, fetch: Callable[[], Any]) -> None:
        shared = Path(tempfile.gettempdir())
        self._shared = shared / f"{PREFIX}{name}"
        for left in shared.glob(f"{PREFIX}*"):
            if left != self._shared:
                _remove(left)
        self._lock = self._enter()
        self.folder = Path(tempfile.mkdtemp(prefix="actor-", dir=self._shared))
        self.data_path = self._shared / DATA
        with (self._shared / "fetching").open("a") as one:
            fcntl.flock(one, fcntl.LOCK_EX)
            if not self.data_path.exists():
                new = self.data_path.with_suffix(".new")
                fetch().tofile(new)
                new.replace(self.data_path)

    def _enter(self) -> TextIO:
        path = self._shared / "lock"
        while True:
            with suppress(FileNotFoundError):  # where the last one has just left, and removed it
                self._shared.mkdir(mode=0o700, exist_ok=True)
                lock = path.open("a")
                fcntl.flock(lock, fcntl.LOCK_SH)
                if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                    return lock

    def leave(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()
        _remove(self._shared)


def _remove(place: Path) -> None:
    """Remove a place that nobody is in, or that is not for us to remove."""
    with suppress(OSError), (place / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(place, ignore_errors=True)
