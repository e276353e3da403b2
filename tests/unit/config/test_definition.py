"""What a config defines, checked without a backend."""

from dataclasses import asdict
from typing import Any

import pytest

from hpo import config as configs
from hpo.core.space import Float, SearchSpace
from hpo.errors import ConfigError

CONFIG: dict[str, Any] = {
    **{group: {} for group in ("model", "dataset", "strategy", "resampling", "executor")},
    "tracking": {"uri": "u", "experiment": "e", "output_path": "o", "offline": "refuse"},
    "search_space": {"x": {"type": "float", "low": 0, "high": 1}},
    "objective": {"metric": "val_loss", "direction": None, "epoch": "best", "others": {}},
    "early_stopping": asdict(configs.EarlyStoppingConf()),
    "limits": {**asdict(configs.LimitsConf()), "n_trials": 1},
    "seed": 0,
    "max_epochs": 1,
    "study": None,
    "enqueue": [],
}


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"seed": -1}, "seed"),
        ({"max_epochs": 0}, "max_epochs"),
        ({"study": "a/b"}, "study"),
        ({"study": ""}, "study"),
        ({"search_space": {}}, "search_space"),
        ({"limits": {**CONFIG["limits"], "n_trails": 3}}, "limits.n_trails"),
        ({"limits": {"n_trials": 3}}, "limits.max_consecutive_failures"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, Any], key: str) -> None:
    assert configs.Definition.of(CONFIG).seed == 0
    with pytest.raises(ConfigError) as caught:
        configs.Definition.of(CONFIG | changes)
    assert caught.value.key == key


def test_space_of_the_model_is_completed_by_the_config() -> None:
    own = SearchSpace([Float("x", low=0, high=1), Float("y", low=0, high=1)])
    stated = {"rest": {"type": configs.FROM_MODEL}, "x": {"type": "float", "low": 0.5, "high": 0.6}}
    config = {**CONFIG, "search_space": stated}
    assert len(configs.Definition.of(config).space) == 0
    space = configs.Definition.of(configs.with_space_of_model(config, own)).space
    assert (list(space), space["x"]) == (["x", "y"], Float("x", low=0.5, high=0.6))
    with pytest.raises(ConfigError, match="the model has none of its own"):
        configs.with_space_of_model(config, None)


@pytest.mark.parametrize(
    ("params", "key"),
    [({"y": 1}, "enqueue[0].y"), ({}, "enqueue[0]"), ({"x": 7.0}, "enqueue[0].x")],
)
def test_enqueued_params_must_lie_in_the_space(params: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        configs.Definition.of({**CONFIG, "enqueue": [params]})
    assert refused.value.key == key
    assert configs.Definition.of({**CONFIG, "enqueue": [{"x": 0.5}]}).enqueue == ({"x": 0.5},)
