"""Hill climbing: a greedy search along one parameter at a time, with restarts.

Coordinate search in the words of Kolda, Lewis & Torczon (2003), "Optimization by Direct Search", SIAM Review 45(3),
with the first improvement taken and the coordinates in random order.
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
"""Yields params, is sent the value that they got, or None where they failed."""

# Draws in a row that were all tried before: then the space is taken to be exhausted.
MAX_COLLISIONS = 200


class HillClimbingStrategy(AskTellStrategy[None]):
    """Holds all parameters but one, moves that one, and keeps what improves.

    A number moves up and down by ``first_step`` of its range, on its logarithmic scale if it has one and by at least
    one of its steps; a category takes each other choice. A round without an improvement halves the step; below
    ``last_step`` the search starts again from a random point. Nothing is tried twice.

    Args:
        first_step: of a move, as a share of the parameter's range, above 0 and at most 1.
        last_step: the smallest step, at most ``first_step``.
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
        # Not a seed for every ask: the walk is a function of its values, which a replay tells again.
        self._random = random.Random(derive_seed(search.seed, "walk"))  # noqa: S311 no secret
        self._walk = self._climb()
        self._value: float | None = None
        self._has_begun = False

    def ask(self, known: Params | None = None) -> tuple[Proposal, None] | None:
        # What is known need not be told: the walk comes to it again.
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
        """Move one parameter as long as that improves."""
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
        """What moving ``name`` leads to; children that a new value activates are drawn at random."""
        if name not in here:
            return []  # an earlier move of this round has made it inactive
        parameter = self._search.space[name]
        moved = {canonical({name: value}): value for value in _moves(parameter, here[name], step)}
        moved.pop(canonical({name: here[name]}), None)
        values = list(moved.values())
        self._random.shuffle(values)
        return [self._completed({**here, name: value}) for value in values]

    def _completed(self, known: Params) -> Params:
        """``known`` without what is inactive, and with random values for what is missing."""
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
    """The values one step up and down, at least to the next one that there is; the other choices of a category."""
    if isinstance(parameter, Categorical):
        return list(parameter.choices)
    assert isinstance(parameter, Numeric)
    place = parameter.place(float(str(value)))
    moves: list[ParamValue] = [parameter.at(place - step), parameter.at(place + step)]
    steps = parameter.steps()
    if steps:
        index = round((float(str(value)) - parameter.low) / max(1e-300, steps[-1] - steps[0]) * (len(steps) - 1))
        moves += [steps[i] for i in (index - 1, index + 1) if 0 <= i < len(steps)]
        # The nearest only where a whole step does not lead away.
        moves = [m for m in moves[:2] if m != value] or moves[2:]
    return moves
