"""Keras Tuner's hypermodels as models."""

import re
from typing import Any

import hypermodels
import keras
import keras_tuner as kt
import numpy as np
import pytest

from hpo.core.early_stopping import EarlyStopping
from hpo.core.params import Params
from hpo.datasets.base import DataSpec
from hpo.errors import ConfigError
from hpo.models.base import Fit, FitLog, FitPlan, FittedModel, FoldData, Undisturbed
from hpo.models.keras.tuner import KerasTunerModel
from hpo.testing import check_model

SPEC = DataSpec((10,), 0)
X, Y = np.zeros((20, 10)), np.arange(20.0)
ROWS = FoldData(X[:16], Y[:16], X[16:], Y[16:])
KEEPS_LAST = EarlyStopping(patience=None, restore_best_weights=False)


def train(model: KerasTunerModel, params: Params, spec: DataSpec = SPEC, data: FoldData = ROWS) -> FittedModel:
    """Train for an epoch."""
    return model.fit(Fit(params, spec, data, FitPlan(1, 0, KEEPS_LAST), FitLog(), Undisturbed()))


def declares(declare: Any) -> Any:
    """A hypermodel with these parameters and one weight."""

    def build(hp: kt.HyperParameters) -> keras.Model:
        declare(hp)
        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    return build


def test_config_overrides_the_defaults_of_the_hypermodel() -> None:
    build = declares(lambda hp: (hp.Int("a", 1, 9, default=4), hp.Boolean("b", default=True), hp.Fixed("c", 3)))
    assert KerasTunerModel(build).tunables == {"batch_size": 32, "schedule": "constant", "a": 4, "b": True}
    assert KerasTunerModel(build, a=5, batch_size=8).tunables["a"] == 5
    with pytest.raises(ConfigError, match=r"model\.c = 4"):
        KerasTunerModel(build, c=4)


def test_name_scopes_and_conditional_scopes_are_translated() -> None:
    space = KerasTunerModel(hypermodels.build_conditional).own_space.to_config()
    whens = {name: parameter.get("when") for name, parameter in space.items()}
    assert whens == {
        "model_type": None,
        "rate": {"model_type": ["linear"]},
        "mlp_n_layers": {"model_type": ["mlp"]},
        "mlp_units_0": {"model_type": ["mlp"], "mlp_n_layers": [1, 2]},
        "mlp_units_1": {"model_type": ["mlp"], "mlp_n_layers": [2]},
    }


def test_name_declared_twice_is_two_parameters_that_reach_the_hypermodel() -> None:
    told = []

    def declare(hp: kt.HyperParameters) -> None:
        hp.Choice("kind", ["small", "large"])
        small = hp.Int("units", 1, 3, parent_name="kind", parent_values=["small"])
        large = hp.Int("units", 10, 30, parent_name="kind", parent_values=["large"])
        told.append((small, large))

    model = KerasTunerModel(declares(declare))
    assert {name: p.when for name, p in model.own_space.items()} == {
        "kind": None,
        "units": {"kind": ("small",)},
        "units_2": {"kind": ("large",)},
    }
    train(model, {"kind": "small", "units": 2})
    assert told[-1] == (2, None)
    train(model, {"kind": "large", "units_2": 22})
    assert told[-1] == (None, 22)


def test_identity_includes_the_code_of_the_hypermodel() -> None:
    for hypermodel in (hypermodels.build_model, hypermodels.TunedFit()):
        model = KerasTunerModel(hypermodel)
        identity = model.identity(model.own_space)
        assert any(each is hypermodel for each in identity.code)
        assert {"keras", "keras_tuner"} <= set(identity.packages)


def test_parameters_of_a_loop_are_found_and_used() -> None:
    model = KerasTunerModel(hypermodels.build_classifier)
    assert {"units_0", "units_1", "units_2"} < set(model.own_space)
    params = {"num_layers": 3, "units_0": 16, "units_1": 32, "units_2": 48}
    images = FoldData(np.zeros((20, 8, 8, 1), "uint8"), np.arange(20) % 10, None, None)
    built = train(model, params, DataSpec((8, 8, 1), 10), images).native
    assert [layer.units for layer in built.layers if isinstance(layer, keras.layers.Dense)] == [16, 32, 48, 10]


def test_parameter_that_was_not_found_fails_the_trial() -> None:
    def declare(hp: kt.HyperParameters) -> None:
        if hp.Float("a", 0.0, 1.0) > 0.77:
            hp.Int("hidden", 1, 3)

    model = KerasTunerModel(declares(declare))
    assert set(model.own_space) == {"a"}
    with pytest.raises(ValueError, match="asks for 'hidden', which was not found"):
        train(model, {"a": 0.9})


def test_own_fit_of_a_hypermodel_is_used() -> None:
    model = KerasTunerModel("hypermodels.TunedFit")
    assert "batch" in model.own_space
    check_model(model, hypermodels.diabetes(), model.own_space, n_rows=60)
    sizes = []

    class Watched(hypermodels.TunedFit):
        def fit(self, hp: kt.HyperParameters, model: keras.Model, *args: Any, **kwargs: Any) -> Any:
            sizes.append((hp.Choice("batch", [16, 64]), len(args[0])))
            return super().fit(hp, model, *args, **kwargs)

    train(KerasTunerModel(Watched), {"batch": 64})
    assert sizes[-1] == (64, 16)


@pytest.mark.parametrize(
    ("hypermodel", "message"),
    [
        ("nowhere.build_model", r"model\.hypermodel = nowhere\.build_model"),
        ("hypermodels.kt", r"a function build_model\(hp\) or a keras_tuner\.HyperModel"),
        ("hypermodels.OwnLoop", r"a fit that calls model\.fit"),
        ("hypermodels.OwnEpochs", "does not set epochs"),
        (declares(lambda hp: None), "a hypermodel that declares a parameter"),
        (declares(lambda hp: 1 / 0), r"can be built \(division by zero\)"),
        (declares(lambda hp: hp.Float("a", 1, 9, sampling="reverse_log")), "the sampling linear or log"),
    ],
)
def test_unusable_hypermodel_is_refused(hypermodel: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        KerasTunerModel(hypermodel)
    assert re.search(message, str(caught.value))
