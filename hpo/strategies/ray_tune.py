"""Ray Tune: an asynchronous scheduler (ASHA, Li et al. 2020) over Optuna's samplers.

A Tune trial lives in a process of Ray's and trains nothing there: it asks the study to evaluate its params, passes on
what a pruner may see, and tells the study when the scheduler stops it. https://docs.ray.io/en/latest/tune
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from hpo.executors.ray import cluster

# Ray and Tune read these when they are imported.
os.environ.update(cluster.settings())
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # the study has its own
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

import numpy as np
import optuna
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

from hpo.core.identity import PartIdentity
from hpo.core.measurement import Measurement
from hpo.core.params import ParamValue, canonical
from hpo.core.space import SearchSpace
from hpo.core.states import Decision
from hpo.core.trial import Proposal, Trial
from hpo.errors import SearchStopped, StudyFailed
from hpo.strategies.base import Evaluate, SearchProblem, Strategy, StrategyTags, option_error, startup_trials
from hpo.strategies.optuna import suggest

VALUE, EPOCH = "value", "epoch"
POLL_SECONDS = 0.2
DECISION_SECONDS = 60.0  # far more than a scheduler takes; then its process counts as dead
LOST = "lost"


class Bridge:
    """Where Tune's trials and the study meet: an actor of Ray's that holds their messages."""

    def __init__(self) -> None:
        self._requests: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        self._results: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self._decisions: dict[str, asyncio.Queue[str]] = {}
        self._is_over = False

    def _of(self, queues: dict[str, asyncio.Queue[Any]], key: str) -> asyncio.Queue[Any]:
        return queues.setdefault(key, asyncio.Queue())

    async def begin(self, key: str, params: dict[str, Any]) -> dict[str, Any]:
        """From a trial: evaluate these params; returns the first result."""
        await self._requests.put((key, params))
        return await self._next(key)

    async def go_on(self, key: str) -> dict[str, Any]:
        """From a trial: the scheduler lets it go on; returns the next result."""
        await self._of(self._decisions, key).put(Decision.CONTINUE.value)
        return await self._next(key)

    async def stop(self, key: str) -> None:
        """From a trial: the scheduler has stopped it."""
        await self._of(self._decisions, key).put(Decision.PRUNE.value)

    async def lose(self, key: str) -> None:
        """From Tune: the trial's process has died, so that nobody will decide any more."""
        await self._of(self._decisions, key).put(LOST)

    async def _next(self, key: str) -> dict[str, Any]:
        if self._is_over:
            return {VALUE: math.nan, EPOCH: 0, "done": True}
        result: dict[str, Any] = await self._of(self._results, key).get()
        return result

    async def request(self, seconds: float) -> tuple[str, dict[str, Any]] | None:
        """From the study: the next params to evaluate, or None after some time."""
        with suppress(asyncio.TimeoutError):
            return await asyncio.wait_for(self._requests.get(), seconds)
        return None

    async def report(self, key: str, result: dict[str, Any]) -> None:
        """From the study: a result of a trial."""
        await self._of(self._results, key).put(result)

    async def decision(self, key: str, seconds: float) -> str | None:
        """From the study: what the scheduler made of the last result, or None after some time."""
        with suppress(asyncio.TimeoutError):
            return str(await asyncio.wait_for(self._of(self._decisions, key).get(), seconds))
        return None

    async def close(self) -> None:
        """From the study: nothing is evaluated any more."""
        self._is_over = True
        for queue in self._results.values():
            await queue.put({VALUE: math.nan, EPOCH: 0, "done": True})
        while not self._requests.empty():
            key, _ = self._requests.get_nowait()
            await self._of(self._results, key).put({VALUE: math.nan, EPOCH: 0, "done": True})


class Proxy(tune.Trainable):
    """A Tune trial: a step is what the study reports next."""

    def setup(self, config: dict[str, Any], bridge: Any = None) -> None:
        self._bridge, self._has_begun, self._is_done = bridge, False, False
        self._config = dict(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another trial's config: an actor costs a second to start."""
        self.cleanup()
        self._has_begun, self._is_done, self._config = False, False, dict(new_config)
        return True

    def step(self) -> dict[str, Any]:
        key = self.trial_id
        if self._has_begun:
            result = ray.get(self._bridge.go_on.remote(key))
        else:
            self._has_begun, self._key = True, key
            result = ray.get(self._bridge.begin.remote(key, self._config))
        self._is_done = bool(result.get("done"))
        return dict(result)

    def cleanup(self) -> None:
        if self._has_begun and not self._is_done:
            self._is_done = True
            ray.get(self._bridge.stop.remote(self._key))


class _Over(tune.Stopper):
    """Ends Tune's loop when the study is over."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def __deepcopy__(self, memo: object) -> _Over:
        return self

    def __reduce__(self) -> tuple[type[_Over], tuple[()]]:
        return _Over, ()  # for Tune's snapshots of its own state, from which nothing is restored

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self.event.is_set()

    def stop_all(self) -> bool:
        return self.event.is_set()


class _Lost(tune.Callback):
    """Lets the study go on alone with a trial whose process has died."""

    def __init__(self, bridge: Any) -> None:
        self._bridge = bridge

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        ray.get(self._bridge.lose.remote(trial.trial_id))


class _DefineByRun:
    """The space as Ray's OptunaSearch takes it; a class, since Tune pickles its searcher."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space

    def __call__(self, trial: optuna.Trial) -> None:
        params: dict[str, ParamValue] = {}
        for name, parameter in self._space.items():
            if self._space.is_active(name, params):
                params[name] = suggest(trial, parameter)


class RayTuneStrategy(Strategy):
    """Searches with Ray Tune.

    Pruning sees the first fold only, epoch by epoch: with ``resampling=holdout`` that is all there is.

    Args:
        sampler: a partial of an Optuna sampler class that takes a ``seed``; an ``n_startup_trials`` of None is replaced
            by a quarter of ``n_trials``, at least 3 and at most 10.
        scheduler: ``asha`` or ``fifo``, which stops nothing.
        grace_period: epochs that every trial may train.
        reduction_factor: of ASHA.
        default_first: whether the first trial is the model's own configuration.
    """

    def __init__(
        self,
        sampler: Callable[..., optuna.samplers.BaseSampler],
        scheduler: str = "asha",
        grace_period: int = 1,
        reduction_factor: int = 3,
        default_first: bool = True,
    ) -> None:
        if scheduler not in ("asha", "fifo"):
            raise option_error("scheduler", scheduler, "asha or fifo", "asha")
        if type(grace_period) is not int or grace_period < 1:
            raise option_error("grace_period", grace_period, "a whole number of at least 1", "1")
        if isinstance(reduction_factor, bool) or not isinstance(reduction_factor, int | float) or reduction_factor <= 1:
            raise option_error("reduction_factor", reduction_factor, "a number above 1", "3")
        if isinstance(sampler, optuna.samplers.BaseSampler) or not callable(sampler):
            raise option_error("sampler", sampler, "a partial of an Optuna sampler", "{_partial_: true, …}")
        self._make_sampler, self.scheduler = sampler, scheduler
        self.grace_period, self.reduction_factor, self.default_first = grace_period, reduction_factor, default_first

    @property
    def tags(self) -> StrategyTags:
        # Its order of events follows the clock.
        prunes = self.scheduler == "asha"
        return StrategyTags(
            "ray.tune.Tuner", pruning=prunes, deterministic=False, replayable=False, learns=True, enqueues=True
        )

    @property
    def identity(self) -> PartIdentity:
        return PartIdentity(("ray", "optuna"), (type(self),))

    def _sampler(self, search: SearchProblem) -> optuna.samplers.BaseSampler:
        given, options = getattr(self._make_sampler, "keywords", {}), {}
        if "n_startup_trials" in given and given["n_startup_trials"] is None:
            options["n_startup_trials"] = startup_trials(search.planned_trials)
        try:
            return self._make_sampler(seed=search.seed, **options)
        except (TypeError, ValueError) as error:
            raise option_error("sampler", dict(given), f"options that Optuna takes ({error})", "…") from error

    def _scheduler(self, search: SearchProblem) -> TrialScheduler:
        if self.scheduler == "fifo" or search.max_epochs <= self.grace_period:
            return FIFOScheduler()
        # Above the last epoch: a trial that has come there ends by itself, with its own value.
        return ASHAScheduler(
            time_attr=EPOCH,
            max_t=search.max_epochs + 1,
            grace_period=self.grace_period,
            reduction_factor=self.reduction_factor,
        )

    def search(self, search: SearchProblem, evaluate: Evaluate) -> None:
        states = random.getstate(), np.random.get_state()
        with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="hpo-") as folder:
            warnings.simplefilter("ignore")  # Ray's and its dependencies' own deprecations
            try:
                with cluster.connected(search.n_workers):
                    self._search(search, evaluate, folder)
            finally:
                # Tune draws from the global generators, which belong to the user.
                random.setstate(states[0])
                np.random.set_state(states[1])

    def _search(self, search: SearchProblem, evaluate: Evaluate, folder: str) -> None:
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        bridge = ray.remote(Bridge).options(num_cpus=0).remote()
        over = _Over()
        tuner = self._tuner(search, bridge, over, folder)
        failures: list[BaseException] = []

        def fit() -> None:
            try:
                tuner.fit()
            except BaseException as error:
                failures.append(error)

        # Tune's loop in a thread of its own, and a thread for every trial that is evaluated at the same time.
        thread = threading.Thread(target=fit, name="hpo-ray-tune", daemon=True)
        thread.start()
        pool = ThreadPoolExecutor(search.n_workers, "hpo-ray-trial")
        evaluations: set[Future[None]] = set()
        try:
            while thread.is_alive() or evaluations:
                asked = ray.get(bridge.request.remote(POLL_SECONDS))
                if asked is not None:
                    evaluations.add(pool.submit(self._evaluate, search, evaluate, bridge, thread, *asked))
                for done in [each for each in evaluations if each.done()]:
                    evaluations.remove(done)
                    done.result()
            pool.shutdown()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            over.event.set()
            ray.get(bridge.close.remote())
            thread.join(timeout=30)
            if failures:
                raise StudyFailed(f"Ray Tune failed: {failures[0]}") from failures[0]

    def _tuner(self, search: SearchProblem, bridge: Any, over: _Over, folder: str) -> tune.Tuner:
        first = [search.default_params] if self.default_first and search.default_params is not None else []
        known = {canonical(params) for params in search.recorded}
        points = [*search.recorded, *(each for each in (*search.enqueued, *first) if canonical(each) not in known)]
        mode = {"minimize": "min", "maximize": "max"}[search.objective.direction]
        searcher = OptunaSearch(
            space=_DefineByRun(search.space),
            metric=VALUE,
            mode=mode,
            points_to_evaluate=[dict(params) for params in points if search.space.contains(params)] or None,
            sampler=self._sampler(search),
        )
        # A proxy computes nothing, and the cores are for what trains: it asks for a byte, since Tune takes no nothing.
        proxy = tune.with_resources(tune.with_parameters(Proxy, bridge=bridge), {"cpu": 0, "memory": 1})
        return tune.Tuner(
            proxy,
            tune_config=tune.TuneConfig(
                metric=VALUE,
                mode=mode,
                num_samples=-1 if search.n_trials is None else search.n_trials,
                search_alg=ConcurrencyLimiter(searcher, max_concurrent=search.n_workers),
                scheduler=self._scheduler(search),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                storage_path=folder,
                name="study",
                stop=over,
                verbose=0,
                callbacks=[_Lost(bridge)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # a proxy has no state
            ),
        )

    def _evaluate(
        self, search: SearchProblem, evaluate: Evaluate, bridge: Any, tuning: threading.Thread, key: str, params: Any
    ) -> None:
        is_stopped = is_lost = False

        def on_report(measurement: Measurement) -> Decision:
            nonlocal is_stopped, is_lost
            if is_stopped:
                return Decision.PRUNE
            if is_lost:
                return Decision.CONTINUE
            is_last = measurement.epoch + 1 >= search.max_epochs
            if measurement.fold > 0 or is_last or not math.isfinite(measurement.value):
                return Decision.CONTINUE
            result = {VALUE: measurement.value, EPOCH: measurement.epoch + 1, "done": False}
            ray.get(bridge.report.remote(key, result))
            asked = time.monotonic()
            while tuning.is_alive():
                decided = ray.get(bridge.decision.remote(key, POLL_SECONDS))
                if decided == LOST or time.monotonic() - asked > DECISION_SECONDS:
                    is_lost = True
                    return Decision.CONTINUE
                if decided is not None:
                    is_stopped = decided == Decision.PRUNE.value
                    return Decision(decided)
            raise SearchStopped

        trial: Trial = evaluate(Proposal(params), on_report)
        value = math.nan if trial.value is None else trial.value
        ray.get(bridge.report.remote(key, {VALUE: value, EPOCH: search.max_epochs, "done": True}))
