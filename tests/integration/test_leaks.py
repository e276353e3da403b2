"""No row leaks: shown with rows that carry their own number, and with labels that are random."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from hpo.config.definition import Definition
from hpo.core.early_stopping import EarlyStopping
from hpo.core.limits import Limits
from hpo.core.objective import Objective
from hpo.core.space import SearchSpace
from hpo.datasets.base import Dataset, DataSpec
from hpo.evaluation.evaluator import Evaluator
from hpo.evaluation.resampling import Holdout, Resampling, StratifiedKFoldResampling
from hpo.evaluation.tasks import FoldTask, Task
from hpo.executors.inline import InlineExecutor
from hpo.models.base import Model
from hpo.models.keras.model import KerasModel
from hpo.models.sklearn.model import SklearnModel
from hpo.run.finalize import Finalizer
from hpo.run.result import Result
from hpo.run.runner import Runner
from hpo.strategies.base import Strategy
from hpo.strategies.hyperopt import HyperoptStrategy
from hpo.strategies.keras_tuner import HyperbandStrategy
from hpo.strategies.sklearn import GridStrategy, RandomStrategy
from hpo.study.study import ChosenOptions, Study
from hpo.tracking.store import open_store
from hpo.tracking.writer import Tracker

N, N_TEST = 90, 30


class Silent:
    """A view that shows nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


def build_mlp(data: DataSpec, *, units: int = 4) -> keras.Model:
    model = keras.Sequential([keras.Input(data.input_shape), keras.layers.Dense(units, "relu")])
    model.add(keras.layers.Dense(data.n_classes, "softmax"))
    model.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def numbered() -> Dataset:
    """Rows with their own number as the first feature; test rows have the highest numbers."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N + N_TEST, 4))
    x[:, 0] = np.arange(N + N_TEST)
    y = np.arange(N + N_TEST) % 2
    return Dataset("numbered", x[:N], y[:N], x[N:], y[N:], source="tests")


def rows_of(x: Any) -> set[int]:
    return {round(float(number)) for number in np.asarray(x)[:, 0]}


def study(
    model: Model, dataset: Dataset, resampling: Resampling, strategy: Strategy, space: Any, **options: Any
) -> Study:
    objective = Objective.of("val_accuracy")
    stopping = EarlyStopping(patience=options.pop("patience", 2))
    max_epochs, n_trials, seed = options.pop("max_epochs", 3), options.pop("n_trials", 4), options.pop("seed", 0)
    evaluator = Evaluator(model, dataset, resampling, objective, stopping, seed)
    parameters = SearchSpace.from_config(space)
    return Study(
        name="leaks",
        names=ChosenOptions("model", "data", "strategy", "folds"),
        config={"model": {"_target_": "tests"}, "strategy": {}},
        definition=Definition(parameters, objective, stopping, Limits(n_trials), seed, max_epochs),
        model=model,
        dataset=dataset,
        evaluator=evaluator,
        strategy=strategy,
        executor=InlineExecutor(1),
        resampling=resampling,
    )


def run(built: Study, workdir: Path) -> Result:
    client, experiment = open_store("sqlite:///hpo_runs/mlflow.db", "hpo", Path("hpo_runs"))
    folder = workdir / "hpo_runs" / "studies" / built.name
    tracker = Tracker(folder, built.name, lambda: (client, experiment), lambda text: None)
    try:
        return Runner(built, tracker, Silent()).run()  # type: ignore[arg-type]
    finally:
        tracker.close()


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[int | None, str], set[int]]:
    """(fold, or None outside of a fold; purpose) → the rows that the libraries receive."""
    rows: dict[tuple[int | None, str], set[int]] = defaultdict(set)
    fold: list[int | None] = [None]

    def within(self: Evaluator, task: Task, control: Any, real: Any = Evaluator.run) -> Any:
        fold[0] = task.fold if isinstance(task, FoldTask) else None
        try:
            return real(self, task, control)
        finally:
            fold[0] = None

    def spy(owner: Any, method: str, purpose: str) -> None:
        real = getattr(owner, method)

        def spied(self: Any, x: Any, *args: Any, **options: Any) -> Any:
            rows[fold[0], purpose] |= rows_of(x) if purpose != "scaled" else set()
            if options.get("validation_data") is not None:
                rows[fold[0], "watch"] |= rows_of(options["validation_data"][0])
            return real(self, x, *args, **options)

        monkeypatch.setattr(owner, method, spied)

    monkeypatch.setattr(Evaluator, "run", within)
    spy(keras.Model, "fit", "fit")
    spy(keras.Model, "evaluate", "evaluate")
    spy(keras.Model, "predict", "evaluate")
    spy(StandardScaler, "fit", "fit")
    spy(StandardScaler, "transform", "transform")
    return rows


MODELS: dict[str, tuple[Callable[[], Model], Any]] = {
    "keras": (lambda: KerasModel(build_mlp, batch_size=16), {"units": {"type": "int", "low": 2, "high": 5}}),
    "sklearn": (
        lambda: SklearnModel("sklearn.svm.SVC", scaler="standard"),
        {"kernel": {"type": "categorical", "choices": ["linear", "rbf", "poly", "sigmoid"]}},
    ),
}


@pytest.mark.parametrize(
    "strategy", [GridStrategy(), HyperbandStrategy(), HyperoptStrategy()], ids=lambda s: s.tags.backend
)
@pytest.mark.parametrize("name", list(MODELS))
def test_scored_and_test_rows_are_not_trained_on(
    name: str, strategy: Strategy, seen: dict[tuple[int | None, str], set[int]], workdir: Path, monkeypatch: Any
) -> None:
    make, space = MODELS[name]
    resampling = StratifiedKFoldResampling(3)
    test_rows, before_the_end = set(range(N, N + N_TEST)), []

    def at_the_end(self: Finalizer, real: Any = Finalizer.run) -> Any:
        before_the_end.append({key: set(rows) for key, rows in seen.items()})
        return real(self)

    monkeypatch.setattr(Finalizer, "run", at_the_end)
    dataset = numbered()
    result = run(study(make(), dataset, resampling, strategy, space), workdir)
    assert result.best is not None
    splits = resampling.splits(dataset.y, 0)
    (searching,) = before_the_end
    for fold, split in enumerate(splits):
        assert split.score is not None
        train, watch, score = set(split.train), set(split.watch), set(split.score)
        assert searching[fold, "fit"] == train
        if name == "keras":
            assert searching[fold, "watch"] == watch
            # Keras evaluates the watched rows; a sample of the training rows is scored after training.
            assert searching[fold, "evaluate"] - train == score | watch
        else:
            assert searching[fold, "transform"] == train | watch | score
    outside = {key: rows for key, rows in searching.items() if key[0] is None}
    if name == "keras":
        outside.pop((None, "evaluate"), None)  # one empty sample, for the names of the metrics
    assert not any(outside.values())
    assert not any(rows & test_rows for rows in searching.values())
    assert result.problems == ()
    # The refit trains on all training rows and no others, and then scores the test split.
    assert seen[None, "fit"] == set(range(N))
    scored = seen[None, "evaluate" if name == "keras" else "transform"]
    assert test_rows <= scored


def test_leak_check_detects_scored_rows_that_are_watched(
    seen: dict[tuple[int | None, str], set[int]], workdir: Path
) -> None:
    """In hold-out, the watched rows are the scored rows by design, and the recording shows it."""
    make, space = MODELS["keras"]
    run(study(make(), numbered(), Holdout(0.3), GridStrategy(), space), workdir)
    (split,) = Holdout(0.3).splits(numbered().y, 0)
    assert seen[0, "watch"] == set(split.watch)


N_NOISE, N_SHUFFLES, N_TRIALS = 300, 5, 2


def noise(shuffle: int) -> Dataset:
    """Features, and shuffled labels that do not depend on them."""
    rng = np.random.default_rng(shuffle)
    x = rng.normal(size=(2 * N_NOISE, 8))
    y = rng.permutation(np.arange(2 * N_NOISE) % 2)
    return Dataset(f"noise{shuffle}", x[:N_NOISE], y[:N_NOISE], x[N_NOISE:], y[N_NOISE:], source="tests")


def test_scores_on_shuffled_labels_are_at_chance(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train two networks on three folds with early stopping, for each of five shuffles.

    Each row is scored once per trial, so that under the null hypothesis the mean of a trial has a standard deviation of
    0.5 / √300, and the mean over shuffles (networks of one shuffle counted as one) of 0.013. A deviation of five of
    these occurs once in two million times. The watched accuracy of the best epoch is selected, so that it is above
    chance: a score that was taken there would fail this test.
    """
    monkeypatch.setattr(Tracker, "log_model", lambda *_: "models:/none")
    model = KerasModel(build_mlp, batch_size=32)
    space = {"units": {"type": "int", "low": 8, "high": 64, "log": True}}
    means, tests, watched, winners = [], [], [], []
    for shuffle in range(N_SHUFFLES):
        built = study(
            model, noise(shuffle), StratifiedKFoldResampling(3), RandomStrategy(), space,
            max_epochs=8, n_trials=N_TRIALS, patience=None, seed=shuffle,
        )  # fmt: skip
        result = run(built, workdir)
        values = [trial.value for trial in result.trials if trial.value is not None]
        assert len(values) == N_TRIALS
        means.append(np.mean(values))
        winners.append(max(values))
        assert result.test is not None
        tests.append(result.test.metrics["accuracy"])
        watched += [max(fold.history["val_accuracy"]) for trial in result.trials for fold in trial.folds]
    error = 0.5 / math.sqrt(N_NOISE * N_SHUFFLES)
    assert abs(np.mean(means) - 0.5) < 5 * error, means
    assert abs(np.mean(tests) - 0.5) < 5 * error, tests
    # The best of N trials is above chance by selection alone: at most the maximum of N normal values, plus 5 errors.
    null_maximum = 0.5 + math.sqrt(2 * math.log(N_TRIALS)) * 0.5 / math.sqrt(N_NOISE)
    assert np.mean(winners) < null_maximum + 5 * error, winners
    assert np.mean(watched) > 0.5 + 3 * error, "early stopping has nothing to choose from"
