"""Transfer learning: a new head on the lower part of a trained network, upper layers of which are then fine-tuned.

The head is trained alone first, since the large gradients of random weights would damage the base.
https://keras.io/guides/transfer_learning
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import keras
from keras import layers, ops

from hpo.core.params import Params, ParamValue
from hpo.datasets.base import DataSpec
from hpo.errors import ConfigError
from hpo.models.base import Fetch, Origin
from hpo.models.keras import blocks, pretrained
from hpo.models.keras.fine_tuning import FineTuning, set_depth
from hpo.models.keras.model import OF_TRAINING, KerasModel
from hpo.models.keras.pretrained import APPLICATIONS, PREFIX, PretrainedBase


class TransferModel(KerasModel):
    """A new head on a pretrained base; the base is fetched once and travels with the model to every worker.

    Trained layers of the base are counted from its output. Batch normalisation is not counted and stays frozen, so
    that it uses its own statistics instead of the batch's. Dropout, augmentation and weight penalties of the base are
    removed.

    Args:
        base: the name of an earlier study, of which the best model is taken; ``runs:/…`` or ``models:/…`` of MLflow;
            or ``applications:`` and a key of :data:`~.pretrained.APPLICATIONS`, with Keras's ImageNet weights.
        cut: name of the base's layer that the head is put on; None: see :func:`~.pretrained.cut_features`.
        application_size: height and width in pixels of the images that an application is built for.
        batch_size, schedule, image_shape: see :class:`hpo.models.keras.model.KerasModel`.
        defaults: values that replace the defaults of :func:`build_model`.

    Raises:
        ConfigError: if ``base`` cannot name a network, or ``defaults`` has an unknown parameter.
    """

    def __init__(
        self,
        base: str,
        *,
        cut: str | None = None,
        application_size: int = 96,
        batch_size: int = 32,
        schedule: str = "constant",
        image_shape: tuple[int, ...] | None = None,
        **defaults: ParamValue,
    ) -> None:
        super().__init__(build_model, batch_size=batch_size, schedule=schedule, image_shape=image_shape, **defaults)
        if not isinstance(base, str) or not base.strip():
            expected = "a study, runs:/…, models:/… or applications:…, with the network that is the base"
            fix = "`python -m hpo model=mnist_cnn study=mnist-base` makes one, then model.base=mnist-base"
            raise ConfigError("model.base", base, expected, fix)
        if base.startswith(PREFIX) and base.removeprefix(PREFIX) not in APPLICATIONS:
            expected = f"one of {', '.join(PREFIX + name for name in APPLICATIONS)}"
            raise ConfigError("model.base", base, expected, f"model.base={PREFIX}mobilenet_v2")
        if type(application_size) is not int or application_size < 32:
            key = "model.application_size"
            raise ConfigError(key, application_size, "at least 32 pixels", f"{key}=96")
        if keras.backend.backend() == "jax":
            # Keras on JAX holds the variables for a whole fit, so that none can become trainable during it.
            expected = "a Keras backend other than jax, which cannot unfreeze layers during training"
            raise ConfigError("model", "transfer_cnn", expected, "KERAS_BACKEND=tensorflow in front of the command")
        self._wanted, self._cut, self._size = base, cut, application_size
        self._base: PretrainedBase | None = None

    def resolve(self, fetch: Fetch) -> None:
        if self._wanted.startswith(PREFIX):
            uri, network = self._wanted, pretrained.load_application(self._wanted, self._size)
        else:
            with tempfile.TemporaryDirectory(prefix="hpo-base-") as folder:
                saved = fetch(self._wanted, Path(folder))
                uri, network = saved.uri, pretrained.load_saved(self._wanted, saved.path)
        pretrained.require_image_input(self._wanted, network)
        self.origin = Origin(self._wanted, uri, pretrained.compute_digest(network))
        self._base = PretrainedBase.of(pretrained.cut_features(network, self._cut))

    def check_fits(self, spec: DataSpec) -> None:
        blocks.require_images(spec)
        wanted, found = self._resolved.channels, spec.input_shape[-1]
        if found != wanted and {found, wanted} != {1, 3}:
            expected = f"images of {wanted} channels, as {self._wanted} was trained on, or grey and colour images"
            raise ConfigError("dataset", f"images of {found} channels", expected, "dataset=fashion_mnist")

    @property
    def _resolved(self) -> PretrainedBase:
        if self._base is None:
            raise RuntimeError(
                "a model that starts from another has to be resolved first: hpo.study.build.resolve_model"
            )
        return self._base

    def _compiled(self, params: Params, spec: DataSpec) -> keras.Model:
        values: dict[str, Any] = {**self._tunables, **params}
        return build_model(spec, self._resolved.network(), **{k: v for k, v in values.items() if k not in OF_TRAINING})


def build_model(
    data: DataSpec,
    base: keras.Model,
    *,
    dense_units: int = 128,
    dropout: float = 0.3,
    l2: float = 1e-5,
    head_epochs: int = 1,
    unfreeze: int = 1,
    fine_tune_factor: float = 0.1,
    shift: float = 0.0,
    rotation: float = 0.0,
    zoom: float = 0.0,
    flip: bool = False,
    optimizer: str = "adam",
    learning_rate: float = 1e-3,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
) -> keras.Model:
    """Build Base-Dense-Dropout-softmax over pixels of 0 to 255, which are resized and converted for the base.

    Args:
        data: images of shape (height, width, channels).
        base: maps images to features; it becomes a part of the model.
        dense_units: units of the head's dense layer.
        dropout: share of the dense layer's units dropped in training.
        l2: weight penalty of the dense layer.
        head_epochs: epochs that train the head alone.
        unfreeze: layers of the base, counted from its output, that are trained in the epochs after these.
        fine_tune_factor: factor of the learning rate in the epochs after these.
        shift, rotation, zoom, flip: augmentation, see :func:`hpo.models.keras.blocks.augment`.
        optimizer: one of :data:`hpo.models.keras.blocks.OPTIMIZERS`.
        momentum, weight_decay, clip_norm: see :func:`hpo.models.keras.blocks.make_optimizer`.

    Raises:
        ConfigError: if the samples are not images or have real targets, or a number is negative.
    """
    blocks.require_images(data)
    for name, number in (("head_epochs", head_epochs), ("unfreeze", unfreeze), ("fine_tune_factor", fine_tune_factor)):
        if number < 0:
            raise ConfigError(f"model.{name}", number, "at least 0", f"model.{name}=1")

    def optimizer_at(rate: float) -> keras.optimizers.Optimizer:
        return blocks.make_optimizer(optimizer, rate, momentum, weight_decay, clip_norm)

    inputs = keras.Input(data.input_shape, dtype="uint8")
    x = blocks.augment(ops.cast(inputs, "float32"), shift=shift, rotation=rotation, zoom=zoom, flip=flip)
    _, height, width, channels = base.input_shape
    if None not in (height, width) and data.input_shape[:2] != (height, width):
        x = layers.Resizing(height, width)(x)
    if channels != data.input_shape[2]:
        x = ops.image.rgb_to_grayscale(x) if channels == 1 else ops.repeat(x, channels, axis=-1)
    set_depth(base, 0)
    x = base(x)
    if len(x.shape) == 4:
        x = layers.GlobalAveragePooling2D()(x)
    x = blocks.dense(x, dense_units, l2=l2, dropout=dropout)
    model = blocks.finish(inputs, x, data, optimizer_at(learning_rate))

    def fine_tune() -> None:
        set_depth(base, unfreeze)
        blocks.compiled(model, data, optimizer_at(learning_rate * fine_tune_factor))

    model.callbacks = [FineTuning(head_epochs, fine_tune)] if unfreeze else []
    return model
