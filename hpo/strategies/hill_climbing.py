"""Hill climbing: a greedy search along one parameter at a time, with restarts.

This is coordinate search (Kolda, Lewis & Torczon 2003, "Optimization by Direct Search", SIAM Review 45(3)) that takes
the first improvement and visits the coordinates in random order.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator
from typing import TypeVar

from hpo.core.params import Params, ParamValue, canonical
from hpo.core.seeds import derive_seed
from hpo.core.space import Categorical, Numeric, Parameter, SearchSpace
from hpo.core.trial import Proposal, Trial
from hpo.strategies.base import AskTellStrategy, SearchProblem, StrategyTags, option_error

Result = TypeVar("Result")
Walk = Generator[Params, float | None, Result]
"""Yields params and receives their value, or None if the trial failed."""

# Consecutive draws of params that were tried before, after which the space counts as exhausted.
MAX_COLLISIONS = 200


class HillClimbingStrategy(AskTellStrategy[None]):
    """Changes one parameter at a time and keeps what improves the objective.

    A number moves up and down by ``first_step`` of its range, on its logarithmic scale if it has one, and by at least
    one of its steps. A categorical parameter takes each other choice. A round without an improvement halves the step.
    Below ``last_step`` the search restarts from a random point. No params are tried twice.

    Args:
        first_step: first step size, as a share of the parameter's range, above 0 and at most 1.
        last_step: smallest step size, at most ``first_step``.
        default_first: whether the first climb starts from the model's own configuration.
    """

    tags = StrategyTags("hpo.strategies.hill_climbing", parallel=False, learns=True, enqueues=True)

    def __init__(self, first_step: float = 0.25, last_step: float = 0.05, default_first: bool = True) -> None:
        for name, value, most in (("first_step", first_step, 1.0), ("last_step", last_step, first_step)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
                raise option_error(name, value, f"a number above 0 and at most {most}", str(min(0.25, most)))
        self.first_step, self.last_step, self.default_first = first_step, last_step, default_first

    def start(self, search: SearchProblem) -> None:
        self._search, self._tried = search, set[str]()
        # One stream for the whole walk: it depends on the values only, and a resumed search receives them again.
        self._random = random.Random(derive_seed(search.seed, "walk"))  # noqa: S311 no secret
        self._walk = self._climb()
        self._value: float | None = None
        self._has_begun = False

    def ask(self, known: Params | None = None) -> tuple[Proposal, None] | None:
        # A resumed walk proposes recorded params by itself.
        try:
            params = self._walk.send(self._value) if self._has_begun else next(self._walk)
        except StopIteration:
            return None
        self._has_begun = True
        self._tried.add(canonical(params))
        return Proposal(params), None

    def tell(self, handle: None, trial: Trial) -> None:
        self._value = trial.value

    def _climb(self) -> Walk[None]:
        given = [*self._search.enqueued]
        if self.default_first and self._search.default_params is not None:
            given.append(self._search.default_params)
        here: Params | None = None
        best: float | None = None
        for start in given:
            if canonical(start) in self._tried:
                continue
            value = yield start
            if value is not None and self._search.objective.better(value, best):
                here, best = start, value
        if here is not None and best is not None:
            yield from self._climb_from(here, best)
        for start in self._random_starts():
            value = yield start
            if value is not None:
                yield from self._climb_from(start, value)

    def _climb_from(self, here: Params, best: float) -> Walk[None]:
        step = self.first_step
        while step >= self.last_step:
            before = here
            for name in self._shuffled(list(here)):
                here, best = yield from self._move(here, best, name, step)
            if here == before:
                step /= 2

    def _move(self, here: Params, best: float, name: str, step: float) -> Walk[tuple[Params, float]]:
        """Move one parameter as long as the objective improves."""
        improved = True
        while improved:
            improved = False
            for there in self._neighbours(here, name, step):
                if canonical(there) in self._tried:
                    continue
                value = yield there
                if value is not None and self._search.objective.better(value, best):
                    here, best, improved = there, value, True
                    break
        return here, best

    def _random_starts(self) -> Iterator[Params]:
        collisions = 0
        while collisions < MAX_COLLISIONS:
            drawn = self._completed({})
            if canonical(drawn) in self._tried:
                collisions += 1
                continue
            collisions = 0
            yield drawn

    def _shuffled(self, names: list[str]) -> list[str]:
        self._random.shuffle(names)
        return names

    def _neighbours(self, here: Params, name: str, step: float) -> list[Params]:
        """Return the params after each move of ``name``; children that become active are drawn at random."""
        if name not in here:
            return []  # an earlier move of this round made it inactive
        parameter = self._search.space[name]
        moved = {canonical({name: value}): value for value in _moves(parameter, here[name], step)}
        moved.pop(canonical({name: here[name]}), None)
        values = list(moved.values())
        self._random.shuffle(values)
        return [self._completed({**here, name: value}) for value in values]

    def _completed(self, known: Params) -> Params:
        """Return ``known`` without inactive params and with random values for missing ones."""
        space: SearchSpace = self._search.space
        params: dict[str, ParamValue] = {}
        for name, parameter in space.items():
            if space.is_active(name, params):
                params[name] = known[name] if name in known else self._drawn(parameter)
        return params

    def _drawn(self, parameter: Parameter) -> ParamValue:
        if isinstance(parameter, Categorical):
            return self._random.choice(parameter.choices)
        assert isinstance(parameter, Numeric)
        steps = parameter.steps()
        return self._random.choice(steps) if steps and not parameter.log else parameter.at(self._random.random())


def _moves(parameter: Parameter, value: ParamValue, step: float) -> list[ParamValue]:
    """Return the values one step up and down, at least one of the parameter's own steps; or all other choices."""
    if isinstance(parameter, Categorical):
        return list(parameter.choices)
    assert isinstance(parameter, Numeric)
    place = parameter.place(float(str(value)))
    moves: list[ParamValue] = [parameter.at(place - step), parameter.at(place + step)]
    steps = parameter.steps()
    if steps:
        index = round((float(str(value)) - parameter.low) / max(1e-300, steps[-1] - steps[0]) * (len(steps) - 1))
        moves += [steps[i] for i in (index - 1, index + 1) if 0 <= i < len(steps)]
        # The nearest values only if a whole step does not change the value.
        moves = [m for m in moves[:2] if m != value] or moves[2:]
    return moves
