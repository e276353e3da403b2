import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from hpo.core.early_stopping import EarlyStopping
from hpo.core.params import Params
from hpo.core.states import Decision
from hpo.datasets import digits
from hpo.datasets.base import DataSpec
from hpo.errors import ConfigError
from hpo.models.base import Fetch, Fit, FitLog, FitPlan, FoldData, SavedNetwork
from hpo.models.keras.fitted import FittedKerasModel, layers_of
from hpo.models.keras.transfer_cnn import TransferModel, set_depth

SPEC = DataSpec((8, 8, 1), 10)
# Whatever is watched, the last epoch's weights are kept.
KEEPS_LAST = EarlyStopping(patience=None, restore_best_weights=False)


def network(channels: int = 1, penalty: float = 0.0, side: int = 12, seed: int = 0) -> keras.Model:
    """A small trained CNN, as far as one can tell from its weights."""
    keras.utils.set_random_seed(seed)
    penalised = keras.regularizers.L2(penalty) if penalty else None
    model = keras.Sequential(
        [
            keras.Input((side, side, channels), dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.RandomTranslation(0.3, 0.3),
            layers.Conv2D(4, 3, name="first", kernel_regularizer=penalised),
            layers.BatchNormalization(name="norm"),
            layers.Activation("relu"),
            layers.Conv2D(6, 3, activation="relu", name="second", kernel_regularizer=penalised),
            layers.Flatten(name="flat"),
            layers.Dropout(0.5),
            layers.Dense(5, activation="softmax", name="answers"),
        ]
    )
    norm = model.get_layer("norm")
    norm.set_weights([weights + 0.1 * (place + 1) for place, weights in enumerate(norm.get_weights())])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def fetching(model: keras.Model) -> Fetch:
    def fetch(wanted: str, folder: Path) -> SavedNetwork:
        path = folder / "model.keras"
        model.save(path)
        return SavedNetwork(f"models:/{wanted}", path)

    return fetch


def resolved(model: keras.Model | None = None, base: str = "earlier", **options: Any) -> TransferModel:
    made = TransferModel(base, **{"batch_size": 64, "dense_units": 16, **options})
    made.resolve(fetching(model or network()))
    return made


def fold() -> FoldData:
    data = digits.load()
    return FoldData(data.x[:200], data.y[:200], data.x[200:300], data.y[200:300])


class Spy:
    """The driver's side, which notes the base's weights and the learning rate after every epoch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.weights: list[dict[str, np.ndarray]] = []
        self.rates: list[float] = []
        self._models: list[keras.Model] = []
        real = TransferModel._compiled

        def compiled(model: TransferModel, params: Params, spec: DataSpec) -> keras.Model:
            self._models.append(real(model, params, spec))
            return self._models[-1]

        monkeypatch.setattr(TransferModel, "_compiled", compiled)

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        model = self._models[-1]
        base = model.get_layer("base")
        self.weights.append(
            {f"{layer.name}/{v.name}": np.array(v.numpy()) for layer in layers_of(base) for v in layer.weights}
        )
        self.rates.append(float(keras.ops.convert_to_tensor(model.optimizer.learning_rate)))
        return Decision.CONTINUE

    def poll(self) -> Decision:
        return Decision.CONTINUE

    def changed(self, epoch: int) -> set[str]:
        """Layers of the base whose weights an epoch has changed; the first epoch is not known."""
        before, after = self.weights[epoch - 1], self.weights[epoch]
        return {name.split("/")[0] for name in after if not np.array_equal(before[name], after[name])}


def fit(model: TransferModel, spy: Spy, plan: FitPlan, **params: Any) -> tuple[FitLog, FittedKerasModel]:
    log = FitLog(plan.max_epochs)
    fitted = model.fit(Fit(params, SPEC, fold(), plan, log, spy))
    assert isinstance(fitted, FittedKerasModel)
    assert log.problem is None
    return log, fitted


@pytest.mark.parametrize(("unfreeze", "trained"), [(1, {"second"}), (2, {"first", "second"}), (9, {"first", "second"})])
def test_upper_layers_are_trained_once_the_head_was_and_no_others_ever(
    unfreeze: int, trained: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(monkeypatch)
    base = network()
    _, fitted = fit(resolved(base), spy, FitPlan(4, 0, KEEPS_LAST), unfreeze=unfreeze, head_epochs=2)
    assert len(spy.weights) == 4
    untouched = base.get_layer("first").get_weights()[0]
    assert np.array_equal(spy.weights[0]["first/kernel"], untouched)
    assert [spy.changed(epoch) for epoch in (1, 2, 3)] == [set(), trained, trained]
    assert spy.rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
    found = fitted.native.get_layer("base").get_layer("norm").get_weights()
    for one, other in zip(found, base.get_layer("norm").get_weights(), strict=True):
        assert np.array_equal(one, other)


def test_without_layers_to_unfreeze_the_head_alone_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    log, _ = fit(resolved(), spy, FitPlan(3, 0, KEEPS_LAST), unfreeze=0)
    assert [spy.changed(epoch) for epoch in (1, 2)] == [set(), set()]
    assert spy.rates == pytest.approx([1e-3] * 3)
    assert log.history["loss"][2] < log.history["loss"][0]


def test_a_cosine_falls_from_the_rate_of_each_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    fit(resolved(schedule="cosine"), spy, FitPlan(4, 0, KEEPS_LAST), head_epochs=2, fine_tune_factor=0.5)
    assert spy.rates == pytest.approx([1e-3, 0.8536e-3, 0.25e-3, 0.0732e-3], rel=1e-3)


def test_a_smaller_budget_is_the_beginning_of_a_larger_one(monkeypatch: pytest.MonkeyPatch) -> None:
    spy, model = Spy(monkeypatch), resolved()
    short, _ = fit(model, spy, FitPlan(2, 3, KEEPS_LAST, share=0.5), head_epochs=1)
    whole, _ = fit(model, spy, FitPlan(4, 3, KEEPS_LAST), head_epochs=1)
    assert whole.history["loss"][:2] == short.history["loss"]


def test_early_stopping_goes_on_over_the_phases_and_brings_back_the_best_one(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_weights_bring_a_fine_tuned_model_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, data = resolved(), fold()
    _, fitted = fit(model, Spy(monkeypatch), FitPlan(3, 0, KEEPS_LAST), unfreeze=2)
    fitted.save_weights(tmp_path / "best.npz")
    restored = model.restore({"unfreeze": 2}, SPEC, tmp_path / "best.npz")
    assert np.array_equal(restored.predict(data.x_train), fitted.predict(data.x_train))


def nested() -> keras.Model:
    """A network with another one inside, which drops out."""
    inner = keras.Sequential([keras.Input((10, 10, 4)), layers.SpatialDropout2D(0.5), layers.GaussianNoise(0.9)])
    inputs = keras.Input((12, 12, 1))
    flat = layers.Flatten(name="flat")(inner(layers.Conv2D(4, 3, kernel_initializer="random_normal")(inputs)))
    return keras.Model(inputs, layers.Dense(2)(flat))


@pytest.mark.parametrize("make", [network, nested])
def test_the_base_computes_what_it_did_also_while_it_is_trained_on(make: Callable[[], keras.Model]) -> None:
    base = make()
    known = resolved(base)._known.network()
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 1)).astype("uint8")
    features = keras.Model(base.inputs[0], base.get_layer("flat").output)
    found = known.predict(images.astype("float32"), verbose=0)
    assert found == pytest.approx(features.predict(images, verbose=0), rel=1e-5, abs=1e-6)
    # What it drops out, moves and counts in training was for its own.
    model = resolved(base)._compiled({}, DataSpec((12, 12, 1), 10))
    seen = keras.Model(model.inputs[0], model.get_layer("base")._inbound_nodes[-1].output_tensors[0])
    assert seen(images, training=True).numpy() == pytest.approx(found, rel=1e-5, abs=1e-6)


def test_the_penalties_of_the_base_are_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    histories = []
    for penalty in (0.0, 1.0):
        log, _ = fit(resolved(network(penalty=penalty)), Spy(monkeypatch), FitPlan(2, 0, KEEPS_LAST))
        histories.append(log.history)
    assert histories[0] == histories[1]


@pytest.mark.parametrize(
    ("channels", "shape"), [(1, (12, 12, 1)), (1, (8, 8, 1)), (3, (8, 8, 1)), (1, (20, 16, 3)), (3, (12, 12, 3))]
)
def test_images_are_made_what_the_base_takes(channels: int, shape: tuple[int, ...]) -> None:
    model, spec = resolved(network(channels)), DataSpec(shape, 10)
    model.check_fits(spec)
    answers = model._compiled({"shift": 0.1, "flip": True}, spec).predict(np.full((3, *shape), 200, "uint8"), verbose=0)
    assert answers.shape == (3, 10)
    assert answers.sum(axis=1) == pytest.approx(1.0)


def test_an_image_of_the_size_of_the_base_reaches_it_unchanged() -> None:
    base = network()
    model = resolved(base)._compiled({}, DataSpec((12, 12, 1), 10))
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 1)).astype("uint8")
    seen = keras.Model(model.inputs[0], model.get_layer("base")._inbound_nodes[-1].input_tensors[0])
    assert np.array_equal(seen.predict(images, verbose=0), images)


def test_where_the_head_is_put() -> None:
    def features(**options: Any) -> tuple[int, ...]:
        shape: tuple[int, ...] = resolved(**options)._known.network().output_shape[1:]
        return shape

    assert features() == (8 * 8 * 6,)
    assert features(cut="first") == (10, 10, 4)
    inputs = keras.Input((12, 12, 1))
    pooled = layers.Conv2D(7, 3)(inputs)
    flat = layers.Dense(3)(layers.Reshape((7,))(layers.AveragePooling2D(10)(pooled)))
    assert features(model=keras.Model(inputs, flat)) == (7,)
    assert features(model=keras.Model(inputs, layers.GlobalMaxPooling2D()(pooled))) == (7,)


def test_a_base_that_was_transferred_itself_is_one_too() -> None:
    first = resolved(dense_units=9)._compiled({}, SPEC)
    second = resolved(first)
    assert second._known.network().output_shape == (None, 9)
    base = second._compiled({"unfreeze": 2}, SPEC).get_layer("base")
    set_depth(base, 2)
    trained = [layer.name for layer in layers_of(base) if layer.trainable_weights]
    assert trained == ["second", next(layer.name for layer in first.layers if isinstance(layer, layers.Dense))]


def test_statistics_of_the_base_are_not_adapted_to_other_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    keras.utils.set_random_seed(0)
    scale = layers.Normalization(axis=-1)
    scale.adapt(np.array([[[[10.0]]], [[[50.0]]]]))
    base = keras.Sequential([keras.Input((8, 8, 1)), scale, layers.Conv2D(3, 3), layers.Flatten(), layers.Dense(2)])
    _, fitted = fit(resolved(base), Spy(monkeypatch), FitPlan(1, 0, KEEPS_LAST))
    (found,) = (each for each in layers_of(fitted.native) if isinstance(each, layers.Normalization))
    assert np.ravel(found.get_weights()[:2]) == pytest.approx([30.0, 400.0])


def test_the_digest_is_that_of_layers_and_weights() -> None:
    digests = [resolved(network(seed=seed)).origin.digest for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]
    renamed = [keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(2, 3), layers.Flatten()]) for _ in range(2)]
    renamed[1].set_weights(renamed[0].get_weights())
    assert renamed[0].layers[0].name != renamed[1].layers[0].name
    assert len({resolved(each).origin.digest for each in renamed}) == 1
    other = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(2, 3, activation="relu"), layers.Flatten()])
    other.set_weights(renamed[0].get_weights())
    assert resolved(other).origin.digest != resolved(renamed[0]).origin.digest


def test_a_resolved_model_can_be_sent_to_a_worker_and_has_no_file_left() -> None:
    model = resolved()
    sent = pickle.loads(pickle.dumps(model))  # noqa: S301 our own
    assert sent.origin == model.origin
    assert sent.origin.uri == "models:/earlier"
    images = fold().x_train
    keras.utils.set_random_seed(1)
    one = model._compiled({}, SPEC).predict(images, verbose=0)
    keras.utils.set_random_seed(1)
    assert np.array_equal(sent._compiled({}, SPEC).predict(images, verbose=0), one)


def lambdas() -> keras.Model:
    return keras.Sequential([keras.Input((8, 8, 1)), layers.Lambda(lambda x: 2 * x), layers.Flatten(), layers.Dense(2)])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"base": None}, "model.base = None"),
        ({"base": " "}, "model.base = "),
        ({"base": "applications:my_net"}, "applications:mobilenet_v2"),
        ({"application_size": 8}, "model.application_size = 8"),
        ({"units": 3}, "model.units = 3"),
        ({"cut": "nowhere"}, "a layer of the base: "),
        ({"model": lambdas}, "Keras's own layers"),
        ({"model": lambda: keras.Sequential([keras.Input((4,)), layers.Dense(2)])}, "one image"),
        ({"model": lambda: keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(2, 3)])}, "none that flattens"),
    ],
)
def test_what_is_no_base_is_refused(options: dict[str, Any], said: str) -> None:
    options = {name: value() if name == "model" else value for name, value in options.items()}
    with pytest.raises(ConfigError) as caught:
        resolved(**options)
    assert said in str(caught.value)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    def fetch(wanted: str, folder: Path) -> SavedNetwork:
        (folder / "model.keras").write_bytes(b"nothing")
        return SavedNetwork(wanted, folder / "model.keras")

    with pytest.raises(ConfigError, match="a network of Keras's own layers"):
        TransferModel("earlier").resolve(fetch)


@pytest.mark.parametrize("spec", [DataSpec((8,), 10), DataSpec((8, 8, 1), 0), DataSpec((8, 8, 4), 10)])
def test_data_that_do_not_fit_are_refused(spec: DataSpec) -> None:
    with pytest.raises(ConfigError, match="images"):
        resolved().check_fits(spec)


@pytest.mark.parametrize("name", ["head_epochs", "unfreeze", "fine_tune_factor"])
def test_numbers_below_zero_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"model.{name} = -1"):
        resolved()._compiled({name: -1}, SPEC)


def test_before_it_is_resolved_nothing_can_be_built() -> None:
    with pytest.raises(RuntimeError, match="resolve_model"):
        TransferModel("earlier").metrics(SPEC)


def test_two_classes_get_a_sigmoid() -> None:
    model = resolved()._compiled({}, replace(SPEC, n_classes=2))
    assert model.output_shape == (None, 1)


# In another process, since Keras settles where its cache lies when it is imported.
APPLICATION = """
import keras, numpy as np
from pathlib import Path
from hpo.datasets.base import DataSpec
from hpo.errors import ConfigError
from hpo.models.keras.transfer_cnn import TransferModel

def no_fetch(wanted, folder):
    raise AssertionError(wanted)

def made():
    model = TransferModel("applications:mobilenet_v2")
    model.resolve(no_fetch)
    return model

try:
    made()
except ConfigError as error:
    print(error)
keras.utils.set_random_seed(0)
folder = Path(keras.utils.get_file.__globals__["config"].keras_home()) / "models"
folder.mkdir(parents=True, exist_ok=True)
plain = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(96, 96, 3), pooling="avg")
from keras.src.legacy.saving import legacy_h5_format
import h5py
with h5py.File(folder / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_96_no_top.h5", "w") as file:
    legacy_h5_format.save_weights_to_hdf5_group(file, plain)
model, again = made(), made()
assert model.origin == again.origin
built = model._compiled({"unfreeze": 3}, DataSpec((28, 28, 1), 10))
images = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3)).astype("uint8")
found = built.get_layer("base").predict(images, verbose=0)
wanted = plain.predict(keras.applications.mobilenet_v2.preprocess_input(images.astype("float32")), verbose=0)
assert np.allclose(found, wanted, rtol=1e-4, atol=1e-5), np.abs(found - wanted).max()
assert built.predict(np.zeros((2, 28, 28, 1), "uint8"), verbose=0).shape == (2, 10)
print("as Keras has it")
"""


def test_an_application_has_the_weights_of_the_cache_or_says_where_to_put_them(tmp_path: Path) -> None:
    environment = {**os.environ, "KERAS_HOME": str(tmp_path / "keras")}
    command = [sys.executable, "-c", APPLICATION]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "model.base = applications:mobilenet_v2" in done.stdout
    assert "_1.0_96_no_top.h5" in done.stdout
    assert "models (KERAS_HOME" in done.stdout
    assert "as Keras has it" in done.stdout


def test_the_first_convolution_is_shown_with_what_it_makes_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    base = network()
    _, fitted = fit(resolved(base), Spy(monkeypatch), FitPlan(1, 0, KEEPS_LAST), unfreeze=0)
    images = fold().x_watch[:3]
    shown = fitted.feature_maps(images)
    assert shown is not None
    kernels, bias = base.get_layer("first").get_weights()
    np.testing.assert_array_equal(shown.filters, kernels)
    resized = layers.Resizing(12, 12)(images.astype("float32"))
    expected = keras.ops.conv(resized / 255, kernels, padding="valid") + bias
    np.testing.assert_allclose(shown.maps, np.asarray(expected), atol=1e-5)
