import functools
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from hpo.core.early_stopping import EarlyStopping
from hpo.core.states import Decision
from hpo.datasets import digits
from hpo.datasets.base import DataSpec
from hpo.errors import ConfigError
from hpo.models.base import Fit, FitLog, FitPlan, FoldData
from hpo.models.keras import transfer_cnn
from hpo.models.keras.fitted import FittedKerasModel, layers_of
from hpo.models.keras.pretrained import PretrainedBase, cut_features
from hpo.models.keras.transfer_cnn import TransferModel, build_model

from .networks import cnn, fetching, nested

SPEC = DataSpec((8, 8, 1), 10)
# Keeps the weights of the last epoch.
KEEPS_LAST = EarlyStopping(patience=None, restore_best_weights=False)


def resolved(model: keras.Model | None = None, base: str = "earlier", **options: Any) -> TransferModel:
    made = TransferModel(base, **{"batch_size": 64, "dense_units": 16, **options})
    made.resolve(fetching(model or cnn()))
    return made


def built(base: keras.Model, spec: DataSpec = SPEC, **params: Any) -> keras.Model:
    """The model that transfers the features of ``base``."""
    return build_model(spec, PretrainedBase.of(cut_features(base)).network(), **params)


def around_base(model: keras.Model) -> tuple[Any, Any]:
    """The tensors that the base of ``model`` takes and returns."""
    operations = list(model.operations)
    place = operations.index(model.get_layer("base"))
    return operations[place - 1].output, operations[place + 1].input


def fold() -> FoldData:
    data = digits.load()
    return FoldData(data.x[:200], data.y[:200], data.x[200:300], data.y[200:300])


class Spy:
    """A control that records the base's weights and the learning rate after every epoch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.weights: list[dict[str, np.ndarray]] = []
        self.rates: list[float] = []
        self.models: list[keras.Model] = []
        real = transfer_cnn.build_model

        @functools.wraps(real)
        def build(*args: Any, **params: Any) -> keras.Model:
            self.models.append(real(*args, **params))
            return self.models[-1]

        monkeypatch.setattr(transfer_cnn, "build_model", build)

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        model = self.models[-1]
        base = model.get_layer("base")
        self.weights.append(
            {f"{layer.name}/{v.name}": np.array(v.numpy()) for layer in layers_of(base) for v in layer.weights}
        )
        self.rates.append(float(keras.ops.convert_to_tensor(model.optimizer.learning_rate)))
        return Decision.CONTINUE

    def poll(self) -> Decision:
        return Decision.CONTINUE

    def changed(self, epoch: int) -> set[str]:
        """Layers of the base with weights that changed in ``epoch``, which is at least 1."""
        before, after = self.weights[epoch - 1], self.weights[epoch]
        return {name.split("/")[0] for name in after if not np.array_equal(before[name], after[name])}


def fit(model: TransferModel, spy: Spy, plan: FitPlan, **params: Any) -> tuple[FitLog, FittedKerasModel]:
    log = FitLog(plan.max_epochs)
    fitted = model.fit(Fit(params, SPEC, fold(), plan, log, spy))
    assert isinstance(fitted, FittedKerasModel)
    assert log.problem is None
    return log, fitted


@pytest.mark.parametrize(("unfreeze", "trained"), [(1, {"second"}), (2, {"first", "second"}), (9, {"first", "second"})])
def test_only_upper_layers_are_trained_after_the_head(
    unfreeze: int, trained: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(monkeypatch)
    base = cnn()
    _, fitted = fit(resolved(base), spy, FitPlan(4, 0, KEEPS_LAST), unfreeze=unfreeze, head_epochs=2)
    assert len(spy.weights) == 4
    untouched = base.get_layer("first").get_weights()[0]
    assert np.array_equal(spy.weights[0]["first/kernel"], untouched)
    assert [spy.changed(epoch) for epoch in (1, 2, 3)] == [set(), trained, trained]
    assert spy.rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
    found = fitted.native.get_layer("base").get_layer("norm").get_weights()
    for one, other in zip(found, base.get_layer("norm").get_weights(), strict=True):
        assert np.array_equal(one, other)


def test_unfreeze_0_trains_the_head_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    log, _ = fit(resolved(), spy, FitPlan(3, 0, KEEPS_LAST), unfreeze=0)
    assert [spy.changed(epoch) for epoch in (1, 2)] == [set(), set()]
    assert spy.rates == pytest.approx([1e-3] * 3)
    assert log.history["loss"][2] < log.history["loss"][0]


def test_cosine_schedule_starts_from_the_learning_rate_of_each_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    fit(resolved(schedule="cosine"), spy, FitPlan(4, 0, KEEPS_LAST), head_epochs=2, fine_tune_factor=0.5)
    assert spy.rates == pytest.approx([1e-3, 0.8536e-3, 0.25e-3, 0.0732e-3], rel=1e-3)


def test_smaller_budget_repeats_the_first_epochs_of_a_larger_one(monkeypatch: pytest.MonkeyPatch) -> None:
    spy, model = Spy(monkeypatch), resolved()
    short, _ = fit(model, spy, FitPlan(2, 3, KEEPS_LAST, budget_fraction=0.5), head_epochs=1)
    whole, _ = fit(model, spy, FitPlan(4, 3, KEEPS_LAST), head_epochs=1)
    assert whole.history["loss"][:2] == short.history["loss"]


def test_early_stopping_spans_both_phases_and_restores_the_best_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    # Fine-tuning that ruins the network: the best epoch is the last one of the head.
    params = {"head_epochs": 2, "unfreeze": 2, "fine_tune_factor": 1000.0}
    log, fitted = fit(resolved(), spy, FitPlan(8, 0, EarlyStopping(patience=2)), **params)
    assert log.best_epoch == 1
    assert log.stopped_epoch == 3
    assert log.restored_best_weights
    data = fold()
    assert data.x_watch is not None and data.y_watch is not None
    found = fitted.evaluate(data.x_watch, data.y_watch)
    assert found["loss"] == pytest.approx(log.history["val_loss"][1], rel=1e-5)
    assert np.array_equal(
        fitted.native.get_layer("base").get_layer("first").get_weights()[0], spy.weights[1]["first/kernel"]
    )


def test_saved_weights_restore_a_fine_tuned_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, data = resolved(), fold()
    _, fitted = fit(model, Spy(monkeypatch), FitPlan(3, 0, KEEPS_LAST), unfreeze=2)
    fitted.save_weights(tmp_path / "best.npz")
    restored = model.restore({"unfreeze": 2}, SPEC, tmp_path / "best.npz")
    assert np.array_equal(restored.predict(data.x_train), fitted.predict(data.x_train))


@pytest.mark.parametrize("make", [cnn, nested])
def test_base_computes_the_same_features_while_the_model_is_trained(make: Any) -> None:
    base = make()
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 1)).astype("uint8")
    expected = keras.Model(base.inputs[0], base.get_layer("flat").output).predict(images, verbose=0)
    model = built(base, DataSpec((12, 12, 1), 10))
    features = keras.Model(model.inputs[0], around_base(model)[1])
    assert features(images, training=True).numpy() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_penalties_of_the_base_do_not_change_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    histories = []
    for penalty in (0.0, 1.0):
        log, _ = fit(resolved(cnn(penalty=penalty)), Spy(monkeypatch), FitPlan(2, 0, KEEPS_LAST))
        histories.append(log.history)
    assert histories[0] == histories[1]


@pytest.mark.parametrize(
    ("channels", "shape"), [(1, (12, 12, 1)), (1, (8, 8, 1)), (3, (8, 8, 1)), (1, (20, 16, 3)), (3, (12, 12, 3))]
)
def test_images_are_resized_and_converted_for_the_base(channels: int, shape: tuple[int, ...]) -> None:
    model, spec = resolved(cnn(channels)), DataSpec(shape, 10)
    model.check_fits(spec)
    transferred = built(cnn(channels), spec, shift=0.1, flip=True)
    answers = transferred.predict(np.full((3, *shape), 200, "uint8"), verbose=0)
    assert answers.shape == (3, 10)
    assert answers.sum(axis=1) == pytest.approx(1.0)


def test_image_of_matching_size_reaches_the_base_unchanged() -> None:
    base = cnn()
    model = built(base, DataSpec((12, 12, 1), 10))
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 1)).astype("uint8")
    seen = keras.Model(model.inputs[0], around_base(model)[0])
    assert np.array_equal(seen.predict(images, verbose=0), images)


def test_transferred_model_can_be_a_base_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = built(cnn(), dense_units=9)
    spy = Spy(monkeypatch)
    fit(resolved(first), spy, FitPlan(2, 0, KEEPS_LAST), unfreeze=2, head_epochs=0)
    base = spy.models[-1].get_layer("base")
    assert base.output_shape == (None, 9)
    trained = [layer.name for layer in layers_of(base) if layer.trainable_weights]
    assert trained == ["second", next(layer.name for layer in first.layers if isinstance(layer, layers.Dense))]


def test_normalisation_of_the_base_is_not_adapted_to_other_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    keras.utils.set_random_seed(0)
    scale = layers.Normalization(axis=-1)
    scale.adapt(np.array([[[[10.0]]], [[[50.0]]]]))
    base = keras.Sequential([keras.Input((8, 8, 1)), scale, layers.Conv2D(3, 3), layers.Flatten(), layers.Dense(2)])
    _, fitted = fit(resolved(base), Spy(monkeypatch), FitPlan(1, 0, KEEPS_LAST))
    (found,) = (each for each in layers_of(fitted.native) if isinstance(each, layers.Normalization))
    assert np.ravel(found.get_weights()[:2]) == pytest.approx([30.0, 400.0])


def test_resolved_model_can_be_pickled_and_needs_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    model = resolved()
    sent = pickle.loads(pickle.dumps(model))  # noqa: S301 our own
    assert sent.origin == model.origin
    assert sent.origin.uri == "models:/earlier"
    one, other = (fit(each, Spy(monkeypatch), FitPlan(1, 1, KEEPS_LAST))[1] for each in (model, sent))
    images = fold().x_train
    assert np.array_equal(other.predict(images), one.predict(images))


def lambdas() -> keras.Model:
    return keras.Sequential([keras.Input((8, 8, 1)), layers.Lambda(lambda x: 2 * x), layers.Flatten(), layers.Dense(2)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": None}, "model.base = None"),
        ({"base": " "}, "model.base = "),
        ({"base": "applications:my_net"}, "applications:mobilenet_v2"),
        ({"application_size": 8}, "model.application_size = 8"),
        ({"units": 3}, "model.units = 3"),
        ({"cut": "nowhere"}, "a layer of the base: "),
        ({"model": lambdas}, "Keras's own layers"),
        ({"model": lambda: keras.Sequential([keras.Input((4,)), layers.Dense(2)])}, "one image"),
        (
            {"model": lambda: keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(2, 3)])},
            "no layer of the base flattens",
        ),
    ],
)
def test_unusable_base_or_option_is_refused(options: dict[str, Any], message: str) -> None:
    options = {name: value() if name == "model" else value for name, value in options.items()}
    with pytest.raises(ConfigError) as caught:
        resolved(**options)
    assert message in str(caught.value)


@pytest.mark.parametrize("spec", [DataSpec((8,), 10), DataSpec((8, 8, 1), 0), DataSpec((8, 8, 4), 10)])
def test_data_that_do_not_fit_the_base_are_refused(spec: DataSpec) -> None:
    with pytest.raises(ConfigError, match="images"):
        resolved().check_fits(spec)


@pytest.mark.parametrize("name", ["head_epochs", "unfreeze", "fine_tune_factor"])
def test_negative_numbers_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"model.{name} = -1"):
        built(cnn(), **{name: -1})


def test_building_before_resolving_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="resolve_model"):
        TransferModel("earlier").metrics(SPEC)


def test_two_classes_use_a_sigmoid() -> None:
    model = built(cnn(), replace(SPEC, n_classes=2))
    assert model.output_shape == (None, 1)


def test_feature_maps_are_those_of_the_first_convolution_of_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    base = cnn()
    _, fitted = fit(resolved(base), Spy(monkeypatch), FitPlan(1, 0, KEEPS_LAST), unfreeze=0)
    images = fold().x_watch[:3]
    shown = fitted.feature_maps(images)
    assert shown is not None
    kernels, bias = base.get_layer("first").get_weights()
    np.testing.assert_array_equal(shown.filters, kernels)
    resized = layers.Resizing(12, 12)(images.astype("float32"))
    expected = keras.ops.conv(resized / 255, kernels, padding="valid") + bias
    np.testing.assert_allclose(shown.maps, np.asarray(expected), atol=1e-5)
