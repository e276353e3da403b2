"""Keras Tuner hypermodels in the style of its guides, without any use of hpo, and data for them."""

import keras
import keras_tuner as kt
from keras import layers
from sklearn.datasets import load_diabetes

from hpo.datasets.base import Dataset


def diabetes() -> Dataset:
    x, y = load_diabetes(return_X_y=True)
    return Dataset("diabetes", x[:200], y[:200], x[200:250], y[200:250], source="scikit-learn")


def build_model(hp):
    model = keras.Sequential()
    model.add(layers.Dense(units=hp.Int("units", min_value=32, max_value=512, step=32), activation="relu"))
    model.add(layers.Dense(1))
    model.compile(optimizer=hp.Choice("optimizer", ["adam", "sgd"]), loss="mse", metrics=["mae"])
    return model


def build_classifier(hp):
    model = keras.Sequential([layers.Flatten(), layers.Rescaling(1 / 255)])
    for i in range(hp.Int("num_layers", 1, 3)):
        model.add(
            layers.Dense(hp.Int(f"units_{i}", 16, 48, step=16), activation=hp.Choice("activation", ["relu", "tanh"]))
        )
    if hp.Boolean("dropout"):
        model.add(layers.Dropout(rate=0.25))
    model.add(layers.Dense(10, activation="softmax"))
    learning_rate = hp.Float("lr", min_value=1e-4, max_value=1e-2, sampling="log", default=1e-2)
    optimizer = keras.optimizers.Adam(learning_rate=learning_rate)
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def build_conditional(hp):
    """Nested name scopes and conditional scopes."""
    kind = hp.Choice("model_type", ["linear", "mlp"])
    shape = hp.Fixed("n_outputs", 1)
    model = keras.Sequential()
    with hp.conditional_scope("model_type", ["mlp"]):
        if kind == "mlp":
            with hp.name_scope("mlp"):
                depth = hp.Int("n layers", 1, 2)
                for i in range(depth):
                    with hp.conditional_scope("n layers", list(range(i + 1, 3))):
                        model.add(layers.Dense(hp.Int(f"units {i}", 4, 14, step=4), activation="relu"))
    rate = hp.Float("rate", 0.001, 0.1, sampling="log", parent_name="model_type", parent_values=["linear"])
    with hp.conditional_scope("n_outputs", [2]):
        hp.Int("never", 1, 2)
    model.add(layers.Dense(shape))
    model.compile(optimizer=keras.optimizers.SGD(rate or 0.01), loss="mse")
    return model


class TunedFit(kt.HyperModel):
    def build(self, hp):
        return build_model(hp)

    def fit(self, hp, model, *args, **kwargs):
        return model.fit(*args, batch_size=hp.Choice("batch", [16, 64]), **kwargs)


class OwnLoop(TunedFit):
    def fit(self, hp, model, *args, **kwargs):
        return {"val_loss": 0.0}


class OwnEpochs(TunedFit):
    def fit(self, hp, model, *args, **kwargs):
        return model.fit(*args, epochs=hp.Int("epochs", 5, 20), **kwargs)
