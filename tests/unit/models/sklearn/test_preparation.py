"""The preparation is fitted on training rows only."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from hpo.core.early_stopping import EarlyStopping
from hpo.core.objective import Objective
from hpo.core.states import Decision
from hpo.datasets.base import Column, Dataset, DataSpec
from hpo.errors import ConfigError
from hpo.evaluation.evaluator import Evaluator
from hpo.evaluation.resampling import KFoldResampling
from hpo.evaluation.tasks import FoldTask
from hpo.models.base import Fit, FitLog, FitPlan, FoldData
from hpo.models.sklearn.model import SklearnModel
from hpo.models.sklearn.preparation import Preparation

COLUMNS = (Column("a"), Column("b"), Column("c"), Column("kind", ("x", "y", "z", "w")))
SPEC = DataSpec((4,), 2, COLUMNS)
STEPS: list[dict[str, Any]] = [
    {"scaler": "standard"},
    {"scaler": "min_max"},
    {"scaler": "robust"},
    {"imputer": "mean"},
    {"imputer": "median"},
    {"imputer": "most_frequent"},
    {"encoder": "one_hot"},
    {"select": 0.5},
    {"balance": "smote"},
    {"balance": "random"},
]
IDS = ["=".join(map(str, next(iter(step.items())))) for step in STEPS]


class Control:
    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        return Decision.CONTINUE

    def poll(self) -> Decision:
        return Decision.CONTINUE


def rows(seed: int, n: int, loc: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return ``n`` rows, a fifth of class 1, with missing numbers; the training rows lack category w."""
    random = np.random.default_rng(seed)
    y = (np.arange(n) % 5 == 0).astype("int64")
    x = random.normal(loc, 1 + loc, (n, 3)).round(1) + y[:, None] * [1.0, 0.2, 0.0]
    x[random.random((n, 3)) < 0.1] = np.nan
    return np.column_stack([x, random.integers(0, 3, n) if loc == 0 else np.full(n, 3.0)]), y


TRAIN, PROBE = rows(1, 120), rows(2, 40)
# Watched rows: from the distribution of the training rows, and from a very different one.
SCORED, CHANGED = rows(3, 60), rows(4, 60, loc=50.0)


def steps_with(step: dict[str, Any]) -> dict[str, Any]:
    """Add the steps that a logistic regression needs: it accepts neither missing values nor categories."""
    return {"imputer": "median", "encoder": "one_hot", **step}


def told(x: np.ndarray, y: np.ndarray, step: dict[str, Any]) -> np.ndarray:
    """Fit the steps and an estimator on ``x``, and return the prepared probe rows and their probabilities."""
    from sklearn.linear_model import LogisticRegression

    steps = Preparation(**steps_with(step))
    prepare = steps.fitted(x, y, SPEC)
    estimator = LogisticRegression(max_iter=2000).fit(*steps.balanced(prepare.transform(x), y, 0))
    probe = prepare.transform(PROBE[0])
    return np.column_stack([probe, estimator.predict_proba(probe)])


def by_the_model(step: dict[str, Any], scored: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    model = SklearnModel("sklearn.linear_model.LogisticRegression", max_iter=2000, **steps_with(step))
    fold = FoldData(*TRAIN, *scored)
    fitted = model.fit(Fit({}, SPEC, fold, FitPlan(1, 0), FitLog(), Control()))
    return np.column_stack(
        [fitted.native.named_steps["prepare"].transform(PROBE[0]), fitted.predict_targets(PROBE[0])[1]]
    )


@pytest.mark.parametrize("step", STEPS, ids=IDS)
def test_watched_rows_do_not_influence_the_preparation(step: dict[str, Any]) -> None:
    first = by_the_model(step, SCORED)
    assert np.array_equal(first, by_the_model(step, CHANGED))
    assert np.allclose(first, told(*TRAIN, step))


@pytest.mark.parametrize("step", STEPS, ids=IDS)
def test_leak_check_detects_a_step_fitted_on_all_rows(step: dict[str, Any]) -> None:
    leaky = [
        told(*(np.concatenate(pair) for pair in zip(TRAIN, rows, strict=True)), step) for rows in (SCORED, CHANGED)
    ]
    assert leaky[0].shape != leaky[1].shape or not np.allclose(*leaky)


@pytest.mark.parametrize("step", [STEPS[0], STEPS[3], STEPS[6], STEPS[7]], ids=[IDS[0], IDS[3], IDS[6], IDS[7]])
def test_scored_rows_do_not_influence_training(step: dict[str, Any]) -> None:
    """Changed scored rows change their own metrics, and not those of the training rows."""
    x, y = rows(1, 120)

    def result(x: np.ndarray) -> Any:
        data = Dataset("table", x, y, *PROBE, source="made", columns=COLUMNS)
        model = SklearnModel("sklearn.linear_model.LogisticRegression", max_iter=2000, **steps_with(step))
        evaluator = Evaluator(model, data, KFoldResampling(3), Objective.of("val_loss"), EarlyStopping(), 0)
        return evaluator, evaluator.run(FoldTask({}, 0, 1), Control())

    evaluator, before = result(x)
    changed = x.copy()
    scored = evaluator.row_splits[0][1]
    changed[scored] = CHANGED[0][: len(scored)]
    _, after = result(changed)
    assert before.error is after.error is None
    assert before.history == after.history
    assert before.score != after.score


def test_missing_category_gets_a_column_and_unknown_category_gets_none() -> None:
    x = TRAIN[0].copy()
    x[:5, 3] = np.nan
    prepare = Preparation(imputer="mean", encoder="one_hot").fitted(x, TRAIN[1], SPEC)
    probe = PROBE[0][:3].copy()
    probe[:, 3] = [0.0, 3.0, np.nan]
    encoded = prepare.transform(probe)[:, 3:]
    assert encoded.tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]


def test_constant_columns_are_dropped_first_without_a_warning() -> None:
    x = np.column_stack([np.ones(120), TRAIN[1] + np.random.default_rng(0).normal(0, 0.1, 120)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare = Preparation(select=0.5).fitted(x, TRAIN[1], DataSpec((2,), 2))
    assert np.array_equal(prepare.transform(x), x[:, [1]])


def test_balancing_equalises_classes_but_not_real_targets() -> None:
    x = np.nan_to_num(TRAIN[0])
    for kind in ("smote", "random"):
        more, labels = Preparation(balance=kind).balanced(x, TRAIN[1], 0)
        assert np.bincount(labels).tolist() == [96, 96]
        assert len(more) == 192
        assert Preparation(balance=kind).balanced(x, x[:, 0], 0)[0] is x


@pytest.mark.parametrize(
    ("step", "key"),
    [
        ({"scaler": "log"}, "model.scaler"),
        ({"imputer": "zero"}, "model.imputer"),
        ({"encoder": "hash"}, "model.encoder"),
        ({"select": 0.0}, "model.select"),
        ({"select": True}, "model.select"),
        ({"balance": "under"}, "model.balance"),
    ],
)
def test_unknown_step_is_refused(step: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Preparation(**step)
    assert caught.value.key == key
