"""Trials in actors of Ray, on the machines of a cluster; see :mod:`hpo.executors.ray.node` for what runs there."""

from __future__ import annotations

import itertools
import math
import os
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hpo.core.states import Decision, StopReason
from hpo.core.trial import FoldResult
from hpo.errors import ConfigError, StudyFailed, hidden
from hpo.evaluation.evaluator import Evaluator
from hpo.evaluation.tasks import Task
from hpo.executors.base import Executor
from hpo.executors.local.pool import Bounds, Unfinished, write_evaluator
from hpo.executors.ray.actor import POLL_SECONDS, Actor, Lost, one_line
from hpo.executors.ray.cluster import Cluster
from hpo.executors.ray.node import Order, Trainer, versions
from hpo.executors.threads import check_whole, limit_threads
from hpo.models.base import Control, ObjectiveControl, Undisturbed

CAPACITY_SECONDS = 2.0  # between two looks at what the cluster has
CLOSE_SECONDS = 5.0
MAX_FAILED_STARTS = 3
# Variables of the driver that a training reads.
_PASSED_ON = ("KERAS_BACKEND", "TF_", "XLA_", "JAX_")


class RayExecutor(Executor):
    """Trains in actors of a Ray cluster, each with a worker process on its node.

    Args:
        address: ``auto`` or ``HOST:PORT`` of a cluster; None for what ``RAY_ADDRESS`` says, or else a Ray of its own on
            this machine.
        workers: actors, each for one trial at a time; as many as fit train, the others are what an autoscaler sees.
        threads_per_trial: cores of an actor, and what a trial computes on.
        gpus_per_trial: GPUs of an actor, also a part of one.
        resources: further ones of an actor, by the cluster's own names.
        runtime_env: what the code of a user needs on other machines, as Ray takes it.
        trial_timeout_seconds, max_memory_bytes, recycle_growth_bytes: see :class:`hpo.executors.local.pool.Bounds`.
        retries: how often a trial is begun anew after its worker has died. A node that is lost does not count.
        start_timeout_seconds: how long to wait for a node that has what an actor needs.

    Raises:
        ConfigError: for a value that makes no sense.
    """

    def __init__(
        self,
        address: Any = None,
        workers: int = 1,
        threads_per_trial: int = 1,
        gpus_per_trial: float = 0,
        resources: Mapping[str, float] | None = None,
        runtime_env: Any = None,
        trial_timeout_seconds: float | None = None,
        max_memory_bytes: int | None = None,
        recycle_growth_bytes: int = 500_000_000,
        retries: int = 1,
        start_timeout_seconds: float = 300,
    ) -> None:
        self.n_workers = int(check_whole("workers", workers, 1))
        self.threads_per_trial = int(check_whole("threads_per_trial", threads_per_trial, 1))
        self.retries = int(check_whole("retries", retries, 0))
        self._bounds = Bounds(trial_timeout_seconds, max_memory_bytes, recycle_growth_bytes)
        self._request = _request(self.threads_per_trial, gpus_per_trial, resources)
        if not isinstance(runtime_env, Mapping | None):
            fix = "executor.runtime_env='{working_dir: .}'"
            raise ConfigError("executor.runtime_env", runtime_env, "a mapping, as Ray takes it", fix)
        if not _is_number(start_timeout_seconds) or start_timeout_seconds <= 0:
            fix = "executor.start_timeout_seconds=300"
            raise ConfigError("executor.start_timeout_seconds", start_timeout_seconds, "a number above 0", fix)
        self._start_timeout = start_timeout_seconds
        self._cluster = Cluster(_checked_address(address), runtime_env)
        self._evaluator: Evaluator | None = None
        self._changed = threading.Condition()
        self._pending: list[Actor] = []
        self._idle: list[Actor] = []
        self._all: set[Actor] = set()
        self._n_running = self._n_failed_starts = 0
        self._is_stopped = True
        self._lacking_since: float | None = None
        self._looked_at = -math.inf

    def prepare(self) -> None:
        limit_threads(self.threads_per_trial)
        if self._cluster.address is not None:  # so that one that does not answer is refused before anything is loaded
            self._connect()
            nodes = Counter(_amounts(node) for node in self._cluster.nodes())
            self.hardware = "Ray: " + ", ".join(f"{n} × ({amounts})" for amounts, n in sorted(nodes.items()))

    def _connect(self) -> None:
        self._cluster.connect(self.n_workers * self.threads_per_trial)

    def start(self, evaluator: Evaluator, folder: Path, n_workers: int | None = None) -> None:
        import numpy as np
        import ray

        self._evaluator = evaluator
        path = folder / "evaluator.joblib"
        try:
            write_evaluator(evaluator, path, "ray")
            self._connect()
            self._data = ray.put(np.fromfile(path, np.uint8))
        except ray.exceptions.RayError as error:
            raise StudyFailed(f"the data cannot be put into Ray's object store: {one_line(error)}") from error
        finally:
            path.unlink(missing_ok=True)
        self._order = Order(
            name=uuid.uuid4().hex,
            bounds=self._bounds,
            n_threads=self.threads_per_trial,
            path=[] if self._cluster.runtime_env else [str(Path(folder).absolute()) for folder in sys.path],
            environment={name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)},
            secrets=hidden(),
            versions=versions(),
            has_gpu=self._request.get("GPU", 0) > 0,
        )
        self._n_failed_starts, self._lacking_since, self._is_stopped = 0, None, False
        for _ in range(min(self.n_workers, n_workers or self.n_workers)):
            self._add()
        # The first one; an autoscaler may bring the others while it trains.
        with self._taken(Undisturbed()):
            pass

    def _add(self) -> None:
        import ray

        with self._changed:
            if self._is_stopped:
                return
            others = {name: amount for name, amount in self._request.items() if name not in ("CPU", "GPU")}
            options: dict[str, Any] = {"num_cpus": self._request["CPU"], "num_gpus": self._request.get("GPU", 0)}
            if self._cluster.runtime_env and not self._cluster.takes_runtime_env:
                options["runtime_env"] = self._cluster.runtime_env
            remote = ray.remote(Trainer).options(resources=others, max_restarts=0, max_task_retries=0, **options)
            made = Actor(remote.remote(self._order, [self._data]))
            self._all.add(made)
            self._pending.append(made)

    def run(self, task: Task, control: ObjectiveControl) -> FoldResult:
        evaluator = self._evaluator
        assert evaluator is not None, "start() comes first"
        epochs: list[Mapping[str, float]] = []
        with self._changed:
            self._n_running += 1
        try:
            ended = self._carry_out(task, control, epochs)
        finally:
            with self._changed:
                self._n_running -= 1
                self._changed.notify_all()
        return ended if isinstance(ended, FoldResult) else ended.result(evaluator, task, epochs)

    def _carry_out(
        self, task: Task, control: ObjectiveControl, epochs: list[Mapping[str, float]]
    ) -> FoldResult | Unfinished:
        for n_lost in itertools.count(1):
            with self._taken(control) as chosen:
                if chosen is None:  # interrupted before it was ready
                    break
                began = time.monotonic()
                try:
                    return chosen.carry_out(task, control, epochs)
                except Lost as lost:
                    chosen.kill()
                    if self._is_stopped or lost.reason is StopReason.INTERRUPTED:
                        return Unfinished(StopReason.INTERRUPTED, time.monotonic() - began)
                    if lost.has_begun or n_lost == MAX_FAILED_STARTS:
                        return Unfinished(lost.reason, time.monotonic() - began, lost.text)
        return Unfinished(StopReason.INTERRUPTED)

    @contextmanager
    def _taken(self, control: Control) -> Iterator[Actor | None]:
        """An actor that is ready, for one task; one that is lost meanwhile is replaced."""
        chosen = self._take(control)
        if chosen is None:
            yield None
            return
        try:
            yield chosen
        except BaseException:
            chosen.kill()
            raise
        finally:
            is_alive = chosen.is_alive
            with self._changed:
                if is_alive and not self._is_stopped:
                    self._idle.append(chosen)
                    self._changed.notify_all()
            if not is_alive:
                self._replace(chosen)

    def _take(self, control: Control) -> Actor | None:
        import ray

        while True:
            with self._changed:
                if self._is_stopped:
                    return None
                chosen = self._idle.pop() if self._idle else None
                pending = {actor.ready: actor for actor in self._pending}
            if chosen is not None:
                if chosen.is_alive:
                    return chosen
                self._replace(chosen)  # it was lost while it had nothing to do
                continue
            if control.poll() is Decision.INTERRUPT:
                return None
            ready, _ = ray.wait(list(pending), timeout=POLL_SECONDS) if pending else ([], [])
            for each in ready:
                self._welcome(pending[each])
            if not ready:
                self._check_capacity()
                if not pending:
                    with self._changed:
                        self._changed.wait(POLL_SECONDS)

    def _welcome(self, actor: Actor) -> None:
        """Take in an actor whose start has come to its end, whatever that is."""
        with self._changed:
            if actor not in self._pending:
                return  # another thread was quicker
            self._pending.remove(actor)
        try:
            actor.be_ready()
        except Lost as lost:
            self._replace(actor)
            if self._is_stopped or lost.reason is StopReason.NODE_LOST:
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
        """Wait no longer for what no node has, once nobody is there to train."""
        now = time.monotonic()
        with self._changed:
            if len(self._pending) < len(self._all) or now < self._looked_at + CAPACITY_SECONDS:
                return
            self._looked_at = now
        nodes = self._cluster.nodes()
        if any(all(node["Resources"].get(k, 0) >= v for k, v in self._request.items()) for node in nodes):
            self._lacking_since = None  # others have it for the time being
            return
        self._lacking_since = self._lacking_since or now
        waited = now - self._lacking_since
        if self._cluster.is_own or waited >= self._start_timeout:
            asked = ", ".join(f"{name} {amount:g}" for name, amount in self._request.items())
            there = "; ".join(f"{node['NodeManagerHostname']}: {_amounts(node)}" for node in nodes) or "no node"
            since = "" if self._cluster.is_own else f", and none was added in {waited:.0f} s"
            raise StudyFailed(f"no node of the Ray cluster has what a trial asks for ({asked}): it has {there}{since}")

    def _replace(self, lost: Actor) -> None:
        lost.kill()
        with self._changed:
            self._all.discard(lost)
        self._add()

    def stop(self) -> None:
        import ray

        with self._changed:
            was_stopped, self._is_stopped = self._is_stopped, True
            actors = list(self._all)
            for each in (self._all, self._idle, self._pending):
                each.clear()
            self._changed.notify_all()
        if not was_stopped and ray.is_initialized():
            ready = [actor for actor in actors if actor.site is not None]
            for actor in set(actors) - set(ready):
                actor.kill()
            with suppress(Exception):  # of actors that are gone
                closing = [actor.handle.close.remote() for actor in ready]
                ray.wait(closing, num_returns=len(closing), timeout=CLOSE_SECONDS)
            for actor in ready:
                actor.kill()
            with self._changed:  # Ray must not be gone while others still ask it something
                self._changed.wait_for(lambda: self._n_running == 0, CLOSE_SECONDS)
        self._data = self._evaluator = None
        self._cluster.close()


def _checked_address(address: Any) -> str | None:
    if address is None or (isinstance(address, str) and address and "/" not in address):
        return address
    raise ConfigError("executor.address", address, "auto, HOST:PORT, or null", "executor.address=auto")


def _request(threads: int, gpus: Any, resources: Any) -> dict[str, float]:
    """What an actor asks of its node, by Ray's names."""
    if not _is_number(gpus) or gpus < 0 or (gpus > 1 and gpus != int(gpus)):
        expected = "a whole number of GPUs, or a part of one, such as 0.5"
        raise ConfigError("executor.gpus_per_trial", gpus, expected, "executor.gpus_per_trial=0.5")
    if resources is not None and not isinstance(resources, Mapping):
        expected, fix = "a mapping of resources to amounts", "executor.resources='{a100: 1}'"
        raise ConfigError("executor.resources", resources, expected, fix)
    request: dict[str, float] = {"CPU": threads} | ({"GPU": gpus} if gpus else {})
    for name, amount in (resources or {}).items():
        if name in ("CPU", "GPU", "memory"):
            key = {"CPU": "threads_per_trial", "GPU": "gpus_per_trial", "memory": "max_memory_bytes"}[name]
            raise ConfigError(f"executor.resources.{name}", amount, f"executor.{key}", f"executor.{key}={amount}")
        if not _is_number(amount) or amount <= 0:
            raise ConfigError(f"executor.resources.{name}", amount, "a number above 0", f"executor.resources.{name}=1")
        request[str(name)] = amount
    return request


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _amounts(node: Mapping[str, Any]) -> str:
    """What a node has to give, in words."""
    held = {k: v for k, v in node["Resources"].items() if not k.startswith("node:") and "memory" not in k}
    return ", ".join(f"{name} {amount:g}" for name, amount in sorted(held.items())) or "nothing"
