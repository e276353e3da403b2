"""What runs inside Ray and Ray Tune for :class:`hpo.strategies.ray_tune.RayTuneStrategy`.

A Tune trial lives in a process of Ray and trains nothing: it asks the study to evaluate its params, passes on what a
scheduler may see, and tells the study when the scheduler stops it. This module imports Ray, which reads its environment
then; the strategy imports it once :class:`hpo.executors.ray.cluster.Cluster` has prepared that.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import optuna
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

from hpo.core.measurement import Measurement
from hpo.core.params import Params, ParamValue
from hpo.core.space import SearchSpace
from hpo.core.states import Decision
from hpo.core.trial import Proposal, Trial
from hpo.errors import SearchStopped, StudyFailed
from hpo.strategies.base import Evaluate, SearchProblem
from hpo.strategies.optuna import suggest

VALUE, EPOCH = "value", "epoch"
POLL_SECONDS = 0.2
DECISION_SECONDS = 60.0  # far more than a scheduler takes; after it, its process counts as dead
LOST = "lost"


class Bridge:
    """An actor of Ray that holds the messages between Tune's trials and the study."""

    def __init__(self) -> None:
        self._requests: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        self._results: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self._decisions: dict[str, asyncio.Queue[str]] = {}
        self._is_over = False

    def _of(self, queues: dict[str, asyncio.Queue[Any]], key: str) -> asyncio.Queue[Any]:
        return queues.setdefault(key, asyncio.Queue())

    async def begin(self, key: str, params: dict[str, Any]) -> dict[str, Any]:
        """From a trial: request the evaluation of ``params``; returns the first result."""
        await self._requests.put((key, params))
        return await self._next(key)

    async def resume(self, key: str) -> dict[str, Any]:
        """From a trial: the scheduler lets it continue; returns the next result."""
        await self._of(self._decisions, key).put(Decision.CONTINUE.value)
        return await self._next(key)

    async def stop(self, key: str) -> None:
        """From a trial: the scheduler has stopped it."""
        await self._of(self._decisions, key).put(Decision.PRUNE.value)

    async def lose(self, key: str) -> None:
        """From Tune: the trial's process has died, so no further decision will come."""
        await self._of(self._decisions, key).put(LOST)

    async def _next(self, key: str) -> dict[str, Any]:
        if self._is_over:
            return {VALUE: math.nan, EPOCH: 0, "done": True}
        result: dict[str, Any] = await self._of(self._results, key).get()
        return result

    async def request(self, seconds: float) -> tuple[str, dict[str, Any]] | None:
        """From the study: return the next params to evaluate, or None after ``seconds``."""
        with suppress(asyncio.TimeoutError):
            return await asyncio.wait_for(self._requests.get(), seconds)
        return None

    async def report(self, key: str, result: dict[str, Any]) -> None:
        """From the study: hand over a result of a trial."""
        await self._of(self._results, key).put(result)

    async def decision(self, key: str, seconds: float) -> str | None:
        """From the study: return the scheduler's decision on the last result, or None after ``seconds``."""
        with suppress(asyncio.TimeoutError):
            return str(await asyncio.wait_for(self._of(self._decisions, key).get(), seconds))
        return None

    async def close(self) -> None:
        """From the study: the search is over; every waiting trial gets a last result."""
        self._is_over = True
        for queue in self._results.values():
            await queue.put({VALUE: math.nan, EPOCH: 0, "done": True})
        while not self._requests.empty():
            key, _ = self._requests.get_nowait()
            await self._of(self._results, key).put({VALUE: math.nan, EPOCH: 0, "done": True})


class Proxy(tune.Trainable):
    """A Tune trial that trains nothing; each step returns the next result of the study."""

    def setup(self, config: dict[str, Any], bridge: Any = None) -> None:
        self._bridge, self._has_begun, self._is_done = bridge, False, False
        self._config = dict(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Reuse the actor for another trial, since starting one takes a second."""
        self.cleanup()
        self._has_begun, self._is_done, self._config = False, False, dict(new_config)
        return True

    def step(self) -> dict[str, Any]:
        key = self.trial_id
        if self._has_begun:
            result = ray.get(self._bridge.resume.remote(key))
        else:
            self._has_begun, self._key = True, key
            result = ray.get(self._bridge.begin.remote(key, self._config))
        self._is_done = bool(result.get("done"))
        return dict(result)

    def cleanup(self) -> None:
        if self._has_begun and not self._is_done:
            self._is_done = True
            ray.get(self._bridge.stop.remote(self._key))


class StudyStopper(tune.Stopper):
    """Stops Tune when the study is over."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def __deepcopy__(self, memo: object) -> StudyStopper:
        return self

    def __reduce__(self) -> tuple[type[StudyStopper], tuple[()]]:
        return StudyStopper, ()  # Tune pickles it into snapshots, which are never restored

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self.event.is_set()

    def stop_all(self) -> bool:
        return self.event.is_set()


class LostTrialCallback(tune.Callback):
    """Tells the study when the process of a trial has died, so that it continues without the scheduler."""

    def __init__(self, bridge: Any) -> None:
        self._bridge = bridge

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        ray.get(self._bridge.lose.remote(trial.trial_id))


class DefineByRunSpace:
    """The search space as Ray's OptunaSearch takes it; a class, because Tune pickles its searcher."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space

    def __call__(self, trial: optuna.Trial) -> None:
        params: dict[str, ParamValue] = {}
        for name, parameter in self._space.items():
            if self._space.is_active(name, params):
                params[name] = suggest(trial, parameter)


@dataclass(frozen=True)
class TuneOptions:
    """What the strategy chose for Tune.

    Args:
        first: params to evaluate first, in this order.
        grace_period, reduction_factor: of ASHA; a ``grace_period`` of None stops no trial.
    """

    sampler: optuna.samplers.BaseSampler
    first: Sequence[Params]
    grace_period: int | None
    reduction_factor: float


class TuneSearch:
    """One search: runs Tune in a thread and evaluates its trials in the threads of a pool.

    Args:
        folder: for Tune's own files.
    """

    def __init__(self, search: SearchProblem, evaluate: Evaluate, options: TuneOptions, folder: str) -> None:
        self._search, self._evaluate, self._options = search, evaluate, options
        self._bridge = ray.remote(Bridge).options(num_cpus=0).remote()
        self._stopper = StudyStopper()
        self._tuner = self._make_tuner(folder)
        self._failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._fit, name="hpo-ray-tune", daemon=True)

    def run(self) -> None:
        """Search until Tune or the study ends it.

        Raises:
            StudyFailed: when Tune fails.
        """
        self._thread.start()
        pool = ThreadPoolExecutor(self._search.n_workers, "hpo-ray-trial")
        evaluations: set[Future[None]] = set()
        try:
            while self._thread.is_alive() or evaluations:
                request = ray.get(self._bridge.request.remote(POLL_SECONDS))
                if request is not None:
                    evaluations.add(pool.submit(self._evaluate_trial, *request))
                for done in [each for each in evaluations if each.done()]:
                    evaluations.remove(done)
                    done.result()
            pool.shutdown()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            self._stopper.event.set()
            ray.get(self._bridge.close.remote())
            self._thread.join(timeout=30)
            if self._failures:
                raise StudyFailed(f"Ray Tune failed: {self._failures[0]}") from self._failures[0]

    def _fit(self) -> None:
        try:
            self._tuner.fit()
        except BaseException as error:
            self._failures.append(error)

    def _scheduler(self) -> TrialScheduler:
        grace_period, max_epochs = self._options.grace_period, self._search.max_epochs
        if grace_period is None or max_epochs <= grace_period:
            return FIFOScheduler()
        # max_t lies above the last epoch, so that ASHA decides nothing about trials that reach the last epoch.
        return ASHAScheduler(
            time_attr=EPOCH,
            max_t=max_epochs + 1,
            grace_period=grace_period,
            reduction_factor=self._options.reduction_factor,
        )

    def _make_tuner(self, folder: str) -> tune.Tuner:
        search = self._search
        mode = {"minimize": "min", "maximize": "max"}[search.objective.direction]
        searcher = OptunaSearch(
            space=DefineByRunSpace(search.space),
            metric=VALUE,
            mode=mode,
            points_to_evaluate=[dict(params) for params in self._options.first] or None,
            sampler=self._options.sampler,
        )
        # A proxy requests a byte, since Tune does not accept nothing, and no core: the cores are for training.
        proxy = tune.with_resources(tune.with_parameters(Proxy, bridge=self._bridge), {"cpu": 0, "memory": 1})
        return tune.Tuner(
            proxy,
            tune_config=tune.TuneConfig(
                metric=VALUE,
                mode=mode,
                num_samples=-1 if search.n_trials is None else search.n_trials,
                search_alg=ConcurrencyLimiter(searcher, max_concurrent=search.n_workers),
                scheduler=self._scheduler(),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                storage_path=folder,
                name="study",
                stop=self._stopper,
                verbose=0,
                callbacks=[LostTrialCallback(self._bridge)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # a proxy has no state
            ),
        )

    def _evaluate_trial(self, key: str, params: Mapping[str, ParamValue]) -> None:
        is_stopped = is_lost = False

        def on_report(measurement: Measurement) -> Decision:
            nonlocal is_stopped, is_lost
            if is_stopped:
                return Decision.PRUNE
            if is_lost:
                return Decision.CONTINUE
            is_last = measurement.epoch + 1 >= self._search.max_epochs
            if measurement.fold > 0 or is_last or not math.isfinite(measurement.value):
                return Decision.CONTINUE
            result = {VALUE: measurement.value, EPOCH: measurement.epoch + 1, "done": False}
            ray.get(self._bridge.report.remote(key, result))
            decision = self._wait_for_decision(key)
            is_stopped, is_lost = decision is Decision.PRUNE, decision is None
            return decision or Decision.CONTINUE

        trial: Trial = self._evaluate(Proposal(params), on_report)
        value = math.nan if trial.value is None else trial.value
        ray.get(self._bridge.report.remote(key, {VALUE: value, EPOCH: self._search.max_epochs, "done": True}))

    def _wait_for_decision(self, key: str) -> Decision | None:
        """Return the scheduler's decision; None if its process has died.

        Raises:
            SearchStopped: when Tune has ended.
        """
        ends = time.monotonic() + DECISION_SECONDS
        while self._thread.is_alive():
            decision = ray.get(self._bridge.decision.remote(key, POLL_SECONDS))
            if decision == LOST or time.monotonic() > ends:
                return None
            if decision is not None:
                return Decision(decision)
        raise SearchStopped
