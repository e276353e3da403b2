"""Small trained networks that transfer learning starts from."""

from pathlib import Path

import keras
from keras import layers

from hpo.models.base import Fetch, SavedNetwork


def cnn(channels: int = 1, penalty: float = 0.0, side: int = 12, seed: int = 0) -> keras.Model:
    """A CNN with augmentation, batch normalisation and dropout; its statistics are not the initial ones."""
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


def nested() -> keras.Model:
    """A network that contains another one, which has dropout."""
    inner = keras.Sequential([keras.Input((10, 10, 4)), layers.SpatialDropout2D(0.5), layers.GaussianNoise(0.9)])
    inputs = keras.Input((12, 12, 1))
    flat = layers.Flatten(name="flat")(inner(layers.Conv2D(4, 3, kernel_initializer="random_normal")(inputs)))
    return keras.Model(inputs, layers.Dense(2)(flat))


def fetching(model: keras.Model) -> Fetch:
    """A fetch that saves ``model`` as the network of an earlier study."""

    def fetch(wanted: str, folder: Path) -> SavedNetwork:
        path = folder / "model.keras"
        model.save(path)
        return SavedNetwork(f"models:/{wanted}", path)

    return fetch
