"""The contract of an objective that loads its data, asks for its params, trains and scores by itself."""

from __future__ import annotations

from abc import abstractmethod

from hpo.core.objective import Objective
from hpo.core.params import ParamValue
from hpo.models.base import EvaluatorFactory, EvaluatorT, FitLog, ObjectiveControl, Trainable


class WholeObjective(Trainable):
    """A whole trial in one call; the study knows neither its data nor its model."""

    weights_suffix = ".none"
    is_self_contained = True
    is_defined_by_run = True

    def make_evaluator(self, factory: EvaluatorFactory[EvaluatorT]) -> EvaluatorT:
        return factory.for_objective(self)

    def describe_budget(self, max_epochs: int, budget_fraction: float) -> str:
        return "as long as the objective takes"

    @property
    def tunables(self) -> dict[str, ParamValue]:
        return {}

    @abstractmethod
    def call(
        self, number: int, objective: Objective, log: FitLog, control: ObjectiveControl
    ) -> tuple[float, ...] | None:
        """Run one trial and add what it reports to ``log``; exceptions of user code are passed on.

        Args:
            number: the number of the trial.
            objective: the names and directions of the values to return.
            control: answers requests for params and reports.

        Returns:
            The value of the objective, then those of its other metrics; None when the run did not complete.
        """
