"""Shared by the grid searches: a grid with more points than the study has trials is refused, coarsened or shuffled."""

from __future__ import annotations

import itertools
import random

from hpo.core.params import Params, ParamValue
from hpo.core.space import SearchSpace
from hpo.errors import ConfigError
from hpo.strategies.base import SearchProblem, option_error

OVERSIZE = ("refuse", "coarsen", "shuffle")


def check_oversize(value: str) -> str:
    """Return ``value`` if it is a known way to treat a grid that is too large.

    Raises:
        ConfigError: otherwise.
    """
    if value not in OVERSIZE:
        raise option_error("oversize", value, f"one of {', '.join(OVERSIZE)}", "refuse")
    return value


def fit(search: SearchProblem, oversize: str) -> SearchSpace:
    """Return the space whose grid the search visits.

    Raises:
        ConfigError: for a continuous parameter without grid points, or a grid that is too large with ``refuse``.
    """
    size, n_trials = search.space.grid_size(), search.planned_trials
    if n_trials is None or size <= n_trials or oversize == "shuffle":
        return search.space
    if oversize == "coarsen":
        return search.space.coarsened(n_trials)
    n_folds = len(search.row_splits)
    fits = f"{size} × {n_folds} folds = {size * n_folds} fits" if n_folds > 1 else f"{size} fits"
    raise ConfigError(
        "limits.n_trials",
        n_trials,
        f"at least the size of the grid, {size} combinations ({fits})",
        f"limits.n_trials={size}, or strategy.oversize=coarsen (fewer points) or shuffle (a random part), "
        "or fewer points: python -m hpo plan strategy.oversize=coarsen shows an example",
    )


def subgrids(space: SearchSpace) -> list[dict[str, list[ParamValue]]]:
    """Return grids without conditions that together make up the grid of ``space``, one per combination of parents."""
    parents = {parent for parameter in space.values() for parent in parameter.when or {}}
    grids = []
    for params in space.restricted(parents).grid():
        names = [name for name in space if name not in parents and space.is_active(name, params)]
        grids.append({n: [v] for n, v in params.items()} | {n: list(space[n].points() or ()) for n in names})
    return grids


def shuffled(space: SearchSpace, n: int, seed: int) -> list[Params]:
    """Return ``n`` points of the grid in a random order that depends on the seed.

    Raises:
        ConfigError: when the grid has more than ten million points, since all must be listed.
    """
    size = space.grid_size()
    if size > 10_000_000:
        raise option_error("oversize", "shuffle", f"a grid of at most 10,000,000 points, not {size}", "coarsen")
    # The whole order is drawn, so that a larger n continues the order of a smaller one.
    chosen = random.Random(seed).sample(range(size), size)[:n]  # noqa: S311 no secret
    wanted = {index: place for place, index in enumerate(chosen)}
    picked: list[Params] = [{}] * n
    for index, params in enumerate(itertools.islice(space.grid(), max(chosen) + 1)):
        if index in wanted:
            picked[wanted[index]] = params
    return picked
