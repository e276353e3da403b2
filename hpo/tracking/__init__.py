"""The record of a study in MLflow, which is imported only here.

A study is a run; its trials are runs nested in it. ``writer.py`` says what is to be recorded to an outbox on disk
(``outbox.py``), ``delivery.py`` takes that to MLflow, ``store.py`` connects, ``reader.py`` and ``networks.py``
read back, and ``resume.py`` rebuilds a study that was stopped.
"""

from hpo.tracking.comparisons import KEY, LOOK, log_comparison, looks_at
from hpo.tracking.delivery import OutboxUploader
from hpo.tracking.flavors import save_model
from hpo.tracking.networks import fetch_network
from hpo.tracking.outbox import STUDY, delivered_bytes, model_uri_of, read_outbox, run_id_of, undelivered
from hpo.tracking.reader import (
    StudyRecord,
    TrialRecord,
    download,
    find_study,
    list_studies,
    load_config,
    load_history,
    load_text,
    load_trials,
)
from hpo.tracking.resume import RecordedStudy, load_from_mlflow, load_from_outbox
from hpo.tracking.store import STORE_ERRORS, absolute, open_store, require_reachable, store_exists
from hpo.tracking.writer import DatasetRecord, Tracker

__all__ = [
    "KEY",
    "LOOK",
    "STORE_ERRORS",
    "STUDY",
    "DatasetRecord",
    "OutboxUploader",
    "RecordedStudy",
    "StudyRecord",
    "Tracker",
    "TrialRecord",
    "absolute",
    "delivered_bytes",
    "download",
    "fetch_network",
    "find_study",
    "list_studies",
    "load_config",
    "load_from_mlflow",
    "load_from_outbox",
    "load_history",
    "load_text",
    "load_trials",
    "log_comparison",
    "looks_at",
    "model_uri_of",
    "open_store",
    "read_outbox",
    "require_reachable",
    "run_id_of",
    "save_model",
    "store_exists",
    "undelivered",
]
