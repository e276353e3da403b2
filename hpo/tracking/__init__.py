"""The record of a study in MLflow, which is imported only here.

A study is a run; its trials are runs nested in it. ``store.py`` connects, ``writer.py`` writes, ``reader.py`` reads.
"""

from hpo.tracking.reader import (
    StudyRecord,
    TrialRecord,
    find_study,
    list_studies,
    load_config,
    load_history,
    load_trials,
)
from hpo.tracking.store import absolute, open_store, require_reachable
from hpo.tracking.writer import STUDY, DatasetRecord, Tracker

__all__ = [
    "STUDY",
    "DatasetRecord",
    "StudyRecord",
    "Tracker",
    "TrialRecord",
    "absolute",
    "find_study",
    "list_studies",
    "load_config",
    "load_history",
    "load_trials",
    "open_store",
    "require_reachable",
]
