"""A study: the objects that its config names, and its identity."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from hpo.config.definition import Definition
from hpo.core.seeds import search_seed
from hpo.core.space import SearchSpace
from hpo.datasets.base import Dataset
from hpo.evaluation.evaluator import Evaluator
from hpo.evaluation.resampling import Resampling
from hpo.executors.base import Executor
from hpo.models.base import Trainable
from hpo.strategies.base import SearchProblem, Strategy
from hpo.study.identity import put_together


@dataclass(frozen=True)
class ChosenOptions:
    """The options that a study was composed from; ``choices`` maps every group to its option."""

    model: str
    dataset: str
    strategy: str
    resampling: str
    choices: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """Everything that a study consists of.

    Args:
        config: the composed config as it is recorded: plain mappings, without values from the environment.
        dataset_note: why a fallback replaced the configured dataset; None if it did not.
    """

    name: str
    names: ChosenOptions
    config: Mapping[str, Any]
    definition: Definition
    model: Trainable
    dataset: Dataset
    evaluator: Evaluator
    strategy: Strategy
    executor: Executor
    resampling: Resampling
    dataset_note: str | None = None

    @property
    def search(self) -> SearchProblem:
        """The search problem that the strategy gets."""
        definition = self.definition
        start = definition.space.select(self.model.tunables)
        return SearchProblem(
            space=definition.space,
            objective=definition.objective,
            n_trials=definition.limits.n_trials,
            max_epochs=definition.max_epochs,
            seed=search_seed(definition.seed, self.names.strategy),
            default_params=start if start and definition.space.contains(start) else None,
            enqueued=definition.enqueue,
            row_splits=self.evaluator.row_splits,
            defined_by_run=self.is_defined_by_run,
        )

    @property
    def is_defined_by_run(self) -> bool:
        """Whether trials ask for their params while they run, so that the space is not known beforehand."""
        return self.model.is_defined_by_run

    def with_found(self, space: SearchSpace) -> Study:
        """The study with the space that its trials asked for; unchanged if it has a space of its own."""
        return replace(self, definition=replace(self.definition, space=space)) if self.is_defined_by_run else self

    @property
    def max_epochs(self) -> int:
        """The most epochs of one fold: the full budget of a trial."""
        return self.definition.max_epochs

    @property
    def n_at_once(self) -> int:
        """The number of trials that train in parallel: one a worker, or one if the strategy proposes one by one."""
        return self.executor.n_workers if self.strategy.tags.parallel else 1

    @property
    def defaults_outside(self) -> list[str]:
        """Parameters with a default outside the search space, so that the defaults cannot be the first trial."""
        start = self.definition.space.select(self.model.tunables)
        return [name for name, value in start.items() if not self.definition.space[name].contains(value)]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that the results depend on, ready for JSON; see :mod:`hpo.study.identity`."""
        return put_together(
            self.config,
            {
                "model": self.model.identity(self.definition.space),
                "dataset": self.dataset.identity,
                "strategy": self.strategy.identity,
                "resampling": self.resampling.identity,
                "executor": self.executor.identity,
            },
            {"folds_digest": self.evaluator.folds_digest},
        )

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal characters that change when :attr:`identity` does."""
        text = json.dumps(self.identity, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def default_name(names: ChosenOptions, seed: int) -> str:
    """Make a study name from its options and the time."""
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return f"{names.model}-{names.dataset}-{names.strategy}-s{seed}-{now}"
