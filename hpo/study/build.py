"""Builds a study from its config: the only place that instantiates ``_target_``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from hpo.config.definition import Definition, is_from_model, with_space_of_model
from hpo.config.targets import import_error, imported, place_in_user_code
from hpo.core.packages import install_command
from hpo.datasets.base import Dataset
from hpo.errors import ConfigError, InputError, one_line
from hpo.evaluation.factory import StudyEvaluators
from hpo.evaluation.resampling import Resampling
from hpo.executors.base import Executor
from hpo.models.base import SavedNetwork, Trainable
from hpo.strategies.base import Strategy, StrategyTags
from hpo.study.compatibility import check_dataset_fits, check_resampling_fits, check_space_fits, check_strategy_fits
from hpo.study.previous_format import moved_name
from hpo.study.study import ChosenOptions, Study, default_name
from hpo.tracking.schema import Tag

_IMPORTS_KERAS = ("hpo.models.keras.", "hpo.strategies.keras_tuner.")


def build_study(
    config: Mapping[str, Any],
    definition: Definition,
    names: ChosenOptions,
    dataset_note: str | None = None,
    to_record: Mapping[str, Any] | None = None,
    known: Mapping[str, str] | None = None,
) -> Study:
    """Build a study and check that its parts fit, quick checks first.

    Args:
        to_record: the config as it is recorded, if that differs from ``config``.
        known: the tags of the study that is resumed.

    Raises:
        ConfigError: when a part cannot be built or the parts do not fit.
        DatasetError: when the data are missing, corrupt or do not fit the model.
    """
    executor = build_part(config, "executor", Executor)
    executor.prepare()
    if any(str(config[group].get("_target_")).startswith(_IMPORTS_KERAS) for group in ("strategy", "model")):
        from hpo.models.keras.start import start_backend

        start_backend()
    strategy = build_part(config, "strategy", Strategy)
    resampling = build_part(config, "resampling", Resampling)
    model = build_model(config)
    check_resampling_fits(config, model, resampling, names)
    if model.is_defined_by_run:
        definition = replace(definition, enqueue=tuple(config["enqueue"]))
    elif is_from_model(config):
        config = with_space_of_model(config, model.own_space)
        to_record = {**(to_record or config), "search_space": config["search_space"]}
        definition = Definition.of(config)
    check_space_fits(list(definition.space), model.tunables)
    resolve_model(model, config, known)
    dataset = build_dataset(config)
    check_dataset_fits(dataset, model, names)
    evaluators = StudyEvaluators(dataset, resampling, definition.objective, definition.early_stopping, definition.seed)
    evaluator = model.make_evaluator(evaluators)
    name = config["study"] or default_name(names, definition.seed)
    study = Study(
        name=name,
        names=names,
        config=to_record or config,
        definition=definition,
        model=model,
        dataset=dataset,
        evaluator=evaluator,
        strategy=strategy,
        executor=executor,
        resampling=resampling,
        dataset_note=dataset_note,
    )
    check_strategy_fits(study)
    strategy.plan(study.search)
    return study


def strategy_tags(config: Mapping[str, Any]) -> StrategyTags:
    """Return what the configured strategy can do.

    Raises:
        ConfigError: when its library is not installed.
    """
    strategy: Strategy = build_part(config, "strategy", Strategy)
    return strategy.tags


def build_model(config: Mapping[str, Any]) -> Trainable:
    """Build the model that the config names: a class, or a function that returns a Keras model.

    Raises:
        ConfigError: when it cannot be imported or built.
    """
    options = dict(config["model"])
    target = options.pop("_target_", None)
    if target is None:
        raise ConfigError("model._target_", None, "the dotted name of a function or class", "model=mnist_cnn")
    try:
        found = imported("model._target_", target)
    except ConfigError as error:
        raise _not_found("model._target_", target, error.__cause__ or error) from error.__cause__
    if not inspect.isfunction(found):
        model: Trainable = build_part(config, "model", Trainable)
        return model
    from hpo.models.keras.model import KerasModel  # imports Keras

    return KerasModel(found, **options)


def resolve_model(model: Trainable, config: Mapping[str, Any], known: Mapping[str, str] | None = None) -> None:
    """Fetch the network that ``model`` starts from, from the store that the study is recorded in.

    Args:
        known: the tags of the study that is resumed. They hold the network that it started from, even if the name now
            stands for another one.

    Raises:
        InputError: when it cannot be fetched or does not fit.
    """
    where = config["tracking"]

    def fetch(wanted: str, folder: Path) -> SavedNetwork:
        from hpo.tracking.base_models import fetch_network  # imports MLflow, which most models do not need to be built

        if known and wanted == known.get(Tag.BASE):
            wanted = known[Tag.BASE_URI]
        return fetch_network(where["uri"], where["experiment"], wanted, folder)

    model.resolve(fetch)


def build_dataset(config: Mapping[str, Any]) -> Dataset:
    """Load the data that the config names.

    Raises:
        ConfigError: when the dataset cannot be imported or built.
        DatasetError: when the data are missing or corrupt.
    """
    dataset: Dataset = build_part(config, "dataset", Dataset)
    return dataset


def build_part(config: Mapping[str, Any], key: str, kind: type) -> Any:
    """Build the object that one group of the config names.

    Args:
        key: the group.
        kind: the class that it must be an instance of.

    Raises:
        InputError: when it cannot be imported or built, or is of another kind.
    """
    node = config[key]
    try:
        built = instantiate(node, _convert_="all")
    except InstantiationException as error:
        explained = _explain(key, node, error)
        # An error of ours that Hydra wrapped already has this error as its context; as a cause it would make a cycle.
        raise explained from (None if explained.__cause__ or explained.__traceback__ else error)
    if not isinstance(built, kind):
        raise ConfigError(
            f"{key}._target_",
            node.get("_target_"),
            f"the name of a class or function that makes a {kind.__module__}.{kind.__name__}",
            f"python -m hpo help {key} lists the options",
        )
    return built


def _explain(key: str, node: Mapping[str, Any], error: InstantiationException) -> InputError:
    """Explain an error of Hydra in one message that names the key, also of a nested ``_target_``."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InputError):
            return cause
        last, cause = cause, cause.__cause__
    full_key, inner = _failed_node(key, node, error)
    target = str(inner.get("_target_", node.get("_target_")))
    if "locating target" in str(error):
        return _not_found(f"{full_key}._target_", target, last)
    if isinstance(last, ModuleNotFoundError) and install_command(str(last.name)):
        return import_error(full_key, target, last)
    said = one_line(last)
    if option := re.search(r"unexpected keyword argument '(\w+)'", said):
        name = option.group(1)
        expected = f"an option that {target} takes"
        return ConfigError(f"{full_key}.{name}", inner.get(name, "given"), expected, f"'~{full_key}.{name}'")
    if place := place_in_user_code(last):
        expected = f"code that runs without an error; {place}, raised {said}"
        return ConfigError(full_key, target, expected, f"correct {place} or the options of {target}")
    return ConfigError(full_key, target, f"options that it takes ({said})", "python -m hpo --cfg job shows them")


def _failed_node(key: str, node: Mapping[str, Any], error: Exception) -> tuple[str, Mapping[str, Any]]:
    """Return the full key and the mapping of the ``_target_`` that failed."""
    where = re.search(r"full_key: (\S+)", str(error))
    inner: Any = node
    for part in where.group(1).split(".") if where else ():
        inner = inner.get(part, {}) if isinstance(inner, Mapping) else {}
    return f"{key}.{where.group(1)}" if where else key, inner if isinstance(inner, Mapping) else {}


def _not_found(key: str, target: str, error: BaseException) -> ConfigError:
    if (new := moved_name(target)) != target:
        return ConfigError(key, target, f"{new}, which is its name in this version of hpo", f"{key}={new}")
    return import_error(key, target, error)
