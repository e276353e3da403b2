import keras
import numpy as np
import pytest

from hpo.models.keras.fine_tuning import FineTuning, make_trainable, set_depth
from hpo.models.keras.fitted import layers_of

from .networks import cnn


def trained(network: keras.Model) -> list[str]:
    return [layer.name for layer in layers_of(network) if layer.trainable_weights]


@pytest.mark.parametrize(
    ("depth", "expected"), [(0, []), (1, ["answers"]), (2, ["second", "answers"]), (9, ["first", "second", "answers"])]
)
def test_depth_counts_weighted_layers_from_the_output(depth: int, expected: list[str]) -> None:
    network = cnn()
    for _ in range(2):
        set_depth(network, depth)
        assert trained(network) == expected
    make_trainable(network)
    assert trained(network) == ["first", "norm", "second", "answers"]


def test_change_applies_from_its_epoch_on() -> None:
    inputs = keras.Input((2,))
    first = keras.layers.Dense(3, name="first")
    model = keras.Model(inputs, keras.layers.Dense(1)(first(inputs)))
    first.trainable = False
    model.compile("sgd", "mse")
    kernels = []

    def change() -> None:
        first.trainable = True
        model.compile("sgd", "mse")

    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: kernels.append(first.get_weights()[0]))
    model.fit(np.ones((4, 2)), np.full(4, 9.0), epochs=4, callbacks=[FineTuning(2, change), note], verbose=0)
    assert np.array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[1], kernels[2])
    assert not np.array_equal(kernels[2], kernels[3])
