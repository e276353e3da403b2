"""Fetches the Keras network that a transfer model starts from, out of an earlier study or MLflow model.

Nothing that is fetched is instantiated or unpickled here.
"""

from __future__ import annotations

import re
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException

from hpo.errors import ConfigError, TrackingError, first_line, redact
from hpo.models.base import SavedNetwork
from hpo.tracking.reader import StudyRecord, find_study
from hpo.tracking.schema import Tag
from hpo.tracking.store import STORE_ERRORS, absolute, require_reachable, store_exists

NETWORK_FILE = Path("data") / "model.keras"
"""Where MLflow's Keras flavor stores the network inside a model folder."""


def fetch_network(uri: str, experiment: str, base: str, folder: Path) -> SavedNetwork:
    """Copy a logged Keras network into ``folder``.

    Args:
        uri: of the store.
        experiment: searched for a study before the other experiments of the store.
        base: the name of a study, for its best model, or an MLflow address: ``runs:/…`` or ``models:/…``.

    Raises:
        ConfigError: if the store has no such study or model, or if the model is no Keras network.
        TrackingError: if the store does not answer.
    """
    if not store_exists(uri):
        raise ConfigError("model.base", base, f"a model in {redact(uri)}, which is empty", _fix(base))
    require_reachable(uri)
    mlflow.set_tracking_uri(absolute(uri))  # MLflow resolves models:/ID there, whatever store it is given
    try:
        client = mlflow.MlflowClient(absolute(uri), absolute(uri))
        address = base if re.match(r"(runs|models):/", base) else _best_model_uri(client, experiment, base)
    except STORE_ERRORS as error:
        expected = f"an MLflow store that answers ({first_line(error)})"
        raise TrackingError("tracking.uri", redact(uri), expected, "try again once the store answers") from error
    try:
        source = _resolve_registered(client, address)
        copied = mlflow.artifacts.download_artifacts(source, dst_path=str(folder), tracking_uri=absolute(uri))
    except (MlflowException, OSError) as error:
        raise ConfigError("model.base", base, f"a model in the store ({first_line(error)})", _fix(base)) from error
    path = Path(copied) / NETWORK_FILE
    if not path.is_file():
        raise ConfigError("model.base", base, "a network saved by Keras", _fix(base))
    return SavedNetwork(address, path)


def _best_model_uri(client: mlflow.MlflowClient, experiment: str, name: str) -> str:
    """Find the address of a study's best model."""
    study = _find_study(client, experiment, name)
    if study is None:
        expected = "the name of a study in this store, runs:/…, models:/… or applications:…"
        raise ConfigError("model.base", name, expected, _fix(name))
    address = study.tags.get(Tag.BEST_MODEL_URI)
    if not address:
        expected = f"a study that has logged its best model; this one is {study.state}"
        raise ConfigError("model.base", name, expected, f"python -m hpo resume {name}")
    return address


def _find_study(client: mlflow.MlflowClient, experiment: str, name: str) -> StudyRecord | None:
    experiments = sorted(client.search_experiments(), key=lambda each: each.name != experiment)
    studies = (find_study(client, each.experiment_id, name) for each in experiments)
    return next((study for study in studies if study is not None), None)


def _resolve_registered(client: mlflow.MlflowClient, address: str) -> str:
    """Resolve a version of a registered model to the place of its files; other addresses are unchanged.

    MLflow itself would search the registry that is set for the whole process.
    """
    registered = re.fullmatch(r"models:/([^/@]+)(?:/(\d+)|@([^/@]+))", address)
    if not registered:
        return address
    name, version, alias = registered.groups()
    version = version or client.get_model_version_by_alias(name, alias).version
    return str(client.get_model_version_download_uri(name, version))


def _fix(base: str) -> str:
    name = base if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", base) else "mnist-base"
    return (
        f"train one with `python -m hpo model=mnist_cnn study={name}`, then use model.base={name}; "
        "python -m hpo list shows the studies"
    )
