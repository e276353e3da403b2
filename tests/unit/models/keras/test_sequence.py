from typing import Any

import numpy as np
import pytest

from hpo.core.early_stopping import EarlyStopping
from hpo.datasets.base import DataSpec
from hpo.errors import ConfigError
from hpo.models.base import Fit, FitLog, FitPlan, FoldData, Undisturbed
from hpo.models.keras import sequence
from hpo.models.keras.model import KerasModel

# Keeps the weights of the last epoch.
KEEPS_LAST = EarlyStopping(patience=None, restore_best_weights=False)

WINDOW = 6
SPEC = DataSpec((WINDOW, 1), 0)


def windows(n: int, level: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Windows of a sine around ``level`` with amplitude 1000, and the value after each."""
    series = level + 1000 * np.sin(np.arange(n + WINDOW) / 3)
    x = np.lib.stride_tricks.sliding_window_view(series[:-1], WINDOW)[:, :, None].astype("float32")
    return x, series[WINDOW:]


def fit(fold: FoldData, epochs: int = 3, spec: DataSpec = SPEC, **params: Any) -> Any:
    model = KerasModel(sequence.sequence_regressor, batch_size=16, **{"units": 8, **params})
    return model.fit(Fit({}, spec, fold, FitPlan(epochs, 5, KEEPS_LAST), FitLog(epochs), Undisturbed()))


@pytest.mark.parametrize("kind", sequence.KINDS)
@pytest.mark.parametrize("residual", [False, True])
def test_predictions_are_in_the_unit_of_the_target(kind: str, residual: bool) -> None:
    x, y = windows(200, level=5000)
    fitted = fit(FoldData(x, y, None, None), 15, kind=kind, residual=residual, learning_rate=1e-2)
    mae = fitted.evaluate(x, y)["mae"]
    assert mae < 0.5 * np.abs(x[:, -1, 0] - y).mean() < 0.5 * np.abs(y - y.mean()).mean()


def test_residual_model_follows_an_unseen_level() -> None:
    x, y = windows(200, level=0)
    fitted = fit(FoldData(x, y, None, None), residual=True, learning_rate=1e-4)
    far, answer = windows(50, level=1e5)
    # The network is almost untrained: the level comes from the last value of the window.
    assert np.abs(fitted.predict(far)[:, 0] - answer).max() < 1e4


def test_normalisation_depends_on_training_rows_only() -> None:
    x, y = windows(80)
    probes = windows(20, level=100)[0]
    watched, far = windows(30), windows(30, level=1e4)
    first, second = (fit(FoldData(x, y, *seen)).predict(probes) for seen in (watched, far))
    assert np.array_equal(first, second)
    third = fit(FoldData(x + 1, y, *watched)).predict(probes)
    assert not np.array_equal(first, third)


@pytest.mark.parametrize("kind", sequence.KINDS)
def test_several_layers_features_and_all_regularisation_options_train(kind: str) -> None:
    x, y = windows(40)
    two = np.concatenate([x, x**2], axis=2)
    options = {"n_layers": 2, "dropout": 0.2, "l1": 1e-4, "l2": 1e-4, "loss": "huber", "optimizer": "adamw"}
    fitted = fit(FoldData(two, y, None, None), 1, DataSpec((WINDOW, 2), 0), kind=kind, weight_decay=1e-3, **options)
    assert fitted.native.losses
    assert np.isfinite(fitted.predict(two)).all()


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (SPEC, {"kind": "transformer"}, "model.kind"),
        (SPEC, {"loss": "mape"}, "model.loss"),
        (DataSpec((WINDOW,), 0), {}, "windows"),
        (DataSpec((WINDOW, 1), 2), {}, "real targets"),
    ],
)
def test_unsuitable_data_or_option_is_refused(spec: DataSpec, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sequence.sequence_regressor(spec, **options)
