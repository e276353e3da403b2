"""The configuration and the recorded outcome of early stopping."""

import pytest

from hpo.core.early_stopping import EarlyStopping, EarlyStoppingOutcome
from hpo.core.states import StopReason
from hpo.errors import ConfigError


def outcome(reason: StopReason, epochs_run: int = 4, max_epochs: int = 10) -> EarlyStoppingOutcome:
    return EarlyStoppingOutcome("val_loss", 3, 0.0, epochs_run, max_epochs, None, 2, 0.5, True, reason)


def test_mode_is_derived_from_the_monitor() -> None:
    assert EarlyStopping("val_accuracy").mode == "max"
    assert EarlyStopping("val_loss").mode == "min"
    with pytest.raises(ConfigError, match="monitor"):
        EarlyStopping("latency")


def test_only_early_stopping_and_pruning_save_epochs() -> None:
    assert outcome(StopReason.EARLY_STOPPED).epochs_saved == 6
    assert outcome(StopReason.PRUNED).epochs_saved == 6
    assert outcome(StopReason.ERROR).epochs_saved == 0


@pytest.mark.parametrize("name", ["patience", "min_delta", "start_from_epoch"])
def test_negative_numbers_are_refused(name: str) -> None:
    with pytest.raises(ConfigError) as refused:
        EarlyStopping(**{name: -1})
    assert refused.value.key == f"early_stopping.{name}"
