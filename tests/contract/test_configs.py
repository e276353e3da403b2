"""Every YAML composes, and makes what its group promises."""

from typing import Any

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from hpo import config as configs
from hpo.evaluation.resampling import Resampling
from hpo.executors.base import Executor
from hpo.models.base import Trainable
from hpo.strategies.base import Strategy
from hpo.study.build import _build, build_model

CASES = [(group, option) for group in (*configs.GROUPS, "strategy/pruner") for option in configs.options(group)]
# What an option cannot do without.
NEEDED = {
    "model=keras_tuner": ["model.hypermodel=hypermodels.build_classifier"],
    "model=optuna_objective": ["model.objective=objectives.sklearn_simple"],
}
# Models that begin from the study `mnist-base` of their store.
BEGIN_FROM_A_STUDY = ("transfer_cnn",)
# The model that a space is for, where they do not share a name.
MODELS = {"from_model": "keras_tuner"}
KINDS = {"strategy": Strategy, "resampling": Resampling, "executor": Executor}


def compose(*overrides: str) -> dict[str, Any]:
    configs.register()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(configs.resource_dir("conf")), version_base="1.3"):
        needed = [more for override in overrides for more in NEEDED.get(override, ())]
        conf = hydra.compose("config", overrides=[*overrides, *needed])
    for key in OmegaConf.missing_keys(conf):
        OmegaConf.update(conf, key, "anything")  # what a user has to give, such as the path of a file
    return configs.plain(conf)


@pytest.mark.parametrize(("group", "option"), CASES, ids=[f"{g}={o}" for g, o in CASES])
def test_an_option_composes_and_builds(group: str, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # which tracking=server cannot do without
    # A space is composed with the model that it is for.
    overrides = [f"model={MODELS.get(option, option)}"] if group == "search_space" else [f"{group}={option}"]
    config = compose(*overrides)
    definition = configs.Definition.of(config)
    group = group.partition("/")[0]
    if group in ("model", "search_space"):
        model = build_model(config)
        assert isinstance(model, Trainable)
        assert set(definition.space) <= set(model.tunables)
        # Or the first trial could not be the model's own configuration.
        assert definition.space.contains(definition.space.select(model.tunables))
    elif group in KINDS:
        assert isinstance(_build(config, group), KINDS[group])


@pytest.mark.parametrize("name", [name for name in configs.options("search_space") if name not in MODELS])
def test_a_shipped_space_can_be_searched_by_a_grid(name: str) -> None:
    space = configs.Definition.of(compose(f"search_space={name}")).space
    points = list(space.grid())
    assert 1 < len(points) < 1000
    assert all(space.contains(point) for point in points)
