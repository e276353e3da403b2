"""Keras models: a function of named parameters that returns a compiled ``keras.Model``.

::

    def build_model(data: DataSpec, *, units: int = 64, learning_rate: float = 1e-3) -> keras.Model: ...

Its keyword-only parameters are what a search space may name, besides ``batch_size`` and ``schedule``, which training
takes. Layers with an ``adapt`` (``Normalization``, :func:`~.blocks.vocabulary`, …) are adapted to the training
rows of each fold before it is trained, so that the scored rows have no part in it. A model with several outputs learns
the same target at each of them; the first one is what it answers and is measured by, the others are a help in training.
A function may attach Keras callbacks of its own to the model it returns, as ``model.callbacks``.

Only Keras's own interface is used, so that its backend stays a choice.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from hpo.core.identity import PartIdentity
from hpo.core.params import Params, ParamValue
from hpo.core.space import SearchSpace
from hpo.core.states import Decision, StopReason
from hpo.datasets.base import Array, DataSpec
from hpo.errors import ConfigError
from hpo.models import metrics
from hpo.models.base import Control, FeatureMaps, Fit, FitLog, FitPlan, FittedModel, FoldData, Model

SCHEDULES = ("constant", "plateau", "cosine")
# Of the plateau: what the learning rate is multiplied by after so many epochs without a smaller loss.
PLATEAU_FACTOR, PLATEAU_PATIENCE = 0.3, 2
# What training takes, and not the function that builds.
OF_TRAINING = ("batch_size", "schedule")
# Samples a batch outside training, where the size changes nothing but speed.
EVALUATION_BATCH_SIZE = 512
# Batches between two looks at the loss: each look makes an accelerator wait for the driver.
LOSS_CHECK_BATCHES = 25


# Libraries that compute for a backend of Keras, where they are not named like it.
_COMPUTED_WITH = {"jax": ("jax", "jaxlib")}


class KerasModel(Model):
    """A Keras model made by ``build``.

    Args:
        build: called as ``build(data_spec, **params)``; returns a compiled model.
        batch_size: default number of samples a training step.
        schedule: default course of the learning rate: ``constant``; ``plateau``, which lowers it when the watched loss
            stalls (``keras.callbacks.ReduceLROnPlateau``); ``cosine``, which falls to zero over the full budget
            (Loshchilov and Hutter 2017, without restarts).
        image_shape: see :class:`hpo.models.base.Model`.
        defaults: values that replace the defaults of ``build``.

    Raises:
        ConfigError: when ``defaults`` names something that ``build`` does not take.
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
        # The names of compiled metrics are only settled by a first step.
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
        params, data, plan, log = fit.params, fit.data, fit.plan, fit.log
        spec = _with_targets_of(fit.spec, data.y_train)
        values = {**self._tunables, **params}
        with log.phase("build"):
            keras.utils.set_random_seed(plan.seed)
            model = self._compiled(params, spec)
            log.n_weights = model.count_params()
            _adapt(model, data.x_train)
        fitted = FittedKerasModel(model, spec)
        stopping = early_stopping_callback(plan)
        recorder = _Recorder(stopping, plan, log, fit.control)
        watched = None
        callbacks = [*getattr(model, "callbacks", ()), *_schedule(str(values["schedule"]), plan, data), recorder]
        if data.x_watch is not None and data.y_watch is not None:
            watched = (data.x_watch, fitted.targets(data.y_watch))
            measured = _Measures(fitted, plan, data.x_watch, data.y_watch)
            callbacks = [measured, *callbacks[:-1], stopping, recorder]
        try:
            with log.phase("train"):
                self._train(
                    model,
                    params,
                    data.x_train,
                    fitted.targets(data.y_train),
                    batch_size=int(str(values["batch_size"])),
                    epochs=plan.max_epochs,
                    validation_data=watched,
                    validation_batch_size=EVALUATION_BATCH_SIZE,
                    callbacks=callbacks,
                    verbose=0,
                )
        except _Interrupted:
            log.stop_reason = StopReason.INTERRUPTED
        finally:
            log.seconds["train"] -= log.seconds.get("first_step", 0.0)
        return fitted

    def _train(self, model: keras.Model, params: Params, x: Array, y: Any, **options: Any) -> None:
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
        # Else a model saved by its user is loaded with a warning about an optimizer without state.
        model.optimizer.build(model.trainable_variables)
        return FittedKerasModel(model, spec)


def _with_targets_of(spec: DataSpec, y: Array) -> DataSpec:
    if not spec.is_regression:
        return spec
    return replace(spec, target_mean=float(np.mean(y)), target_std=float(np.std(y)) or 1.0)


def layers_of(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers of a network, those of networks inside it included."""
    for layer in model.layers:
        yield from layers_of(layer) if isinstance(layer, keras.Model) else [layer]


def _first_convolution(model: keras.Model, x: Array) -> tuple[keras.layers.Conv2D, Array] | None:
    """The first convolution and its answers, also that of a network which ``model`` begins with."""
    before: Any = None
    for operation in getattr(model, "operations", model.layers):
        if isinstance(operation, keras.layers.Conv2D):
            return operation, keras.Model(model.inputs, operation.output).predict(x, verbose=0)
        if isinstance(operation, keras.Model):
            if before is not None:
                x = keras.Model(model.inputs, before.output).predict(x, verbose=0)
            return _first_convolution(operation, x)
        if before is not None and operation.input is not before.output:
            return None  # it branches before there is any
        before = operation
    return None


def _adapt(model: keras.Model, x: Array) -> None:
    """Adapt the layers that can be, in the order of the data through them, to training rows."""
    adaptable = [layer for layer in layers_of(model) if callable(getattr(layer, "adapt", None))]
    for layer in adaptable:
        before = keras.Model(model.inputs, layer.input) if layer.input is not model.inputs[0] else None
        seen = x if before is None else before.predict(x, batch_size=EVALUATION_BATCH_SIZE, verbose=0)
        layer.adapt(_filled(np.asarray(seen)))


def _filled(x: Array) -> Array:
    """``x`` with missing values replaced by the mean of their column, which leaves that as it is."""
    if x.dtype.kind != "f" or not np.isnan(x).any():
        return x
    flat = x.reshape(-1, x.shape[-1])
    known = ~np.isnan(flat)
    means = np.where(known, flat, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(np.isnan(x), means, x)


def _schedule(name: str, plan: FitPlan, data: FoldData) -> list[keras.callbacks.Callback]:
    if name == "plateau":
        monitor = "loss" if data.is_refit else "val_loss"
        return [keras.callbacks.ReduceLROnPlateau(monitor, PLATEAU_FACTOR, PLATEAU_PATIENCE, mode="min")]
    if name == "cosine":
        full = max(1, round(plan.max_epochs / plan.share))
        return [_Cosine(full)]
    if name != "constant":
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, not {name!r}")
    return []


class _Cosine(keras.callbacks.Callback):
    """Of the rate that each optimizer came with: a callback of the model's own may compile it anew."""

    def __init__(self, full: int) -> None:
        super().__init__()
        self._full, self._highest = full, 0.0
        self._optimizer: keras.optimizers.Optimizer | None = None

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        rate = self.model.optimizer.learning_rate
        if self._optimizer is not self.model.optimizer:
            self._optimizer, self._highest = self.model.optimizer, float(keras.ops.convert_to_tensor(rate))
        share = 0.5 * (1 + math.cos(math.pi * min(1.0, epoch / self._full)))
        rate.assign(self._highest * share)


class FittedKerasModel(FittedModel):
    """A trained ``keras.Model``.

    Args:
        spec: with the targets' mean and standard deviation that it was built for.
    """

    def __init__(self, model: keras.Model, spec: DataSpec) -> None:
        self._model, self._spec = model, spec

    def targets(self, y: Array) -> Any:
        """``y`` as the model's ``fit`` takes it: once for every output."""
        n_outputs = len(self._model.outputs) if isinstance(self._model.outputs, list) else 1
        return y if n_outputs == 1 else [y] * n_outputs

    def evaluate(self, x: Array, y: Array, extra: Sequence[str] = ()) -> dict[str, float]:
        y_all = self.targets(y)
        values = self._model.evaluate(x, y_all, batch_size=EVALUATION_BATCH_SIZE, verbose=0, return_dict=True)
        found = named_by_first_output(self._model, {name: float(value) for name, value in values.items()})
        missing = [name for name in extra if name not in found]
        return found | (self.measure(missing, x, y) if missing else {})

    def measure(self, wanted: Sequence[str], x: Array, y: Array) -> dict[str, float]:
        """Metrics of :mod:`hpo.models.metrics`."""
        labels, scores = self.answers(x)
        return metrics.measure(wanted, y, labels, self._spec, scores)

    def predict(self, x: Array) -> Array:
        predicted = self._model.predict(x, batch_size=EVALUATION_BATCH_SIZE, verbose=0)
        first: Array = predicted[0] if isinstance(predicted, list) else predicted
        return first

    def answers(self, x: Array) -> tuple[Array, Array | None]:
        predicted = self.predict(x)
        if self._spec.is_regression:
            return predicted.reshape(len(x)), None
        if predicted.ndim == 1 or predicted.shape[1] == 1:  # a sigmoid
            of_one = predicted.reshape(len(x), 1)
            predicted = np.concatenate([1 - of_one, of_one], axis=1)
        return predicted.argmax(axis=1), predicted

    def feature_maps(self, x: Array) -> FeatureMaps | None:
        found = _first_convolution(self._model, x)
        if found is None:
            return None
        first, maps = found
        return FeatureMaps(np.asarray(first.get_weights()[0]), x, maps)

    def save_weights(self, path: Path) -> None:
        # Not model.save_weights: that adds the optimizer's state, twice the size of the weights.
        partial = path.with_name(f"partial-{path.name}")
        targets = np.array([self._spec.target_mean, self._spec.target_std])
        np.savez(partial, *self._model.get_weights(), targets=targets)
        partial.replace(path)

    @property
    def native(self) -> keras.Model:
        outputs = self._model.outputs
        # Outputs besides the first one are a help in training, and not what the model answers.
        is_single = not isinstance(outputs, list) or len(outputs) == 1
        return self._model if is_single else keras.Model(self._model.inputs, outputs[0])


def named_by_first_output(model: keras.Model, logs: Mapping[str, float]) -> dict[str, float]:
    """Metrics of a model with several outputs under the names that one with one output would report."""
    names = list(getattr(model, "output_names", ()) or ())
    if len(names) < 2:
        return dict(logs)
    named = {}
    for name, value in logs.items():
        prefix = "val_" if name.startswith("val_") else ""
        inner = name.removeprefix(prefix)
        # The longest name that fits, since those of outputs may begin alike.
        output = max((known for known in names if inner.startswith(f"{known}_")), key=len, default=None)
        if output == names[0] and not inner.endswith("_loss"):
            inner = inner.removeprefix(f"{names[0]}_")
        named[prefix + inner] = value
    return named


def early_stopping_callback(plan: FitPlan) -> keras.callbacks.EarlyStopping:
    """Keras's own callback; without a patience it never stops, but still keeps the best weights."""
    stopping = plan.early_stopping
    return keras.callbacks.EarlyStopping(
        monitor=stopping.monitor,
        min_delta=stopping.min_delta,
        patience=plan.max_epochs if stopping.patience is None else stopping.patience,
        mode=stopping.mode,
        restore_best_weights=stopping.restore_best_weights,
        start_from_epoch=stopping.start_from_epoch,
    )


class _Interrupted(Exception):
    """Leaves ``fit`` between two batches."""


class _Measures(keras.callbacks.Callback):
    """Adds to an epoch's metrics what the study asks for, before any other callback sees them."""

    def __init__(self, fitted: FittedKerasModel, plan: FitPlan, x: Array, y: Array) -> None:
        super().__init__()
        self._fitted, self._plan, self._x, self._y = fitted, plan, x, y

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is None:
            return
        named = named_by_first_output(self.model, logs)
        if self._plan.extra:
            found = self._fitted.measure(self._plan.extra, self._x, self._y)
            named |= {f"val_{name}": value for name, value in found.items()}
        logs.clear()
        logs.update(named)


class _Recorder(keras.callbacks.Callback):
    """Fills a :class:`FitLog`, watches for a loss that is not finite, and asks the driver how to go on.

    Comes after ``EarlyStopping`` in the list of callbacks, so that it sees what that has decided.
    """

    def __init__(self, stopping: keras.callbacks.EarlyStopping, plan: FitPlan, log: FitLog, control: Control) -> None:
        super().__init__()
        self._stopping, self._plan, self._log, self._control = stopping, plan, log, control
        self._began = 0.0

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if "first_step" not in self._log.seconds:
            self._log.seconds["first_step"] = time.perf_counter() - self._began
        if batch % LOSS_CHECK_BATCHES == 0 and not math.isfinite(float((logs or {}).get("loss", 0.0))):
            self._diverge(f"loss is not finite in epoch {self._log.epochs_run}")
        if self._control.poll() is Decision.INTERRUPT:
            raise _Interrupted

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        log, stopping = self._log, self._stopping
        logged = named_by_first_output(self.model, {name: float(value) for name, value in (logs or {}).items()})
        values = {name: value for name, value in logged.items() if name != "learning_rate"}
        for name, value in values.items():
            log.history.setdefault(name, []).append(value)
        log.epochs_run = epoch + 1
        if stopping.best is not None:
            log.best_epoch, log.best_value = int(stopping.best_epoch), float(stopping.best)
        watched = {name: values[name] for name in ("loss", "val_loss", stopping.monitor) if name in values}
        broken = next((name for name, value in watched.items() if not math.isfinite(value)), None)
        if broken and log.stop_reason is not StopReason.DIVERGED:
            self._diverge(f"{broken} is not finite after epoch {epoch}")
        if stopping.stopped_epoch and log.stop_reason is StopReason.MAX_EPOCHS:
            log.stopped_epoch, log.stop_reason = int(stopping.stopped_epoch), StopReason.EARLY_STOPPED
        decision = self._control.on_epoch(epoch, values)
        if self.model.stop_training or log.epochs_run >= self._plan.max_epochs:
            return  # it ends by itself: nothing left to prune or interrupt
        if decision is Decision.PRUNE:
            log.stop_reason = StopReason.PRUNED
            self.model.stop_training = True
        elif decision is Decision.INTERRUPT:
            raise _Interrupted

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        self._log.restored_best_weights = self._stopping.best_weights is not None

    def _diverge(self, problem: str) -> None:
        self._log.stop_reason, self._log.problem = StopReason.DIVERGED, problem
        self.model.stop_training = True
