"""Trained models as MLflow keeps them: saved to a folder, from which they are loaded, served and delivered."""

from __future__ import annotations

import shutil
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlflow.models import infer_signature


def save_model(flavor: str, model: Any, example: Any, predictions: Any, path: Path) -> None:
    """Save a trained model to the folder ``path``, replacing what is there.

    Args:
        flavor: ``keras`` or ``sklearn``, MLflow's words for the kind of ``model``.
        example: input of shape ``(n, …)``, kept with the model.
        predictions: the model's output on it, for the signature.
    """
    shutil.rmtree(path, ignore_errors=True)
    flavors: dict[str, Any] = {"keras": _KerasFlavor, "sklearn": _SklearnFlavor}
    with warnings.catch_warnings():
        # Types in signatures and deprecations inside MLflow and Keras: nothing that a user could act on here.
        warnings.simplefilter("ignore")
        flavors[flavor].save_model(
            path=str(path),
            model=model,
            signature=infer_signature(example, predictions),
            input_example=example,
            # Said here, since MLflow finds them out by loading the model in another process.
            pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", *_REQUIREMENTS[flavor])],
        )


class _KerasFlavor:
    """``mlflow.keras`` for ``Model.log``: its own ``save_model`` writes the example to a folder that nobody made."""

    @staticmethod
    def save_model(path: str, **options: Any) -> None:
        import keras
        import mlflow.keras

        keras.config.disable_interactive_logging()  # MLflow tries the model on its example
        Path(path).mkdir(parents=True, exist_ok=True)
        mlflow.keras.save_model(path=path, **options)


class _SklearnFlavor:
    """``mlflow.sklearn`` for ``Model.log``, in a format that runs no code when it is loaded."""

    @staticmethod
    def save_model(path: str, **options: Any) -> None:
        from hpo.models.sklearn.fitted import skops_io

        skops = skops_io()
        import mlflow.sklearn

        model = options.pop("model")
        trusted = skops.get_untrusted_types(data=skops.dumps(model))  # of the model that this study has trained
        options |= {"serialization_format": "skops", "skops_trusted_types": trusted}
        mlflow.sklearn.save_model(sk_model=model, path=path, **options)


_REQUIREMENTS = {"keras": ("keras", "tensorflow"), "sklearn": ("scikit-learn", "skops")}
