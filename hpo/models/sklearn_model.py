"""scikit-learn classifiers: any estimator by name, its constructor's parameters being its tunables.

A forest or a boosted ensemble grows a few trees an epoch, so that curves, early stopping, pruners and rungs mean what
they mean for a network. Any other estimator trains in one go, and a smaller budget is a share of its training rows.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import get_class
from sklearn.metrics import accuracy_score, hinge_loss, log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

from hpo.datasets.base import Array, DataSpec
from hpo.errors import ConfigError
from hpo.models.base import Control, FitLog, FittedModel, FoldData, Model
from hpo.models.early_stopping import Watch
from hpo.trial import Decision, FitPlan, Params, ParamValue, StopReason

# Parameters of estimators that a study decides → where it does.
_SET_BY_US = {
    "random_state": "seed and params",
    "warm_start": "model.grows and model.grow_by",
    "verbose": "the study's own lines",
    "n_jobs": "executor and threads_per_trial",
}
SCALERS = {"standard": StandardScaler, "min_max": MinMaxScaler, "robust": RobustScaler}


def skops_io() -> Any:
    """The module ``skops.io``, imported without PyTorch.

    It lists all of scikit-learn when it is imported, which imports PyTorch where that is installed: three seconds and
    hundreds of megabytes for nothing.
    """
    is_kept_out = "torch" not in sys.modules
    if is_kept_out:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("skops.io")
    finally:
        if is_kept_out:
            del sys.modules["torch"]


class SklearnModel(Model):
    """A scikit-learn classifier, behind a scaler that is fitted on the training rows of each fold.

    Args:
        estimator: dotted name of a classifier class.
        scaler: ``standard``, ``min_max``, ``robust`` or None; a tunable like the estimator's own.
        grows: the parameter that an epoch adds to, such as ``n_estimators``; None trains in one go.
        grow_by: how much an epoch adds.
        defaults: values that replace the defaults of the estimator's constructor.

    Raises:
        ConfigError: when there is no such estimator, or it does not take what is given.
    """

    weights_suffix = ".skops"
    flavor = "sklearn"
    takes_rows = True

    def __init__(
        self,
        estimator: str,
        *,
        scaler: str | None = None,
        grows: str | None = None,
        grow_by: int = 10,
        **defaults: ParamValue,
    ) -> None:
        try:
            self._class = get_class(estimator)
        except Exception as error:  # importing may raise anything
            expected = f"the dotted name of a scikit-learn classifier ({error})"
            fix = "model.estimator=sklearn.ensemble.RandomForestClassifier"
            raise ConfigError("model.estimator", estimator, expected, fix) from error
        own = {
            name: parameter.default
            for name, parameter in inspect.signature(self._class).parameters.items()
            if parameter.default is not inspect.Parameter.empty
        }
        for name, value in {**defaults, **({grows: grows} if grows else {})}.items():
            if name not in own:
                expected = f"one of {', '.join([*own, 'scaler', 'grows', 'grow_by'])}"
                raise ConfigError(f"model.{name}", value, expected, f"'~model.{name}'")
        if grows is not None and "warm_start" not in own:
            raise ConfigError("model.grows", grows, f"null, since {estimator} has no warm_start", "model.grows=null")
        for name, instead in _SET_BY_US.items() | ({(grows, "model.grow_by and max_epochs")} if grows else set()):
            if name in defaults:
                raise ConfigError(
                    f"model.{name}", defaults[name], f"nothing, since {instead} say so", f"'~model.{name}'"
                )
        if type(grow_by) is not int or grow_by < 1:
            raise ConfigError("model.grow_by", grow_by, "a whole number of at least 1", "model.grow_by=10")
        self._grows, self._grow_by = grows, grow_by
        self._takes_seed = "random_state" in own
        left_out = {*_SET_BY_US, grows}
        self._tunables = {name: v for name, v in {**own, **defaults}.items() if name not in left_out}
        self._tunables["scaler"] = scaler
        self.has_epochs = grows is not None

    @property
    def tunables(self) -> dict[str, ParamValue]:
        return dict(self._tunables)

    def describe_budget(self, max_epochs: int, share: float) -> str:
        if self._grows is None:
            return "all training rows" if share >= 1 else f"{share:.0%} of the training rows"
        unit = "trees" if self._grows in ("n_estimators", "max_iter") else self._grows
        return f"{max_epochs * self._grow_by} {unit}"

    def metrics(self, spec: DataSpec) -> tuple[str, ...]:
        self._made({}, 0)
        return ("loss", "accuracy", "val_loss", "val_accuracy")

    def _made(self, params: Params, seed: int) -> tuple[Any, Any]:
        """The scaler, or None, and the estimator."""
        values = {**self._tunables, **params}
        scaler = values.pop("scaler")
        if scaler is not None and scaler not in SCALERS:
            raise ConfigError("model.scaler", scaler, f"one of {', '.join(SCALERS)}, or null", "model.scaler=standard")
        growing = {self._grows: self._grow_by, "warm_start": True} if self._grows else {}
        seeded = {"random_state": seed} if self._takes_seed else {}
        estimator = self._class(**values, **growing, **seeded)
        return (None if scaler is None else SCALERS[str(scaler)]()), estimator

    def fit(
        self, params: Params, spec: DataSpec, data: FoldData, plan: FitPlan, log: FitLog, control: Control
    ) -> FittedModel:
        with log.phase("build"):
            scaler, estimator = self._made(params, plan.seed)
        x, y = data.x_train, data.y_train
        if self._grows is None:
            log.max_epochs = 1
            x, y = _share_of(x, y, plan)
        with log.phase("train"):
            x = x if scaler is None else scaler.fit_transform(x)
            fitted = _grown if self._grows else _at_once
            estimator = fitted(self, estimator, scaler, x, y, spec, data, plan, log, control)
        log.n_weights = _n_weights(estimator)
        return FittedSklearnModel(scaler, estimator, spec)

    def restore(self, params: Params, spec: DataSpec, path: Path) -> FittedModel:
        # The file is the study's own; of other packages only the one that its config names is trusted.
        skops = skops_io()
        packages = ("sklearn.", f"{self._class.__module__.partition('.')[0]}.")
        unknown = skops.get_untrusted_types(file=path)
        pipeline = skops.load(path, trusted=[name for name in unknown if name.startswith(packages)])
        return FittedSklearnModel(pipeline.named_steps.get("scaler"), pipeline.named_steps["model"], spec)


def _share_of(x: Array, y: Array, plan: FitPlan) -> tuple[Array, Array]:
    """The rows that the budget allows, with the classes in their shares where that can be."""
    n = max(len(np.unique(y)), round(len(y) * plan.share))
    if n >= len(y):
        return x, y
    counts = np.unique(y, return_counts=True)[1]
    can_stratify = counts.min() > 1 and len(counts) <= min(n, len(y) - n)
    rows, _ = train_test_split(
        np.arange(len(y)), train_size=n, stratify=y if can_stratify else None, random_state=plan.seed
    )
    return x[np.sort(rows)], y[np.sort(rows)]


def _at_once(
    model: SklearnModel, estimator: Any, scaler: Any, x: Array, y: Array, spec: DataSpec, data: FoldData,
    plan: FitPlan, log: FitLog, control: Control,
) -> Any:  # fmt: skip
    if control.poll() is Decision.INTERRUPT:
        log.stop_reason = StopReason.INTERRUPTED
        return estimator
    estimator.fit(x, y)
    logs = _measured(estimator, scaler, x, y, spec, data)
    log.history = {name: [value] for name, value in logs.items()}
    log.epochs_run, log.best_epoch = 1, 0
    log.best_value = logs.get(plan.early_stopping.monitor)
    control.on_epoch(0, logs)  # it has ended by itself: nothing left to prune or interrupt
    return estimator


def _grown(
    model: SklearnModel, estimator: Any, scaler: Any, x: Array, y: Array, spec: DataSpec, data: FoldData,
    plan: FitPlan, log: FitLog, control: Control,
) -> Any:  # fmt: skip
    watch, best = Watch(plan.early_stopping), None
    grows, grow_by = str(model._grows), model._grow_by
    began = time.perf_counter()
    for epoch in range(plan.max_epochs):
        if control.poll() is Decision.INTERRUPT:
            log.stop_reason = StopReason.INTERRUPTED
            break
        estimator.set_params(**{grows: grow_by * (epoch + 1)})
        estimator.fit(x, y)
        log.seconds.setdefault("first_step", time.perf_counter() - began)
        logs = _measured(estimator, scaler, x, y, spec, data)
        for name, value in logs.items():
            log.history.setdefault(name, []).append(value)
        log.epochs_run = epoch + 1
        if not data.is_refit:
            if watch.see(epoch, logs[plan.early_stopping.monitor]) and plan.early_stopping.restore_best_weights:
                best = copy.deepcopy(estimator)
            log.best_epoch, log.best_value = watch.best_epoch, watch.best_value
            broken = next((name for name, value in logs.items() if not math.isfinite(value)), None)
            if broken:
                log.stop_reason, log.problem = StopReason.DIVERGED, f"{broken} is not finite after epoch {epoch}"
            elif watch.is_over(epoch):
                log.stop_reason, log.stopped_epoch = StopReason.EARLY_STOPPED, epoch
        decision = control.on_epoch(epoch, logs)
        if log.stop_reason is not StopReason.MAX_EPOCHS or epoch + 1 == plan.max_epochs:
            break  # it ends by itself: nothing left to prune or interrupt
        if decision is not Decision.CONTINUE:
            is_pruned = decision is Decision.PRUNE
            log.stop_reason = StopReason.PRUNED if is_pruned else StopReason.INTERRUPTED
            break
    log.restored_best_weights = best is not None
    return estimator if best is None else best


def _measured(estimator: Any, scaler: Any, x: Array, y: Array, spec: DataSpec, data: FoldData) -> dict[str, float]:
    logs = _scores(estimator, x, y, spec)
    if data.x_watch is not None and data.y_watch is not None:
        watched = data.x_watch if scaler is None else scaler.transform(data.x_watch)
        logs |= {f"val_{name}": value for name, value in _scores(estimator, watched, data.y_watch, spec).items()}
    return logs


def _scores(estimator: Any, x: Array, y: Array, spec: DataSpec) -> dict[str, float]:
    """Accuracy, and as loss the logarithmic one, or the hinge loss of a classifier without probabilities."""
    labels = np.arange(spec.n_classes)
    accuracy = float(accuracy_score(y, estimator.predict(x)))
    if hasattr(estimator, "predict_proba"):
        loss = log_loss(y, _by_class(estimator.predict_proba(x), estimator.classes_, spec, 0.0), labels=labels)
    else:
        margins = estimator.decision_function(x)
        if margins.ndim == 2:
            margins = _by_class(margins, estimator.classes_, spec, float(margins.min()))
        loss = hinge_loss(y, margins, labels=labels)
    return {"loss": float(loss), "accuracy": accuracy}


def _by_class(scores: Array, classes: Array, spec: DataSpec, missing: float) -> Array:
    """``scores`` with a column for every class, also for those that no training row had."""
    if len(classes) == spec.n_classes:
        return scores
    whole = np.full((len(scores), spec.n_classes), missing)
    whole[:, classes.astype(int)] = scores
    return whole


def _n_weights(estimator: Any) -> int | None:
    """Coefficients, numbers in support vectors, or nodes of trees: what a prediction has to look at."""
    if hasattr(estimator, "support_vectors_"):
        return int(np.size(estimator.support_vectors_))
    if hasattr(estimator, "coef_"):
        return int(np.size(estimator.coef_) + np.size(estimator.intercept_))
    trees = [tree for tree in np.ravel(getattr(estimator, "estimators_", [])) if hasattr(tree, "tree_")]
    if hasattr(estimator, "_predictors"):  # of histogram boosting, which shows its trees nowhere else
        return int(sum(tree.get_n_leaf_nodes() * 2 - 1 for stage in estimator._predictors for tree in stage))
    return int(sum(tree.tree_.node_count for tree in trees)) if trees else None


class FittedSklearnModel(FittedModel):
    """A trained scikit-learn classifier with its scaler."""

    def __init__(self, scaler: Any, estimator: Any, spec: DataSpec) -> None:
        self._scaler, self._estimator, self._spec = scaler, estimator, spec

    def evaluate(self, x: Array, y: Array) -> dict[str, float]:
        return _scores(self._estimator, x if self._scaler is None else self._scaler.transform(x), y, self._spec)

    def predict(self, x: Array) -> Array:
        predicted: Array = self.native.predict(x)
        return predicted

    def save_weights(self, path: Path) -> None:
        skops = skops_io()
        partial = path.with_name(f"partial-{path.name}")
        skops.dump(self.native, partial)
        partial.replace(path)

    @property
    def native(self) -> Pipeline:
        steps = [] if self._scaler is None else [("scaler", self._scaler)]
        return Pipeline([*steps, ("model", self._estimator)])
