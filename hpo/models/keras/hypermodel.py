"""A Keras Tuner hypermodel: resolving what the config names, and finding the hyperparameters that it declares."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import keras
import keras_tuner as kt
from keras_tuner.engine import hyperparameters as hps

from hpo.config.targets import imported, instance
from hpo.errors import ConfigError

# Limits of the exploration: builds of the hypermodel, and values tried of one hyperparameter.
MAX_BUILDS, MAX_VALUES = 64, 6


def resolve_hypermodel(given: Any) -> kt.HyperModel:
    """Return the hypermodel that the config names.

    Args:
        given: a function ``build_model(hp)``, a ``HyperModel``, its class, or the dotted name of one of these.

    Raises:
        ConfigError: if it is none of these or cannot be imported.
    """
    target = imported("model.hypermodel", given)
    if inspect.isclass(target) and issubclass(target, kt.HyperModel):
        target = instance("model.hypermodel", given, target)
    if isinstance(target, kt.HyperModel):
        return target
    if not callable(target):
        expected = "a function build_model(hp) or a keras_tuner.HyperModel"
        raise ConfigError("model.hypermodel", given, expected, "model.hypermodel=my_module.build_model")
    return _Function(target)


def has_own_fit(hypermodel: kt.HyperModel) -> bool:
    """Whether the class of ``hypermodel`` overrides ``fit``."""
    return type(hypermodel).fit is not kt.HyperModel.fit


def get_code(hypermodel: kt.HyperModel) -> Any:
    """Return the user's function or object that defines ``hypermodel``."""
    return hypermodel.function if isinstance(hypermodel, _Function) else hypermodel


@dataclass(frozen=True)
class Exploration:
    """What a hypermodel was found to declare.

    Args:
        hyperparameters: in the order of discovery, parents before their children.
        sets_batch_size: whether its own ``fit`` passes a batch size to ``model.fit``.
    """

    hyperparameters: tuple[hps.HyperParameter, ...]
    sets_batch_size: bool


def explore(hypermodel: kt.HyperModel) -> Exploration:
    """Find the hyperparameters that ``hypermodel`` declares.

    It is built with its defaults, with every conditional scope active once, and with other values of each finite
    hyperparameter, so that loops over one hyperparameter that declare others are seen completely.

    Raises:
        ConfigError: if it cannot be built, its ``fit`` does not call ``model.fit``, or it declares nothing.
    """
    found = kt.HyperParameters()
    seen: list[hps.HyperParameter] = []
    tried: set[str] = set()
    waiting: list[dict[str, Any]] = [{}]
    n_builds = 0
    sets_batch_size = False
    while waiting and n_builds < MAX_BUILDS:
        values = waiting.pop(0)
        spelt = repr(sorted(values.items()))
        if spelt in tried:
            continue
        tried.add(spelt)
        n_builds += 1
        hp = kt.HyperParameters.from_config({"space": found.get_config()["space"], "values": dict(values)})
        for known in hp.space:  # only active ones may have values
            if hp.is_active(known):
                hp.values.setdefault(known.name, known.default)
        sets_batch_size = _declare(hypermodel, hp)
        found.merge(hp, overwrite=False)
        new = [each for each in found.space if not any(each is old for old in seen)]
        seen.extend(new)
        waiting.extend({each.name: each.values[0] for each in conditions} for conditions in hp.inactive_scopes)
        for each in new:
            reached = {condition.name: condition.values[0] for condition in each.conditions}
            waiting.extend({**reached, each.name: value} for value in _other_values(each))
    if not seen:
        expected = "a hypermodel that declares a parameter by hp.Int, hp.Float, hp.Choice or hp.Boolean"
        raise ConfigError("model.hypermodel", "nothing to tune", expected, "model=mnist_cnn")
    return Exploration(tuple(seen), sets_batch_size)


def _declare(hypermodel: kt.HyperModel, hp: kt.HyperParameters) -> bool:
    """Build the hypermodel with ``hp`` and start its own ``fit``; return whether that passes a batch size."""
    try:
        model = hypermodel.build(hp)
    except Exception as error:  # user code may raise anything
        raise _unusable(error, "a hypermodel that can be built") from error
    if not has_own_fit(hypermodel):
        return False
    passed: dict[str, Any] = {}

    def stop(*args: Any, **options: Any) -> NoReturn:
        passed.update(options)
        raise _TrainingReached

    model.fit = stop
    try:
        hypermodel.fit(hp, model, [], [], validation_data=None, epochs=1, callbacks=[], verbose=0)
    except _TrainingReached:
        return "batch_size" in passed
    except Exception as error:
        raise _unusable(error, "a fit that passes on its arguments and does not set epochs") from error
    raise ConfigError("model.hypermodel", "fit", "a fit that calls model.fit(*args, **kwargs)", "correct its fit")


class _TrainingReached(BaseException):
    """Leaves a hypermodel's ``fit`` where training would start."""


class _Function(kt.HyperModel):
    """A build function as a hypermodel that can be pickled."""

    def __init__(self, function: Callable[[kt.HyperParameters], keras.Model]) -> None:
        super().__init__()
        self.function = function

    def build(self, hp: kt.HyperParameters) -> keras.Model:
        return self.function(hp)


def _other_values(declared: hps.HyperParameter) -> Sequence[Any]:
    """Values besides the default that may reveal more hyperparameters: all of a few, else both ends and the middle."""
    if isinstance(declared, hps.Boolean):
        return (not declared.default,)
    if isinstance(declared, hps.Choice):
        values = list(declared.values)
    elif isinstance(declared, hps.Int) and declared.step is not None:
        values = [int(value) for value in declared.values]
    else:
        return ()
    if len(values) > MAX_VALUES:
        values = [values[0], values[len(values) // 2], values[-1]]
    return [value for value in values if value != declared.default]


def _unusable(error: Exception, expected: str) -> ConfigError:
    message = (str(error).splitlines() or ["no message"])[0]
    fix = "HYDRA_FULL_ERROR=1 in front of the command shows where it failed"
    return ConfigError("model.hypermodel", type(error).__name__, f"{expected} ({message})", fix)
