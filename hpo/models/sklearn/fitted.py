"""A trained scikit-learn estimator: metrics, predictions, weights, and its MLflow model folder."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sklearn.pipeline import Pipeline

from hpo.datasets.base import Array, DataSpec
from hpo.models.base import FittedModel
from hpo.models.saving import save_options, without_library_warnings
from hpo.models.sklearn import scores


class FittedSklearnModel(FittedModel):
    """A trained scikit-learn estimator with the preparation of its columns.

    Args:
        prepare: the fitted transformer of the columns; None if there is nothing to transform.
        estimator: fitted on prepared rows.
        spec: shape and target of the data.
    """

    def __init__(self, prepare: Any, estimator: Any, spec: DataSpec) -> None:
        self._prepare, self._estimator, self._spec = prepare, estimator, spec

    def evaluate(self, x: Array, y: Array, extra: Sequence[str] = ()) -> dict[str, float]:
        return scores.measure(self._estimator, self._prepared(x), y, self._spec, extra)

    def _prepared(self, x: Array) -> Array:
        prepared: Array = x if self._prepare is None else self._prepare.transform(x)
        return prepared

    def predict(self, x: Array) -> Array:
        predicted: Array = self.native.predict(x)
        return predicted

    def predict_targets(self, x: Array) -> tuple[Array, Array | None]:
        prepared = self._prepared(x)
        found = None if self._spec.is_regression else scores.class_scores(self._estimator, prepared, self._spec)
        return self._estimator.predict(prepared), found

    def save_weights(self, path: Path) -> None:
        skops = skops_io()
        partial = path.with_name(f"partial-{path.name}")
        skops.dump(self.native, partial)
        partial.replace(path)

    def save(self, path: Path, example: Array) -> None:
        skops = skops_io()
        import mlflow.sklearn

        # In the format of skops, which runs no code when it is loaded; this study has trained what it trusts.
        trusted = skops.get_untrusted_types(data=skops.dumps(self.native))
        with without_library_warnings():
            mlflow.sklearn.save_model(
                self.native,
                path=str(path),
                serialization_format="skops",
                skops_trusted_types=trusted,
                **save_options(example, self.predict(example), ("scikit-learn", "skops")),
            )

    @property
    def native(self) -> Pipeline:
        """The preparation and the estimator as one pipeline over raw rows."""
        steps = [] if self._prepare is None else [("prepare", self._prepare)]
        return Pipeline([*steps, ("model", self._estimator)])


def skops_io() -> Any:
    """Import ``skops.io`` without PyTorch, and return it.

    When it is imported, it lists all of scikit-learn, which imports PyTorch if that is installed: three seconds and
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
