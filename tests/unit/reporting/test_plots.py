"""Figures of studies with trials that differ in their params."""

from pathlib import Path

import pytest

from hpo.config.definition import Definition
from hpo.core.early_stopping import EarlyStopping, EarlyStoppingOutcome
from hpo.core.limits import Limits
from hpo.core.objective import Objective
from hpo.core.params import Params
from hpo.core.space import Float, Int, SearchSpace
from hpo.core.states import StopReason
from hpo.core.trial import FoldResult, Trial
from hpo.reporting import plots

X, Y = Float("x", low=0.0, high=1.0), Int("y", low=1, high=9)


def trial(number: int, params: Params, *curve: float) -> Trial:
    outcome = EarlyStoppingOutcome("value", None, 0.0, 0, 0, None, None, None, False, StopReason.MAX_EPOCHS)
    return Trial(number, params, (FoldResult(0, 1, float(number), outcome, {"value": curve} if curve else {}, {}),))


def drawn(space: list[Float | Int], *trials: Trial, folder: Path) -> set[str]:
    objective = Objective("value", "minimize")
    definition = Definition(SearchSpace(space), objective, EarlyStopping(patience=None), Limits(9), 0, 10)
    return {path.stem for path in plots.draw(trials, definition, folder)}


@pytest.mark.parametrize(
    ("space", "params", "left_out"),
    [
        ([X, Y], [{"x": 0.1, "y": 2}, {"x": 0.2}, {"x": 0.9, "y": 5}, {"x": 0.4}], {"learning_curves"}),
        ([X, Y], [{"x": 0.1}, {"y": 2}, {"x": 0.3}, {"y": 5}], {"learning_curves", "param_importances"}),
        ([], [{}, {}, {}, {}], {"learning_curves", "param_importances", "parallel_coordinates"}),
    ],
    ids=["some in common", "none in common", "no params"],
)
def test_figures_without_data_are_left_out(
    space: list[Float | Int], params: list[Params], left_out: set[str], tmp_path: Path
) -> None:
    everything = {"optimization_history", "learning_curves", "parallel_coordinates", "param_importances"}
    trials = [trial(number, each) for number, each in enumerate(params)]
    assert drawn(space, *trials, folder=tmp_path) == everything - left_out


def test_learning_curves_need_only_some_trials_with_curves(tmp_path: Path) -> None:
    trials = [trial(0, {"x": 0.1}), trial(1, {"x": 0.2}, 3.0, 2.0)]
    assert "learning_curves" in drawn([X], *trials, folder=tmp_path)
