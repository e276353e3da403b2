import keras
import numpy as np
import pytest
from keras import layers

from hpo.datasets import digits
from hpo.datasets.base import DataSpec
from hpo.models.keras import mnist_cnn

SPEC = DataSpec((20, 20, 1), 10)


def plain() -> keras.Model:
    """The network of the docstring, without optional layers."""
    kernel = {
        "activation": "relu",
        "kernel_initializer": "he_normal",
        "kernel_regularizer": keras.regularizers.L2(1e-5),
    }
    model = keras.Sequential(
        [
            keras.Input((20, 20, 1), dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, **kernel),
            layers.MaxPooling2D(),
            layers.Conv2D(8, 3, **kernel),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 3, **kernel),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(32, **kernel),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    return model


def test_defaults_train_exactly_like_the_plain_network() -> None:
    data = digits.load().with_images_of((20, 20, 1))
    trained = []
    for make in (plain, lambda: mnist_cnn.build_model(SPEC, filters=4, dense_units=32)):
        keras.utils.set_random_seed(3)
        model = make()
        history = model.fit(data.x[:256], data.y[:256], epochs=2, verbose=0).history
        trained.append((history, model.get_weights()))
    (history, weights), (own_history, own_weights) = trained
    assert own_history == history
    for one, other in zip(weights, own_weights, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("params", "added"),
    [
        ({"batch_norm": True}, layers.BatchNormalization),
        ({"shift": 0.1}, layers.RandomTranslation),
        ({"rotation": 0.1}, layers.RandomRotation),
        ({"zoom": 0.1}, layers.RandomZoom),
    ],
)
def test_regularising_layers_are_added_on_request(params: dict[str, float], added: type[layers.Layer]) -> None:
    plain_model, model = (mnist_cnn.build_model(SPEC, filters=4, **more) for more in ({}, params))
    count = [sum(isinstance(layer, added) for layer in m.layers) for m in (plain_model, model)]
    assert count == [0, 4 if "batch_norm" in params else 1]
    assert model.predict(np.zeros((2, 20, 20, 1), "uint8"), verbose=0).shape == (2, 10)


def test_losses_are_the_penalties_of_the_kernels() -> None:
    model = mnist_cnn.build_model(SPEC, filters=4, l1=0.01, l2=0.1)
    kernels = [layer.kernel for layer in model.layers if hasattr(layer, "kernel")][:-1]
    wanted = sum(
        0.01 * np.abs(values).sum() + 0.1 * (values**2).sum() for values in (kernel.numpy() for kernel in kernels)
    )
    assert float(sum(model.losses)) == pytest.approx(float(wanted), rel=1e-4)
