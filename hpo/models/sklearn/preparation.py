"""Preparation of the columns of a table for an estimator, fitted on the training rows of a fold alone."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectPercentile, f_classif, f_regression
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, RobustScaler, StandardScaler

from hpo.core.packages import install_command
from hpo.datasets.base import Array, DataSpec
from hpo.errors import ConfigError

SCALERS = {"standard": StandardScaler, "min_max": MinMaxScaler, "robust": RobustScaler}
IMPUTERS = ("mean", "median", "most_frequent")
ENCODERS = ("one_hot",)
BALANCES = ("smote", "random")
STEPS = ("scaler", "imputer", "encoder", "select", "balance")


@dataclass(frozen=True)
class Preparation:
    """The steps before an estimator.

    Args:
        scaler: scaling of numeric columns: ``standard``, ``min_max``, ``robust`` or None.
        imputer: replacement of a missing number: the ``mean``, ``median`` or ``most_frequent`` of its column; None
            keeps it missing, for estimators that accept missing values.
        encoder: encoding of categorical columns: ``one_hot``, in which a missing value is a category of its own, and a
            category without training rows has zeros only; None keeps their numbers.
        select: fraction of the columns to keep, those with the highest F-test statistic; None keeps all.
        balance: oversampling of rare classes in the training rows: ``random`` repeats rows, ``smote`` interpolates
            between rows (Chawla et al. 2002); None keeps the classes as they are.

    Raises:
        ConfigError: for any other value.
    """

    scaler: str | None = None
    imputer: str | None = None
    encoder: str | None = None
    select: float | None = None
    balance: str | None = None

    def __post_init__(self) -> None:
        for name, known in (
            ("scaler", tuple(SCALERS)),
            ("imputer", IMPUTERS),
            ("encoder", ENCODERS),
            ("balance", BALANCES),
        ):
            value = getattr(self, name)
            if value is not None and value not in known:
                fix = f"model.{name}={known[0]}"
                raise ConfigError(f"model.{name}", value, f"one of {', '.join(known)}, or null", fix)
        if self.select is not None and (isinstance(self.select, bool) or not 0 < self.select <= 1):
            expected = "a share of the columns, above 0 and at most 1, or null"
            raise ConfigError("model.select", self.select, expected, "model.select=0.5")
        if self.balance is not None:
            _samplers(self.balance)

    def categorical_columns(self, spec: DataSpec) -> list[int]:
        """Return the columns that hold category numbers also after the preparation."""
        if self.encoder is not None:
            return []
        return [place for place, column in enumerate(spec.columns) if column.categories is not None]

    def fitted(self, x: Array, y: Array, spec: DataSpec) -> Any:
        """Return the steps as one scikit-learn transformer, fitted on ``x``; None if there are no steps."""
        numbers = [place for place, column in enumerate(spec.columns) if column.categories is None]
        categories = [place for place, column in enumerate(spec.columns) if column.categories is not None]
        of_numbers: list[tuple[str, Any]] = []
        # Columns without a value in any training row are kept, so that all folds have the same columns.
        if self.imputer is not None:
            of_numbers.append(("impute", SimpleImputer(strategy=self.imputer, keep_empty_features=True)))
        if self.scaler is not None:
            of_numbers.append(("scale", SCALERS[self.scaler]()))
        steps = list(of_numbers)
        if categories:
            encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False) if self.encoder else "passthrough"
            whole = Pipeline(of_numbers) if of_numbers else "passthrough"
            parts = [("numbers", whole, numbers), ("categories", encoder, categories)]
            steps = [("columns", ColumnTransformer([part for part in parts if part[2]]))]
        if self.select is not None and self.select < 1:
            test = f_regression if spec.is_regression else f_classif
            steps.append(("select", SelectPercentile(test, percentile=100 * self.select)))
        with warnings.catch_warnings():
            # Of columns that are constant in a fold: their F statistic is NaN, so that they are dropped first.
            warnings.filterwarnings("ignore", "Features .* are constant", UserWarning)
            warnings.filterwarnings("ignore", "invalid value encountered", RuntimeWarning)
            return Pipeline(steps).fit(x, y) if steps else None

    def balanced(self, x: Array, y: Array, seed: int) -> tuple[Array, Array]:
        """Return prepared training rows with equally many rows of each class; real targets are not balanced."""
        if self.balance is None or y.dtype.kind == "f":
            return x, y
        samplers = _samplers(self.balance)
        kind = samplers.SMOTE if self.balance == "smote" else samplers.RandomOverSampler
        more: tuple[Array, Array] = kind(random_state=seed).fit_resample(x, y)
        return more


def _samplers(balance: str) -> Any:
    try:
        return importlib.import_module("imblearn.over_sampling")
    except ModuleNotFoundError as error:
        expected = "null, or the library imblearn, which is not installed"
        fix = install_command("imblearn") or "model.balance=null"
        raise ConfigError("model.balance", balance, expected, fix) from error
