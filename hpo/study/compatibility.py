"""Checks that the parts of a study fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpo.config.definition import FROM_MODEL, is_from_model
from hpo.core.params import ParamValue
from hpo.datasets.base import Dataset
from hpo.errors import ConfigError
from hpo.evaluation.resampling import Resampling
from hpo.models.base import Trainable
from hpo.study.study import ChosenOptions, Study


def check_resampling_fits(
    config: Mapping[str, Any], model: Trainable, resampling: Resampling, names: ChosenOptions
) -> None:
    """Refuse folds, params and early stopping for a model that brings its own, and a placeholder for others.

    Raises:
        ConfigError: naming the key.
    """
    chosen = f"model={names.model}"
    if not model.is_self_contained:
        if resampling.is_placeholder:
            expected = f"folds of the study, since {chosen} does not split its data itself"
            raise ConfigError("resampling", names.resampling, expected, "resampling=holdout")
        return
    if not resampling.is_placeholder:
        expected = f"own, since {chosen} loads and splits its data itself"
        raise ConfigError("resampling", names.resampling, expected, "resampling=own")
    stated = [name for name, spec in config["search_space"].items() if spec["type"] != FROM_MODEL]
    if stated or not is_from_model(config):
        expected = f"no parameters, since {chosen} asks for its own while it runs"
        raise ConfigError("search_space", ", ".join(stated), expected, "search_space=from_model")
    if config["early_stopping"]["patience"] is not None:
        expected = f"null, since {chosen} trains by itself"
        fix = "early_stopping.patience=null"
        raise ConfigError("early_stopping.patience", config["early_stopping"]["patience"], expected, fix)


def check_dataset_fits(dataset: Dataset, model: Trainable, names: ChosenOptions) -> None:
    """Refuse data for a model that loads its own, and a placeholder for others.

    Raises:
        ConfigError: naming the key.
    """
    if model.is_self_contained and not dataset.is_placeholder:
        expected = f"own, since model={names.model} loads its data itself"
        raise ConfigError("dataset", names.dataset, expected, "dataset=own")
    if dataset.is_placeholder and not model.is_self_contained:
        expected = f"data to train on, since model={names.model} loads none itself"
        raise ConfigError("dataset", names.dataset, expected, "dataset=digits")


def check_strategy_fits(study: Study) -> None:
    """Refuse a study that needs what its strategy cannot do.

    Raises:
        ConfigError: naming both keys.
    """
    tags, definition, chosen = study.strategy.tags, study.definition, f"strategy={study.names.strategy}"
    if study.is_defined_by_run and not tags.define_by_run:
        expected = f"one of Optuna's, since model={study.names.model} asks for its params while it runs"
        raise ConfigError("strategy", f"{study.names.strategy} ({tags.backend})", expected, "strategy=optuna")
    conditional = [name for name, parameter in definition.space.items() if parameter.when]
    if conditional and not tags.conditional:
        key = f"search_space.{conditional[0]}.when"
        expected = f"no conditions, since {chosen} ({tags.backend}) takes none"
        fix = f"'~search_space.{conditional[0]}', {key}=null, or a strategy with conditions: python -m hpo strategies"
        raise ConfigError(key, dict(definition.space[conditional[0]].when or {}), expected, fix)
    if tags.pruning and not study.resampling.allows_pruning:
        expected = (
            f"a strategy that does not prune, since resampling={study.names.resampling} has folds that say too little"
        )
        fix = "strategy/pruner=none" if "pruner" in study.config["strategy"] else "strategy=random"
        raise ConfigError("strategy", f"{study.names.strategy}, which prunes", expected, f"{fix}, or resampling=kfold")
    if definition.objective.others:
        names = ", ".join(definition.objective.others)
        if not tags.several_objectives:
            expected = f"one objective, since {chosen} takes one"
            raise ConfigError("objective.others", names, expected, "strategy=optuna_nsga2")
        if tags.pruning:
            expected = f"one objective, since a pruner compares one curve and {chosen} prunes"
            raise ConfigError("objective.others", names, expected, "strategy/pruner=none, or strategy=optuna_nsga2")
    if definition.enqueue and not tags.enqueues:
        expected = f"nothing, since {chosen} ({tags.backend}) takes no configurations to begin with"
        raise ConfigError("enqueue", f"{len(definition.enqueue)} configurations", expected, "strategy=optuna")


def check_space_fits(names: list[str], tunables: Mapping[str, ParamValue]) -> None:
    """Refuse a search space with parameters that the model does not have.

    Raises:
        ConfigError: naming the parameter and the parameters of the model.
    """
    for name in names:
        if name not in tunables:
            raise ConfigError(
                f"search_space.{name}",
                "named in the space",
                f"a parameter of the model: {', '.join(tunables)}",
                f"'~search_space.{name}', or rename it",
            )
