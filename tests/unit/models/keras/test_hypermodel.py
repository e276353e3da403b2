import re
from typing import Any

import hypermodels
import keras_tuner as kt
import pytest

from hpo.errors import ConfigError
from hpo.models.keras.hypermodel import MAX_BUILDS, explore, has_own_fit, resolve_hypermodel


def as_names(hypermodel: Any) -> list[str]:
    return [each.name for each in explore(resolve_hypermodel(hypermodel)).hyperparameters]


@pytest.mark.parametrize(
    "given", [hypermodels.TunedFit, hypermodels.TunedFit(), "hypermodels.TunedFit", "hypermodels.build_model"]
)
def test_function_class_instance_and_dotted_name_are_hypermodels(given: Any) -> None:
    hypermodel = resolve_hypermodel(given)
    assert isinstance(hypermodel, kt.HyperModel)
    assert has_own_fit(hypermodel) is (given != "hypermodels.build_model")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere.build_model", r"model\.hypermodel = nowhere\.build_model"),
        ("hypermodels.kt", r"a function build_model\(hp\) or a keras_tuner\.HyperModel"),
    ],
)
def test_name_that_is_not_a_hypermodel_is_refused(given: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_hypermodel(given)
    assert re.search(message, str(caught.value))


def test_hyperparameters_under_other_values_are_found() -> None:
    assert {"num_layers", "units_0", "units_1", "units_2", "activation", "dropout", "lr"} == set(
        as_names(hypermodels.build_classifier)
    )


def test_own_fit_is_explored_up_to_the_training() -> None:
    explored = explore(resolve_hypermodel(hypermodels.TunedFit))
    assert [each.name for each in explored.hyperparameters] == ["units", "optimizer", "batch"]
    assert explored.sets_batch_size
    assert not explore(resolve_hypermodel(hypermodels.build_model)).sets_batch_size


def test_number_of_builds_is_limited() -> None:
    n_builds = 0

    def build(hp: kt.HyperParameters) -> None:
        nonlocal n_builds
        n_builds += 1
        for place in range(50):
            hp.Choice(f"choice_{place}", [1, 2, 3])

    assert len(as_names(build)) == 50
    assert n_builds == MAX_BUILDS
