"""Trials in actors of Ray, on the machines of a cluster; see :mod:`hpo.executors.ray_node` for what runs there."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpo.errors import ConfigError, StudyFailed, SuggestionRefused, full_disk_ends_the_study, hidden
from hpo.evaluation import Evaluator, Task
from hpo.executors import workers
from hpo.executors.base import Executor
from hpo.executors.ray_cluster import Cluster
from hpo.executors.ray_node import Order, Site, Trainer, versions
from hpo.executors.threads import check_whole, limit_threads
from hpo.executors.workers import Bounds, Unfinished, write_evaluator
from hpo.models.base import Control, Undisturbed
from hpo.trial import Decision, FoldResult, StopReason

POLL_SECONDS = 0.1
HEAR_SECONDS = 10.0  # of one call that waits for messages
CAPACITY_SECONDS = 2.0  # between two looks at what the cluster has
CLOSE_SECONDS = 5.0
UNCLEAR_SECONDS = 10.0  # what Ray gets to find out whether an actor is gone
MAX_TEXT = 500
# What an actor gets to end a training, beyond what it gives the training itself.
MARGIN_SECONDS = 10.0
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
        trial_timeout_seconds, max_memory_bytes, recycle_growth_bytes: see :class:`hpo.executors.workers.Bounds`.
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
        self._pending: list[_Actor] = []
        self._idle: list[_Actor] = []
        self._all: set[_Actor] = set()
        self._n_busy = self._n_failed_starts = 0
        self._is_stopped = True
        self._lacking_since: float | None = None
        self._looked_at = -math.inf

    def prepare(self) -> None:
        limit_threads(self.threads_per_trial)
        if self._cluster.address is not None:  # so that one that does not answer is refused before anything is loaded
            self._connect()

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
        finally:
            path.unlink(missing_ok=True)
        self._order = Order(
            name=uuid.uuid4().hex,
            bounds=self._bounds,
            n_threads=self.threads_per_trial,
            path=[str(Path(folder).absolute()) for folder in sys.path if not self._cluster.runtime_env],
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
            made = _Actor(remote.remote(self._order, [self._data]))
            self._all.add(made)
            self._pending.append(made)

    def run(self, task: Task, control: Control) -> FoldResult:
        evaluator = self._evaluator
        assert evaluator is not None, "start() comes first"
        epochs: list[Mapping[str, float]] = []
        while True:
            with self._taken(control) as chosen:
                if chosen is None:  # interrupted before it was ready
                    return Unfinished(StopReason.INTERRUPTED).result(evaluator, task, epochs)
                began = time.monotonic()
                try:
                    ended = chosen.carry_out(task, control, epochs)
                except _Lost as lost:
                    chosen.kill()
                    reason = StopReason.INTERRUPTED if self._is_stopped else lost.reason
                    if reason is StopReason.NODE_LOST and not lost.has_begun:
                        continue  # with another one
                    error = None if reason is StopReason.INTERRUPTED else lost.text
                    ended = Unfinished(reason, time.monotonic() - began, error)
            return ended if isinstance(ended, FoldResult) else ended.result(evaluator, task, epochs)

    @contextmanager
    def _taken(self, control: Control) -> Iterator[_Actor | None]:
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
            with self._changed:
                self._n_busy -= 1
                is_kept = chosen.is_alive and not self._is_stopped
                if is_kept:
                    self._idle.append(chosen)
                self._changed.notify_all()
            if not is_kept:
                self._replace(chosen)

    def _take(self, control: Control) -> _Actor | None:
        import ray

        while True:
            with self._changed:
                if self._is_stopped:
                    return None
                if self._idle:
                    chosen = self._idle.pop()
                    self._n_busy += 1
                    if chosen.is_alive:
                        return chosen
                    self._n_busy -= 1
                else:
                    chosen = None
                pending = {actor.ready: actor for actor in self._pending}
            if chosen is not None:  # it was lost while it had nothing to do
                self._replace(chosen)
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

    def _welcome(self, actor: _Actor) -> None:
        """Take in an actor whose start has come to its end, whatever that is."""
        with self._changed:
            if actor not in self._pending:
                return  # another thread was quicker
            self._pending.remove(actor)
        try:
            actor.be_ready()
        except _Lost as lost:
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
            there = "; ".join(_described(node) for node in nodes) or "no node"
            since = "" if self._cluster.is_own else f", and none was added in {waited:.0f} s"
            raise StudyFailed(f"no node of the Ray cluster has what a trial asks for ({asked}): it has {there}{since}")

    def _replace(self, lost: _Actor) -> None:
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
                self._changed.wait_for(lambda: self._n_busy == 0, CLOSE_SECONDS)
        self._data = self._evaluator = None
        self._cluster.close()


@dataclass
class _Lost(Exception):
    """An actor gives no result: it is gone, or is killed for this.

    Args:
        has_begun: whether it had a task.
        is_final: whether another one would do no better.
    """

    reason: StopReason
    text: str | None = None
    has_begun: bool = True
    is_final: bool = False


class _Actor:
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
            _Lost: when it has not.
        """
        import ray

        try:
            self.site = ray.get(self.ready)
        except ray.exceptions.RayTaskError as error:
            text = str(error.cause) if isinstance(error.cause, StudyFailed) else str(error)
            raise _Lost(StopReason.CRASHED, text, is_final=True) from None
        except ray.exceptions.RuntimeEnvSetupError as error:
            raise _Lost(StopReason.CRASHED, f"in executor.runtime_env: {error}", is_final=True) from None
        except ray.exceptions.RayError as error:
            raise self._gone(error) from None
        self._heard = self.handle.hear.remote(HEAR_SECONDS)

    @property
    def is_alive(self) -> bool:
        """Whether it is not known to be gone; for one that has nothing to do."""
        if self._is_killed:
            return False
        try:
            self._hear(0)
        except _Lost:
            return False
        return True

    def carry_out(self, task: Task, control: Control, epochs: list[Mapping[str, float]]) -> FoldResult | Unfinished:
        """Have ``task`` carried out; its epochs are added to ``epochs`` as they come."""
        import ray

        self._n_tasks += 1
        number, killed_at = self._n_tasks, math.inf
        begun: Any = self.handle.begin.remote(number, task)
        while True:
            for n, *message in self._hear(POLL_SECONDS):
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
                except ray.exceptions.RayError as error:
                    raise self._gone(error, has_begun=False) from None
                begun = None
            now = time.monotonic()
            if math.isinf(killed_at) and control.poll() is Decision.INTERRUPT:
                killed_at = now + workers.GRACE_SECONDS + MARGIN_SECONDS
                self._answer("stop")
            elif now >= killed_at:
                raise _Lost(StopReason.INTERRUPTED)

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

    def _gone(self, error: Exception, has_begun: bool = True) -> _Lost:
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
        said = " ".join(line.strip() for line in str(error).splitlines() if not line.startswith("\t"))
        reason = StopReason.CRASHED if is_process else StopReason.NODE_LOST
        where = f" on node {site.host}" if site else ""
        return _Lost(reason, f"the actor of the worker{where} was lost: {said}"[:MAX_TEXT], has_begun)

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


def _described(node: Mapping[str, Any]) -> str:
    held = {k: v for k, v in node["Resources"].items() if not k.startswith("node:") and "memory" not in k}
    amounts = ", ".join(f"{name} {amount:g}" for name, amount in sorted(held.items()))
    return f"{node['NodeManagerHostname']}: {amounts}"
