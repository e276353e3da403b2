import pytest
from sklearn.model_selection import ParameterGrid

from hpo.core.objective import Objective
from hpo.core.params import canonical
from hpo.core.space import SearchSpace
from hpo.errors import ConfigError
from hpo.strategies import grid
from hpo.strategies.base import SearchProblem
from hpo.testing import SPACES, bowl, run


def search(space: SearchSpace, n_trials: int | None, n_folds: int = 1) -> SearchProblem:
    return SearchProblem(space, Objective.of("val_loss"), n_trials, 5, 0, row_splits=((None, None),) * n_folds)


@pytest.mark.parametrize("name", list(SPACES))
def test_subgrids_together_are_the_grid(name: str) -> None:
    space = SPACES[name]
    points = [canonical(params) for params in ParameterGrid(grid.subgrids(space))]
    assert len(points) == len(set(points)) == space.grid_size()
    assert set(points) == {canonical(params) for params in space.grid()}


def test_refusal_of_a_large_grid_states_its_size_and_fits() -> None:
    with pytest.raises(ConfigError, match=r"96 combinations \(96 × 3 folds = 288 fits\)"):
        grid.fit(search(SPACES["all_types"], 95, 3), "refuse")
    assert grid.fit(search(SPACES["all_types"], 96), "refuse") is SPACES["all_types"]
    assert grid.fit(search(SPACES["all_types"], None), "refuse") is SPACES["all_types"]


@pytest.mark.parametrize("most", [95, 20, 6, 1])
def test_coarsening_keeps_the_bounds_as_long_as_possible(most: int) -> None:
    space = grid.fit(search(SPACES["all_types"], most), "coarsen")
    assert 0 < space.grid_size() <= most
    whole = {canonical(params) for params in SPACES["all_types"].grid()}
    assert {canonical(params) for params in space.grid()} <= whole
    wide = SearchSpace.from_config({"n": {"type": "int", "low": 1, "high": 9}})
    assert wide.coarsened(3)["n"].points() == (1, 5, 9)


def test_shuffled_subset_depends_only_on_the_seed() -> None:
    space = SPACES["all_types"]
    first, again, other = (list(map(canonical, grid.shuffled(space, 10, seed))) for seed in (0, 0, 1))
    assert first == again != other
    assert len(set(first)) == 10


@pytest.mark.parametrize("name", ["GridStrategy", "HalvingGridStrategy"])
def test_sklearn_visits_the_shuffled_subset(name: str) -> None:
    from hpo.strategies import sklearn

    strategy = getattr(sklearn, name)(oversize="shuffle")
    space = SearchSpace.from_config({"n": {"type": "int", "low": 1, "high": 1000}})
    splits = ((sklearn.np.arange(2), sklearn.np.arange(2, 3)),)
    told = SearchProblem(space, Objective.of("val_loss"), 9, 5, 0, row_splits=splits)
    from hpo.testing import Evaluation

    evaluation = Evaluation(bowl, 9)
    strategy.search(told, evaluation)
    assert len({trial.params["n"] for trial in evaluation.trials}) == 9
    assert max(int(str(trial.params["n"])) for trial in evaluation.trials) > 100


def test_finite_grid_ends_by_itself() -> None:
    from hpo.strategies.sklearn import GridStrategy

    assert len(run(GridStrategy(), SPACES["categories"], bowl, 50).trials) == 2
