"""The contract suite for models: checks that a study can rely on a model.

::

    from hpo.testing import check_model, parts_of

    def test_my_model():
        check_model(*parts_of("model=my_mlp", config_dir="conf"))

Training is short and on few rows, so that the checks say nothing about the quality of the model.
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
    """Return the model, the dataset and the search space of a command line, for :func:`check_model`.

    Args:
        overrides: arguments of the command line, such as ``model=svm``.
        config_dir: folder with config files of your own.

    Raises:
        InputError: if one of them cannot be built.
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
    """Train ``model`` a few times, briefly, and check everything that a study relies on.

    Args:
        space: the search space to check against the parameters of the model.
        max_epochs: epochs of each training; at least 2.
        n_rows: most rows to train on and to watch.

    Raises:
        AssertionError: if checks fail; the message names each of them.
        Exception: any exception of the model, with a note that names the check.
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
    """The model to check, and rows to train it on: spread evenly over the dataset, every fourth is watched."""

    def __init__(
        self, model: Model, dataset: Dataset, space: SearchSpace | None = None, max_epochs: int = 2, n_rows: int = 400
    ) -> None:
        # The same preparation as in a study.
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
        """Names of the model's metrics, without those of the watched rows."""
        return {name for name in self.model.metrics(self.spec) if not name.startswith("val_")}

    def fit(
        self,
        seed: int = 0,
        model: Model | None = None,
        data: FoldData | None = None,
        decisions: FixedDecisions | None = None,
    ) -> tuple[FitLog, FittedModel]:
        """Train with the defaults of the model."""
        log, plan = FitLog(max_epochs=self.max_epochs), FitPlan(self.max_epochs, seed)
        if data is not None and data.is_refit:
            plan = replace(plan, early_stopping=EarlyStopping(patience=None, restore_best_weights=False))
        fit = Fit({}, self.spec, data or self.fold, plan, log, decisions or FixedDecisions())
        return log, (model or self.model).fit(fit)

    @cached_property
    def trained(self) -> tuple[FitLog, FittedModel]:
        """The log and the model of the first training."""
        return self.fit()

    @cached_property
    def trained_again(self) -> tuple[FitLog, FittedModel, list[int]]:
        """The log and the model of a second training with the same seed, and the epochs reported to the driver."""
        decisions = FixedDecisions()
        return *self.fit(decisions=decisions), decisions.epochs


class FixedDecisions(Undisturbed):
    """A driver with a fixed decision after each epoch and one between batches; records the reported epochs."""

    def __init__(self, after_epoch: Decision = Decision.CONTINUE, between: Decision = Decision.CONTINUE) -> None:
        self._after_epoch, self._between = after_epoch, between
        self.epochs: list[int] = []

    def on_epoch(self, epoch: int, logs: Mapping[str, float]) -> Decision:
        self.epochs.append(epoch)
        return self._after_epoch

    def poll(self) -> Decision:
        return self._between


def check_defaults_are_in_the_search_space(subject: Subject) -> None:
    tunables = dict(subject.model.tunables)
    assert all(isinstance(name, str) for name in tunables), "the name of a parameter is not text"
    subject.model.tunables.clear()
    assert subject.model.tunables == tunables, (
        "tunables returns the model's own dictionary, which callers can change; return a copy"
    )
    if subject.space is None:
        return
    unknown = set(subject.space) - set(tunables)
    assert not unknown, f"the search space names {', '.join(sorted(unknown))}, which the model does not have"
    start: dict[str, ParamValue] = subject.space.select(tunables)
    outside = [name for name, value in start.items() if not subject.space[name].contains(value)]
    assert not outside, f"defaults outside the search space: { {name: start[name] for name in outside} }"


def check_budgets_are_described(subject: Subject) -> None:
    whole, part = subject.model.describe_budget(9, 1.0), subject.model.describe_budget(3, 1 / 3)
    assert whole != part, f"describe_budget returns {whole!r} for the whole budget and for a third of it"


def check_log_has_the_promised_metrics(subject: Subject) -> None:
    log, _ = subject.trained
    promised = set(subject.model.metrics(subject.spec))
    assert set(log.history) == promised, f"reports {sorted(log.history)}, promised {sorted(promised)}"
    assert log.stop_reason.state is State.COMPLETE, f"training ended as {log.stop_reason}: {log.problem}"
    n_epochs = subject.max_epochs if subject.model.has_epochs else 1
    assert log.epochs_run == n_epochs, f"the log has {log.epochs_run} epochs, expected {n_epochs}"
    counts = {name: len(values) for name, values in log.history.items()}
    assert set(counts.values()) == {n_epochs}, f"each metric must have one value for each epoch, found {counts}"
    best = min(log.history["val_loss"])
    assert log.best_value == best, f"the best val_loss is {best}, the log says {log.best_value}"
    assert log.best_epoch == log.history["val_loss"].index(best), f"best_epoch is {log.best_epoch}"
    assert {"build", "train"} <= set(log.seconds), (
        f"the log needs the seconds of build and train, and has those of {sorted(log.seconds)}"
    )


def check_every_epoch_is_reported(subject: Subject) -> None:
    log, _, epochs = subject.trained_again
    assert epochs == list(range(log.epochs_run)), f"reported epochs {epochs} to the driver, ran {log.epochs_run}"


def check_equal_seeds_give_equal_results(subject: Subject) -> None:
    (first, fitted), (again, same, _) = subject.trained, subject.trained_again
    assert again.history == first.history, (
        f"two trainings with one seed have different curves: {first.history}, {again.history}"
    )
    a, b = fitted.predict(subject.x), same.predict(subject.x)
    assert np.array_equal(a, b), f"two trainings with one seed predict differently, by {_distance(a, b)}"


def check_pruning_and_interrupts_end_training(subject: Subject) -> None:
    if not subject.model.has_epochs:
        return
    for decisions, reason in (
        (FixedDecisions(after_epoch=Decision.PRUNE), StopReason.PRUNED),
        (FixedDecisions(after_epoch=Decision.INTERRUPT), StopReason.INTERRUPTED),
        (FixedDecisions(between=Decision.INTERRUPT), StopReason.INTERRUPTED),
    ):
        log, _ = subject.fit(decisions=decisions)
        assert log.stop_reason is reason, f"the driver stopped training ({reason}), but it ended as {log.stop_reason}"
        assert log.epochs_run < subject.max_epochs, (
            f"the driver stopped training ({reason}), but it ran {log.epochs_run} epochs"
        )


def check_predictions_are_finite_for_every_row(subject: Subject) -> None:
    _, fitted = subject.trained
    predicted, n = np.asarray(fitted.predict(subject.x)), len(subject.x)
    assert len(predicted) == n, f"{len(predicted)} predictions for {n} rows"
    assert np.isfinite(predicted).all(), "some predictions are not finite"
    targets, scores = fitted.predict_targets(subject.x)
    assert targets.shape == (n,), f"predicted targets have shape {targets.shape}, expected {(n,)}"
    if subject.spec.is_regression:
        assert scores is None, "a regressor returns class scores"
        assert np.isfinite(targets).all(), "some predicted targets are not finite"
        return
    classes = range(subject.spec.n_classes)
    assert set(np.unique(targets)) <= set(classes), f"predicted labels {np.unique(targets)}, classes {list(classes)}"
    if scores is not None:
        wanted = (n, len(classes))
        assert scores.shape == wanted, f"scores have shape {scores.shape}, expected {wanted}"
        assert np.isfinite(scores).all(), "some scores are not finite"


def check_evaluation_reports_the_metrics_of_training(subject: Subject) -> None:
    _, fitted = subject.trained
    own = fitted.evaluate(subject.x, subject.y)
    assert set(own) == subject.own_metrics, f"evaluates {sorted(own)}, training reports {sorted(subject.own_metrics)}"
    bad = [name for name, value in own.items() if not math.isfinite(value)]
    assert not bad, f"{', '.join(bad)}: not finite"
    known = metrics.names(subject.spec)
    missing = set(known) - set(fitted.evaluate(subject.x, subject.y, known))
    assert not missing, f"evaluate() ignores the extra metrics {', '.join(sorted(missing))}"


def check_weights_restore_the_model(subject: Subject) -> None:
    _, fitted = subject.trained
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"weights{subject.model.weights_suffix}"
        fitted.save_weights(path)
        fitted.save_weights(path)  # replaces
        left = [file.name for file in Path(folder).iterdir()]
        assert left == [path.name], f"save_weights writes {left}, expected only {path.name}"
        restored = subject.model.restore({}, subject.spec, path)
    before, after = fitted.predict(subject.x), restored.predict(subject.x)
    assert np.array_equal(before, after), f"the restored model predicts differently, by {_distance(before, after)}"
    assert restored.evaluate(subject.x, subject.y) == fitted.evaluate(subject.x, subject.y), (
        "the restored model has other metrics"
    )


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


def check_refit_works_without_watched_rows(subject: Subject) -> None:
    x, y = subject.fold.x_train.copy(), subject.fold.y_train.copy()
    log, fitted = subject.fit(data=FoldData(x, y, None, None))
    assert log.stop_reason.state is State.COMPLETE, f"training ended as {log.stop_reason}: {log.problem}"
    watched = [name for name in log.history if name.startswith("val_")]
    assert not watched, f"reports {', '.join(watched)} without watched rows"
    assert len(fitted.predict(subject.x)) == len(subject.x)
    is_kept = _same(x, subject.fold.x_train) and _same(y, subject.fold.y_train)
    assert is_kept, "training changes the arrays of the dataset"


def check_model_can_be_pickled(subject: Subject) -> None:
    try:
        sent = pickle.loads(pickle.dumps(subject.model))  # noqa: S301 the model's own
    except Exception as error:
        raise AssertionError(
            f"cannot be pickled ({type(error).__name__}: {error}); functions must be defined in a module"
        ) from error
    # Compared as text, since NaN, a default of XGBoost, is not equal to itself.
    assert repr(sent.tunables) == repr(subject.model.tunables), "pickling changes its parameters"
    log, fitted = subject.fit(model=sent)
    first, trained = subject.trained
    assert log.history == first.history, "the unpickled model trains differently"
    assert np.array_equal(fitted.predict(subject.x), trained.predict(subject.x)), (
        "the unpickled model predicts differently"
    )


MODEL_CHECKS: tuple[Callable[[Subject], None], ...] = (
    check_defaults_are_in_the_search_space,
    check_budgets_are_described,
    check_log_has_the_promised_metrics,
    check_every_epoch_is_reported,
    check_equal_seeds_give_equal_results,
    check_pruning_and_interrupts_end_training,
    check_predictions_are_finite_for_every_row,
    check_evaluation_reports_the_metrics_of_training,
    check_weights_restore_the_model,
    check_mlflow_loads_the_saved_model,
    check_refit_works_without_watched_rows,
    check_model_can_be_pickled,
)


def _same(a: Array, b: Array) -> bool:
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))


def _distance(a: Array, b: Array) -> str:
    return f"up to {np.max(np.abs(a - b)):.3g}" if a.shape == b.shape else f"shapes {a.shape} and {b.shape}"
