"""Makes the evaluator that fits what a study tunes."""

from __future__ import annotations

from dataclasses import dataclass

from hpo.core.early_stopping import EarlyStopping
from hpo.core.objective import Objective
from hpo.datasets.base import Dataset
from hpo.evaluation.evaluator import Evaluator
from hpo.evaluation.objective_evaluator import ObjectiveEvaluator
from hpo.evaluation.resampling import Resampling
from hpo.models.base import Model
from hpo.models.objectives.base import WholeObjective


@dataclass(frozen=True)
class StudyEvaluators:
    """Makes evaluators with the settings of one study; see :class:`hpo.models.base.EvaluatorFactory`.

    Args:
        seed: the study seed.
    """

    dataset: Dataset
    resampling: Resampling
    objective: Objective
    early_stopping: EarlyStopping
    seed: int

    def for_model(self, model: Model) -> Evaluator:
        return Evaluator(model, self.dataset, self.resampling, self.objective, self.early_stopping, self.seed)

    def for_objective(self, objective: WholeObjective) -> Evaluator:
        return ObjectiveEvaluator(objective, self.objective, self.seed)
