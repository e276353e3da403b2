"""Transfer learning: a new head on the lower part of a trained network, of which upper layers are then fine-tuned.

The head is trained alone first, since the large gradients of random weights would spoil what the base has learned.
https://keras.io/guides/transfer_learning
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from hpo.core.params import Params, ParamValue
from hpo.datasets.base import Array, DataSpec
from hpo.errors import ConfigError, redact
from hpo.models.base import Fetch, Origin
from hpo.models.keras import blocks
from hpo.models.keras.fitted import layers_of
from hpo.models.keras.model import OF_TRAINING, KerasModel

PREFIX = "applications:"
# Networks of keras.applications, and whether they take pixels of -1 to 1 rather than of 0 to 255.
APPLICATIONS = {
    "mobilenet_v2": ("MobileNetV2", True),
    "mobilenet_v3_small": ("MobileNetV3Small", False),
    "efficientnet_v2_b0": ("EfficientNetV2B0", False),
    "resnet50_v2": ("ResNet50V2", True),
}
CONNECT_SECONDS = 15.0
# Names of Keras's layers that do something in training only.
_RANDOM = r"Dropout|^Random|^GaussianNoise$|^(MixUp|CutMix|AugMix|RandAugment)$"
# After these come a network's answers, and no more features.
_LAST_OF_FEATURES = (layers.Flatten, layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D)


class TransferModel(KerasModel):
    """A head on a trained base; the base is fetched once, and travels with the model to every worker.

    Layers of the base that are trained are counted from above; batch normalisation is not among them. It stays frozen,
    which is to use its statistics and not the batch's, and nothing in the base drops out, augments or penalises.

    Args:
        base: the name of an earlier study, whose winner is taken; ``runs:/…`` or ``models:/…`` of MLflow; or
            ``applications:`` and one of :data:`APPLICATIONS`, with the weights for ImageNet that Keras has.
        cut: name of the base's layer whose output the head gets; None takes the last one that flattens or pools all
            of an image or, where there is none, what the last dense layer gets.
        application_size: height and width of images that an application is built for.
        batch_size, schedule, image_shape: see :class:`hpo.models.keras.model.KerasModel`.
        defaults: values that replace the defaults of :func:`build_model`.

    Raises:
        ConfigError: when ``base`` names nothing that there can be, or ``defaults`` what the model does not take.
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
            expected = "a study, runs:/…, models:/… or applications:…, whose network is the base"
            fix = "`python -m hpo model=mnist_cnn study=mnist-base` makes one, then model.base=mnist-base"
            raise ConfigError("model.base", base, expected, fix)
        if base.startswith(PREFIX) and base.removeprefix(PREFIX) not in APPLICATIONS:
            expected = f"one of {', '.join(PREFIX + name for name in APPLICATIONS)}"
            raise ConfigError("model.base", base, expected, f"model.base={PREFIX}mobilenet_v2")
        if type(application_size) is not int or application_size < 32:
            key = "model.application_size"
            raise ConfigError(key, application_size, "at least 32 pixels", f"{key}=96")
        if keras.backend.backend() == "jax":
            # Keras holds all variables for a whole fit there, so that none can join them.
            expected = "another backend of Keras than jax, where no layer can be unfrozen in training"
            raise ConfigError("model", "transfer_cnn", expected, "KERAS_BACKEND=tensorflow in front of the command")
        self._wanted, self._cut, self._size = base, cut, application_size
        self._base: _Base | None = None

    def resolve(self, fetch: Fetch) -> None:
        if self._wanted.startswith(PREFIX):
            uri, network = self._wanted, _application(self._wanted, self._size)
        else:
            with tempfile.TemporaryDirectory(prefix="hpo-base-") as folder:
                saved = fetch(self._wanted, Path(folder))
                uri, network = saved.uri, _loaded(self._wanted, saved.path)
        _require_images_in(self._wanted, network)
        self.origin = Origin(self._wanted, uri, _digest(network))
        self._base = _Base.of(self._features(network))

    def _features(self, network: keras.Model) -> keras.Model:
        """The part of ``network`` that the head is put on."""
        names = [layer.name for layer in network.layers]
        if self._cut is not None and self._cut not in names:
            expected = f"a layer of the base: {', '.join(names)}"
            raise ConfigError("model.cut", self._cut, expected, f"model.cut={names[-2 if len(names) > 1 else 0]}")
        ends = [layer.name for layer in network.layers if isinstance(layer, _LAST_OF_FEATURES)]
        dense = [layer for layer in network.layers if isinstance(layer, layers.Dense)]
        if self._cut is None and not ends and not dense:
            expected = f"the layer that the head is put on, since the base has none that flattens: {', '.join(names)}"
            raise ConfigError("model.cut", None, expected, f"model.cut={names[-1]}")
        try:
            at = network.get_layer(self._cut or ends[-1]).output if self._cut or ends else dense[-1].input
            features = keras.Model(network.inputs[0], at, name="base")
        except (ValueError, AttributeError) as error:
            expected = "a layer of the base itself, and of no network inside it"
            raise ConfigError("model.cut", self._cut, expected, f"model.cut={names[-1]}") from error
        if len(features.outputs) != 1 or len(features.output_shape) not in (2, 4):
            expected = f"features of an image; there the base has {features.output_shape}"
            raise ConfigError("model.cut", self._cut, expected, "model.cut=null, or another layer")
        return features

    def check_fits(self, spec: DataSpec) -> None:
        blocks.require_images(spec)
        wanted, found = self._known.channels, spec.input_shape[-1]
        if found != wanted and {found, wanted} != {1, 3}:
            expected = f"images of {wanted} channels, as {self._wanted} was trained on, or grey and coloured ones"
            raise ConfigError("dataset", f"images of {found} channels", expected, "dataset=fashion_mnist")

    @property
    def _known(self) -> _Base:
        if self._base is None:
            raise RuntimeError(
                "a model that begins from another has to be resolved first: hpo.study.build.resolve_model"
            )
        return self._base

    def _compiled(self, params: Params, spec: DataSpec) -> keras.Model:
        values: dict[str, Any] = {**self._tunables, **params}
        return build_model(spec, self._known.network(), **{k: v for k, v in values.items() if k not in OF_TRAINING})


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
    """Base-Dense-Dropout-softmax over pixels of 0 to 255, resized, and coloured or made grey as the base takes them.

    Args:
        data: images of shape (height, width, channels).
        base: from images to features; it becomes a part of the model.
        dropout: share of the dense layer's units dropped in training.
        l2: weight penalty of the dense layer.
        head_epochs: epochs that train the head alone.
        unfreeze: layers of the base, from above, that are trained in the epochs after these.
        fine_tune_factor: what the learning rate is multiplied by in these.
        shift, rotation, zoom, flip: augmentation, see :func:`hpo.models.keras.blocks.augmented`.
        optimizer: one of :data:`hpo.models.keras.blocks.OPTIMIZERS`; see there also for what follows it.

    Raises:
        ConfigError: for samples that are no images, real targets, or numbers below 0.
    """
    blocks.require_images(data)
    for name, number in (("head_epochs", head_epochs), ("unfreeze", unfreeze), ("fine_tune_factor", fine_tune_factor)):
        if number < 0:
            raise ConfigError(f"model.{name}", number, "at least 0", f"model.{name}=1")

    def an_optimizer(rate: float) -> keras.optimizers.Optimizer:
        return blocks.make_optimizer(optimizer, rate, momentum, weight_decay, clip_norm)

    inputs = keras.Input(data.input_shape, dtype="uint8")
    x = blocks.augmented(ops.cast(inputs, "float32"), shift=shift, rotation=rotation, zoom=zoom, flip=flip)
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
    model = blocks.finished(inputs, x, data, an_optimizer(learning_rate))

    def fine_tune() -> None:
        set_depth(base, unfreeze)
        blocks.compiled(model, data, an_optimizer(learning_rate * fine_tune_factor))

    model.callbacks = [FineTuning(head_epochs, fine_tune)] if unfreeze else []
    return model


class FineTuning(keras.callbacks.Callback):
    """Changes what is trained, and how, before one epoch; early stopping and the record go on over it.

    Args:
        epoch: counted from 0.
        change: makes layers trainable and compiles the model anew.
    """

    def __init__(self, epoch: int, change: Callable[[], None]) -> None:
        super().__init__()
        self._epoch, self._change = epoch, change

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        if epoch == self._epoch:
            self._change()
            # Keras made the function that takes a step before the first epoch, for what was to be trained then.
            self.model.make_train_function(force=True)


def set_depth(base: keras.Model, n_layers: int) -> None:
    """Freeze ``base`` but for its last ``n_layers`` layers with weights, batch normalisation not counted."""
    _make_trainable(base)
    found = [each for each in layers_of(base) if each.trainable_weights]
    found = [each for each in found if not isinstance(each, layers.BatchNormalization)]
    kept = found[max(0, len(found) - n_layers) :]
    for layer in layers_of(base):
        layer.trainable = any(layer is each for each in kept)


def _make_trainable(network: keras.Model) -> None:
    # Keras passes on to the layers only what it was not before.
    network.trainable = False
    network.trainable = True


@dataclass(frozen=True)
class _Base:
    """A network as its layers in JSON and its weights, which can be sent to other processes."""

    architecture: str
    weights: list[Array]
    channels: int

    @classmethod
    def of(cls, network: keras.Model) -> _Base:
        _make_trainable(network)
        config = _for_a_base(json.loads(network.to_json()))
        return cls(json.dumps(config), network.get_weights(), int(network.input_shape[-1]))

    def network(self) -> keras.Model:
        """It, built anew."""
        network = keras.models.model_from_json(self.architecture)
        network.set_weights(self.weights)
        for layer in layers_of(network):
            if hasattr(layer, "finalize_state"):
                layer.finalize_state()
            if callable(getattr(layer, "adapt", None)):
                layer.adapt = None  # it keeps the statistics that the other layers were trained with
        return network


def _for_a_base(node: Any) -> Any:
    """A network's config without what holds over-fitting back in training, and for pixels that are real numbers."""
    if isinstance(node, list):
        return [_for_a_base(each) for each in node]
    if not isinstance(node, dict):
        return node
    # Weight penalties would change the loss where layers are unfrozen.
    plain: dict[str, Any] = {
        key: None if key.endswith("_regularizer") else _for_a_base(each) for key, each in node.items()
    }
    plain |= {key: 0.0 for key in plain if key in ("dropout", "recurrent_dropout")}
    name = plain.get("class_name")
    if name == "InputLayer":
        plain["config"] = {**plain["config"], "dtype": "float32"}  # else augmented pixels would be cut to whole ones
    elif plain.get("module") == "keras.layers" and re.search(_RANDOM, str(name)):
        # Calling the base with training=False is not enough: Keras overrides that where the whole model is trained.
        plain |= {"class_name": "Identity", "config": {"name": plain["config"]["name"]}}
        for call in plain.get("inbound_nodes", ()):
            call["kwargs"] = {}
    return plain


def _loaded(wanted: str, path: Path) -> keras.Model:
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a file may be broken, or hold layers of anybody's, in many ways
        said = redact((str(error).splitlines() or [type(error).__name__])[0])[:200]
        expected = f"a network of Keras's own layers, which are all that is loaded ({said})"
        raise ConfigError("model.base", wanted, expected, "model.base=another") from error


def _application(wanted: str, size: int) -> keras.Model:
    """A network of ``keras.applications`` without its classes, over pixels of 0 to 255."""
    factory, is_scaled = APPLICATIONS[wanted.removeprefix(PREFIX)]
    inputs = keras.Input((size, size, 3), name="image")
    pixels = layers.Rescaling(1 / 127.5, offset=-1, name="pixels")(inputs) if is_scaled else inputs
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(CONNECT_SECONDS)  # Keras gives its downloads none
    try:
        make = getattr(keras.applications, factory)
        return make(
            include_top=False, weights="imagenet", input_tensor=pixels, input_shape=(size, size, 3), pooling="avg"
        )
    except Exception as error:  # Keras wraps every download error in a bare Exception
        said = redact((str(error).splitlines() or [type(error).__name__])[0])[:300]
        expected = f"weights in Keras's cache, or a network to download them by ({said})"
        fix = "put that file into ~/.keras/models (KERAS_HOME moves ~/.keras), or model.base=STUDY, one of yours"
        raise ConfigError("model.base", wanted, expected, fix) from error
    finally:
        socket.setdefaulttimeout(before)


def _require_images_in(wanted: str, network: keras.Model) -> None:
    inputs = getattr(network, "inputs", None) or []
    shapes = [tuple(each.shape) for each in inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][-1] is None:
        expected = f"a functional network that takes one image (height, width, channels), not {shapes or 'a subclass'}"
        raise ConfigError("model.base", wanted, expected, "the study of a CNN, such as model=mnist_cnn")


def _digest(network: keras.Model) -> str:
    """Of layers and weights; names do not count, some of which Keras numbers by what was built before."""
    config = json.loads(network.to_json())["config"]
    names = {name: f"layer {place}" for place, name in enumerate(_names_in(config))}
    digest = hashlib.blake2b(json.dumps(_renamed(config, names), sort_keys=True).encode(), digest_size=16)
    for array in network.get_weights():
        digest.update(f"{array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _names_in(node: Any) -> list[str]:
    """Names of layers and networks, in the order of the config."""
    if isinstance(node, list):
        return [name for each in node for name in _names_in(each)]
    if not isinstance(node, dict):
        return []
    own = [node["name"]] if isinstance(node.get("name"), str) else []
    return list(dict.fromkeys([*own, *(name for each in node.values() for name in _names_in(each))]))


def _renamed(node: Any, names: Mapping[str, str]) -> Any:
    if isinstance(node, list):
        return [_renamed(each, names) for each in node]
    if isinstance(node, dict):
        return {key: _renamed(each, names) for key, each in node.items()}
    return names.get(node, node) if isinstance(node, str) else node
