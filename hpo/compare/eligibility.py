"""Which studies may be compared: finished, tested, and equal in everything but the factor and the seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpo.compare.studies import ABSENT, TAGGED_GROUPS, ComparedStudy, flat, level_of
from hpo.errors import ConfigError
from hpo.tracking.reader import StudyRecord
from hpo.tracking.schema import Tag, limit_tag, read_metrics_on_test

# Factor → keys of the identity that may differ together with it.
IMPLIED_KEYS = {
    "strategy": ("strategy",),
    "model": ("model", "search_space", "base_digest"),
    "model.base": ("model.base", "base_digest"),
    "model.application_size": ("model.application_size", "base_digest"),
    "resampling": ("resampling",),
    "dataset": ("dataset", "data_digest"),
}
# Libraries whose versions must be equal, whatever the strategy uses.
SHARED_VERSIONS = ("hpo", "keras", "tensorflow", "numpy", "scikit-learn")
LIMITS = ("n_trials", "timeout_seconds", "max_epochs_total")
# Dataset of objectives that load their own data.
OWN_DATASET = "own"
N_SHOWN_DIFFERENCES = 3


@dataclass(frozen=True)
class LeftOut:
    """A study that is not compared, with the reason; ``fix`` is a command that helps, if there is one."""

    name: str
    reason: str
    fix: str | None = None


def reason_unfinished(record: StudyRecord) -> LeftOut | None:
    """Why a study cannot be compared yet; None if it can."""
    if record.state != "finished":
        return LeftOut(record.name, f"it is {record.state}", f"python -m hpo resume {record.name}")
    is_tested = bool(read_metrics_on_test(record.metrics))
    if not is_tested and record.tags.get(Tag.DATASET) == OWN_DATASET:
        return LeftOut(record.name, "its objective has no test data, and comparisons are of test scores")
    if not is_tested:
        return LeftOut(record.name, "its winner was not tested", f"python -m hpo resume {record.name}")
    return None


def shared_settings(study: ComparedStudy, by: str) -> dict[str, Any]:
    """Settings that must be equal in all studies of a comparison by the factor ``by``."""
    return _shared_settings(study.identity, study.record.tags, by)


def _shared_settings(identity: Mapping[str, Any], tags: Mapping[str, str], by: str) -> dict[str, Any]:
    ignored = _ignored_keys(by)
    kept = {k: v for k, v in identity.items() if not any(k == i or k.startswith(f"{i}.") for i in ignored)}
    kept |= {f"versions.{name}": identity.get(f"versions.{name}") for name in SHARED_VERSIONS}
    return kept | {f"limits.{name}": tags.get(limit_tag(name)) for name in LIMITS}


def _ignored_keys(by: str) -> tuple[str, ...]:
    implied = IMPLIED_KEYS.get(by, (by.replace("/", "."),))
    data = ("data_digest",) if by.partition(".")[0] == "dataset" else ()
    return ("seed", "folds_digest", "versions", *implied, *data)


def describe_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The first keys whose values differ, with both values: ``max_epochs (9, not 8)``."""
    keys = [key for key in sorted({*one, *other}) if one.get(key) != other.get(key)]
    shown = [f"{key} ({one.get(key)}, not {other.get(key)})" for key in keys[:N_SHOWN_DIFFERENCES]]
    n_hidden = len(keys) - len(shown)
    return ", ".join(shown) + (f" and {n_hidden} more" if n_hidden else "")


@dataclass(frozen=True)
class PlannedStudy:
    """A study of a comparison before it runs, with the values that will be recorded of it.

    Args:
        identity: with dotted keys, as in :class:`~hpo.compare.studies.ComparedStudy`.
        tags: its limits, by :func:`hpo.tracking.schema.limit_tag`.
        choices: config group → chosen option.
    """

    identity: Mapping[str, Any]
    tags: Mapping[str, str]
    choices: Mapping[str, str]

    @classmethod
    def of(cls, study: Any) -> PlannedStudy:
        """Plan of a built :class:`hpo.study.study.Study`.

        Raises:
            ConfigError: if the study will have no test score.
        """
        if not study.evaluator.has_model:
            expected = "a model that can be tested: comparisons are of test scores, and an objective has no test data"
            fix = "python -m hpo list shows the results of studies with an objective"
            raise ConfigError("model", study.names.model, expected, fix)
        identity = json.loads(json.dumps(study.identity, default=str))
        limits = study.definition.limits
        tags = {limit_tag(name): str(getattr(limits, name)) for name in LIMITS}
        return cls(flat(identity), tags, study.names.choices)


def check_levels(by: str, planned: Mapping[str, PlannedStudy]) -> None:
    """Check that the studies of all levels can be compared, before any of them trains.

    Args:
        by: the factor.
        planned: level → a study of that level.

    Raises:
        ConfigError: if the factor is searched or absent, if levels are equal, or if they differ in another key.
    """
    name = by.removeprefix("model.")
    for level, study in planned.items():
        if name != by and any(key.startswith(f"search_space.{name}.") for key in study.identity):
            expected = f"a key that is not in the search space, where {level} would only set the first trial"
            raise ConfigError("by", by, expected, f"'~search_space.{name}'")
    values = {level: level_of(by, each.identity, each.choices) for level, each in planned.items()}
    if ABSENT in values.values():
        expected = "a config group, or a key that defines a study (--cfg job shows the keys)"
        raise ConfigError("by", by, expected, "by=strategy")
    if by not in TAGGED_GROUPS and len(set(values.values())) < len(values):
        expected = f"different values of {by}; they are {', '.join(values.values())}"
        raise ConfigError("levels", list(values), expected, "levels=[0.0,0.5]")
    (first, one), *others = planned.items()
    for level, other in others:
        mine, theirs = _shared_settings(one.identity, one.tags, by), _shared_settings(other.identity, other.tags, by)
        if mine != theirs:
            difference = describe_difference(mine, theirs)
            expected = f"levels that differ in {by} only; {first} and {level} also differ in {difference}"
            raise ConfigError("by", by, expected, "set these keys to one value for all levels, as KEY=VALUE")


def check_finished(record: StudyRecord, identity: Mapping[str, Any], planned: PlannedStudy) -> None:
    """Check that a finished study has the settings of the planned study of the same name.

    Args:
        identity: recorded identity of the finished study, with dotted keys.

    Raises:
        ConfigError: with the settings that differ.
    """
    seeded = ("seed", "folds_digest")
    mine = {k: v for k, v in planned.identity.items() if k not in seeded} | dict(planned.tags)
    theirs = {k: v for k, v in identity.items() if k not in seeded}
    theirs |= {key: record.tags.get(key) for key in planned.tags}
    if mine != theirs:
        expected = f"a study with the settings of this comparison; it differs in {describe_difference(theirs, mine)}"
        raise ConfigError("study", record.name, expected, "name=another, which starts new studies")
