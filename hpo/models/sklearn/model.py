"""scikit-learn classifiers and regressors: any estimator by name; the parameters of its constructor are tunable.

The preparation of the columns (:mod:`~.preparation`) is fitted on the training rows of each fold. A forest or a boosted
ensemble grows a few trees in each epoch, so that learning curves, early stopping, pruners and budgets work as for a
network. Any other estimator trains in one epoch, and a smaller budget is a share of its training rows.
"""

from __future__ import annotations

import inspect
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sklearn.base import RegressorMixin
from sklearn.compose import TransformedTargetRegressor
from sklearn.preprocessing import StandardScaler

from hpo.config.targets import imported
from hpo.core.identity import PartIdentity
from hpo.core.params import Params, ParamValue
from hpo.core.space import SearchSpace
from hpo.datasets.base import DataSpec
from hpo.errors import ConfigError
from hpo.models.base import Fit, FittedModel, Model
from hpo.models.sklearn.fitted import FittedSklearnModel, skops_io
from hpo.models.sklearn.growing import EstimatorTraining, TrainingRows, rows_in_budget
from hpo.models.sklearn.preparation import STEPS, Preparation
from hpo.models.sklearn.scores import CLASSIFIER_METRICS, REGRESSOR_METRICS, count_weights

# Parameters of estimators that the study sets → the keys that control them.
_SET_BY_STUDY = {
    "random_state": "seed and params",
    "warm_start": "model.grows and model.grow_by",
    "verbose": "the study's own lines",
    "verbosity": "the study's own lines",
    "n_jobs": "executor and threads_per_trial",
}
# Options for other libraries: be quiet, and add numbers in the same order in every run. By default LightGBM uses all
# cores; n_jobs=0 makes it use as many threads as OpenMP may.
_LIBRARY_OPTIONS = {
    "lightgbm": {"verbose": -1, "deterministic": True, "force_row_wise": True, "n_jobs": 0},
    "xgboost": {"verbosity": 0},
}


class SklearnModel(Model):
    """A scikit-learn estimator, after a preparation that is fitted on the training rows of each fold.

    Args:
        estimator: dotted name of a classifier or regressor class.
        scaler, imputer, encoder, select, balance: see :class:`~.preparation.Preparation`; tunable like the parameters
            of the estimator.
        scale_target: whether a regressor learns a standardised target; predictions are in the original unit.
        grows: the parameter that an epoch increases, such as ``n_estimators``; None trains in one epoch.
        grow_by: the increase in each epoch.
        defaults: values that replace the defaults of the estimator's constructor.

    Raises:
        ConfigError: if there is no such estimator, or it does not take one of the values.
    """

    weights_suffix = ".skops"
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
        self._class = imported("model.estimator", estimator)
        if not inspect.isclass(self._class):
            fix = "model.estimator=sklearn.ensemble.RandomForestClassifier"
            raise ConfigError("model.estimator", estimator, "the dotted name of a scikit-learn estimator", fix)
        self._is_regressor = issubclass(self._class, RegressorMixin)
        own = _parameters(self._class)
        for name, value in {**defaults, **({grows: grows} if grows else {})}.items():
            if name not in own:
                expected = f"one of {', '.join([*own, *STEPS, 'scale_target', 'grows', 'grow_by'])}"
                raise ConfigError(f"model.{name}", value, expected, f"'~model.{name}'")
        if grows is not None and "warm_start" not in own:
            raise ConfigError("model.grows", grows, f"null, since {estimator} has no warm_start", "model.grows=null")
        for name, instead in _SET_BY_STUDY.items() | ({(grows, "model.grow_by and max_epochs")} if grows else set()):
            if name in defaults:
                raise ConfigError(
                    f"model.{name}", defaults[name], f"nothing, since {instead} say so", f"'~model.{name}'"
                )
        if type(grow_by) is not int or grow_by < 1:
            raise ConfigError("model.grow_by", grow_by, "a whole number of at least 1", "model.grow_by=10")
        self.grows, self.grow_by = grows, grow_by
        self._takes_seed = "random_state" in own
        self._library_options = _LIBRARY_OPTIONS.get(self._class.__module__.partition(".")[0], {})
        left_out = {*_SET_BY_STUDY, grows}
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

    def describe_budget(self, max_epochs: int, budget_fraction: float) -> str:
        if self.grows is None:
            return "all training rows" if budget_fraction >= 1 else f"{budget_fraction:.0%} of the training rows"
        unit = "trees" if self.grows in ("n_estimators", "max_iter") else self.grows
        return f"{max_epochs * self.grow_by} {unit}"

    def check_fits(self, spec: DataSpec) -> None:
        if self._is_regressor is not spec.is_regression:
            kind, wanted = ("regresses", "classes") if self._is_regressor else ("classifies", "a real target")
            expected = f"a model for {wanted}, since that is what the data have"
            raise ConfigError(
                "model", f"{self._class.__name__}, which {kind}", expected, "python -m hpo help model lists the models"
            )

    def metrics(self, spec: DataSpec) -> tuple[str, ...]:
        self._make({}, spec, 0)
        own = REGRESSOR_METRICS if spec.is_regression else CLASSIFIER_METRICS
        return (*own, *(f"val_{name}" for name in own))

    def _make(self, params: Params, spec: DataSpec, seed: int) -> tuple[Preparation, Any]:
        """Return the preparation of the columns and the estimator, both not fitted."""
        values = {**self._tunables, **params}
        steps = Preparation(**{name: values.pop(name) for name in STEPS})
        options: dict[str, Any] = dict(self._library_options)
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
        plan, log = fit.plan, fit.log
        with log.phase("build"):
            steps, estimator = self._make(fit.params, fit.spec, plan.seed)
        x, y = fit.data.x_train, fit.data.y_train
        if self.grows is None:
            log.max_epochs = 1
            x, y = rows_in_budget(x, y, plan)
        with log.phase("train"):
            prepare = steps.fitted(x, y, fit.spec)
            x = prepare.transform(x) if prepare is not None else x
            rows = TrainingRows(x, y, *steps.balanced(x, y, plan.seed))
            training = EstimatorTraining(estimator, prepare, fit)
            if self.grows is None:
                estimator = training.train_at_once(rows)
            else:
                estimator = training.grow(rows, self.grows, self.grow_by)
        if log.epochs_run:  # an interrupted estimator may not be fitted
            log.n_weights = count_weights(estimator)
        return FittedSklearnModel(prepare, estimator, fit.spec)

    def restore(self, params: Params, spec: DataSpec, path: Path) -> FittedModel:
        # The study wrote the file itself. Trusted are NumPy, the package that the config names, and the mapping in
        # which LightGBM keeps its scores.
        skops = skops_io()
        packages = ("sklearn.", "numpy.", "collections.OrderedDict", f"{self._class.__module__.partition('.')[0]}.")
        unknown = skops.get_untrusted_types(file=path)
        pipeline = skops.load(path, trusted=[name for name in unknown if name.startswith(packages)])
        return FittedSklearnModel(pipeline.named_steps.get("prepare"), pipeline.named_steps["model"], spec)


def _parameters(kind: type) -> dict[str, Any]:
    """Return the parameters of a constructor and their defaults, also those that ``**kwargs`` pass to a base class."""
    found: dict[str, Any] = {}
    for base in kind.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
            found = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty} | found
            if all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in parameters):
                break
    return found
