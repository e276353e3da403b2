"""Keras models: a function of named parameters that returns a compiled ``keras.Model``.

::

    def build_model(data: DataSpec, *, units: int = 64, learning_rate: float = 1e-3) -> keras.Model: ...

A search space may name its keyword-only parameters, and also ``batch_size`` and ``schedule``, which apply to training.
Layers with an ``adapt`` method (``Normalization``, :mod:`~.keras.vocabulary`, …) are adapted to the training rows of
each fold before training, so that scored rows do not influence them. A model with several outputs learns the same
target at each of them; only the first output is evaluated, predicted and saved, the others help training. The function
may attach Keras callbacks to the model that it returns, as ``model.callbacks``.

Only the public interface of Keras is used, so that any backend of Keras works.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from hpo.core.identity import PartIdentity
from hpo.core.params import Params, ParamValue
from hpo.core.space import SearchSpace
from hpo.datasets.base import Array, DataSpec
from hpo.errors import ConfigError
from hpo.models.base import Fit, FittedModel, Model
from hpo.models.fitting import EpochMonitor
from hpo.models.keras.adaptation import adapt_layers
from hpo.models.keras.callbacks import EpochCallback, ExtraMetrics, Interrupted
from hpo.models.keras.fitted import EVALUATION_BATCH_SIZE, FittedKerasModel, layers_of
from hpo.models.keras.schedules import SCHEDULES, schedule_callbacks

# Parameters of training, which the function that builds the model does not take.
OF_TRAINING = ("batch_size", "schedule")


# Libraries that compute for a backend of Keras, where they are not named like it.
_COMPUTED_WITH = {"jax": ("jax", "jaxlib")}


class KerasModel(Model):
    """A Keras model that ``build`` makes.

    Args:
        build: called as ``build(data_spec, **params)``; returns a compiled model.
        batch_size: default number of samples in a training step.
        schedule: default learning-rate schedule: ``constant``; ``plateau``, which lowers the rate when the watched loss
            stalls (``keras.callbacks.ReduceLROnPlateau``); ``cosine``, which falls to zero over the full budget
            (Loshchilov and Hutter 2017, without restarts).
        image_shape: see :class:`hpo.models.base.Model`.
        defaults: values that replace the defaults of ``build``.

    Raises:
        ConfigError: if ``defaults`` names something that ``build`` does not take, or a value is invalid.
    """

    weights_suffix = ".npz"

    def __init__(
        self,
        build: Callable[..., keras.Model],
        *,
        batch_size: int = 32,
        schedule: str = "constant",
        image_shape: tuple[int, ...] | None = None,
        **defaults: ParamValue,
    ) -> None:
        own = {
            name: parameter.default
            for name, parameter in inspect.signature(build).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        for name, value in defaults.items():
            if name not in own:
                names = ", ".join([*own, *OF_TRAINING, "image_shape"])
                raise ConfigError(f"model.{name}", value, f"one of {names}", f"'~model.{name}'")
        missing = [name for name, value in {**own, **defaults}.items() if value is inspect.Parameter.empty]
        if missing:
            raise ConfigError(
                f"model.{missing[0]}",
                "no default",
                f"a default in {build.__qualname__} or in the model's YAML",
                f"+model.{missing[0]}=…",
            )
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigError("model.batch_size", batch_size, "a whole number of at least 1", "model.batch_size=32")
        if schedule not in SCHEDULES:
            raise ConfigError("model.schedule", schedule, f"one of {', '.join(SCHEDULES)}", "model.schedule=constant")
        sides = image_shape if isinstance(image_shape, list | tuple) else [image_shape]
        if image_shape is not None and (len(sides) != 3 or not all(type(n) is int and n > 0 for n in sides)):
            expected = "height, width and channels, or null to take samples as they are"
            raise ConfigError("model.image_shape", image_shape, expected, "'model.image_shape=[28, 28, 1]'")
        self._build = build
        self._tunables: dict[str, ParamValue] = {**own, **defaults, "batch_size": batch_size, "schedule": schedule}
        self.image_shape = tuple(image_shape) if image_shape else None

    @property
    def tunables(self) -> dict[str, ParamValue]:
        return dict(self._tunables)

    def identity(self, space: SearchSpace) -> PartIdentity:
        general, backend = super().identity(space), keras.backend.backend()
        return PartIdentity(
            ("keras", *_COMPUTED_WITH.get(backend, (backend,))),
            (*general.code, self._build),
            {**general.values, "keras_backend": backend},
        )

    def metrics(self, spec: DataSpec) -> tuple[str, ...]:
        # Keras names the metrics of a compiled model only after a first step.
        x, y = np.zeros((1, *spec.input_shape), "float32"), np.zeros(1, "float32" if spec.is_regression else "int64")
        names = tuple(FittedKerasModel(self._compiled({}, spec), spec).evaluate(x, y))
        return names + tuple(f"val_{name}" for name in names)

    def _compiled(self, params: Params, spec: DataSpec) -> keras.Model:
        values = {name: value for name, value in {**self._tunables, **params}.items() if name not in OF_TRAINING}
        model = self._build(spec, **values)
        if not isinstance(model, keras.Model) or not model.compiled:
            raise TypeError(f"{self._build.__qualname__} must return a compiled keras.Model, not {model!r}")
        return model

    def fit(self, fit: Fit) -> FittedModel:
        data, log = fit.data, fit.log
        spec = _with_target_scale(fit.spec, data.y_train)
        values = {**self._tunables, **fit.params}
        with log.phase("build"):
            keras.utils.set_random_seed(fit.plan.seed)
            model = self._compiled(fit.params, spec)
            log.n_weights = model.count_params()
            adapt_layers(model, data.x_train)
        fitted = FittedKerasModel(model, spec)
        watched = None
        extra: list[keras.callbacks.Callback] = []
        if data.x_watch is not None and data.y_watch is not None:
            watched = (data.x_watch, fitted.targets(data.y_watch))
            extra = [ExtraMetrics(partial(fitted.measure, fit.plan.extra, data.x_watch, data.y_watch))]
        epochs = EpochCallback(EpochMonitor(fit, snapshot=model.get_weights), log)
        schedule = schedule_callbacks(str(values["schedule"]), fit)
        try:
            with log.phase("train"):
                self._train(
                    model,
                    fit.params,
                    data.x_train,
                    fitted.targets(data.y_train),
                    batch_size=int(str(values["batch_size"])),
                    epochs=fit.plan.max_epochs,
                    validation_data=watched,
                    validation_batch_size=EVALUATION_BATCH_SIZE,
                    callbacks=[*extra, *getattr(model, "callbacks", ()), *schedule, epochs],
                    verbose=0,
                )
        except Interrupted:
            pass  # the log says so
        finally:
            log.seconds["train"] -= log.seconds.get("first_step", 0.0)
        return fitted

    def _train(self, model: keras.Model, params: Params, x: Array, y: Any, **options: Any) -> None:
        """Call the ``fit`` of Keras; a hypermodel may have its own."""
        model.fit(x, y, **options)

    def restore(self, params: Params, spec: DataSpec, path: Path) -> FittedModel:
        with np.load(path, allow_pickle=False) as arrays:
            mean, std = arrays["targets"]
            spec = replace(spec, target_mean=float(mean), target_std=float(std))
            model = self._compiled(params, spec)
            model.set_weights([arrays[name] for name in arrays.files if name != "targets"])
        for layer in layers_of(model):
            if hasattr(layer, "finalize_state"):
                layer.finalize_state()
        # Without its state, Keras warns when somebody loads a saved copy of this model.
        model.optimizer.build(model.trainable_variables)
        return FittedKerasModel(model, spec)


def _with_target_scale(spec: DataSpec, y: Array) -> DataSpec:
    """Return ``spec`` with the mean and standard deviation of real training targets ``y``."""
    if not spec.is_regression:
        return spec
    return replace(spec, target_mean=float(np.mean(y)), target_std=float(np.std(y)) or 1.0)
