"""Every YAML composes and builds an object of its group."""

from typing import Any

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import OmegaConf

from hpo import config as configs
from hpo.evaluation.resampling import Resampling
from hpo.executors.base import Executor
from hpo.models.base import Trainable
from hpo.strategies.base import Strategy
from hpo.study.build import build_model

CASES = [(group, option) for group in (*configs.GROUPS, "strategy/pruner") for option in configs.options(group)]
# Overrides that an option needs.
NEEDED = {
    "model=keras_tuner": ["model.hypermodel=hypermodels.build_classifier"],
    "model=optuna_objective": ["model.objective=objectives.sklearn_simple"],
}
# Models that start from the study `mnist-base` of their store.
BEGIN_FROM_A_STUDY = ("transfer_cnn",)
# Spaces with another name than their model.
MODELS = {"from_model": "keras_tuner"}
KINDS = {"strategy": Strategy, "resampling": Resampling, "executor": Executor}


def compose(*overrides: str) -> dict[str, Any]:
    configs.register()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(configs.resource_dir("conf")), version_base="1.3"):
        needed = [more for override in overrides for more in NEEDED.get(override, ())]
        conf = hydra.compose("config", overrides=[*overrides, *needed])
    for key in OmegaConf.missing_keys(conf):
        OmegaConf.update(conf, key, "anything")  # options without a default, such as the path of a file
    return configs.plain(conf)


@pytest.mark.parametrize(("group", "option"), CASES, ids=[f"{g}={o}" for g, o in CASES])
def test_option_composes_and_builds(group: str, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # required by tracking=server
    # A space is composed with its model.
    overrides = [f"model={MODELS.get(option, option)}"] if group == "search_space" else [f"{group}={option}"]
    config = compose(*overrides)
    definition = configs.Definition.of(config)
    group = group.partition("/")[0]
    if group in ("model", "search_space"):
        model = build_model(config)
        assert isinstance(model, Trainable)
        assert set(definition.space) <= set(model.tunables)
        # The model's defaults are the first trial, so the space has to contain them.
        assert definition.space.contains(definition.space.select(model.tunables))
    elif group in KINDS:
        assert isinstance(instantiate(config[group], _convert_="all"), KINDS[group])


@pytest.mark.parametrize("name", [name for name in configs.options("search_space") if name not in MODELS])
def test_shipped_space_has_a_grid(name: str) -> None:
    space = configs.Definition.of(compose(f"search_space={name}")).space
    points = list(space.grid())
    assert 1 < len(points) < 1000
    assert all(space.contains(point) for point in points)
