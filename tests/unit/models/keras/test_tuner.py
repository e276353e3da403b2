"""What a hypermodel declares, as a search space of ours, and back."""

import re
from collections.abc import Mapping
from typing import Any

import hypermodels
import keras
import keras_tuner as kt
import numpy as np
import pytest

from hpo.core.states import Decision
from hpo.datasets.base import DataSpec
from hpo.errors import ConfigError
from hpo.models.base import Fit, FitLog, FitPlan, FoldData
from hpo.models.keras.tuner import KerasTunerModel
from hpo.testing import check_model

SPEC = DataSpec((10,), 0)


class GoOn:
    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        return Decision.CONTINUE

    def poll(self) -> Decision:
        return Decision.CONTINUE


def declares(declare: Any) -> Any:
    """A hypermodel with these parameters and one weight."""

    def build(hp: kt.HyperParameters) -> keras.Model:
        declare(hp)
        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    return build


def space_of(declare: Any) -> dict[str, dict[str, Any]]:
    return KerasTunerModel(declares(declare)).own_space.to_config()


@pytest.mark.parametrize(
    ("declare", "expected"),
    [
        (lambda hp: hp.Int("a", 6, 13, step=3), {"type": "int", "low": 6, "high": 12, "step": 3}),
        (lambda hp: hp.Int("a", 1, 9), {"type": "int", "low": 1, "high": 9}),
        (lambda hp: hp.Int("a", 1, 64, sampling="log"), {"type": "int", "low": 1, "high": 64, "log": True}),
        (lambda hp: hp.Int("a", 2, 32, step=2, sampling="log"), {"type": "categorical", "choices": [2, 4, 8, 16, 32]}),
        (lambda hp: hp.Float("a", 0, 1), {"type": "float", "low": 0.0, "high": 1.0}),
        (lambda hp: hp.Float("a", 0, 0.65, step=0.1), {"type": "float", "low": 0.0, "high": 0.6, "step": 0.1}),
        (
            lambda hp: hp.Float("a", 1e-4, 1e-2, sampling="log"),
            {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
        ),
        (
            lambda hp: hp.Float("a", 0.001, 10, step=10, sampling="log"),
            {"type": "categorical", "choices": [0.001, 0.01, 0.1, 1.0, 10.0]},
        ),
        (lambda hp: hp.Choice("a", ["x", "y", "x"]), {"type": "categorical", "choices": ["x", "y"]}),
        (lambda hp: hp.Boolean("a"), {"type": "categorical", "choices": [True, False]}),
    ],
)
def test_a_parameter_means_the_same(declare: Any, expected: dict[str, Any]) -> None:
    assert space_of(declare) == {"a": expected}


def test_defaults_are_the_hypermodel_s_or_those_that_are_given() -> None:
    build = declares(lambda hp: (hp.Int("a", 1, 9, default=4), hp.Boolean("b", default=True), hp.Fixed("c", 3)))
    assert KerasTunerModel(build).tunables == {"batch_size": 32, "schedule": "constant", "a": 4, "b": True}
    assert KerasTunerModel(build, a=5, batch_size=8).tunables["a"] == 5
    with pytest.raises(ConfigError, match=r"model\.c = 4"):
        KerasTunerModel(build, c=4)


def test_scopes_of_names_and_of_conditions() -> None:
    space = KerasTunerModel(hypermodels.build_conditional).own_space.to_config()
    whens = {name: parameter.get("when") for name, parameter in space.items()}
    assert whens == {
        "model_type": None,
        "rate": {"model_type": ["linear"]},
        "mlp_n_layers": {"model_type": ["mlp"]},
        "mlp_units_0": {"model_type": ["mlp"], "mlp_n_layers": [1, 2]},
        "mlp_units_1": {"model_type": ["mlp"], "mlp_n_layers": [2]},
    }


def test_one_name_under_two_conditions_is_two_parameters_and_each_reaches_the_hypermodel() -> None:
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
    model._compiled({"kind": "small", "units": 2}, SPEC)
    assert told[-1] == (2, None)
    model._compiled({"kind": "large", "units_2": 22}, SPEC)
    assert told[-1] == (None, 22)


def test_parameters_that_only_some_values_bring_about_are_found_and_used() -> None:
    model = KerasTunerModel(hypermodels.build_classifier)
    assert {"units_0", "units_1", "units_2"} < set(model.own_space)
    built = model._compiled({"num_layers": 3, "units_0": 16, "units_1": 32, "units_2": 48}, DataSpec((8, 8, 1), 10))
    assert [layer.units for layer in built.layers if isinstance(layer, keras.layers.Dense)] == [16, 32, 48, 10]


def test_a_parameter_that_was_not_found_fails_the_trial_rather_than_staying_at_its_default() -> None:
    def declare(hp: kt.HyperParameters) -> None:
        if hp.Float("a", 0.0, 1.0) > 0.77:
            hp.Int("hidden", 1, 3)

    model = KerasTunerModel(declares(declare))
    assert set(model.own_space) == {"a"}
    with pytest.raises(ValueError, match="asks for 'hidden', which was not found"):
        model._compiled({"a": 0.9}, SPEC)


def test_a_fit_of_its_own_is_kept() -> None:
    model = KerasTunerModel("hypermodels.TunedFit")
    assert "batch" in model.own_space
    check_model(model, hypermodels.diabetes(), model.own_space, n_rows=60)
    sizes = []

    class Watched(hypermodels.TunedFit):
        def fit(self, hp: kt.HyperParameters, model: keras.Model, *args: Any, **kwargs: Any) -> Any:
            sizes.append((hp.Choice("batch", [16, 64]), len(args[0])))
            return super().fit(hp, model, *args, **kwargs)

    x, y = np.zeros((20, 10)), np.arange(20.0)
    data = FoldData(x[:16], y[:16], x[16:], y[16:])
    watched = KerasTunerModel(Watched)
    watched.fit(Fit({"batch": 64}, SPEC, data, FitPlan(1, 0), FitLog(), GoOn()))
    assert sizes[-1] == (64, 16)


@pytest.mark.parametrize(
    ("hypermodel", "said"),
    [
        ("nowhere.build_model", r"model\.hypermodel = nowhere\.build_model"),
        ("hypermodels.kt", r"a function build_model\(hp\) or a keras_tuner\.HyperModel"),
        ("hypermodels.OwnLoop", r"a fit that calls model\.fit"),
        ("hypermodels.OwnEpochs", "leaves epochs to the study"),
        (declares(lambda hp: None), "a hypermodel that declares a parameter"),
        (declares(lambda hp: 1 / 0), r"can be built \(division by zero\)"),
        (declares(lambda hp: hp.Float("a", 1, 9, sampling="reverse_log")), "the sampling linear or log"),
    ],
)
def test_what_cannot_be_used_is_refused(hypermodel: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        KerasTunerModel(hypermodel)
    assert re.search(said, str(caught.value))
