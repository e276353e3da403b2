"""The actors of one driver: started, handed out for tasks, and replaced when one is lost."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from hpo.core.states import Decision, StopReason
from hpo.errors import StudyFailed
from hpo.executors.ray.cluster import Cluster
from hpo.executors.ray.handle import POLL_SECONDS, ActorHandle, ActorLost
from hpo.executors.ray.node import Session, Trainer
from hpo.executors.ray.request import can_host, describe_resources
from hpo.models.base import Control

CAPACITY_SECONDS = 2.0  # between two queries of the cluster's resources
CLOSE_SECONDS = 5.0
MAX_FAILED_STARTS = 3


class ActorPool:
    """Actors of a Ray cluster, each of which runs one task at a time.

    Args:
        data: Ray's reference to what :func:`hpo.executors.local.pool.write_evaluator` wrote.
        request: resources of one actor, by Ray's names.
        start_timeout: seconds to wait for a node that has them.
        n_actors: how many to request.
        warn: shows a warning to the user.
    """

    def __init__(
        self,
        cluster: Cluster,
        session: Session,
        data: Any,
        request: Mapping[str, float],
        start_timeout: float,
        n_actors: int,
        warn: Callable[[str], None],
    ) -> None:
        self._cluster, self._session, self._data, self._request = cluster, session, data, dict(request)
        self._start_timeout, self._warn = start_timeout, warn
        self._changed = threading.Condition()
        self._pending: list[ActorHandle] = []
        self._idle: list[ActorHandle] = []
        self._all: set[ActorHandle] = set()
        self._n_running = self._n_failed_starts = 0
        self.is_stopped = False
        self._lacking_since: float | None = None
        self._queried_at = -math.inf
        for _ in range(n_actors):
            self._add()

    @property
    def idle_pids(self) -> list[int]:
        """The processes of the actors that are ready and have no task."""
        with self._changed:
            return [actor.site.pid for actor in self._idle if actor.site is not None]

    @property
    def n_pending(self) -> int:
        """Actors that have been requested and are not ready."""
        with self._changed:
            return len(self._pending)

    def _add(self) -> None:
        import ray

        with self._changed:
            if self.is_stopped:
                return
            others = {name: amount for name, amount in self._request.items() if name not in ("CPU", "GPU")}
            options: dict[str, Any] = {"num_cpus": self._request["CPU"], "num_gpus": self._request.get("GPU", 0)}
            if self._cluster.runtime_env and not self._cluster.takes_runtime_env:
                options["runtime_env"] = self._cluster.runtime_env
            remote = ray.remote(Trainer).options(resources=others, max_restarts=0, max_task_retries=0, **options)
            new = ActorHandle(remote.remote(self._session, [self._data]), self._warn)
            self._all.add(new)
            self._pending.append(new)

    @contextmanager
    def acquire(self, control: Control) -> Iterator[ActorHandle | None]:
        """Hold a ready actor for one task, None if the study is interrupted first; replace it if it was lost.

        Raises:
            StudyFailed: when no actor can start.
        """
        with self._changed:
            self._n_running += 1
        try:
            actor = self._take(control)
            if actor is None:
                yield None
                return
            try:
                yield actor
            except BaseException:
                actor.kill()
                raise
            finally:
                self._put_back(actor)
        finally:
            with self._changed:
                self._n_running -= 1
                self._changed.notify_all()

    def _put_back(self, actor: ActorHandle) -> None:
        is_alive = actor.is_alive
        with self._changed:
            if is_alive and not self.is_stopped:
                self._idle.append(actor)
                self._changed.notify_all()
        if not is_alive:
            self._replace(actor)

    def _take(self, control: Control) -> ActorHandle | None:
        import ray

        while True:
            with self._changed:
                if self.is_stopped:
                    return None
                actor = self._idle.pop() if self._idle else None
                pending = {each.ready: each for each in self._pending}
            if actor is not None:
                if actor.is_alive:
                    return actor
                self._replace(actor)  # it was lost while it was idle
                continue
            if control.poll() is Decision.INTERRUPT:
                return None
            ready, _ = ray.wait(list(pending), timeout=POLL_SECONDS) if pending else ([], [])
            for each in ready:
                self._complete_start(pending[each])
            if not ready:
                self._check_capacity()
                if not pending:
                    with self._changed:
                        self._changed.wait(POLL_SECONDS)

    def _complete_start(self, actor: ActorHandle) -> None:
        """Add an actor to the idle ones, or replace it if it could not start."""
        with self._changed:
            if actor not in self._pending:
                return  # another thread has done it
            self._pending.remove(actor)
        try:
            actor.complete_start()
        except ActorLost as lost:
            self._replace(actor)
            if self.is_stopped or lost.reason is StopReason.NODE_LOST:
                return
            self._n_failed_starts += 1
            if lost.is_final or self._n_failed_starts >= MAX_FAILED_STARTS:
                raise StudyFailed(f"a worker could not start {lost.text}") from None
            return
        with self._changed:
            self._n_failed_starts = 0
            self._lacking_since = None
            self._idle.append(actor)
            self._changed.notify_all()

    def _check_capacity(self) -> None:
        """Fail if no node can host an actor, once no actor is left to train on.

        Raises:
            StudyFailed: after the start timeout; at once in a Ray of our own, to which nobody adds a node.
        """
        now = time.monotonic()
        with self._changed:
            if len(self._pending) < len(self._all) or now < self._queried_at + CAPACITY_SECONDS:
                return
            self._queried_at = now
        nodes = self._cluster.nodes()
        if any(can_host(node, self._request) for node in nodes):
            self._lacking_since = None  # others use it at present
            return
        self._lacking_since = self._lacking_since or now
        waited = now - self._lacking_since
        if self._cluster.is_own or waited >= self._start_timeout:
            requested = ", ".join(f"{name} {amount:g}" for name, amount in self._request.items())
            found = "; ".join(f"{n['NodeManagerHostname']}: {describe_resources(n)}" for n in nodes) or "no node"
            since = "" if self._cluster.is_own else f", and no node was added in {waited:.0f} s"
            raise StudyFailed(
                f"no node of the Ray cluster has the resources of one trial ({requested}): it has {found}{since}"
            )

    def _replace(self, lost: ActorHandle) -> None:
        lost.kill()
        with self._changed:
            self._all.discard(lost)
        self._add()

    def stop(self) -> None:
        """End all actors and remove their files; safe to call twice."""
        import ray

        with self._changed:
            was_stopped, self.is_stopped = self.is_stopped, True
            actors = list(self._all)
            for each in (self._all, self._idle, self._pending):
                each.clear()
            self._changed.notify_all()
        if was_stopped or not ray.is_initialized():
            return
        ready = [actor for actor in actors if actor.site is not None]
        for actor in set(actors) - set(ready):
            actor.kill()
        with suppress(Exception):  # of actors that are gone
            closing = [actor.actor.close.remote() for actor in ready]
            ray.wait(closing, num_returns=len(closing), timeout=CLOSE_SECONDS)
        for actor in ready:
            actor.kill()
        with self._changed:  # other threads may still call Ray, which must not be shut down before
            self._changed.wait_for(lambda: self._n_running == 0, CLOSE_SECONDS)
