"""Ray Tune: an asynchronous scheduler (ASHA, Li et al. 2020) over Optuna's samplers.

:mod:`hpo.strategies.ray_tune_search` has what runs inside Ray. https://docs.ray.io/en/latest/tune
"""

from __future__ import annotations

import random
import tempfile
import warnings
from collections.abc import Callable

import numpy as np
import optuna

from hpo.core.identity import PartIdentity
from hpo.core.params import Params, canonical
from hpo.executors.ray import cluster
from hpo.strategies.base import Evaluate, SearchProblem, Strategy, StrategyTags, option_error, startup_trials


class RayTuneStrategy(Strategy):
    """Searches with Ray Tune.

    The scheduler sees the curve of the first fold only; with ``resampling=holdout`` there is no other.

    Args:
        sampler: a partial of an Optuna sampler class that takes a ``seed``; an ``n_startup_trials`` of None is replaced
            by a quarter of ``n_trials``, at least 3 and at most 10.
        scheduler: ``asha``, or ``fifo``, which stops no trial.
        grace_period: epochs that ASHA lets every trial train.
        reduction_factor: of ASHA.
        default_first: whether the first trial is the model's own configuration.

    Raises:
        ConfigError: for an option that cannot be used.
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
        cluster.import_ray()  # a missing library is refused now
        self._make_sampler, self.scheduler = sampler, scheduler
        self.grace_period, self.reduction_factor, self.default_first = grace_period, reduction_factor, default_first

    @property
    def tags(self) -> StrategyTags:
        # The order in which its trials report depends on the clock.
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

    def search(self, search: SearchProblem, evaluate: Evaluate) -> None:
        states = random.getstate(), np.random.get_state()
        with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="hpo-") as folder:
            warnings.simplefilter("ignore")  # deprecations within Ray and its dependencies
            try:
                with cluster.connected(search.n_workers):
                    from hpo.strategies.ray_tune_search import TuneOptions, TuneSearch  # imports Ray Tune

                    grace_period = self.grace_period if self.scheduler == "asha" else None
                    options = TuneOptions(
                        self._sampler(search), self._first_params(search), grace_period, self.reduction_factor
                    )
                    TuneSearch(search, evaluate, options, folder).run()
            finally:
                # Tune draws from the global generators, which belong to the user.
                random.setstate(states[0])
                np.random.set_state(states[1])

    def _first_params(self, search: SearchProblem) -> list[Params]:
        """Return what is proposed before the sampler is asked: recorded trials, then what is enqueued."""
        first = [search.default_params] if self.default_first and search.default_params is not None else []
        known = {canonical(params) for params in search.recorded}
        wanted = [*search.recorded, *(each for each in (*search.enqueued, *first) if canonical(each) not in known)]
        return [params for params in wanted if search.space.contains(params)]
