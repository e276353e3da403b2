"""The typed schema of the config."""

from dataclasses import asdict

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, ValidationError

from hpo.config.schema import Conf, EarlyStoppingConf, LimitsConf
from hpo.core.early_stopping import EarlyStopping
from hpo.core.limits import Limits


def test_misspelt_key_is_refused() -> None:
    with pytest.raises(ConfigKeyError, match="n_trial"):
        OmegaConf.merge(OmegaConf.structured(Conf), {"limits": {"n_trial": 3}})


def test_text_for_a_number_is_refused() -> None:
    with pytest.raises(ValidationError, match="many"):
        OmegaConf.merge(OmegaConf.structured(Conf), {"limits": {"n_trials": "many"}})


def test_sections_have_the_arguments_and_defaults_of_their_classes() -> None:
    assert EarlyStopping(**asdict(EarlyStoppingConf())) == EarlyStopping()
    assert Limits(**{**asdict(LimitsConf()), "n_trials": 1}) == Limits(n_trials=1)
