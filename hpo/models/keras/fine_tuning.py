"""Fine-tuning: which layers of a pretrained network are trained, and from which epoch.

https://keras.io/guides/transfer_learning
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
from keras import layers

from hpo.models.keras.fitted import layers_of


class FineTuning(keras.callbacks.Callback):
    """Changes what is trained before one epoch; early stopping and the history continue across the change.

    Args:
        epoch: counted from 0.
        change: makes layers trainable and compiles the model again.
    """

    def __init__(self, epoch: int, change: Callable[[], None]) -> None:
        super().__init__()
        self._epoch, self._change = epoch, change

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        if epoch == self._epoch:
            self._change()
            # Keras created the training step before the first epoch, for the layers that were trainable then.
            self.model.make_train_function(force=True)


def set_depth(base: keras.Model, n_layers: int) -> None:
    """Freeze ``base`` except for its last ``n_layers`` layers with weights, not counting batch normalisation."""
    make_trainable(base)
    found = [each for each in layers_of(base) if each.trainable_weights]
    found = [each for each in found if not isinstance(each, layers.BatchNormalization)]
    kept = found[max(0, len(found) - n_layers) :]
    for layer in layers_of(base):
        layer.trainable = any(layer is each for each in kept)


def make_trainable(network: keras.Model) -> None:
    """Make all layers of ``network`` trainable."""
    # Keras passes the flag on to the layers only when it changes.
    network.trainable = False
    network.trainable = True
