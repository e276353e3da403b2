"""One study of a comparison: its tags, its identity, and its tables of trials, folds and epochs.

Everything is read as data. Nothing is instantiated or unpickled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from hpo.core.mappings import flattened
from hpo.core.objective import Objective
from hpo.reporting.tables import epoch_rows, fold_rows, trial_rows
from hpo.study.previous_format import upgraded
from hpo.tracking.reader import StudyRecord
from hpo.tracking.resume import RecordedStudy
from hpo.tracking.schema import Tag, group_tag, metric_on_test, read_objective_tags, table_file

# Config groups whose chosen option is recorded in a tag of its own.
TAGGED_GROUPS = ("strategy", "model", "dataset", "resampling")
# Level of a study that does not have the key of the factor.
ABSENT = "absent"


@dataclass(frozen=True)
class ComparedStudy:
    """A finished study, as it is compared.

    Args:
        recorded_identity: everything that defines the study, in the format in which it was recorded; see
            :mod:`hpo.study.identity`.
        load_table: returns the table ``trials``, ``folds`` or ``epochs``; see :mod:`hpo.reporting.tables`.
    """

    record: StudyRecord
    recorded_identity: Mapping[str, Any]
    load_table: Callable[[str], pd.DataFrame] = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.record.name

    @property
    def seed(self) -> int:
        """Seed of the study."""
        return int(self.record.tags[Tag.SEED])

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """Everything that defines the study, in the current format, with dotted keys."""
        return flattened(upgraded(self.recorded_identity))

    @property
    def objective(self) -> Objective:
        """Metric that the study optimises."""
        direction, metric = self.record.tags[Tag.OBJECTIVE].split(" ", 1)
        others = read_objective_tags(self.record.tags)
        return Objective(metric, direction, str(self.identity.get("objective.epoch", "best")), others)

    @property
    def test_score(self) -> float:
        """The objective's metric on the test split, by the study's winner; NaN if it is not recorded."""
        return self.record.metrics.get(metric_on_test(self.objective.metric.removeprefix("val_")), math.nan)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row for each trial."""
        return self.load_table("trials")

    @cached_property
    def folds(self) -> pd.DataFrame:
        """One row for each fold of a trial."""
        return self.load_table("folds")

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """One row for each epoch of a fold."""
        return self.load_table("epochs")

    def level(self, by: str) -> str:
        """Level of the factor ``by``: the option of a config group, or the value of a config key."""
        if by in TAGGED_GROUPS:
            return self.record.tags[group_tag(by)]
        return level_of(by, self.identity, json.loads(self.record.tags.get(Tag.CHOICES, "{}")))


def level_of(by: str, identity: Mapping[str, Any], choices: Mapping[str, str]) -> str:
    """Level of the factor ``by`` in an identity with dotted keys; :data:`ABSENT` if the study has no such key.

    Args:
        choices: config group → chosen option.
    """
    if by in choices:
        return str(choices[by])
    inside = {key: value for key, value in identity.items() if key == by or key.startswith(f"{by}.")}
    if not inside:
        return ABSENT
    value = inside.get(by, inside)
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def from_tables(record: StudyRecord, identity: Mapping[str, Any], folder: Path) -> ComparedStudy:
    """A study whose tables are Parquet files in ``folder``."""
    return ComparedStudy(record, identity, lambda name: pd.read_parquet(folder / table_file(name)))


def from_record(record: StudyRecord, identity: Mapping[str, Any], recorded: RecordedStudy) -> ComparedStudy:
    """A study without recorded tables, which are made from its trials."""
    trials = [each.trial for each in recorded.trials]

    def load_table(name: str) -> pd.DataFrame:
        if name == "trials":
            return pd.DataFrame(trial_rows(trials, study.objective, {}))
        return pd.DataFrame(fold_rows(trials) if name == "folds" else epoch_rows(trials))

    study = ComparedStudy(record, identity, load_table)
    return study
