"""Parts of an MLflow model folder that every implementation of :meth:`hpo.models.base.FittedModel.save` writes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from hpo.datasets.base import Array


def save_options(example: Array, predictions: Array, packages: Iterable[str]) -> dict[str, Any]:
    """Return options that the ``save_model`` of every MLflow flavor takes.

    Args:
        example: samples, ``(n, *input_shape)``, that are kept as the input example.
        predictions: the model's predictions for them; both define the signature.
        packages: names of installed distributions that the model needs to be loaded, besides MLflow.
    """
    from mlflow.models import infer_signature

    return {
        "signature": infer_signature(example, predictions),
        "input_example": example,
        # Given here, since MLflow would load the model in another process to find them.
        "pip_requirements": [f"{name}=={version(name)}" for name in ("mlflow", *packages)],
    }


@contextmanager
def without_library_warnings() -> Iterator[None]:
    """Ignore the warnings of MLflow and its flavors about themselves: a user can do nothing about them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
