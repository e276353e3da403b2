"""Keras Tuner's hypermodels, unmodified: ``build_model(hp)`` or a ``keras_tuner.HyperModel``, under every strategy.

The search space consists of the hyperparameters that the hypermodel declares by ``hp.Int``, ``hp.Choice`` and so on;
see :func:`hpo.models.keras.hypermodel.explore`. A hyperparameter that is declared unconditionally is always part of a
trial, whether it is used or not, as in Keras Tuner.
https://keras.io/keras_tuner/getting_started
"""

from __future__ import annotations

from typing import Any

import keras
import keras_tuner as kt

from hpo.core.identity import PartIdentity
from hpo.core.params import Params, ParamValue
from hpo.core.space import SearchSpace
from hpo.datasets.base import Array, DataSpec
from hpo.errors import ConfigError
from hpo.models.keras.hypermodel import explore, get_code, has_own_fit, resolve_hypermodel
from hpo.models.keras.hyperparameters import GivenValues, named
from hpo.models.keras.model import KerasModel


class KerasTunerModel(KerasModel):
    """A hypermodel, with its own loss, metrics and optimizer.

    Its hyperparameters are renamed where a command line could not hold their names, see
    :func:`hpo.models.keras.hyperparameters.named`.

    Args:
        hypermodel: a function ``build_model(hp)``, a ``HyperModel``, its class, or the dotted name of one of these. A
            ``fit(hp, model, *args, **kwargs)`` of the class is used: it has to call ``model.fit(*args, **kwargs)`` and
            may add a ``batch_size``, but not epochs, which the study sets.
        batch_size, schedule, image_shape: see :class:`hpo.models.keras.model.KerasModel`.
        defaults: values that replace the defaults of the hyperparameters.

    Raises:
        ConfigError: if there is no such hypermodel, it cannot be built, or a hyperparameter has no counterpart.
    """

    def __init__(
        self,
        hypermodel: Any,
        *,
        batch_size: int = 32,
        schedule: str = "constant",
        image_shape: tuple[int, ...] | None = None,
        **defaults: ParamValue,
    ) -> None:
        super().__init__(self._compiled_defaults, batch_size=batch_size, schedule=schedule, image_shape=image_shape)
        self._hypermodel = resolve_hypermodel(hypermodel)
        self._has_fit = has_own_fit(self._hypermodel)
        explored = explore(self._hypermodel)
        self._sets_batch_size = explored.sets_batch_size
        self._declared = dict(named(explored.hyperparameters))
        free = {name: each for name, each in self._declared.items() if each.parameter is not None}
        for name, value in defaults.items():
            if name not in free:
                expected = f"one of {', '.join([*free, 'batch_size', 'schedule', 'image_shape'])}"
                raise ConfigError(f"model.{name}", value, expected, f"'~model.{name}'")
        self._own_space = SearchSpace([each.parameter for each in free.values() if each.parameter is not None])
        own = {name: each.default for name, each in free.items()}
        # A batch size that the hypermodel declares replaces the study's.
        self._tunables = {**self._tunables, **own, **defaults}

    @property
    def own_space(self) -> SearchSpace:
        return self._own_space

    def identity(self, space: SearchSpace) -> PartIdentity:
        general = super().identity(space)
        code = (*general.code, get_code(self._hypermodel))
        return PartIdentity((*general.packages, "keras_tuner"), code, general.values)

    def hyperparameters(self, params: Params) -> kt.HyperParameters:
        """Return Keras Tuner's object with the active values of ``params`` and of the defaults, and no others."""
        active = self._own_space.select({**self._tunables, **params})
        given = GivenValues()
        for name, value in active.items():
            given.values.setdefault(self._declared[name].source.name, value)
        return given

    def _compiled_defaults(self, data: DataSpec) -> keras.Model:
        return self._compiled({}, data)

    def _compiled(self, params: Params, spec: DataSpec) -> keras.Model:
        model = self._hypermodel.build(self.hyperparameters(params))
        if not isinstance(model, keras.Model) or not model.compiled:
            raise TypeError(f"the hypermodel must return a compiled keras.Model, not {model!r}")
        if not model.built:
            model.build((None, *spec.input_shape))
        return model

    def _train(self, model: keras.Model, params: Params, x: Array, y: Any, **options: Any) -> None:
        if not self._has_fit:
            super()._train(model, params, x, y, **options)
            return
        if self._sets_batch_size:
            options = {name: value for name, value in options.items() if name != "batch_size"}
        self._hypermodel.fit(self.hyperparameters(params), model, x, y, **options)
