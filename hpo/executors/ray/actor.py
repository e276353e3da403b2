"""The driver's end of an actor on a node; see :mod:`hpo.executors.ray.node` for the other one."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpo.core.states import Decision, StopReason
from hpo.core.trial import FoldResult
from hpo.errors import StudyFailed, SuggestionRefused, full_disk_ends_the_study, redact
from hpo.evaluation.tasks import Task
from hpo.executors.local import pool
from hpo.executors.local.pool import Unfinished
from hpo.executors.ray.node import Site
from hpo.models.base import ObjectiveControl

POLL_SECONDS = 0.1
HEAR_SECONDS = 10.0  # of one call that waits for messages
UNCLEAR_SECONDS = 5.0  # what Ray gets to find out whether an actor is gone
MAX_TEXT = 500
# What an actor gets to end a training, beyond what it gives the training itself.
MARGIN_SECONDS = 10.0


@dataclass(eq=False)
class Lost(Exception):
    """An actor gives no result: it is gone, or is killed for this.

    Args:
        has_begun: whether it had a task.
        is_final: whether another one would do no better.
    """

    reason: StopReason
    text: str | None = None
    has_begun: bool = True
    is_final: bool = False


class Actor:
    """The driver's end of an actor."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.ready = handle.set_up.remote()
        self.site: Site | None = None
        self._heard: Any = None
        self._is_killed = False
        self._n_tasks = 0

    def be_ready(self) -> None:
        """Take note that it has started.

        Raises:
            Lost: when it has not.
        """
        import ray

        try:
            self.site = ray.get(self.ready)
        except ray.exceptions.RayTaskError as error:
            raise Lost(StopReason.CRASHED, one_line(error), is_final=True) from None
        except ray.exceptions.RuntimeEnvSetupError as error:
            text = f"with executor.runtime_env: {one_line(error)}"
            raise Lost(StopReason.CRASHED, text, is_final=True) from None
        except ray.exceptions.RayError as error:
            raise self._gone(error) from None
        self._heard = self.handle.hear.remote(HEAR_SECONDS)

    @property
    def is_alive(self) -> bool:
        """Whether it is not known to be gone; for one that has nothing to do."""
        import ray

        if self._is_killed:
            return False
        try:
            if ray.wait([self._heard], timeout=0)[0]:
                ray.get(self._heard)
                self._heard = self.handle.hear.remote(HEAR_SECONDS)
        except ray.exceptions.RayError:
            return False
        return True

    def carry_out(
        self, task: Task, control: ObjectiveControl, epochs: list[Mapping[str, float]]
    ) -> FoldResult | Unfinished:
        """Have ``task`` carried out; its epochs are added to ``epochs`` as they come."""
        import ray

        self._n_tasks += 1
        number, killed_at = self._n_tasks, math.inf
        begun: Any = self.handle.begin.remote(number, task)
        while True:
            try:
                heard = self._hear(POLL_SECONDS)
            except Lost as lost:
                lost.has_begun = begun is None
                raise
            for n, *message in heard:
                if n != number:
                    continue  # of a task that was given up
                begun = None
                match message:
                    case ["epoch", logs]:
                        epochs.append(logs)
                        self._answer("decision", control.on_epoch(len(epochs) - 1, logs).value)
                    case ["suggest", parameter]:
                        try:
                            self._answer("suggested", control.suggest(parameter))
                        except SuggestionRefused as error:
                            self._answer("refused", str(error))
                    case ["note", name, text]:
                        control.note(name, text)
                    case ["failed", text]:
                        raise StudyFailed(text)
                    case ["ended", ended, weights]:
                        return _with_weights(ended, weights, task)
            if begun is not None and ray.wait([begun], timeout=0)[0]:
                try:
                    ray.get(begun)
                except ray.exceptions.RayTaskError as error:  # such as of a class that the node does not have
                    raise StudyFailed(f"a node cannot take a trial: {one_line(error)}") from None
                except ray.exceptions.RayError as error:
                    raise self._gone(error, has_begun=False) from None
                begun = None
            now = time.monotonic()
            if math.isinf(killed_at) and control.poll() is Decision.INTERRUPT:
                killed_at = now + pool.GRACE_SECONDS + MARGIN_SECONDS
                self._answer("stop")
            elif now >= killed_at:
                raise Lost(StopReason.INTERRUPTED)

    def _answer(self, *message: Any) -> None:
        self.handle.answer.remote(self._n_tasks, message)

    def _hear(self, seconds: float) -> list[tuple[Any, ...]]:
        """What it has said, after at most ``seconds``."""
        import ray

        if not ray.wait([self._heard], timeout=seconds)[0]:
            return []
        try:
            heard: list[tuple[Any, ...]] = ray.get(self._heard)
        except ray.exceptions.RayError as error:
            raise self._gone(error) from None
        self._heard = self.handle.hear.remote(HEAR_SECONDS)
        return heard

    def _gone(self, error: Exception, has_begun: bool = True) -> Lost:
        """What to make of an error of Ray's: whether the node is gone, or only a process on it."""
        import ray

        ends = time.monotonic() + UNCLEAR_SECONDS
        while isinstance(error, ray.exceptions.ActorUnavailableError) and time.monotonic() < ends:
            try:  # until Ray knows better
                ray.get(self.handle.hear.remote(0), timeout=POLL_SECONDS)
                break  # it is there, but what it said may be lost
            except ray.exceptions.GetTimeoutError:
                pass
            except ray.exceptions.RayError as later:
                error = later
                time.sleep(POLL_SECONDS)
        site = self.site
        is_here = site is None or any(node["Alive"] and node["NodeID"] == site.node_id for node in ray.nodes())
        is_process = isinstance(error, ray.exceptions.ActorDiedError) and is_here
        reason = StopReason.CRASHED if is_process else StopReason.NODE_LOST
        where = f" on node {site.host}" if site else ""
        return Lost(reason, f"the actor of the worker{where} was lost: {one_line(error)}", has_begun)

    def kill(self) -> None:
        """End it and its worker, at once."""
        import ray

        self._is_killed = True
        with suppress(Exception):
            ray.kill(self.handle)


def _with_weights(ended: FoldResult | Unfinished, weights: bytes | None, task: Task) -> FoldResult | Unfinished:
    """With the weights written to where the task wants them."""
    if isinstance(ended, Unfinished) or weights is None:
        return ended
    assert ended.weights_path is not None and task.weights_path is not None
    path = task.weights_path.with_name(Path(ended.weights_path).name)
    with full_disk_ends_the_study():
        path.write_bytes(weights)
    return replace(ended, weights_path=str(path))


def one_line(error: Exception) -> str:
    """What Ray says, or what was raised on a node, without stacks and ids."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, StudyFailed):
        return str(cause)
    if isinstance(cause, Exception):
        return redact(f"{type(cause).__name__}: {cause}")[:MAX_TEXT]
    lines = [line.strip() for line in str(error).splitlines() if not line.startswith(("\t", "  "))]
    return redact(" ".join(lines))[:MAX_TEXT]
