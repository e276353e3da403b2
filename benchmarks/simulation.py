"""Simulates searches with up to 1,000 workers: utilisation and regret of synchronous and asynchronous strategies.

::

    python -m benchmarks.simulation                               1 to 1,000 workers, three seeds: about four minutes
    python -m benchmarks.simulation --workers 10,100 --seeds 1    a quick look
    python -m benchmarks.simulation --plot docs/images/scaling.png --jobs 2

A discrete-event clock replaces training: nothing sleeps, and results are reproducible by seed. The searches use the
real libraries: Optuna's TPE, with ``constant_liar``, proposes params while up to 1,000 trials run, and Ray Tune's ASHA
scheduler decides at its rungs. Synchronous successive halving is implemented here, as brackets with a barrier at every
rung. Every strategy gets the same workers for the same time: the time of ``TRAININGS`` complete trainings.

The objective is Hartmann's function of six variables plus a learning curve: some params learn slowly, so that early
values mislead. The speed of a trial is lognormal. Some trials lose their worker and the work since the last decision;
the worker returns later, and that work is repeated.
"""

from __future__ import annotations

import argparse
import functools
import heapq
import itertools
import math
import statistics
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import optuna
from joblib import Parallel, delayed

RUNGS = (1, 3, 9)  # epochs
ETA = 3
MAX_EPOCHS = RUNGS[-1]
TRAININGS = 1000
N_VARIABLES = 6
LEAST = -3.32237  # Hartmann's minimum
START = 3.3  # height of a learning curve above its end
TIME, VALUE = "epoch", "value"

Params = tuple[float, ...]
_ALPHA = np.array([1.0, 1.2, 3.0, 3.2])
_A = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def loss(params: Params, epoch: int) -> float:
    """Return the loss after ``epoch`` epochs; after the last one it is Hartmann's function."""
    final = -float(_ALPHA @ np.exp(-np.sum(_A * (np.array(params) - _P) ** 2, axis=1)))
    slowness = 1 + 3 * params[-1]
    end = math.exp(-MAX_EPOCHS / slowness)
    return final + START * (math.exp(-epoch / slowness) - end) / (1 - end)


@dataclass(frozen=True)
class World:
    """How long training takes and how often it is lost. The unit of time is an average epoch.

    Args:
        sigma: standard deviation of the logarithm of a trial's speed; 0 makes all trials equally fast.
        lost: share of the stretches of training that are lost before they end.
        down: how long a worker is unavailable after a loss.
    """

    seed: int = 0
    sigma: float = 0.7
    lost: float = 0.03
    down: float = 1.0

    def epoch_time(self, trial: int) -> float:
        """Return the time that one epoch of a trial takes."""
        rng = np.random.default_rng([self.seed, trial])
        return math.exp(self.sigma * float(rng.standard_normal()) - self.sigma**2 / 2)

    def lost_at(self, trial: int, epoch: int, attempt: int) -> float | None:
        """Return the share of a stretch that is done when it is lost, or None if it is not lost."""
        rng = np.random.default_rng([self.seed, trial, epoch, attempt])
        return float(rng.random()) if rng.random() < self.lost else None


@dataclass(frozen=True)
class Stretch:
    """Training of one trial between two decisions about it."""

    trial: int
    params: Params
    begin: int
    end: int
    attempt: int = 0


class SimulatedSearch(Protocol):
    """Decides what is trained; called when a worker is free and when a stretch has ended."""

    def next(self) -> Stretch | None:
        """Return what to train now, or None to wait for running stretches."""

    def ended(self, stretch: Stretch) -> None:
        """Receive a stretch that has been trained."""


@dataclass
class Outcome:
    """Result of a simulated search.

    Args:
        useful: share of the workers' time spent on training that was not lost.
        curve: time and regret of every fully trained trial that improved the best value.
        n_trials: number of trials that were started.
    """

    useful: float
    curve: list[tuple[float, float]] = field(default_factory=list)
    n_trials: int = 0

    @property
    def regret(self) -> float:
        """Regret at the end; NaN if no trial was fully trained in time."""
        return self.curve[-1][1] if self.curve else math.nan


def simulate(search: SimulatedSearch, world: World, n_workers: int, duration: float) -> Outcome:
    """Run ``search`` with ``n_workers`` for ``duration``."""
    events: list[tuple[float, int, Stretch | None, bool]] = []
    again: list[Stretch] = []
    order, trials = itertools.count(), set()
    free, now, busy, best = n_workers, 0.0, 0.0, math.inf
    outcome = Outcome(0.0)
    while True:
        while free and (stretch := again.pop() if again else search.next()) is not None:
            free -= 1
            trials.add(stretch.trial)
            takes = world.epoch_time(stretch.trial) * (stretch.end - stretch.begin)
            lost = world.lost_at(stretch.trial, stretch.end, stretch.attempt)
            if lost is None:
                busy += max(0.0, min(takes, duration - now))
            ends = now + takes * (1.0 if lost is None else lost)
            heapq.heappush(events, (ends, next(order), stretch, lost is not None))
        if not events:
            raise RuntimeError("the search waits, and nothing is running")
        now, _, done, is_lost = heapq.heappop(events)
        if now > duration:
            break
        if done is None:
            free += 1
        elif is_lost:
            again.append(Stretch(done.trial, done.params, done.begin, done.end, done.attempt + 1))
            heapq.heappush(events, (now + world.down, next(order), None, False))
        else:
            free += 1
            if done.end == MAX_EPOCHS and (reached := loss(done.params, MAX_EPOCHS)) < best:
                best = reached
                outcome.curve.append((now, best - LEAST))
            search.ended(done)
    outcome.useful, outcome.n_trials = busy / (n_workers * duration), len(trials)
    return outcome


# The strategies.


class Random:
    """Random search: independent draws, each fully trained."""

    def __init__(self, seed: int, n_workers: int) -> None:
        self._seed, self._number = seed, itertools.count()

    def draw(self) -> tuple[int, Params]:
        """Draw a new trial."""
        number = next(self._number)
        rng = np.random.default_rng([self._seed, number, 1])
        return number, tuple(map(float, rng.random(N_VARIABLES)))

    def next(self) -> Stretch | None:
        return Stretch(*self.draw(), 0, MAX_EPOCHS)

    def ended(self, stretch: Stretch) -> None: ...


class Tpe:
    """Optuna's TPE as configured by ``strategy=optuna``; proposes a trial when a worker is free."""

    is_batched = False

    def __init__(self, seed: int, n_workers: int) -> None:
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
        self._study, self._n_workers = optuna.create_study(sampler=sampler), n_workers
        self._running: dict[int, optuna.Trial] = {}
        self._n_to_ask = n_workers

    def next(self) -> Stretch | None:
        if self.is_batched and not self._n_to_ask:
            return None
        self._n_to_ask -= 1
        trial = self._study.ask()
        self._running[trial.number] = trial
        params = tuple(trial.suggest_float(str(i), 0.0, 1.0) for i in range(N_VARIABLES))
        return Stretch(trial.number, params, 0, MAX_EPOCHS)

    def ended(self, stretch: Stretch) -> None:
        self._study.tell(self._running.pop(stretch.trial), loss(stretch.params, MAX_EPOCHS))
        if not self._running:
            self._n_to_ask = self._n_workers


class TpeInBatches(Tpe):
    """TPE in batches of one trial per worker; the next batch starts when all trials have ended."""

    is_batched = True


class Halving(Random):
    """Synchronous successive halving; the last rung of a bracket has one trial per worker."""

    def __init__(self, seed: int, n_workers: int) -> None:
        super().__init__(seed, n_workers)
        self._n = ETA ** (len(RUNGS) - 1) * n_workers
        self._waiting: list[Stretch] = []
        self._n_running = 0
        self._done: list[Stretch] = []

    def next(self) -> Stretch | None:
        if not self._waiting and not self._n_running:
            self._waiting = self._rung()
        if not self._waiting:
            return None
        self._n_running += 1
        return self._waiting.pop()

    def _rung(self) -> list[Stretch]:
        """Return the promoted trials, or a new bracket."""
        done, self._done = self._done, []
        if not done or done[0].end == MAX_EPOCHS:
            return [Stretch(*self.draw(), 0, RUNGS[0]) for _ in range(self._n)]
        best = sorted(done, key=lambda each: loss(each.params, each.end))[: max(1, len(done) // ETA)]
        reached = best[0].end
        return [Stretch(s.trial, s.params, reached, RUNGS[RUNGS.index(reached) + 1]) for s in best]

    def ended(self, stretch: Stretch) -> None:
        self._n_running -= 1
        self._done.append(stretch)


class Asha(Random):
    """Ray Tune's ASHA scheduler, which decides when a trial reaches a rung."""

    def __init__(self, seed: int, n_workers: int) -> None:
        super().__init__(seed, n_workers)
        from ray.tune.schedulers import ASHAScheduler

        # max_t lies above the last epoch: trials that reach the last epoch end without a decision.
        options = {"max_t": MAX_EPOCHS + 1, "grace_period": RUNGS[0], "reduction_factor": ETA}
        self._scheduler = ASHAScheduler(time_attr=TIME, metric=VALUE, mode="min", **options)
        self._known: dict[int, Any] = {}
        self.promoted: list[Stretch] = []

    def next(self) -> Stretch | None:
        if self.promoted:
            return self.promoted.pop()
        number, params = self.draw()
        self._known[number] = SimpleNamespace(trial_id=str(number))  # the only attribute that the scheduler reads
        self._scheduler.on_trial_add(None, self._known[number])
        return Stretch(number, params, 0, RUNGS[0])

    def ended(self, stretch: Stretch) -> None:
        trial = self._known[stretch.trial]
        result = {TIME: stretch.end, VALUE: loss(stretch.params, stretch.end)}
        decision = self._scheduler.on_trial_result(None, trial, result)
        if stretch.end == MAX_EPOCHS:
            self._scheduler.on_trial_complete(None, self._known.pop(stretch.trial), result)
        elif decision == self._scheduler.CONTINUE:
            following = RUNGS[RUNGS.index(stretch.end) + 1]
            self.promoted.append(Stretch(stretch.trial, stretch.params, stretch.end, following))
        else:
            del self._known[stretch.trial]


SEARCHES: dict[str, type[Random] | type[Tpe]] = {
    "random": Random,
    "TPE in batches": TpeInBatches,
    "TPE": Tpe,
    "halving": Halving,
    "ASHA": Asha,
}
WAITS = ("TPE in batches", "halving")


def run_search(name: str, n_workers: int, seed: int) -> Outcome:
    """Simulate one search, for the time that ``n_workers`` need for ``TRAININGS`` trainings."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations within Ray and its dependencies
        search = SEARCHES[name](seed, n_workers)
        return simulate(search, World(seed), n_workers, TRAININGS * MAX_EPOCHS / n_workers)


Results = dict[tuple[str, int], list[Outcome]]


def tables(results: Results, workers: Sequence[int]) -> Iterator[str]:
    """Yield Markdown tables of means over seeds; regret also with its minimum and maximum."""
    heading = "".join(f" {n:,} |" for n in workers)
    titles = ("Useful share of worker time", "Regret at the end, mean (minimum to maximum)", "Trials started")
    for title in titles:
        yield from ("", f"### {title}", "", f"| workers |{heading}", f"| --- |{' --- |' * len(workers)}")
        for name in SEARCHES:
            cells = [_cell(title, titles, results[name, n]) for n in workers]
            yield f"| {name} | {' | '.join(cells)} |"


def _cell(title: str, titles: Sequence[str], outcomes: Sequence[Outcome]) -> str:
    if title == titles[0]:
        return f"{statistics.fmean(o.useful for o in outcomes):.0%}"
    if title == titles[1]:
        regrets = [o.regret for o in outcomes]
        if any(map(math.isnan, regrets)):
            return "no result in time"
        return f"{statistics.fmean(regrets):.2f} ({min(regrets):.2f} to {max(regrets):.2f})"
    return f"{statistics.fmean(o.n_trials for o in outcomes):,.0f}"


def plot(results: Results, workers: Sequence[int], path: Path) -> None:
    """Plot utilisation and regret by the number of workers."""
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    colours = {"random": "0.5", "TPE in batches": "C0", "TPE": "C0", "halving": "C1", "ASHA": "C1"}
    figure, axes = plt.subplots(1, 2, figsize=(11, 4))
    for name in SEARCHES:
        style = {"color": colours[name], "linestyle": "--" if name in WAITS else "-", "marker": "o", "label": name}
        useful = [statistics.fmean(o.useful for o in results[name, n]) for n in workers]
        regret = [statistics.fmean(o.regret for o in results[name, n]) for n in workers]
        axes[0].plot(workers, useful, **style)
        axes[1].plot(workers, regret, **style)
    axes[0].set(ylim=(0, 1.02), title="Useful share of worker time")
    axes[1].set(ylim=(0, None), title="Regret at the end: 0 is the optimum")
    for each in axes:
        each.set(xscale="log", xlabel="workers, with the same total work")
        each.set_xticks(workers, [f"{n:,}" for n in workers])
        each.grid(alpha=0.3)
        each.spines[["top", "right"]].set_visible(False)
    axes[1].legend(title="dashed: synchronous", fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Run the command; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="1,10,100,1000", help="comma-separated numbers of workers")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--plot", type=Path, help="file for a plot")
    options = parser.parse_args()
    began, workers = time.monotonic(), [int(n) for n in options.workers.split(",")]
    cases = list(itertools.product(SEARCHES, workers))
    run = functools.partial(delayed(run_search))
    found = Parallel(n_jobs=options.jobs)(run(*case, seed) for case in cases for seed in range(options.seeds))
    results = {case: found[i * options.seeds : (i + 1) * options.seeds] for i, case in enumerate(cases)}
    print(f"{options.seeds} seeds, {TRAININGS:,} trainings of {MAX_EPOCHS} epochs' worth of time")
    for line in tables(results, workers):
        print(line)
    if options.plot:
        plot(results, workers, options.plot)
    print(f"\n{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
