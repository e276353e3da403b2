import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from hpo.errors import ConfigError
from hpo.models.keras.pretrained import PretrainedBase, compute_digest, cut_features, load_saved, require_image_input

from .networks import cnn, nested


def feature_shape(network: keras.Model, cut: str | None = None) -> tuple[int, ...]:
    shape: tuple[int, ...] = PretrainedBase.of(cut_features(network, cut)).network().output_shape[1:]
    return shape


def test_features_end_at_last_flattening_layer_or_cut() -> None:
    assert feature_shape(cnn()) == (8 * 8 * 6,)
    assert feature_shape(cnn(), cut="first") == (10, 10, 4)
    inputs = keras.Input((12, 12, 1))
    pooled = layers.Conv2D(7, 3)(inputs)
    assert feature_shape(keras.Model(inputs, layers.GlobalMaxPooling2D()(pooled))) == (7,)


def test_features_default_to_input_of_last_dense_layer() -> None:
    inputs = keras.Input((12, 12, 1))
    flat = layers.Reshape((7,))(layers.AveragePooling2D(10)(layers.Conv2D(7, 3)(inputs)))
    assert feature_shape(keras.Model(inputs, layers.Dense(3)(flat))) == (7,)


@pytest.mark.parametrize("cut", ["nowhere", None])
def test_unusable_cut_is_refused(cut: str | None) -> None:
    network = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(2, 3)])
    with pytest.raises(ConfigError) as caught:
        cut_features(network, cut)
    assert caught.value.key == "model.cut"


@pytest.mark.parametrize("make", [cnn, nested])
def test_rebuilt_base_computes_the_same_features_also_in_training(make: Any) -> None:
    network = make()
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 1)).astype("uint8")
    expected = keras.Model(network.inputs[0], network.get_layer("flat").output).predict(images, verbose=0)
    base = PretrainedBase.of(cut_features(network)).network()
    pixels = images.astype("float32")
    assert base.predict(pixels, verbose=0) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    base.trainable = False  # as the head's training leaves batch normalisation
    assert base(pixels, training=True).numpy() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_rebuilt_base_has_no_penalties_and_is_not_adapted() -> None:
    scale = layers.Normalization(axis=-1)
    scale.adapt(np.array([[[[10.0]]], [[[50.0]]]]))
    penalised = layers.Conv2D(3, 3, kernel_regularizer="l2")
    network = keras.Sequential([keras.Input((8, 8, 1)), scale, penalised, layers.Flatten(), layers.Dense(2)])
    assert network.losses
    base = PretrainedBase.of(cut_features(network)).network()
    assert not base.losses
    (found,) = (layer for layer in base.layers if isinstance(layer, layers.Normalization))
    assert found.adapt is None
    assert np.ravel(found.get_weights()[:2]) == pytest.approx([30.0, 400.0])


def test_digest_depends_on_weights_and_layers_but_not_on_names() -> None:
    digests = [compute_digest(cnn(seed=seed)) for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]
    renamed = [keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(2, 3), layers.Flatten()]) for _ in range(2)]
    renamed[1].set_weights(renamed[0].get_weights())
    assert renamed[0].layers[0].name != renamed[1].layers[0].name
    assert len({compute_digest(each) for each in renamed}) == 1
    other = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(2, 3, activation="relu"), layers.Flatten()])
    other.set_weights(renamed[0].get_weights())
    assert compute_digest(other) != compute_digest(renamed[0])


def test_network_that_does_not_take_one_image_is_refused() -> None:
    require_image_input("mine", cnn())
    with pytest.raises(ConfigError, match="one image"):
        require_image_input("mine", keras.Sequential([keras.Input((4,)), layers.Dense(2)]))


def test_custom_code_in_a_saved_network_is_refused(tmp_path: Path) -> None:
    keras.Sequential([keras.Input((8,)), layers.Lambda(lambda x: 2 * x)]).save(tmp_path / "model.keras")
    with pytest.raises(ConfigError, match="Keras's own layers"):
        load_saved("mine", tmp_path / "model.keras")


def test_broken_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="a network of Keras's own layers"):
        load_saved("mine", tmp_path / "model.keras")


# In another process, since Keras reads KERAS_HOME when it is imported.
APPLICATION = """
import os
from pathlib import Path
import keras, numpy as np
from hpo.datasets.base import DataSpec
from hpo.errors import ConfigError
from hpo.models.keras.pretrained import PretrainedBase, compute_digest, cut_features, load_application
from hpo.models.keras.transfer_cnn import build_model

def load():
    return load_application("applications:mobilenet_v2", 96)

try:
    load()
except ConfigError as error:
    print(error)
keras.utils.set_random_seed(0)
folder = Path(os.environ["KERAS_HOME"]) / "models"
folder.mkdir(parents=True, exist_ok=True)
plain = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(96, 96, 3), pooling="avg")
plain.save(folder / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_96_no_top.h5")
network = load()
assert compute_digest(network) == compute_digest(load())
built = build_model(DataSpec((28, 28, 1), 10), PretrainedBase.of(cut_features(network)).network(), unfreeze=3)
images = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3)).astype("uint8")
found = built.get_layer("base").predict(images, verbose=0)
wanted = plain.predict(keras.applications.mobilenet_v2.preprocess_input(images.astype("float32")), verbose=0)
assert np.allclose(found, wanted, rtol=1e-4, atol=1e-5), np.abs(found - wanted).max()
assert built.predict(np.zeros((2, 28, 28, 1), "uint8"), verbose=0).shape == (2, 10)
print("same features as Keras")
"""


def test_application_uses_cached_weights_or_names_cache(tmp_path: Path) -> None:
    environment = {**os.environ, "KERAS_HOME": str(tmp_path / "keras")}
    command = [sys.executable, "-c", APPLICATION]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "model.base = applications:mobilenet_v2" in done.stdout
    assert "_1.0_96_no_top.h5" in done.stdout
    assert "models (KERAS_HOME" in done.stdout
    assert "same features as Keras" in done.stdout
