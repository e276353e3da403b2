"""The clock of the simulation, where utilisation is known; and what its searches decide."""

from __future__ import annotations

import math

import pytest

from benchmarks import simulation
from benchmarks.simulation import LEAST, MAX_EPOCHS, Asha, Halving, Random, Stretch, Tpe, TpeInBatches, World, loss

EVEN = World(sigma=0.0, lost=0.0)
OPTIMUM = (0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573)


class Uneven(World):
    """Every other trial takes three times as long."""

    def epoch_time(self, trial: int) -> float:
        return 3.0 if trial % 2 else 1.0


class Losing(World):
    """Every first attempt is lost when half of it is done."""

    def lost_at(self, trial: int, epoch: int, attempt: int) -> float | None:
        return None if attempt else 0.5


class InPairs(Random):
    """Two trials at a time, and the next two when both have ended."""

    n_left = 2
    n_running = 0

    def next(self) -> Stretch | None:
        if not self.n_left:
            return None
        self.n_left, self.n_running = self.n_left - 1, self.n_running + 1
        return super().next()

    def ended(self, stretch: Stretch) -> None:
        self.n_running -= 1
        if not self.n_running:
            self.n_left = 2


def test_asynchronous_workers_are_fully_used() -> None:
    outcome = simulation.simulate(Random(0, 4), EVEN, 4, 10 * MAX_EPOCHS)
    assert outcome.useful == pytest.approx(1.0)
    assert len({time for time, _ in outcome.curve}) <= 10
    assert simulation.simulate(Random(0, 2), Uneven(lost=0.0), 2, 600).useful == pytest.approx(1.0)


def test_barrier_idles_the_faster_worker() -> None:
    """One works 1 of 3 and the other 3 of 3: two thirds."""
    duration = 20 * 3.0 * MAX_EPOCHS
    assert simulation.simulate(InPairs(0, 2), Uneven(lost=0.0), 2, duration).useful == pytest.approx(2 / 3)


def test_idle_workers_reduce_utilisation() -> None:
    duration = 10.0 * MAX_EPOCHS
    assert simulation.simulate(InPairs(0, 2), EVEN, 8, duration).useful == pytest.approx(2 / 8)


def test_lost_training_is_repeated_and_not_useful() -> None:
    """Half a training is lost and the worker away for as long, for every training that is kept."""
    world = Losing(sigma=0.0, down=0.5 * MAX_EPOCHS)
    outcome = simulation.simulate(Random(0, 1), world, 1, 100 * 2.0 * MAX_EPOCHS)
    assert outcome.useful == pytest.approx(1 / 2, abs=0.01)
    assert outcome.n_trials == pytest.approx(100, abs=1)


def test_deadlocked_search_raises_error() -> None:
    search = InPairs(0, 2)
    search.n_left = 0
    with pytest.raises(RuntimeError, match="nothing is running"):
        simulation.simulate(search, EVEN, 2, 10.0)


@pytest.mark.parametrize("kind", [Random, Tpe, TpeInBatches, Halving, Asha])
def test_regret_is_monotone_and_reproducible(kind: type[Random] | type[Tpe]) -> None:
    first, again = (simulation.simulate(kind(3, 5), World(3), 5, 20 * MAX_EPOCHS / 5) for _ in range(2))
    assert first == again
    regrets = [regret for _, regret in first.curve]
    assert regrets == sorted(regrets, reverse=True)
    assert all(0 <= regret <= -LEAST for regret in regrets)
    assert 0 < first.useful <= 1


def test_complete_rung_promotes_the_best_third() -> None:
    search = Halving(0, 1)
    rung = [search.next() for _ in range(9)]
    assert all(stretch is not None for stretch in rung)
    assert search.next() is None  # a barrier
    bracket = [stretch for stretch in rung if stretch is not None]
    for stretch in bracket:
        search.ended(stretch)
    following = [search.next() for _ in range(3)]
    best = sorted(bracket, key=lambda each: loss(each.params, 1))[:3]
    assert {s.trial for s in following if s is not None} == {s.trial for s in best}
    assert {(s.begin, s.end) for s in following if s is not None} == {(1, 3)}


def test_asha_promotes_first_and_stops_worse_trial() -> None:
    search = Asha(0, 1)
    trials = [search.next() for _ in range(40)]
    known = sorted((s for s in trials if s is not None), key=lambda each: loss(each.params, 1))
    search.ended(known[0])
    assert search.promoted == [Stretch(known[0].trial, known[0].params, 1, 3)]
    search.ended(known[-1])
    assert len(search.promoted) == 1


def test_learning_curve_ends_at_hartmann_function() -> None:
    assert loss(OPTIMUM, MAX_EPOCHS) == pytest.approx(LEAST, abs=1e-5)
    assert loss(OPTIMUM, 1) > loss(OPTIMUM, 3) > loss(OPTIMUM, MAX_EPOCHS)


def test_mean_epoch_time_is_one() -> None:
    times = [World(0).epoch_time(trial) for trial in range(4000)]
    assert sum(times) / len(times) == pytest.approx(1.0, abs=0.05)
    assert max(times) > 5
    assert math.isclose(EVEN.epoch_time(7), 1.0)
