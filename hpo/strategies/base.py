"""The strategy contract: a strategy chooses params, the runner evaluates them.

A strategy never touches data, folds, MLflow or clocks. Libraries with an ask/tell interface share one loop,
:class:`AskTellStrategy`; libraries that own their loop call ``evaluate`` from inside it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from hpo.space import SearchSpace
from hpo.trial import Decision, Measurement, Objective, OnRung, Params, Proposal, Trial

Handle = TypeVar("Handle")


@dataclass(frozen=True)
class Search:
    """What a strategy is told about its study.

    Args:
        space: what to choose from.
        objective: what to optimise.
        n_trials: how many trials there will be at most; None when something else ends the study.
        max_epochs: the most that a trial may train.
        seed: of the strategy's own random stream, shared with no other strategy.
        default_params: the model's own configuration, or None where the space does not contain it.
    """

    space: SearchSpace
    objective: Objective
    n_trials: int | None
    max_epochs: int
    seed: int
    default_params: Params | None = None


class Evaluate(Protocol):
    """Trains and records one proposal; blocks until it is done."""

    def __call__(self, proposal: Proposal, on_rung: OnRung | None = None) -> Trial:
        """Evaluate ``proposal``.

        Args:
            on_rung: asked after every epoch whether the trial may go on.

        Raises:
            SearchStopped: when the study is over; let it pass.
        """
        ...


class Strategy(ABC):
    """A way of searching."""

    @abstractmethod
    def search(self, search: Search, evaluate: Evaluate) -> None:
        """Propose and learn until the space is exhausted, or ``evaluate`` ends the search by raising."""


class AskTellStrategy(Strategy, Generic[Handle]):
    """The loop of libraries that are asked for params and told their values."""

    def search(self, search: Search, evaluate: Evaluate) -> None:
        self.start(search)
        while (asked := self.ask()) is not None:
            proposal, handle = asked

            def on_rung(measurement: Measurement, handle: Handle = handle) -> Decision:
                return self.measure(handle, measurement)

            self.tell(handle, evaluate(proposal, on_rung))

    @abstractmethod
    def start(self, search: Search) -> None:
        """Forget everything and get ready to be asked."""

    @abstractmethod
    def ask(self) -> tuple[Proposal, Handle] | None:
        """The next proposal with the library's own handle on it; None when the space is exhausted."""

    @abstractmethod
    def tell(self, handle: Handle, trial: Trial) -> None:
        """Learn from a finished trial."""

    def measure(self, handle: Handle, measurement: Measurement) -> Decision:
        """Decide whether a running trial may go on."""
        return Decision.CONTINUE
