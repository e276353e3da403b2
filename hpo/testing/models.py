"""What every model keeps to.

::

    from hpo.testing import check_model, parts_of

    def test_my_model():
        check_model(*parts_of("model=my_mlp", config_dir="conf"))

Training is short and on few rows: what is checked is that a study can rely on the model, not that it is a good one.
"""

from __future__ import annotations

import math
import pickle
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import hydra
import numpy as np
from hydra.core.global_hydra import GlobalHydra

from hpo import config as configs
from hpo.core.early_stopping import EarlyStopping
from hpo.core.params import ParamValue
from hpo.core.space import SearchSpace
from hpo.core.states import Decision, State, StopReason
from hpo.datasets.base import Array, Dataset, DataSpec
from hpo.models import metrics
from hpo.models.base import Fit, FitLog, FitPlan, FittedModel, FoldData, Model, Undisturbed
from hpo.models.saving import without_library_warnings
from hpo.study.build import build_dataset, build_model, resolve_model


def parts_of(*overrides: str, config_dir: str | Path | None = None) -> tuple[Model, Dataset, SearchSpace]:
    """The model, the data and the search space that the overrides of a command line name, for :func:`check_model`.

    Args:
        config_dir: folder with YAML of one's own.

    Raises:
        InputError: when they cannot be made.
    """
    configs.register()
    GlobalHydra.instance().clear()
    given = list(overrides)
    if config_dir is not None:
        given.append(f"hydra.searchpath=[file://{Path(config_dir).resolve()}]")
    with hydra.initialize_config_dir(str(configs.resource_dir("conf")), version_base="1.3"):
        config = configs.plain(hydra.compose("config", overrides=given))
    model = build_model(config)
    if configs.is_from_model(config):
        config = configs.with_space_of_model(config, model.own_space)
    assert isinstance(model, Model), "objectives that train by themselves are not checked here"
    resolve_model(model, config)
    return model, build_dataset(config), SearchSpace.from_config(config["search_space"])


def check_model(
    model: Model, dataset: Dataset, space: SearchSpace | None = None, *, max_epochs: int = 2, n_rows: int = 400
) -> None:
    """Train ``model`` a few times, briefly, and check all that a study relies on.

    Args:
        space: parameters that a study would search, to be checked against the model's.
        max_epochs: of each training; at least 2.
        n_rows: the most rows that are trained on and watched.

    Raises:
        AssertionError: naming every check that failed. What the model itself raises passes, with a note on the check.
    """
    subject = Subject(model, dataset, space, max_epochs, n_rows)
    failed = []
    for check in MODEL_CHECKS:
        name = check.__name__.removeprefix("check_")
        try:
            check(subject)
        except AssertionError as error:
            failed.append(f"{name}: {error}")
        except Exception as error:
            error.add_note(f"while checking of {type(model).__name__}: {name}")
            raise
    assert not failed, "\n".join(failed)


class Subject:
    """A model that is checked, and some rows to train it on, spread evenly over the data; every fourth is watched."""

    def __init__(
        self, model: Model, dataset: Dataset, space: SearchSpace | None = None, max_epochs: int = 2, n_rows: int = 400
    ) -> None:
        # As a study does before it trains.
        fitting = dataset.with_images_of(model.image_shape) if model.image_shape else dataset
        fitting = fitting.flat() if model.takes_rows else fitting
        model.check_fits(fitting.spec)
        rows = np.linspace(0, len(fitting.x) - 1, min(n_rows, len(fitting.x))).round().astype(int)
        is_watched = np.arange(len(rows)) % 4 == 3
        train, watch = rows[~is_watched], rows[is_watched]
        self.model, self.space, self.max_epochs = model, space, max_epochs
        self.spec: DataSpec = fitting.spec
        self.fold = FoldData(fitting.x[train], fitting.y[train], fitting.x[watch], fitting.y[watch])
        self.x, self.y = fitting.x_test[:n_rows], fitting.y_test[:n_rows]

    @property
    def own_metrics(self) -> set[str]:
        """Of the model, without those of the watched rows."""
        return {name for name in self.model.metrics(self.spec) if not name.startswith("val_")}

    def fit(
        self, seed: int = 0, model: Model | None = None, data: FoldData | None = None, answer: _Answer | None = None
    ) -> tuple[FitLog, FittedModel]:
        """Train with the model's own defaults."""
        log, plan = FitLog(max_epochs=self.max_epochs), FitPlan(self.max_epochs, seed)
        if data is not None and data.is_refit:
            plan = replace(plan, early_stopping=EarlyStopping(patience=None, restore_best_weights=False))
        fit = Fit({}, self.spec, data or self.fold, plan, log, answer or _Answer())
        return log, (model or self.model).fit(fit)

    @cached_property
    def trained(self) -> tuple[FitLog, FittedModel]:
        """The first training."""
        return self.fit()

    @cached_property
    def trained_again(self) -> tuple[FitLog, FittedModel, list[int]]:
        """A second one with the same seed, and the epochs that the driver was told of meanwhile."""
        answer = _Answer()
        return *self.fit(answer=answer), answer.epochs


class _Answer(Undisturbed):
    """A driver that says the same after every epoch, and between batches; see :class:`hpo.models.base.Control`."""

    def __init__(self, after_epoch: Decision = Decision.CONTINUE, between: Decision = Decision.CONTINUE) -> None:
        self._after_epoch, self._between = after_epoch, between
        self.epochs: list[int] = []

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        self.epochs.append(epoch)
        return self._after_epoch

    def poll(self) -> Decision:
        return self._between


def check_parameters_have_defaults_inside_the_space(subject: Subject) -> None:
    tunables = dict(subject.model.tunables)
    assert all(isinstance(name, str) for name in tunables), "a name is no text"
    subject.model.tunables.clear()
    assert subject.model.tunables == tunables, "the model's own parameters can be changed from outside"
    if subject.space is None:
        return
    unknown = set(subject.space) - set(tunables)
    assert not unknown, f"the search space names {', '.join(sorted(unknown))}, which the model does not have"
    start: dict[str, ParamValue] = subject.space.select(tunables)
    outside = [name for name, value in start.items() if not subject.space[name].contains(value)]
    assert not outside, f"defaults outside the search space: { {name: start[name] for name in outside} }"


def check_a_budget_has_words(subject: Subject) -> None:
    whole, part = subject.model.describe_budget(9, 1.0), subject.model.describe_budget(3, 1 / 3)
    assert whole != part, f"a whole budget and a third of it are both {whole!r}"


def check_the_log_is_filled_with_the_metrics_that_are_promised(subject: Subject) -> None:
    log, _ = subject.trained
    promised = set(subject.model.metrics(subject.spec))
    assert set(log.history) == promised, f"reports {sorted(log.history)}, promised {sorted(promised)}"
    assert log.stop_reason.state is State.COMPLETE, f"training ended as {log.stop_reason}: {log.problem}"
    n_epochs = subject.max_epochs if subject.model.has_epochs else 1
    assert log.epochs_run == n_epochs, f"{log.epochs_run} epochs run of {n_epochs}"
    counts = {name: len(values) for name, values in log.history.items()}
    assert set(counts.values()) == {n_epochs}, f"values an epoch are missing: {counts}"
    best = min(log.history["val_loss"])
    assert log.best_value == best, f"the best val_loss is {best}, the log says {log.best_value}"
    assert log.best_epoch == log.history["val_loss"].index(best), f"best_epoch is {log.best_epoch}"
    assert {"build", "train"} <= set(log.seconds), f"seconds of {sorted(log.seconds)} only"


def check_every_epoch_is_reported_while_it_trains(subject: Subject) -> None:
    log, _, epochs = subject.trained_again
    assert epochs == list(range(log.epochs_run)), f"told of epochs {epochs}, of {log.epochs_run}"


def check_equal_seeds_train_equally(subject: Subject) -> None:
    (first, fitted), (again, same, _) = subject.trained, subject.trained_again
    assert again.history == first.history, f"one seed, two curves: {first.history}, {again.history}"
    a, b = fitted.predict(subject.x), same.predict(subject.x)
    assert np.array_equal(a, b), f"one seed, two predictions, different by {_distance(a, b)}"


def check_a_pruner_or_an_interrupt_ends_training(subject: Subject) -> None:
    if not subject.model.has_epochs:
        return
    for answer, reason in (
        (_Answer(after_epoch=Decision.PRUNE), StopReason.PRUNED),
        (_Answer(after_epoch=Decision.INTERRUPT), StopReason.INTERRUPTED),
        (_Answer(between=Decision.INTERRUPT), StopReason.INTERRUPTED),
    ):
        log, _ = subject.fit(answer=answer)
        assert log.stop_reason is reason, f"told to stop ({reason}), it ended as {log.stop_reason}"
        assert log.epochs_run < subject.max_epochs, f"told to stop ({reason}), it went on for {log.epochs_run} epochs"


def check_predictions_are_finite_and_one_a_row(subject: Subject) -> None:
    _, fitted = subject.trained
    predicted, n = np.asarray(fitted.predict(subject.x)), len(subject.x)
    assert len(predicted) == n, f"{len(predicted)} predictions of {n} rows"
    assert np.isfinite(predicted).all(), "predictions that are not finite"
    answers, scores = fitted.predict_targets(subject.x)
    assert answers.shape == (n,), f"answers of shape {answers.shape}, of {n} rows"
    if subject.spec.is_regression:
        assert scores is None, "a regression has scores of classes"
        assert np.isfinite(answers).all(), "answers that are not finite"
        return
    classes = range(subject.spec.n_classes)
    assert set(np.unique(answers)) <= set(classes), f"labels {np.unique(answers)}, classes {list(classes)}"
    if scores is not None:
        wanted = (n, len(classes))
        assert scores.shape == wanted, f"scores of shape {scores.shape}, not {wanted}"
        assert np.isfinite(scores).all(), "scores that are not finite"


def check_evaluation_has_the_names_of_training(subject: Subject) -> None:
    _, fitted = subject.trained
    own = fitted.evaluate(subject.x, subject.y)
    assert set(own) == subject.own_metrics, f"evaluates {sorted(own)}, training reports {sorted(subject.own_metrics)}"
    bad = [name for name, value in own.items() if not math.isfinite(value)]
    assert not bad, f"{', '.join(bad)} not finite"
    known = metrics.names(subject.spec)
    missing = set(known) - set(fitted.evaluate(subject.x, subject.y, known))
    assert not missing, f"does not evaluate {', '.join(sorted(missing))} when asked to"


def check_weights_bring_the_model_back(subject: Subject) -> None:
    _, fitted = subject.trained
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"weights{subject.model.weights_suffix}"
        fitted.save_weights(path)
        fitted.save_weights(path)  # replaces
        left = [file.name for file in Path(folder).iterdir()]
        assert left == [path.name], f"writes {left}, not only {path.name}"
        restored = subject.model.restore({}, subject.spec, path)
    before, after = fitted.predict(subject.x), restored.predict(subject.x)
    assert np.array_equal(before, after), f"the restored model predicts otherwise, by {_distance(before, after)}"
    assert restored.evaluate(subject.x, subject.y) == fitted.evaluate(subject.x, subject.y), "it evaluates otherwise"


def check_mlflow_loads_the_saved_model(subject: Subject) -> None:
    import mlflow.pyfunc

    _, fitted = subject.trained
    rows = subject.x[:20]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        fitted.save(path, subject.x[:2])
        assert (path / "MLmodel").is_file(), "save() does not write an MLflow model: there is no file MLmodel"
        with without_library_warnings():
            loaded = mlflow.pyfunc.load_model(str(path))
            assert loaded.metadata.signature is not None, "the saved model has no signature"
            found = np.asarray(loaded.predict(rows))
    expected = np.asarray(fitted.predict(rows))
    # A library may use batches of another size, and so add numbers in another order.
    is_close = found.shape == expected.shape and np.allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert is_close, f"the saved model predicts differently, by {_distance(found, expected)}"


def check_the_winner_is_refitted_with_nothing_to_watch(subject: Subject) -> None:
    x, y = subject.fold.x_train.copy(), subject.fold.y_train.copy()
    log, fitted = subject.fit(data=FoldData(x, y, None, None))
    assert log.stop_reason.state is State.COMPLETE, f"training ended as {log.stop_reason}: {log.problem}"
    watched = [name for name in log.history if name.startswith("val_")]
    assert not watched, f"reports {', '.join(watched)} with nothing to watch"
    assert len(fitted.predict(subject.x)) == len(subject.x)
    is_kept = _same(x, subject.fold.x_train) and _same(y, subject.fold.y_train)
    assert is_kept, "training has changed the data"


def check_it_can_be_sent_to_a_worker(subject: Subject) -> None:
    try:
        sent = pickle.loads(pickle.dumps(subject.model))  # noqa: S301 the model's own
    except Exception as error:
        raise AssertionError(
            f"cannot be pickled ({type(error).__name__}: {error}); functions have to lie in a module"
        ) from error
    # As texts, since NaN, a default of XGBoost's, is not equal to itself.
    assert repr(sent.tunables) == repr(subject.model.tunables), "its parameters have changed on the way"
    log, fitted = subject.fit(model=sent)
    first, trained = subject.trained
    assert log.history == first.history, "it trains otherwise after it was sent"
    assert np.array_equal(fitted.predict(subject.x), trained.predict(subject.x)), "it predicts otherwise"


MODEL_CHECKS: tuple[Callable[[Subject], None], ...] = (
    check_parameters_have_defaults_inside_the_space,
    check_a_budget_has_words,
    check_the_log_is_filled_with_the_metrics_that_are_promised,
    check_every_epoch_is_reported_while_it_trains,
    check_equal_seeds_train_equally,
    check_a_pruner_or_an_interrupt_ends_training,
    check_predictions_are_finite_and_one_a_row,
    check_evaluation_has_the_names_of_training,
    check_weights_bring_the_model_back,
    check_mlflow_loads_the_saved_model,
    check_the_winner_is_refitted_with_nothing_to_watch,
    check_it_can_be_sent_to_a_worker,
)


def _same(a: Array, b: Array) -> bool:
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))


def _distance(a: Array, b: Array) -> str:
    return f"up to {np.max(np.abs(a - b)):.3g}" if a.shape == b.shape else f"shapes {a.shape} and {b.shape}"
