"""What up to 1,000 workers do to utilisation and regret in simulated time, with strategies that wait and that do not.

::

    python -m benchmarks.simulation                               1 to 1,000 workers, three seeds: about four minutes
    python -m benchmarks.simulation --workers 10,100 --seeds 1    a quick look
    python -m benchmarks.simulation --plot docs/images/scaling.png --jobs 2

A discrete-event clock in the place of training: nothing sleeps, and a seed gives the same figures again. Searching is
done by the real libraries: Optuna's TPE, with ``constant_liar``, is asked while up to 1,000 trials run, and Ray Tune's
ASHA scheduler decides at its rungs. Successive halving that waits is written here, as brackets with a barrier at every
rung. Every strategy has the same workers for the same time, which is ``TRAININGS`` whole trainings' worth of work.

The objective is Hartmann's function of six variables with a learning curve on top: some params learn slowly, so that
early values mislead. A trial's speed is lognormal; now and then a trial is lost with what it has done, its worker comes
back later, and the trial is begun anew.
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
START = 3.3  # of a learning curve, above its end
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
    """After so many epochs; Hartmann's function at the last one."""
    final = -float(_ALPHA @ np.exp(-np.sum(_A * (np.array(params) - _P) ** 2, axis=1)))
    slowness = 1 + 3 * params[-1]
    end = math.exp(-MAX_EPOCHS / slowness)
    return final + START * (math.exp(-epoch / slowness) - end) / (1 - end)


@dataclass(frozen=True)
class World:
    """What training is like. An epoch takes 1 on average.

    Args:
        sigma: of the logarithm of a trial's speed; 0 makes all equally fast.
        lost: share of the stretches of training that are lost somewhere on the way.
        down: how long a worker is away after that.
    """

    seed: int = 0
    sigma: float = 0.7
    lost: float = 0.03
    down: float = 1.0

    def epoch_time(self, trial: int) -> float:
        """Of one epoch of a trial."""
        rng = np.random.default_rng([self.seed, trial])
        return math.exp(self.sigma * float(rng.standard_normal()) - self.sigma**2 / 2)

    def lost_at(self, trial: int, epoch: int, attempt: int) -> float | None:
        """Which share of a stretch is done when it is lost, or None."""
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


class SearchProblem(Protocol):
    """What decides; called whenever a worker is free and whenever a stretch has ended."""

    def next(self) -> Stretch | None:
        """What to train now; None to wait for what is running."""

    def ended(self, stretch: Stretch) -> None:
        """Learn that a stretch has been trained."""


@dataclass
class Outcome:
    """How a search went in the time that it had.

    Args:
        useful: share of the workers' time in which they trained something that was kept or was still running.
        curve: time and regret, whenever a trained-out trial was better than all before.
        n_trials: that were begun.
    """

    useful: float
    curve: list[tuple[float, float]] = field(default_factory=list)
    n_trials: int = 0

    @property
    def regret(self) -> float:
        """At the end; NaN where no trial was trained out in time."""
        return self.curve[-1][1] if self.curve else math.nan


def simulate(search: SearchProblem, world: World, n_workers: int, duration: float) -> Outcome:
    """Let ``search`` have ``n_workers`` for ``duration``."""
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
    """Independent draws, trained out."""

    def __init__(self, seed: int, n_workers: int) -> None:
        self._seed, self._number = seed, itertools.count()

    def draw(self) -> tuple[int, Params]:
        """A new trial."""
        number = next(self._number)
        rng = np.random.default_rng([self._seed, number, 1])
        return number, tuple(map(float, rng.random(N_VARIABLES)))

    def next(self) -> Stretch | None:
        return Stretch(*self.draw(), 0, MAX_EPOCHS)

    def ended(self, stretch: Stretch) -> None: ...


class Tpe:
    """Optuna's TPE as ``strategy=optuna`` has it, asked for a trial whenever a worker is free."""

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
    """The same, asked for a trial a worker, and again when all of them have ended."""

    is_batched = True


class Halving(Random):
    """Successive halving; brackets have a trial a worker in the last rung, and rungs wait for the one before."""

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
        """Those that go on, or a new bracket."""
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
    """Ray Tune's ASHA scheduler, told of every rung as it is reached."""

    def __init__(self, seed: int, n_workers: int) -> None:
        super().__init__(seed, n_workers)
        from ray.tune.schedulers import ASHAScheduler

        # Above the last epoch: what has come there ends by itself.
        options = {"max_t": MAX_EPOCHS + 1, "grace_period": RUNGS[0], "reduction_factor": ETA}
        self._scheduler = ASHAScheduler(time_attr=TIME, metric=VALUE, mode="min", **options)
        self._known: dict[int, Any] = {}
        self._go_on: list[Stretch] = []

    def next(self) -> Stretch | None:
        if self._go_on:
            return self._go_on.pop()
        number, params = self.draw()
        self._known[number] = SimpleNamespace(trial_id=str(number))  # all that the scheduler looks at
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
            self._go_on.append(Stretch(stretch.trial, stretch.params, stretch.end, following))
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


def searched(name: str, n_workers: int, seed: int) -> Outcome:
    """One search, for as long as ``TRAININGS`` trainings take so many workers."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's and its dependencies' own deprecations
        search = SEARCHES[name](seed, n_workers)
        return simulate(search, World(seed), n_workers, TRAININGS * MAX_EPOCHS / n_workers)


Results = dict[tuple[str, int], list[Outcome]]


def tables(results: Results, workers: Sequence[int]) -> Iterator[str]:
    """Lines of Markdown: means over seeds, of regret with the least and the most."""
    heading = "".join(f" {n:,} |" for n in workers)
    titles = ("Share of the workers' time that was of use", "Regret at the end, mean (least to most)", "Trials begun")
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
    """Utilisation and regret by the number of workers."""
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
    axes[0].set(ylim=(0, 1.02), title="Share of the workers' time that was of use")
    axes[1].set(ylim=(0, None), title="Regret at the end: 0 is the optimum")
    for each in axes:
        each.set(xscale="log", xlabel="workers, for the same work in all")
        each.set_xticks(workers, [f"{n:,}" for n in workers])
        each.grid(alpha=0.3)
        each.spines[["top", "right"]].set_visible(False)
    axes[1].legend(title="dashed: waits", fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="1,10,100,1000", help="numbers of workers, with commas between them")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--plot", type=Path, help="where to write a picture")
    options = parser.parse_args()
    began, workers = time.monotonic(), [int(n) for n in options.workers.split(",")]
    cases = list(itertools.product(SEARCHES, workers))
    run = functools.partial(delayed(searched))
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
