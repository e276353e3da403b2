"""Networks that earlier studies have logged, for models that begin from them. Nothing is instantiated or unpickled."""

from __future__ import annotations

import re
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException

from hpo.errors import ConfigError, TrackingError, redact
from hpo.models.base import SavedNetwork
from hpo.tracking.reader import StudyRecord, find_study
from hpo.tracking.schema import Tag
from hpo.tracking.store import STORE_ERRORS, absolute, require_reachable, store_exists

# Where MLflow's flavor for Keras has the network, inside a logged model.
NETWORK = Path("data") / "model.keras"


def fetch_network(uri: str, experiment: str, wanted: str, folder: Path) -> SavedNetwork:
    """Copy a logged Keras network into ``folder``.

    Args:
        uri: of the store.
        experiment: where a study is looked for first, before the other experiments of the store.
        wanted: the name of a study, whose winner is meant, or ``runs:/…`` or ``models:/…`` as MLflow has them.

    Raises:
        ConfigError: when there is no such study or model, or it is no Keras network.
        TrackingError: when the store does not answer.
    """
    is_study = not re.match(r"(runs|models):/", wanted)
    if not store_exists(uri):
        raise ConfigError("model.base", wanted, f"a model of {redact(uri)}, which holds nothing yet", _how_to(wanted))
    require_reachable(uri)
    mlflow.set_tracking_uri(absolute(uri))  # MLflow looks there for models:/ID, whatever store it is told of
    try:
        client = mlflow.MlflowClient(absolute(uri), absolute(uri))
        found = _model_of(client, experiment, wanted) if is_study else wanted
    except STORE_ERRORS as error:
        expected = f"an MLflow store that answers ({_first_line(error)})"
        raise TrackingError("tracking.uri", redact(uri), expected, "try again when it does") from error
    try:
        source = _source_of(client, found)
        copied = mlflow.artifacts.download_artifacts(source, dst_path=str(folder), tracking_uri=absolute(uri))
    except (MlflowException, OSError) as error:
        expected = f"a model that is in the store ({_first_line(error)})"
        raise ConfigError("model.base", wanted, expected, _how_to(wanted)) from error
    path = Path(copied) / NETWORK
    if not path.is_file():
        raise ConfigError("model.base", wanted, "a network that Keras has saved", _how_to(wanted))
    return SavedNetwork(found, path)


def _model_of(client: mlflow.MlflowClient, experiment: str, name: str) -> str:
    """The URI of the model that a study's winner was logged as."""
    experiments = sorted(client.search_experiments(), key=lambda each: each.name != experiment)
    studies = (find_study(client, each.experiment_id, name) for each in experiments)
    study: StudyRecord | None = next((each for each in studies if each is not None), None)
    if study is None:
        expected = "the name of a study in this store, runs:/…, models:/… or applications:…"
        raise ConfigError("model.base", name, expected, _how_to(name))
    uri = study.tags.get(Tag.BEST_MODEL_URI)
    if not uri:
        expected = f"a study that has logged its best model; this one is {study.state}"
        raise ConfigError("model.base", name, expected, f"python -m hpo resume {name}")
    return uri


def _source_of(client: mlflow.MlflowClient, wanted: str) -> str:
    """Where a version of a registered model lies; anything else as it is.

    MLflow would look for a version in the registry that is set for the whole process.
    """
    named = re.fullmatch(r"models:/([^/@]+)(?:/(\d+)|@([^/@]+))", wanted)
    if not named:
        return wanted
    name, version, alias = named.groups()
    version = version or client.get_model_version_by_alias(name, alias).version
    return str(client.get_model_version_download_uri(name, version))


def _how_to(wanted: str) -> str:
    name = wanted if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", wanted) else "mnist-base"
    return f"`python -m hpo model=mnist_cnn study={name}` makes one, then model.base={name}; python -m hpo list"


def _first_line(error: Exception) -> str:
    return redact((str(error).splitlines() or [type(error).__name__])[0])[:200]
