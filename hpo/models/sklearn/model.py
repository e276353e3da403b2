"""scikit-learn classifiers and regressors: any estimator by name, its constructor's parameters being its tunables.

What is done to the columns before (:mod:`~.preparation`) is fitted on the training rows of each fold. A forest
or a boosted ensemble grows a few trees an epoch, so that curves, early stopping, pruners and rungs mean what they mean
for a network. Any other estimator trains in one go, and a smaller budget is a share of its training rows.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import get_class
from sklearn.base import RegressorMixin
from sklearn.compose import TransformedTargetRegressor
from sklearn.metrics import accuracy_score, hinge_loss, log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from hpo.core.identity import PartIdentity
from hpo.core.packages import install_command
from hpo.core.params import Params, ParamValue
from hpo.core.space import SearchSpace
from hpo.core.states import Decision, StopReason
from hpo.datasets.base import Array, DataSpec
from hpo.errors import ConfigError
from hpo.models import metrics
from hpo.models.base import Control, Fit, FitLog, FitPlan, FittedModel, FoldData, Model
from hpo.models.early_stopping import EarlyStoppingMonitor
from hpo.models.sklearn.preparation import STEPS, Preparation

# Parameters of estimators that a study decides → where it does.
_SET_BY_US = {
    "random_state": "seed and params",
    "warm_start": "model.grows and model.grow_by",
    "verbose": "the study's own lines",
    "verbosity": "the study's own lines",
    "n_jobs": "executor and threads_per_trial",
}
# What libraries besides scikit-learn are told: to be quiet, to add in the same order every time, and (n_jobs) to use as
# many threads as OpenMP may; LightGBM by itself takes all cores.
_TOLD = {
    "lightgbm": {"verbose": -1, "deterministic": True, "force_row_wise": True, "n_jobs": 0},
    "xgboost": {"verbosity": 0},
}
# What is reported after an epoch, of classes and of real targets.
REPORTED = {False: ("loss", "accuracy"), True: ("loss", "mae", "rmse")}


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
    """A scikit-learn estimator, behind steps that are fitted on the training rows of each fold.

    Args:
        estimator: dotted name of a class that classifies or regresses.
        scaler, imputer, encoder, select, balance: see :class:`~.preparation.Preparation`; tunables like
            the own ones of the estimator.
        scale_target: whether a regressor learns a standardised target; it answers in the original unit all the same.
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
        imputer: str | None = "median",
        encoder: str | None = "one_hot",
        select: float | None = None,
        balance: str | None = None,
        scale_target: bool = False,
        grows: str | None = None,
        grow_by: int = 10,
        **defaults: ParamValue,
    ) -> None:
        try:
            self._class = get_class(estimator)
        except Exception as error:  # importing may raise anything
            package = str(estimator).partition(".")[0]
            if not _can_be_imported(package) and (command := install_command(package)):
                expected = f"the library {package}, which is not installed"
                raise ConfigError("model.estimator", estimator, expected, command) from error
            expected = f"the dotted name of a scikit-learn estimator ({error})"
            fix = "model.estimator=sklearn.ensemble.RandomForestClassifier"
            raise ConfigError("model.estimator", estimator, expected, fix) from error
        self._is_regressor = issubclass(self._class, RegressorMixin)
        own = _parameters(self._class)
        for name, value in {**defaults, **({grows: grows} if grows else {})}.items():
            if name not in own:
                expected = f"one of {', '.join([*own, *STEPS, 'scale_target', 'grows', 'grow_by'])}"
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
        self.grows, self.grow_by = grows, grow_by
        self._takes_seed = "random_state" in own
        self._told = _TOLD.get(self._class.__module__.partition(".")[0], {})
        left_out = {*_SET_BY_US, grows}
        self._tunables = {name: v for name, v in {**own, **defaults}.items() if name not in left_out}
        steps = Preparation(scaler, imputer, encoder, select, balance)
        self._tunables |= asdict(steps)
        if type(scale_target) is not bool or (scale_target and not self._is_regressor):
            expected = "true or false, and false for a classifier"
            raise ConfigError("model.scale_target", scale_target, expected, "model.scale_target=false")
        self._scales_target = scale_target
        self.has_epochs = grows is not None

    @property
    def tunables(self) -> dict[str, ParamValue]:
        return dict(self._tunables)

    def identity(self, space: SearchSpace) -> PartIdentity:
        general = super().identity(space)
        balances = [self._tunables["balance"], *(space["balance"].points() or () if "balance" in space else ())]
        packages = ["sklearn", self._class.__module__.partition(".")[0], *(["imblearn"] if any(balances) else [])]
        return PartIdentity(tuple(packages), (*general.code, self._class), general.values)

    def describe_budget(self, max_epochs: int, share: float) -> str:
        if self.grows is None:
            return "all training rows" if share >= 1 else f"{share:.0%} of the training rows"
        unit = "trees" if self.grows in ("n_estimators", "max_iter") else self.grows
        return f"{max_epochs * self.grow_by} {unit}"

    def check_fits(self, spec: DataSpec) -> None:
        if self._is_regressor is not spec.is_regression:
            kind, wanted = ("regresses", "classes") if self._is_regressor else ("classifies", "a real target")
            expected = f"a model for {wanted}, since that is what the data have"
            raise ConfigError(
                "model", f"{self._class.__name__}, which {kind}", expected, "python -m hpo --help lists models"
            )

    def metrics(self, spec: DataSpec) -> tuple[str, ...]:
        self._made({}, spec, 0)
        own = REPORTED[spec.is_regression]
        return (*own, *(f"val_{name}" for name in own))

    def _made(self, params: Params, spec: DataSpec, seed: int) -> tuple[Preparation, Any]:
        """What is done to the columns, and the estimator."""
        values = {**self._tunables, **params}
        steps = Preparation(**{name: values.pop(name) for name in STEPS})
        options: dict[str, Any] = dict(self._told)
        if self.grows:
            options |= {self.grows: self.grow_by, "warm_start": True}
        if self._takes_seed:
            options["random_state"] = seed
        categorical = steps.categorical_columns(spec)
        if categorical and "categorical_features" in values:  # histogram boosting splits by categories itself
            options["categorical_features"] = categorical
        estimator = self._class(**{**values, **options})
        if self._scales_target:
            estimator = TransformedTargetRegressor(estimator, transformer=StandardScaler())
        return steps, estimator

    def fit(self, fit: Fit) -> FittedModel:
        spec, data, plan, log = fit.spec, fit.data, fit.plan, fit.log
        with log.phase("build"):
            steps, estimator = self._made(fit.params, spec, plan.seed)
        x, y = data.x_train, data.y_train
        if self.grows is None:
            log.max_epochs = 1
            x, y = _share_of(x, y, plan)
        with log.phase("train"):
            prepare = steps.fitted(x, y, spec)
            x = prepare.transform(x) if prepare is not None else x
            x_learned, y_learned = steps.balanced(x, y, plan.seed)
            fitted = _Growing(self, estimator, prepare, spec, data, plan, log, fit.control)
            estimator = (fitted.grown if self.grows else fitted.at_once)(x_learned, y_learned, x, y)
        log.n_weights = _n_weights(estimator)
        return FittedSklearnModel(prepare, estimator, spec)

    def restore(self, params: Params, spec: DataSpec, path: Path) -> FittedModel:
        # The file is the study's own; of other packages only NumPy and the one that its config names are trusted, and
        # the plain mapping in which LightGBM keeps its scores.
        skops = skops_io()
        packages = ("sklearn.", "numpy.", "collections.OrderedDict", f"{self._class.__module__.partition('.')[0]}.")
        unknown = skops.get_untrusted_types(file=path)
        pipeline = skops.load(path, trusted=[name for name in unknown if name.startswith(packages)])
        return FittedSklearnModel(pipeline.named_steps.get("prepare"), pipeline.named_steps["model"], spec)


def _can_be_imported(package: str) -> bool:
    try:
        importlib.import_module(package)
    except ImportError:
        return False
    return True


def _parameters(kind: type) -> dict[str, Any]:
    """The parameters of a constructor and their defaults, with those that ``**kwargs`` pass on to a base class."""
    found: dict[str, Any] = {}
    for base in kind.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
            found = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty} | found
            if all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in parameters):
                break
    return found


def _share_of(x: Array, y: Array, plan: FitPlan) -> tuple[Array, Array]:
    """The rows that the budget allows, with the classes in their shares where that can be."""
    are_classes = y.dtype.kind != "f"
    n = max(len(np.unique(y)) if are_classes else 2, round(len(y) * plan.share))
    if n >= len(y):
        return x, y
    counts = np.unique(y, return_counts=True)[1] if are_classes else np.zeros(1)
    can_stratify = counts.min() > 1 and len(counts) <= min(n, len(y) - n)
    rows, _ = train_test_split(
        np.arange(len(y)), train_size=n, stratify=y if can_stratify else None, random_state=plan.seed
    )
    return x[np.sort(rows)], y[np.sort(rows)]


@dataclass(frozen=True)
class _Growing:
    """One training of an estimator, in one go or some of its parts at a time."""

    model: SklearnModel
    estimator: Any
    prepare: Any
    spec: DataSpec
    data: FoldData
    plan: FitPlan
    log: FitLog
    control: Control

    def at_once(self, x_learned: Array, y_learned: Array, x: Array, y: Array) -> Any:
        """Trained on ``x_learned``, which may be balanced, and measured on ``x``."""
        log = self.log
        if self.control.poll() is Decision.INTERRUPT:
            log.stop_reason = StopReason.INTERRUPTED
            return self.estimator
        self.estimator.fit(x_learned, y_learned)
        logs = self.measured(x, y)
        log.history = {name: [value] for name, value in logs.items()}
        log.epochs_run, log.best_epoch = 1, 0
        log.best_value = logs.get(self.plan.early_stopping.monitor)
        self.control.on_epoch(0, logs)  # it has ended by itself: nothing left to prune or interrupt
        return self.estimator

    def grown(self, x_learned: Array, y_learned: Array, x: Array, y: Array) -> Any:
        """As :meth:`at_once`, with an epoch for every few parts, and stopped early."""
        estimator, plan, log = self.estimator, self.plan, self.log
        watch, best = EarlyStoppingMonitor(plan.early_stopping), None
        began = time.perf_counter()
        for epoch in range(plan.max_epochs):
            if self.control.poll() is Decision.INTERRUPT:
                log.stop_reason = StopReason.INTERRUPTED
                break
            estimator.set_params(**{str(self.model.grows): self.model.grow_by * (epoch + 1)})
            estimator.fit(x_learned, y_learned)
            log.seconds.setdefault("first_step", time.perf_counter() - began)
            logs = self.measured(x, y)
            for name, value in logs.items():
                log.history.setdefault(name, []).append(value)
            log.epochs_run = epoch + 1
            if not self.data.is_refit:
                if watch.see(epoch, logs[plan.early_stopping.monitor]) and plan.early_stopping.restore_best_weights:
                    best = copy.deepcopy(estimator)
                log.best_epoch, log.best_value = watch.best_epoch, watch.best_value
                broken = next((name for name, value in logs.items() if not math.isfinite(value)), None)
                if broken:
                    log.stop_reason, log.problem = StopReason.DIVERGED, f"{broken} is not finite after epoch {epoch}"
                elif watch.is_over(epoch):
                    log.stop_reason, log.stopped_epoch = StopReason.EARLY_STOPPED, epoch
            decision = self.control.on_epoch(epoch, logs)
            if log.stop_reason is not StopReason.MAX_EPOCHS or epoch + 1 == plan.max_epochs:
                break  # it ends by itself: nothing left to prune or interrupt
            if decision is not Decision.CONTINUE:
                is_pruned = decision is Decision.PRUNE
                log.stop_reason = StopReason.PRUNED if is_pruned else StopReason.INTERRUPTED
                break
        log.restored_best_weights = best is not None
        return estimator if best is None else best

    def measured(self, x: Array, y: Array) -> dict[str, float]:
        """Metrics on the training rows and on those that are watched."""
        logs = _scores(self.estimator, x, y, self.spec)
        if self.data.x_watch is not None and self.data.y_watch is not None:
            watched = self.data.x_watch if self.prepare is None else self.prepare.transform(self.data.x_watch)
            found = _scores(self.estimator, watched, self.data.y_watch, self.spec, self.plan.extra)
            logs |= {f"val_{name}": value for name, value in found.items()}
        return logs


def _scores(estimator: Any, x: Array, y: Array, spec: DataSpec, extra: Sequence[str] = ()) -> dict[str, float]:
    """What is reported after an epoch, and the ``extra`` metrics.

    As loss: the logarithmic one, or the hinge loss of a classifier without probabilities; of a regression the mean
    squared error.
    """
    predicted = estimator.predict(x)
    if spec.is_regression:
        own = metrics.measure(("mse", "mae", "rmse"), y, predicted, spec)
        own = {"loss": own["mse"], "mae": own["mae"], "rmse": own["rmse"]}
        return own | metrics.measure([name for name in extra if name not in own], y, predicted, spec)
    found = _class_scores(estimator, x, spec)
    labels = np.arange(spec.n_classes)
    if hasattr(estimator, "predict_proba"):
        loss = log_loss(y, found, labels=labels)
    else:
        margins = found[:, 1] if spec.n_classes == 2 else found
        loss = hinge_loss(y, margins, labels=labels)
    own = {"loss": float(loss), "accuracy": float(accuracy_score(y, predicted))}
    return own | metrics.measure([name for name in extra if name not in own], y, predicted, spec, found)


def _class_scores(estimator: Any, x: Array, spec: DataSpec) -> Array:
    """Probabilities of shape ``(n, n_classes)``, or the margins of a classifier without them."""
    if hasattr(estimator, "predict_proba"):
        probabilities: Array = estimator.predict_proba(x)
        sums = probabilities.sum(axis=1, keepdims=True)
        # Naive Bayes rounds where likelihoods are extreme.
        probabilities = probabilities if np.allclose(sums, 1, rtol=1e-9) else probabilities / sums
        return _by_class(probabilities, estimator.classes_, spec, 0.0)
    margins: Array = estimator.decision_function(x)
    if margins.ndim == 1:
        return np.column_stack([-margins, margins])
    return _by_class(margins, estimator.classes_, spec, float(margins.min()))


def _by_class(scores: Array, classes: Array, spec: DataSpec, missing: float) -> Array:
    """``scores`` with a column for every class, also for those that no training row had."""
    if len(classes) == spec.n_classes:
        return scores
    whole = np.full((len(scores), spec.n_classes), missing)
    whole[:, classes.astype(int)] = scores
    return whole


def _n_weights(estimator: Any) -> int | None:
    """Coefficients, numbers in stored rows, or nodes of trees: what a prediction has to look at."""
    estimator = getattr(estimator, "regressor_", estimator)  # of one that scales its target
    for names in (("support_vectors_",), ("_fit_X",), ("coef_", "intercept_"), ("theta_", "var_")):
        if hasattr(estimator, names[0]):
            return int(sum(np.size(getattr(estimator, name)) for name in names))
    if hasattr(estimator, "coefs_"):
        return int(sum(layer.size for layer in (*estimator.coefs_, *estimator.intercepts_)))
    if hasattr(estimator, "_predictors"):  # of histogram boosting, which shows its trees nowhere else
        return int(sum(tree.get_n_leaf_nodes() * 2 - 1 for stage in estimator._predictors for tree in stage))
    if hasattr(estimator, "get_booster"):  # of XGBoost
        return sum(tree.count("\n") for tree in estimator.get_booster().get_dump())
    if hasattr(estimator, "booster_"):  # of LightGBM
        return sum(tree["num_leaves"] * 2 - 1 for tree in estimator.booster_.dump_model()["tree_info"])
    trees = [tree for tree in (estimator, *np.ravel(getattr(estimator, "estimators_", []))) if hasattr(tree, "tree_")]
    return int(sum(tree.tree_.node_count for tree in trees)) if trees else None


class FittedSklearnModel(FittedModel):
    """A trained scikit-learn estimator with what is done to the columns before."""

    def __init__(self, prepare: Any, estimator: Any, spec: DataSpec) -> None:
        self._prepare, self._estimator, self._spec = prepare, estimator, spec

    def evaluate(self, x: Array, y: Array, extra: Sequence[str] = ()) -> dict[str, float]:
        return _scores(self._estimator, self._prepared(x), y, self._spec, extra)

    def _prepared(self, x: Array) -> Array:
        prepared: Array = x if self._prepare is None else self._prepare.transform(x)
        return prepared

    def predict(self, x: Array) -> Array:
        predicted: Array = self.native.predict(x)
        return predicted

    def answers(self, x: Array) -> tuple[Array, Array | None]:
        prepared = self._prepared(x)
        scores = None if self._spec.is_regression else _class_scores(self._estimator, prepared, self._spec)
        return self._estimator.predict(prepared), scores

    def save_weights(self, path: Path) -> None:
        skops = skops_io()
        partial = path.with_name(f"partial-{path.name}")
        skops.dump(self.native, partial)
        partial.replace(path)

    @property
    def native(self) -> Pipeline:
        steps = [] if self._prepare is None else [("prepare", self._prepare)]
        return Pipeline([*steps, ("model", self._estimator)])
