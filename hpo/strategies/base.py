"""The strategy contract: a strategy chooses params, the runner evaluates them.

A strategy never touches data, MLflow or clocks. Libraries with an ask/tell interface share one loop,
:class:`AskTellStrategy`; libraries that own their loop call ``evaluate`` from inside it, and those that own the loop
over folds or take trials from budget to budget ``evaluate.open`` a trial.
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
from hpo.errors import ConfigError, SearchStopped

Handle = TypeVar("Handle")


@dataclass(frozen=True)
class SearchProblem:
    """What a strategy is told about its study.

    Args:
        space: what to choose from.
        objective: what to optimise.
        n_trials: how many trials there will be at most; None when something else ends the study.
        max_epochs: the most that a trial may train.
        seed: of the strategy's own random stream, shared with no other strategy.
        default_params: the model's own configuration, or None where the space does not contain it.
        enqueued: configurations to be tried first, in this order.
        row_splits: row indices by fold: those seen in training, and those scored.
        n_workers: how many trials can be trained at the same time.
        recorded: params of the trials that a stopped study had begun, by number. A strategy that cannot come to them
            again by itself proposes them first; ``evaluate`` answers finished ones from the record.
        first_n_trials: ``n_trials`` with which the study began, if that has been changed since; see ``planned_trials``.
        defined_by_run: whether the space is empty here, since a trial asks for its params while it runs.
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
        """What options that follow from the number of trials follow from: it stays when the limit is raised."""
        return self.n_trials if self.first_n_trials is None else self.first_n_trials


@dataclass(frozen=True)
class StrategyTags:
    """What a strategy can do; a study that asks for more is refused before its first trial.

    Args:
        backend: the library and the class that search, as people would import them.
        conditional: takes spaces with ``when``.
        pruning: stops trials early by their curves.
        rungs: takes trials from small budgets to large ones.
        finite: visits a grid, and is done when it is exhausted.
        parallel: can propose several trials at once.
        deterministic: proposes the same params again for the same seed, space and values.
        replayable: goes on exactly as it would have when told its finished trials.
        samples_prior: draws every trial from the space's own distribution.
        learns: has a model of the space, or climbs in it: its proposals get better within some tens of trials.
        several_objectives: takes ``objective.others``.
        enqueues: takes ``enqueue``.
        define_by_run: answers trials that ask for their params while they run.
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
    """What a search will do, as far as it can be known before.

    Args:
        n_trials: the most trials; None when only time or epochs end it.
        rungs: the schedule of budgets, or () where every trial trains to its own end.
    """

    n_trials: int | None
    rungs: tuple[Rung, ...] = ()


class OpenTrial(Protocol):
    """A trial that its strategy evaluates fold by fold, or takes from one budget to the next."""

    @property
    def trial(self) -> Trial:
        """As far as it is evaluated."""
        ...

    def train_fold(
        self, fold: int, max_epochs: int | None = None, on_report: OnReport | None = None
    ) -> FoldResult | None:
        """Evaluate one fold, replacing what a smaller budget gave.

        Returns:
            The result; None without training once another fold of the trial has failed or was pruned.

        Raises:
            SearchStopped: when the study is over; let it pass.
        """
        ...

    def train(self, max_epochs: int | None = None, on_report: OnReport | None = None) -> Trial:
        """Evaluate all folds, up to the first that fails."""
        ...

    def close(self, dropped: bool = False) -> Trial:
        """End the trial; ``dropped`` where a larger budget was still to come."""
        ...


class Evaluate(Protocol):
    """Trains and records proposals; blocks until a trial is done, and may be called from several threads."""

    def __call__(self, proposal: Proposal, on_report: OnReport | None = None, suggest: Suggest | None = None) -> Trial:
        """Evaluate ``proposal`` on all folds.

        Args:
            on_report: asked after every epoch whether the trial may go on.
            suggest: where trials ask for their params while they run, what answers. The proposal's own then are those
                that the record has of it, none for a new one.

        Raises:
            SearchStopped: when the study is over; let it pass.
        """
        ...

    def open(self, params: Params) -> OpenTrial:
        """Begin a trial; the study closes it at its end if nobody else does.

        Raises:
            SearchStopped: when the study is over; let it pass.
        """
        ...


class Strategy(ABC):
    """A way of searching."""

    @property
    @abstractmethod
    def tags(self) -> StrategyTags:
        """What it can do, with its options."""

    @property
    def identity(self) -> PartIdentity:
        """What defines it besides its options: the library that searches."""
        return PartIdentity(packages=(self.tags.backend.partition(".")[0],), code=(type(self),))

    @abstractmethod
    def search(self, search: SearchProblem, evaluate: Evaluate) -> None:
        """Propose and learn until the space is exhausted, or ``evaluate`` ends the search by raising."""

    def plan(self, search: SearchProblem) -> Plan:
        """What :meth:`search` would do.

        Raises:
            ConfigError: when it cannot do it.
        """
        return Plan(search.n_trials)

    def tables(self) -> Mapping[str, str]:
        """What the library itself says of the search, as CSV text by file name; for the study's artifacts."""
        return {}


class AskTellStrategy(Strategy, Generic[Handle]):
    """The loop of libraries that are asked for params and told their values, in a thread a worker."""

    def search(self, search: SearchProblem, evaluate: Evaluate) -> None:
        self.start(search)
        _Loop(self, search, evaluate).run()

    @abstractmethod
    def start(self, search: SearchProblem) -> None:
        """Forget everything and get ready to be asked."""

    @abstractmethod
    def ask(self, known: Params | None = None) -> tuple[Proposal, Handle] | None:
        """The next proposal with the library's own handle on it; None when the space is exhausted.

        Args:
            known: what was proposed at this place before the study was stopped, and is to be proposed again.
        """

    @abstractmethod
    def tell(self, handle: Handle, trial: Trial) -> None:
        """Learn from a finished trial."""

    def suggest(self, handle: Handle, parameter: Parameter) -> ParamValue:
        """Choose a value for a running trial; of strategies with the tag ``define_by_run``.

        Raises:
            SuggestionRefused: when it does not fit what was asked for before.
        """
        raise NotImplementedError

    def measure(self, handle: Handle, measurement: Measurement) -> Decision:
        """Decide whether a running trial may go on."""
        return Decision.CONTINUE


class _Loop(Generic[Handle]):
    """One search of an :class:`AskTellStrategy`. The library is never in two threads at once."""

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
        # An error of the study before its ordinary end, which the other threads meet at the same time.
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
            raise  # at once, whatever the other threads are doing
        except BaseException as error:
            self._errors.append(error)


def option_error(key: str, value: Any, expected: str, fix: str) -> ConfigError:
    """The error for an option of a strategy, named as on the command line."""
    return ConfigError(f"strategy.{key}", value, expected, f"strategy.{key}={fix}")


def startup_trials(n_trials: int | None) -> int:
    """How many random trials a model of the space begins with unless told: a quarter of all, at least 3, at most 10."""
    return 10 if n_trials is None else min(10, max(3, n_trials // 4))
