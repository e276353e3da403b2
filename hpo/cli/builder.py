"""Builds the study of a composed config, inside the Hydra job that composed it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from hpo import config as configs
from hpo.tracking.schema import Tag


def build(conf: DictConfig, recorded_tags: Mapping[str, str] | None = None) -> tuple[Any, list[str]]:
    """Build a study.

    Args:
        conf: the composed config.
        recorded_tags: the tags of the study that is resumed. Its number of threads per trial is kept, whatever the
            number of workers is now.

    Returns:
        The study, and the overrides that define it.

    Raises:
        InputError: for a config from which no study can be built.
    """
    configs.check_shadowing()
    is_set = configs.is_given("executor.threads_per_trial")
    threads = None if is_set else (recorded_tags or {}).get(Tag.THREADS_PER_TRIAL)

    from hpo.datasets.base import DatasetUnavailable
    from hpo.study import build as studies
    from hpo.study.study import ChosenOptions

    overrides = [*configs.config_dirs(), *HydraConfig.get().overrides.task]
    chosen = {group: configs.chosen(group) for group in ("model", "dataset", "strategy", "resampling")}
    names = ChosenOptions(**chosen, choices=configs.choices())

    def build_from(conf: DictConfig, names: Any, note: str | None = None) -> Any:
        if threads is not None:
            conf = configs.with_value(conf, "executor.threads_per_trial", int(threads))
        config = configs.plain(conf)
        definition = configs.Definition.of(config)
        return studies.build_study(config, definition, names, note, configs.for_the_record(conf), recorded_tags)

    try:
        return build_from(conf, names), overrides
    except DatasetUnavailable as error:
        fallback = conf["dataset"].get("fallback")
        if fallback is None or configs.is_explicit("dataset"):
            raise
        note = f"{names.dataset} is {error.value}; training on {fallback} instead"
        names = replace(names, dataset=fallback, choices={**names.choices, "dataset": fallback})
        return build_from(configs.with_option("dataset", fallback), names, note), [*overrides, f"dataset={fallback}"]
