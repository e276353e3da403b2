"""Trained networks that transfer learning starts from: saved models and the networks of ``keras.applications``."""

from __future__ import annotations

import hashlib
import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from hpo.datasets.base import Array
from hpo.errors import ConfigError, first_line
from hpo.models.keras.fine_tuning import make_trainable
from hpo.models.keras.fitted import layers_of

PREFIX = "applications:"
# Networks of keras.applications, and whether they take pixels of -1 to 1 instead of 0 to 255.
APPLICATIONS = {
    "mobilenet_v2": ("MobileNetV2", True),
    "mobilenet_v3_small": ("MobileNetV3Small", False),
    "efficientnet_v2_b0": ("EfficientNetV2B0", False),
    "resnet50_v2": ("ResNet50V2", True),
}
CONNECT_SECONDS = 15.0
# Class names of Keras layers that act in training only.
_RANDOM = r"Dropout|^Random|^GaussianNoise$|^(MixUp|CutMix|AugMix|RandAugment)$"
# Layers that end the feature extraction of a network.
_LAST_OF_FEATURES = (layers.Flatten, layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D)


def load_saved(name: str, path: Path) -> keras.Model:
    """Load a network from a file in Keras's own format.

    Args:
        name: what the config calls it, for messages.

    Raises:
        ConfigError: if the file cannot be read or has layers that are not Keras's own.
    """
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a broken file or a custom layer can raise anything
        expected = f"a network of Keras's own layers, since no others are loaded ({first_line(error, 200)})"
        raise ConfigError("model.base", name, expected, "model.base=another") from error


def load_application(name: str, size: int) -> keras.Model:
    """Load a network of ``keras.applications`` with its ImageNet weights, without its output layer.

    Args:
        name: :data:`PREFIX` followed by a key of :data:`APPLICATIONS`.
        size: height and width of the images in pixels; their values are 0 to 255.

    Raises:
        ConfigError: if the weights are neither in Keras's cache nor can be downloaded.
    """
    factory, is_scaled = APPLICATIONS[name.removeprefix(PREFIX)]
    inputs = keras.Input((size, size, 3), name="image")
    pixels = layers.Rescaling(1 / 127.5, offset=-1, name="pixels")(inputs) if is_scaled else inputs
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(CONNECT_SECONDS)  # Keras downloads without a timeout
    try:
        make = getattr(keras.applications, factory)
        return make(
            include_top=False, weights="imagenet", input_tensor=pixels, input_shape=(size, size, 3), pooling="avg"
        )
    except Exception as error:  # Keras wraps every download error in a bare Exception
        expected = f"weights in Keras's cache, or a network connection to download them ({first_line(error, 300)})"
        fix = "put that file into ~/.keras/models (KERAS_HOME moves ~/.keras), or model.base=STUDY"
        raise ConfigError("model.base", name, expected, fix) from error
    finally:
        socket.setdefaulttimeout(before)


def require_image_input(name: str, network: keras.Model) -> None:
    """Refuse a network that does not take exactly one image.

    Raises:
        ConfigError: naming the shapes of its inputs.
    """
    inputs = getattr(network, "inputs", None) or []
    shapes = [tuple(each.shape) for each in inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][-1] is None:
        expected = f"a functional network that takes one image (height, width, channels), not {shapes or 'a subclass'}"
        raise ConfigError("model.base", name, expected, "the study of a CNN, such as model=mnist_cnn")


def cut_features(network: keras.Model, cut: str | None = None) -> keras.Model:
    """Return the lower part of ``network``, from its image to the features that a new head takes.

    Args:
        cut: name of the layer with the features as its output; None takes the last layer that flattens or pools a whole
            image or, without one, the input of the last dense layer.

    Raises:
        ConfigError: if ``cut`` is not a layer of the network itself, or its output is not the features of an image.
    """
    names = [layer.name for layer in network.layers]
    if cut is not None and cut not in names:
        expected = f"a layer of the base: {', '.join(names)}"
        raise ConfigError("model.cut", cut, expected, f"model.cut={names[-2 if len(names) > 1 else 0]}")
    ends = [layer.name for layer in network.layers if isinstance(layer, _LAST_OF_FEATURES)]
    dense = [layer for layer in network.layers if isinstance(layer, layers.Dense)]
    if cut is None and not ends and not dense:
        expected = f"the layer that the head is put on, since no layer of the base flattens: {', '.join(names)}"
        raise ConfigError("model.cut", None, expected, f"model.cut={names[-1]}")
    try:
        at = network.get_layer(cut or ends[-1]).output if cut or ends else dense[-1].input
        features = keras.Model(network.inputs[0], at, name="base")
    except (ValueError, AttributeError) as error:
        expected = "a layer of the base itself, not of a network inside it"
        raise ConfigError("model.cut", cut, expected, f"model.cut={names[-1]}") from error
    if len(features.outputs) != 1 or len(features.output_shape) not in (2, 4):
        expected = f"a layer with the features of an image; the output there is {features.output_shape}"
        raise ConfigError("model.cut", cut, expected, "model.cut=null, or another layer")
    return features


@dataclass(frozen=True)
class PretrainedBase:
    """A network as JSON and weights, which can be sent to other processes.

    Args:
        architecture: its config without everything that regularises or augments in training.
        channels: of the images that it takes.
    """

    architecture: str
    weights: list[Array]
    channels: int

    @classmethod
    def of(cls, network: keras.Model) -> PretrainedBase:
        """Take architecture and weights of ``network``, and make all its layers trainable."""
        make_trainable(network)
        config = _without_regularisation(json.loads(network.to_json()))
        return cls(json.dumps(config), network.get_weights(), int(network.input_shape[-1]))

    def network(self) -> keras.Model:
        """Return a new copy of the network."""
        network = keras.models.model_from_json(self.architecture)
        network.set_weights(self.weights)
        for layer in layers_of(network):
            if hasattr(layer, "finalize_state"):
                layer.finalize_state()
            if callable(getattr(layer, "adapt", None)):
                layer.adapt = None  # it keeps the statistics that the other layers were trained with
        return network


def compute_digest(network: keras.Model) -> str:
    """Hash layers and weights; names are ignored, since Keras numbers some of them by what was built before.

    Returns:
        32 hexadecimal characters.
    """
    config = json.loads(network.to_json())["config"]
    names = {name: f"layer {place}" for place, name in enumerate(_names_in(config))}
    digest = hashlib.blake2b(json.dumps(_renamed(config, names), sort_keys=True).encode(), digest_size=16)
    for array in network.get_weights():
        digest.update(f"{array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _without_regularisation(node: Any) -> Any:
    """Remove from a network's config what acts in training only, and make its input accept real-valued pixels."""
    if isinstance(node, list):
        return [_without_regularisation(each) for each in node]
    if not isinstance(node, dict):
        return node
    # Weight penalties would change the loss once layers are unfrozen.
    plain: dict[str, Any] = {
        key: None if key.endswith("_regularizer") else _without_regularisation(each) for key, each in node.items()
    }
    plain |= {key: 0.0 for key in plain if key in ("dropout", "recurrent_dropout")}
    name = plain.get("class_name")
    if name == "InputLayer":
        plain["config"] = {**plain["config"], "dtype": "float32"}  # integers would truncate augmented pixels
    elif plain.get("module") == "keras.layers" and re.search(_RANDOM, str(name)):
        # training=False is not enough: Keras overrides it when the whole model is trained.
        plain |= {"class_name": "Identity", "config": {"name": plain["config"]["name"]}}
        for call in plain.get("inbound_nodes", ()):
            call["kwargs"] = {}
    return plain


def _names_in(node: Any) -> list[str]:
    """List the names of layers and networks, in the order of the config."""
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
