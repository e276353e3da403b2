"""The strategy contract: a strategy chooses params, and the runner evaluates them.

A strategy never touches data, MLflow or clocks. Libraries with an ask/tell interface share one loop,
:class:`AskTellStrategy`. Libraries that own their loop call ``evaluate`` from inside it; those that also own the loop
over folds, or raise a trial's budget step by step, call ``evaluate.open``.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from hpo.core.identity import PartIdentity
from hpo.core.measurement import Measurement, OnReport
from hpo.core.objective import Objective
from hpo.core.params import Params, ParamValue
from hpo.core.space import Parameter, SearchSpace, Suggest
from hpo.core.states import Decision
from hpo.core.trial import FoldResult, Proposal, Trial
from hpo.errors import ConfigError, SearchStopped, SuggestionRefused

Handle = TypeVar("Handle")


@dataclass(frozen=True)
class SearchProblem:
    """The search that a strategy carries out.

    Args:
        space: the parameters to choose.
        objective: what to optimize.
        n_trials: the most trials; None when another limit ends the study.
        max_epochs: the most epochs of a trial.
        seed: of the strategy's random stream, which no other strategy shares.
        default_params: the model's own configuration; None if it is not in the space.
        enqueued: params to try first, in this order.
        row_splits: for each fold, the indices of the training rows and of the scored rows.
        n_workers: trials that can train at the same time.
        recorded: params of the trials that a stopped study had started, by number. A strategy that would not propose
            them again by itself proposes them first; ``evaluate`` answers finished ones from the record.
        first_n_trials: ``n_trials`` at the start of the study, if it has changed since; see ``planned_trials``.
        defined_by_run: whether trials ask for their params while they run; ``space`` is empty then.
    """

    space: SearchSpace
    objective: Objective
    n_trials: int | None
    max_epochs: int
    seed: int
    default_params: Params | None = None
    enqueued: tuple[Params, ...] = ()
    row_splits: Sequence[tuple[Any, Any]] = ()
    n_workers: int = 1
    recorded: tuple[Params, ...] = ()
    first_n_trials: int | None = None
    defined_by_run: bool = False

    @property
    def planned_trials(self) -> int | None:
        """Trial count that derived options are computed from; unchanged when the limit is raised."""
        return self.n_trials if self.first_n_trials is None else self.first_n_trials


@dataclass(frozen=True)
class StrategyTags:
    """The capabilities of a strategy; a study that needs another one is refused before its first trial.

    Args:
        backend: the library and the class that search, under the name that users import.
        conditional: supports spaces with ``when``.
        pruning: stops trials early by their learning curves.
        rungs: starts with small budgets and continues the best trials with larger ones.
        finite: visits a grid and ends when it is exhausted.
        parallel: can propose several trials at the same time.
        deterministic: proposes the same params for the same seed, space and values.
        replayable: a resumed search proposes what an uninterrupted one would have proposed.
        samples_prior: draws every trial from the distribution of the space.
        learns: uses earlier values, so that its proposals improve within some tens of trials.
        several_objectives: supports ``objective.others``.
        enqueues: supports ``enqueue``.
        define_by_run: supports trials that ask for their params while they run.
    """

    backend: str
    conditional: bool = True
    pruning: bool = False
    rungs: bool = False
    finite: bool = False
    parallel: bool = True
    deterministic: bool = True
    replayable: bool = True
    samples_prior: bool = False
    learns: bool = False
    several_objectives: bool = False
    enqueues: bool = False
    define_by_run: bool = False


@dataclass(frozen=True)
class Rung:
    """A step of a schedule: ``n_trials`` trials trained for ``max_epochs``."""

    n_trials: int
    max_epochs: int
    bracket: int = 0


@dataclass(frozen=True)
class Plan:
    """What a search will do, as far as it is known in advance.

    Args:
        n_trials: the most trials; None when only time or epochs limit it.
        rungs: the schedule of budgets; () when every trial gets the whole budget.
    """

    n_trials: int | None
    rungs: tuple[Rung, ...] = ()


class OpenTrial(Protocol):
    """A trial that its strategy evaluates fold by fold, or with growing budgets."""

    @property
    def trial(self) -> Trial:
        """The trial with the results so far."""
        ...

    def train_fold(
        self, fold: int, max_epochs: int | None = None, on_report: OnReport | None = None
    ) -> FoldResult | None:
        """Evaluate one fold; the result replaces that of a smaller budget.

        Returns:
            The result; None, without training, if another fold of the trial has failed or was pruned.

        Raises:
            SearchStopped: when the study is over; do not catch it.
        """
        ...

    def train(self, max_epochs: int | None = None, on_report: OnReport | None = None) -> Trial:
        """Evaluate all folds until one fails or is pruned."""
        ...

    def close(self, dropped: bool = False) -> Trial:
        """End the trial; ``dropped`` if it does not get the larger budgets that others get."""
        ...


class Evaluate(Protocol):
    """Trains and records proposals; calls block until the trial has ended, and any thread may call it."""

    def __call__(self, proposal: Proposal, on_report: OnReport | None = None, suggest: Suggest | None = None) -> Trial:
        """Evaluate ``proposal`` on all folds.

        Args:
            on_report: called after every epoch; decides whether the trial continues.
            suggest: chooses a value when a running trial asks for one. The proposal then has the params that are
                recorded for the trial, none for a new one.

        Raises:
            SearchStopped: when the study is over; do not catch it.
        """
        ...

    def open(self, params: Params) -> OpenTrial:
        """Start a trial; the study closes it at its end if the strategy does not.

        Raises:
            SearchStopped: when the study is over; do not catch it.
        """
        ...


class Strategy(ABC):
    """A way of searching."""

    @property
    @abstractmethod
    def tags(self) -> StrategyTags:
        """Its capabilities with its present options."""

    @property
    def identity(self) -> PartIdentity:
        """What defines it besides its options: the library that searches."""
        return PartIdentity(packages=(self.tags.backend.partition(".")[0],), code=(type(self),))

    @abstractmethod
    def search(self, search: SearchProblem, evaluate: Evaluate) -> None:
        """Propose and learn until the space is exhausted or ``evaluate`` raises."""

    def plan(self, search: SearchProblem) -> Plan:
        """Return what :meth:`search` would do.

        Raises:
            ConfigError: when the search is not possible.
        """
        return Plan(search.n_trials)

    def tables(self) -> Mapping[str, str]:
        """Return the library's own results as CSV text by file name, for the study's artifacts."""
        return {}


class AskTellStrategy(Strategy, Generic[Handle]):
    """Base of libraries with an ask/tell interface; one thread per worker asks and tells."""

    def search(self, search: SearchProblem, evaluate: Evaluate) -> None:
        self.start(search)
        _Loop(self, search, evaluate).run()

    @abstractmethod
    def start(self, search: SearchProblem) -> None:
        """Start a new search; forget any earlier one."""

    @abstractmethod
    def ask(self, known: Params | None = None) -> tuple[Proposal, Handle] | None:
        """Return the next proposal with the library's own handle on it; None when the space is exhausted.

        Args:
            known: the recorded params of this trial, when a study is resumed; propose them again.
        """

    @abstractmethod
    def tell(self, handle: Handle, trial: Trial) -> None:
        """Learn from a finished trial."""

    def suggest(self, handle: Handle, parameter: Parameter) -> ParamValue:
        """Choose a value for a running trial; only strategies with the tag ``define_by_run`` implement it.

        Raises:
            SuggestionRefused: when the parameter contradicts an earlier one, or the strategy lacks the tag.
        """
        raise SuggestionRefused(f"{type(self).__name__} chooses no values for running trials")

    def measure(self, handle: Handle, measurement: Measurement) -> Decision:
        """Decide whether a running trial continues."""
        return Decision.CONTINUE


class _Loop(Generic[Handle]):
    """One search of an :class:`AskTellStrategy`; at most one thread is inside the library at a time."""

    def __init__(self, strategy: AskTellStrategy[Handle], search: SearchProblem, evaluate: Evaluate) -> None:
        self._strategy, self._evaluate = strategy, evaluate
        self._n_threads = search.n_workers if strategy.tags.parallel else 1
        self._is_late = search.defined_by_run
        self._known = iter([each for each in search.recorded if self._is_late or search.space.contains(each)])
        self._lock = threading.RLock()
        self._errors: list[BaseException] = []

    def run(self) -> None:
        threads = [threading.Thread(target=self._work, name="hpo-ask", daemon=True) for _ in range(self._n_threads - 1)]
        for thread in threads:
            thread.start()
        self._work()
        for thread in threads:
            thread.join()
        # Prefer an error of the study to SearchStopped, which other threads may raise at the same time.
        for error in sorted(self._errors, key=lambda e: isinstance(e, SearchStopped)):
            raise error

    def _work(self) -> None:
        try:
            while not self._errors:
                with self._lock:
                    asked = self._strategy.ask(next(self._known, None))
                if asked is None:
                    return
                proposal, handle = asked

                def on_report(measurement: Measurement, handle: Handle = handle) -> Decision:
                    with self._lock:
                        return self._strategy.measure(handle, measurement)

                def suggest(parameter: Parameter, handle: Handle = handle) -> ParamValue:
                    with self._lock:
                        return self._strategy.suggest(handle, parameter)

                trial = self._evaluate(proposal, on_report, suggest if self._is_late else None)
                with self._lock:
                    self._strategy.tell(handle, trial)
        except KeyboardInterrupt:
            raise  # without waiting for the other threads
        except BaseException as error:
            self._errors.append(error)


def option_error(key: str, value: Any, expected: str, fix: str) -> ConfigError:
    """Return the error for an option of a strategy, named as on the command line."""
    return ConfigError(f"strategy.{key}", value, expected, f"strategy.{key}={fix}")


def startup_trials(n_trials: int | None) -> int:
    """Return the default number of random trials before a model of the space: a quarter of all, 3 to 10."""
    return 10 if n_trials is None else min(10, max(3, n_trials // 4))
