"""Errors of Hydra and OmegaConf as one message."""

from collections.abc import Iterator

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from hpo import config as configs
from hpo.errors import ConfigError


@pytest.fixture(autouse=True)
def initialized() -> Iterator[None]:
    configs.register()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(configs.resource_dir("conf")), version_base="1.3"):
        yield


def explained(*overrides: str) -> ConfigError:
    with pytest.raises((HydraException, OmegaConfBaseException)) as raised:
        configs.plain(hydra.compose("config", overrides=list(overrides)))
    return configs.explain(raised.value, list(overrides))


@pytest.mark.parametrize(
    ("override", "key", "fix"),
    [
        ("strategy=optna", "strategy", "strategy=optuna"),
        ("limits.n_trial=3", "limits.n_trial", "limits.n_trials=3"),
        ("limts.n_trials=3", "limts.n_trials", "limits.n_trials=3"),
        ("limits.n_trials=many", "limits.n_trials", "limits.n_trials=1"),
        ("+seed=3", "seed", "seed=3"),
        ("~limits.none", "limits.none", "leave '~limits.none' out"),
        ("seed", "override", "'key=value', 'key=[a, b]' or 'key={a: 1}'"),
    ],
)
def test_message_names_the_key_and_the_fix(override: str, key: str, fix: str) -> None:
    error = explained(override)
    assert (error.key, error.fix) == (key, fix)
