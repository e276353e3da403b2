"""Keras models: a function of named parameters that returns a compiled ``keras.Model``.

::

    def build_model(data: DataSpec, *, units: int = 64, learning_rate: float = 1e-3) -> keras.Model: ...

Its keyword-only parameters are what a search space may name, and ``batch_size``, which training takes.
Only Keras's own interface is used, so that its backend stays a choice.
"""

from __future__ import annotations

import inspect
import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from hpo.datasets.base import Array, DataSpec
from hpo.errors import ConfigError
from hpo.models.base import Control, FitLog, FittedModel, FoldData, Model
from hpo.trial import Decision, FitPlan, Params, ParamValue, StopReason

# A study makes a new model for every trial, so that its functions are traced anew: nothing to be warned of.
logging.getLogger("tensorflow").setLevel(logging.ERROR)

# Samples a batch outside training, where the size changes nothing but speed.
EVALUATION_BATCH_SIZE = 512
# Batches between two looks at the loss: each look makes an accelerator wait for the driver.
LOSS_CHECK_BATCHES = 25


class KerasModel(Model):
    """A Keras model made by ``build``.

    Args:
        build: called as ``build(data_spec, **params)``; returns a compiled model.
        batch_size: default number of samples a training step.
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
                names = ", ".join([*own, "batch_size", "image_shape"])
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
        sides = image_shape if isinstance(image_shape, list | tuple) else [image_shape]
        if image_shape is not None and (len(sides) != 3 or not all(type(n) is int and n > 0 for n in sides)):
            expected = "height, width and channels, or null to take samples as they are"
            raise ConfigError("model.image_shape", image_shape, expected, "'model.image_shape=[28, 28, 1]'")
        self._build = build
        self._tunables: dict[str, ParamValue] = {**own, **defaults, "batch_size": batch_size}
        self.image_shape = tuple(image_shape) if image_shape else None

    @property
    def tunables(self) -> dict[str, ParamValue]:
        return dict(self._tunables)

    def metrics(self, spec: DataSpec) -> tuple[str, ...]:
        # The names of compiled metrics are only settled by a first step.
        x, y = np.zeros((1, *spec.input_shape), "uint8"), np.zeros(1, "int64")
        names = tuple(self._compiled({}, spec).evaluate(x, y, verbose=0, return_dict=True))
        return names + tuple(f"val_{name}" for name in names)

    def _compiled(self, params: Params, spec: DataSpec) -> keras.Model:
        values = {name: value for name, value in {**self._tunables, **params}.items() if name != "batch_size"}
        model = self._build(spec, **values)
        if not isinstance(model, keras.Model) or not model.compiled:
            raise TypeError(f"{self._build.__qualname__} must return a compiled keras.Model, not {model!r}")
        return model

    def fit(
        self, params: Params, spec: DataSpec, data: FoldData, plan: FitPlan, log: FitLog, control: Control
    ) -> FittedModel:
        with log.phase("build"):
            keras.utils.set_random_seed(plan.seed)
            model = self._compiled(params, spec)
            log.n_weights = model.count_params()
        stopping = early_stopping_callback(plan)
        recorder = _Recorder(stopping, plan, log, control)
        is_watched = data.x_watch is not None
        try:
            with log.phase("train"):
                model.fit(
                    data.x_train,
                    data.y_train,
                    batch_size=int(str({**self._tunables, **params}["batch_size"])),
                    epochs=plan.max_epochs,
                    validation_data=(data.x_watch, data.y_watch) if is_watched else None,
                    validation_batch_size=EVALUATION_BATCH_SIZE,
                    callbacks=[stopping, recorder] if is_watched else [recorder],
                    verbose=0,
                )
        except _Interrupted:
            log.stop_reason = StopReason.INTERRUPTED
        finally:
            log.seconds["train"] -= log.seconds.get("first_step", 0.0)
        return FittedKerasModel(model)

    def restore(self, params: Params, spec: DataSpec, path: Path) -> FittedModel:
        model = self._compiled(params, spec)
        with np.load(path, allow_pickle=False) as arrays:
            model.set_weights([arrays[name] for name in arrays.files])
        # Else a model saved by its user is loaded with a warning about an optimizer without state.
        model.optimizer.build(model.trainable_variables)
        return FittedKerasModel(model)


class FittedKerasModel(FittedModel):
    """A trained ``keras.Model``."""

    def __init__(self, model: keras.Model) -> None:
        self._model = model

    def evaluate(self, x: Array, y: Array) -> dict[str, float]:
        values = self._model.evaluate(x, y, batch_size=EVALUATION_BATCH_SIZE, verbose=0, return_dict=True)
        return {name: float(value) for name, value in values.items()}

    def predict(self, x: Array) -> Array:
        predicted: Array = self._model.predict(x, batch_size=EVALUATION_BATCH_SIZE, verbose=0)
        return predicted

    def save_weights(self, path: Path) -> None:
        # Not model.save_weights: that adds the optimizer's state, twice the size of the weights.
        partial = path.with_name(f"partial-{path.name}")
        np.savez(partial, *self._model.get_weights())
        partial.replace(path)

    @property
    def native(self) -> keras.Model:
        return self._model


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
        values = {name: float(value) for name, value in (logs or {}).items()}
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
