"""Trains in actors of Ray, on the machines of a cluster; :mod:`hpo.executors.ray.node` is what runs there."""

from __future__ import annotations

import itertools
import os
import sys
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpo.core.states import StopReason
from hpo.core.trial import FoldResult
from hpo.errors import ConfigError, StudyFailed, hidden
from hpo.evaluation.evaluator import Evaluator
from hpo.evaluation.tasks import Task
from hpo.executors.base import Executor, WarnOnce
from hpo.executors.bounds import Bounds
from hpo.executors.local.pool import write_evaluator
from hpo.executors.messages import UnfinishedTask
from hpo.executors.ray.cluster import Cluster
from hpo.executors.ray.handle import ActorLost, one_line
from hpo.executors.ray.node import Session, versions
from hpo.executors.ray.pool import ActorPool
from hpo.executors.ray.request import check_address, describe_resources, is_number, resource_request
from hpo.executors.threads import check_whole, limit_threads
from hpo.models.base import ObjectiveControl, Undisturbed

MAX_LOST_BEFORE_BEGINNING = 3
# Variables of the driver that a training reads.
_PASSED_ON = ("KERAS_BACKEND", "TF_", "XLA_", "JAX_")


class RayExecutor(Executor):
    """Trains in actors of a Ray cluster, each with a worker process on its node.

    Args:
        address: ``auto`` or ``HOST:PORT`` of a cluster; None for the value of ``RAY_ADDRESS`` or, without one, a Ray on
            this machine that ends with the study.
        workers: actors to request, each for one trial at a time. Those that do not fit wait in Ray's queue and trigger
            autoscaling.
        threads_per_trial: cores of an actor and of its trial.
        gpus_per_trial: GPUs of an actor, or a part of one.
        resources: further resources of an actor, by the cluster's own names.
        runtime_env: what the user's code needs on other machines, as Ray takes it.
        trial_timeout_seconds, max_memory_bytes, recycle_growth_bytes: see :class:`hpo.executors.bounds.Bounds`.
        retries: how often a trial is retried after its worker died. The loss of a node does not count.
        start_timeout_seconds: how long to wait for a node that has the resources of an actor.

    Raises:
        ConfigError: for a value that cannot be used.
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
        self._request = resource_request(self.threads_per_trial, gpus_per_trial, resources)
        if not isinstance(runtime_env, Mapping | None):
            fix = "executor.runtime_env='{working_dir: .}'"
            raise ConfigError("executor.runtime_env", runtime_env, "a mapping, as Ray takes it", fix)
        if not is_number(start_timeout_seconds) or start_timeout_seconds <= 0:
            fix = "executor.start_timeout_seconds=300"
            raise ConfigError("executor.start_timeout_seconds", start_timeout_seconds, "a number above 0", fix)
        self._start_timeout = start_timeout_seconds
        self._cluster = Cluster(check_address(address), runtime_env)
        self._evaluator: Evaluator | None = None
        self._actors: ActorPool | None = None
        self.session_name = ""

    @property
    def actors(self) -> ActorPool:
        """The actors, after :meth:`start`."""
        assert self._actors is not None, "start() comes first"
        return self._actors

    def prepare(self) -> None:
        limit_threads(self.threads_per_trial)
        if self._cluster.address is not None:  # refuse an address that does not answer before anything is loaded
            self._connect()
            nodes = Counter(describe_resources(node) for node in self._cluster.nodes())
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
            data = ray.put(np.fromfile(path, np.uint8))
        except ray.exceptions.RayError as error:
            raise StudyFailed(f"the data cannot be put into Ray's object store: {one_line(error)}") from error
        finally:
            path.unlink(missing_ok=True)
        self.session_name = uuid.uuid4().hex
        session = Session(
            name=self.session_name,
            bounds=self._bounds,
            n_threads=self.threads_per_trial,
            path=[] if self._cluster.runtime_env else [str(Path(folder).absolute()) for folder in sys.path],
            environment={name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)},
            secrets=hidden(),
            versions=versions(),
            has_gpu=self._request.get("GPU", 0) > 0,
        )
        n_actors = min(self.n_workers, n_workers or self.n_workers)
        self._actors = ActorPool(self._cluster, session, data, self._request, self._start_timeout, n_actors, WarnOnce())
        # Wait for the first one; an autoscaler may add nodes for the others while it trains.
        with self._actors.acquire(Undisturbed()):
            pass

    def run(self, task: Task, control: ObjectiveControl) -> FoldResult:
        evaluator = self._evaluator
        assert evaluator is not None, "start() comes first"
        epochs: list[Mapping[str, float]] = []
        ended = self._run(task, control, epochs)
        return ended if isinstance(ended, FoldResult) else ended.result(evaluator, task, epochs)

    def _run(
        self, task: Task, control: ObjectiveControl, epochs: list[Mapping[str, float]]
    ) -> FoldResult | UnfinishedTask:
        for n_lost in itertools.count(1):
            with self.actors.acquire(control) as actor:
                if actor is None:  # interrupted before one was ready
                    break
                began = time.monotonic()
                try:
                    return actor.run(task, control, epochs)
                except ActorLost as lost:
                    actor.kill()
                    seconds = time.monotonic() - began
                    if self.actors.is_stopped or lost.reason is StopReason.INTERRUPTED:
                        return UnfinishedTask(StopReason.INTERRUPTED, seconds)
                    if lost.has_begun or n_lost == MAX_LOST_BEFORE_BEGINNING:
                        return UnfinishedTask(lost.reason, seconds, lost.text)
        return UnfinishedTask(StopReason.INTERRUPTED)

    def stop(self) -> None:
        if self._actors is not None:
            self._actors.stop()
        self._evaluator = None
        self._cluster.close()
