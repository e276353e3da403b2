"""Which studies may be compared: finished, tested, and equal in everything but the factor and the seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hpo.compare.studies import ABSENT, TAGGED_GROUPS, ComparedStudy, level_of
from hpo.core.mappings import flattened
from hpo.errors import ConfigError
from hpo.study.identity import differences
from hpo.study.previous_format import FORMAT, in_form_of
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
# Libraries whose versions must be equal in all studies that use them, whatever the factor is.
SHARED_LIBRARIES = ("hpo", "keras", "tensorflow", "numpy", "scikit-learn")
# Part of recorded keys, so they never change.
_FORMAT_1_LIBRARIES = ("hpo", "keras", "tensorflow", "numpy", "scikit-learn")
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


def aligned_settings(studies: Sequence[ComparedStudy], by: str) -> dict[str, dict[str, Any]]:
    """Run id → settings that must be equal, in one format.

    A study with an identity of an earlier format has not recorded all of them. It takes the others from the newest
    study of the current format that it agrees with.

    Args:
        studies: newest first.
    """
    current = [study for study in studies if study.identity["format"] == FORMAT]
    settings = {study.record.run_id: shared_settings(study, by) for study in studies}
    for study in studies:
        if study.identity["format"] != FORMAT:
            agreeing = next((other for other in current if _agree(study, other, by)), None)
            if agreeing is not None:
                identity = in_form_of(study.identity, agreeing.identity)
                settings[study.record.run_id] = _shared_settings(identity, study.record.tags, by)
    return settings


def _agree(one: ComparedStudy, other: ComparedStudy, by: str) -> bool:
    """Whether two studies of different formats are equal in every shared setting that both record."""
    differing = differences(one.recorded_identity, other.recorded_identity)
    is_equal = all(_is_ignored(key, by) for key in differing)
    return is_equal and _limits(one.record.tags) == _limits(other.record.tags)


def _shared_settings(identity: Mapping[str, Any], tags: Mapping[str, str], by: str) -> dict[str, Any]:
    return {key: value for key, value in identity.items() if not _is_ignored(key, by)} | _limits(tags)


def format_1_settings(study: ComparedStudy, by: str) -> dict[str, Any]:
    """Shared settings as the version that recorded identities of format 1 had them, for the keys of its comparisons."""
    identity = flattened(study.recorded_identity)
    data = ("data_digest",) if by.partition(".")[0] == "dataset" else ()
    ignored = ("seed", "folds_digest", "versions", *IMPLIED_KEYS.get(by, (by.replace("/", "."),)), *data)
    kept = {k: v for k, v in identity.items() if not any(k == each or k.startswith(f"{each}.") for each in ignored)}
    kept |= {f"versions.{name}": identity.get(f"versions.{name}") for name in _FORMAT_1_LIBRARIES}
    return kept | _limits(study.record.tags)


def _limits(tags: Mapping[str, str]) -> dict[str, Any]:
    return {f"limits.{name}": tags.get(limit_tag(name)) for name in LIMITS}


def _is_ignored(key: str, by: str) -> bool:
    """Whether a key of the identity may differ in a comparison by ``by``."""
    part = by.replace("/", ".").partition(".")[0]
    # Only some models have a Keras backend; those that have one must agree, see `shared_versions`.
    values = {"dataset": ("data_digest",), "model": ("keras_backend",)}.get(part, ())
    of_part = (f"versions.{part}", f"code.{part}", *values)
    ignored = ("seed", "folds_digest", "format", *IMPLIED_KEYS.get(by, (by.replace("/", "."),)), *of_part)
    return any(key == each or key.startswith(f"{each}.") for each in ignored)


def shared_versions(study: ComparedStudy) -> dict[str, str]:
    """Library → version, of the libraries in :data:`SHARED_LIBRARIES` that the study used; and its Keras backend."""
    keys = ((key.split(".", 2), value) for key, value in study.identity.items() if key.startswith("versions."))
    versions = {path[-1]: value for path, value in keys if path[-1] in SHARED_LIBRARIES}
    backend = study.identity.get("keras_backend")
    return versions if backend is None else versions | {"keras_backend": backend}


def compare_settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Key → both values, of the keys whose values differ; None stands for a missing key."""
    keys = [key for key in sorted({*one, *other}) if one.get(key) != other.get(key)]
    return {key: (one.get(key), other.get(key)) for key in keys}


def describe_differences(differing: Mapping[str, tuple[Any, Any]]) -> str:
    """The first differences with both values, as in ``max_epochs (9, not 8)``."""
    shown = [f"{key} ({one}, not {other})" for key, (one, other) in differing.items()][:N_SHOWN_DIFFERENCES]
    n_hidden = len(differing) - len(shown)
    return ", ".join(shown) + (f" and {n_hidden} more" if n_hidden else "")


@dataclass(frozen=True)
class PlannedStudy:
    """A study of a comparison before it runs, with the values that will be recorded of it.

    Args:
        identity: see :attr:`hpo.study.study.Study.identity`.
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
        limits = study.definition.limits
        tags = {limit_tag(name): str(getattr(limits, name)) for name in LIMITS}
        return cls(study.identity, tags, study.names.choices)

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The identity with dotted keys."""
        return flattened(self.identity)


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
        if name != by and any(key.startswith(f"search_space.{name}.") for key in study.settings):
            expected = f"a key that is not in the search space, where {level} would only set the first trial"
            raise ConfigError("by", by, expected, f"'~search_space.{name}'")
    values = {level: level_of(by, each.settings, each.choices) for level, each in planned.items()}
    if ABSENT in values.values():
        expected = "a config group, or a key that defines a study (--cfg job shows the keys)"
        raise ConfigError("by", by, expected, "by=strategy")
    if by not in TAGGED_GROUPS and len(set(values.values())) < len(values):
        expected = f"different values of {by}; they are {', '.join(values.values())}"
        raise ConfigError("levels", list(values), expected, "levels=[0.0,0.5]")
    (first, one), *others = planned.items()
    for level, other in others:
        mine, theirs = _shared_settings(one.settings, one.tags, by), _shared_settings(other.settings, other.tags, by)
        if differing := compare_settings(mine, theirs):
            also = describe_differences(differing)
            expected = f"levels that differ in {by} only; {first} and {level} also differ in {also}"
            raise ConfigError("by", by, expected, "set these keys to one value for all levels, as KEY=VALUE")


def check_finished(record: StudyRecord, identity: Mapping[str, Any], planned: PlannedStudy) -> None:
    """Check that a finished study has the settings of the planned study of the same name.

    Args:
        identity: as recorded.

    Raises:
        ConfigError: with the settings that differ.
    """
    differing = differences(identity, planned.identity)
    differing = {key: values for key, values in differing.items() if key not in ("seed", "folds_digest")}
    differing |= compare_settings({key: record.tags.get(key) for key in planned.tags}, planned.tags)
    if differing:
        expected = f"a study with the settings of this comparison; it differs in {describe_differences(differing)}"
        raise ConfigError("study", record.name, expected, "name=another, which starts new studies")
