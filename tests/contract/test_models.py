"""What every model in ``conf/model`` keeps to."""

from collections.abc import Mapping

import numpy as np
import pytest

from hpo import config as configs
from hpo.datasets import digits
from hpo.datasets.base import Dataset
from hpo.models.base import FitLog, FoldData, Model
from hpo.study import build_model
from hpo.testing import check_model
from hpo.trial import Decision, EarlyStopping, FitPlan, State

from .test_configs import compose


class Control:
    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        return Decision.CONTINUE

    def poll(self) -> Decision:
        return Decision.CONTINUE


@pytest.fixture(params=list(configs.options("model")))
def model(request: pytest.FixtureRequest) -> Model:
    return build_model(compose(f"model={request.param}"))


@pytest.fixture
def data(model: Model) -> Dataset:
    loaded = digits.load()
    if model.takes_rows:
        return loaded.flat()
    return loaded.with_images_of(model.image_shape) if model.image_shape else loaded


def fit(model: Model, data: Dataset, seed: int) -> tuple[FitLog, np.ndarray, object]:
    log = FitLog()
    fold = FoldData(data.x[:300], data.y[:300], data.x[300:400], data.y[300:400])
    fitted = model.fit({}, data.spec, fold, FitPlan(2, seed, share=0.5), log, Control())
    return log, fitted.predict(data.x_test[:200]), fitted


def test_it_keeps_to_the_contract(model: Model, data: Dataset) -> None:
    check_model(model, data)


def test_the_winner_is_refitted_without_anything_to_watch(model: Model, data: Dataset) -> None:
    log = FitLog()
    plan = FitPlan(2, 1, EarlyStopping(patience=None, restore_best_weights=False))
    fitted = model.fit({}, data.spec, FoldData(data.x, data.y, None, None), plan, log, Control())
    assert log.stop_reason.state is State.COMPLETE
    assert not any(name.startswith("val_") for name in log.history)
    assert fitted.evaluate(data.x_test, data.y_test)["accuracy"] > 0.5


def test_unequal_seeds_train_unequally(model: Model, data: Dataset) -> None:
    (log, predicted, _), (unequal, other, _) = (fit(model, data, seed) for seed in (0, 1))
    # Histogram boosting draws nothing on so few rows.
    is_random = "max_bins" not in model.tunables
    assert (unequal.history != log.history or not np.array_equal(predicted, other)) is is_random
