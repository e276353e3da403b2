"""Which studies of an experiment can be compared: alike in everything but the factor and the seed.

What is read is data: tables, tags and the recorded identity of a study. Nothing is instantiated or unpickled.
"""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from hpo.core.objective import Objective
from hpo.errors import ConfigError
from hpo.reporting.tables import epoch_rows, fold_rows, trial_rows
from hpo.tracking.reader import StudyRecord
from hpo.tracking.resume import RecordedStudy
from hpo.tracking.schema import (
    Tag,
    group_tag,
    limit_tag,
    metric_on_test,
    read_metrics_on_test,
    read_objective_tags,
    table_file,
)

# Tags that name the option of a group.
GROUP_TAGS = ("strategy", "model", "dataset", "resampling")
# What a factor brings with it: keys of the identity that may differ where it does.
_IMPLIED = {
    "strategy": ("strategy",),
    "model": ("model", "search_space", "base_digest"),
    "model.base": ("model.base", "base_digest"),
    "model.application_size": ("model.application_size", "base_digest"),
    "resampling": ("resampling",),
    "dataset": ("dataset", "data_digest"),
}
# The dataset of objectives that load their own.
OWN = "own"
# Libraries whose versions matter whatever the strategy is.
_VERSIONS = ("hpo", "keras", "tensorflow", "numpy", "scikit-learn")
LIMITS = ("n_trials", "timeout_seconds", "max_epochs_total")
INFINITE = 1e300  # MLflow's SQL stores keep an infinite value as 1.8e308


@dataclass(frozen=True)
class ComparedStudy:
    """A finished study as it is compared.

    Args:
        identity: everything that defines it, flattened to dotted keys; see :attr:`hpo.study.study.Study.identity`.
        tables: makes the tables ``trials``, ``folds`` and ``epochs``, see :mod:`hpo.reporting.tables`.
    """

    record: StudyRecord
    identity: Mapping[str, Any]
    _load: Any = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def seed(self) -> int:
        return int(self.record.tags[Tag.SEED])

    @property
    def objective(self) -> Objective:
        direction, metric = self.record.tags[Tag.OBJECTIVE].split(" ", 1)
        others = read_objective_tags(self.record.tags)
        return Objective(metric, direction, str(self.identity.get("objective.epoch", "best")), others)

    @property
    def test_score(self) -> float:
        """The objective's metric on the test split, by the study's winner; NaN where it is not recorded."""
        return self.record.metrics.get(metric_on_test(self.objective.metric.removeprefix("val_")), math.nan)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """A row a trial."""
        table: pd.DataFrame = self._load("trials")
        return table

    @cached_property
    def folds(self) -> pd.DataFrame:
        """A row a fold of a trial."""
        table: pd.DataFrame = self._load("folds")
        return table

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """A row an epoch of a fold."""
        table: pd.DataFrame = self._load("epochs")
        return table

    def level(self, by: str) -> str:
        """The study's level of a factor: the option of a group, or the value of a config key."""
        if by in GROUP_TAGS:
            return self.record.tags[group_tag(by)]
        return _level(by, self.identity, json.loads(self.record.tags.get(Tag.CHOICES, "{}")))


def from_tables(record: StudyRecord, identity: Mapping[str, Any], folder: Path) -> ComparedStudy:
    """A study whose tables were recorded."""
    return ComparedStudy(record, flat(identity), lambda name: pd.read_parquet(folder / table_file(name)))


def from_record(record: StudyRecord, identity: Mapping[str, Any], recorded: RecordedStudy) -> ComparedStudy:
    """A study of which only the runs of its trials are there."""
    trials = [each.trial for each in recorded.trials]

    def load(name: str) -> pd.DataFrame:
        if name == "trials":
            return pd.DataFrame(trial_rows(trials, study.objective, {}))
        return pd.DataFrame(fold_rows(trials) if name == "folds" else epoch_rows(trials))

    study = ComparedStudy(record, flat(identity), load)
    return study


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one with dotted keys."""
    if not isinstance(value, Mapping) or not value:
        return {prefix: value} if prefix else {}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= flat(inner, f"{prefix}.{key}" if prefix else str(key))
    return found


@dataclass(frozen=True)
class LeftOut:
    """A study that is not compared, and why; ``fix`` is a command where one would help."""

    name: str
    reason: str
    fix: str | None = None


@dataclass(frozen=True)
class Group:
    """Studies that differ in one factor and the seed: level → seed → study."""

    by: str
    studies: Mapping[str, Mapping[int, ComparedStudy]]
    left_out: tuple[LeftOut, ...]

    @property
    def seeds(self) -> list[int]:
        """Seeds that every level has."""
        return sorted(set.intersection(*(set(by_seed) for by_seed in self.studies.values())))

    @property
    def all(self) -> list[ComparedStudy]:
        """Every study that is compared."""
        return [study for by_seed in self.studies.values() for study in by_seed.values()]

    @property
    def any(self) -> ComparedStudy:
        """One of them, for what they all share."""
        return self.all[0]


def group(studies: Sequence[ComparedStudy], by: str, left_out: Sequence[LeftOut] = ()) -> Group:
    """The largest set of studies that may be compared.

    Args:
        studies: finished ones, newest first.
        by: the factor: ``strategy``, ``model``, ``dataset``, ``resampling`` or a config key.
        left_out: those that are left out already.

    Raises:
        ConfigError: saying what is missing, when there are not two levels with two common seeds.
    """
    excluded = list(left_out)
    kept: dict[tuple[str, int, str], ComparedStudy] = {}
    for study in studies:
        if not abs(study.test_score) < INFINITE:
            excluded.append(
                LeftOut(study.name, f"{study.objective.metric} of its winner on the test split is not recorded")
            )
            continue
        place = (study.level(by), study.seed, _key(study, by))
        if place in kept:
            excluded.append(LeftOut(study.name, f"{kept[place].name} is newer and has the same {by} and seed"))
        else:
            kept[place] = study
    sizes = Counter(key for _, _, key in kept)
    levels_of = {key: {level for level, _, other in kept if other == key} for key in sizes}
    n_common = {key: _n_common(kept, key) if len(levels_of[key]) > 1 else 0 for key in sizes}
    if not sizes:
        raise _nothing(by, excluded)
    chosen = max(sizes, key=lambda key: (n_common[key] > 1, len(levels_of[key]) > 1, sizes[key]))
    inside = [study for (_, _, key), study in kept.items() if key == chosen]
    for (_, _, key), study in kept.items():
        if key != chosen:
            excluded.append(LeftOut(study.name, f"it differs in {_differs(study, inside[0], by)}"))
    found: dict[str, dict[int, ComparedStudy]] = {}
    for study in inside:
        found.setdefault(study.level(by), {})[study.seed] = study
    _drop_other_folds(found, by, excluded)
    _drop_thin_levels(found, by, excluded)
    levels = {level: dict(sorted(by_seed.items())) for level, by_seed in sorted(found.items()) if by_seed}
    made = Group(by, levels, tuple(excluded))
    if len(levels) < 2:
        raise _one_level(made)
    if len(made.seeds) < 2:
        raise _few_seeds(made)
    paired = {level: {seed: by_seed[seed] for seed in made.seeds} for level, by_seed in levels.items()}
    alone = [s for by_seed in levels.values() for seed, s in by_seed.items() if seed not in made.seeds]
    excluded.extend(LeftOut(study.name, f"not every level has a study of seed {study.seed}") for study in alone)
    return Group(by, paired, tuple(excluded))


def _drop_thin_levels(found: dict[str, dict[int, ComparedStudy]], by: str, excluded: list[LeftOut]) -> None:
    """Without a level that has next to no seeds in common with the others, the others can still be compared."""
    while len(found) > 2 and len(set.intersection(*(set(by_seed) for by_seed in found.values()))) < 2:
        thin = min(found, key=lambda level: len(found[level]))
        reason = f"{by}={thin} has too few seeds in common with the other levels"
        excluded.extend(LeftOut(study.name, reason) for study in found.pop(thin).values())


def _n_common(kept: Mapping[tuple[str, int, str], ComparedStudy], key: str) -> int:
    """Seeds that all levels of a set have."""
    seeds: dict[str, set[int]] = {}
    for level, seed, other in kept:
        if other == key:
            seeds.setdefault(level, set()).add(seed)
    return len(set.intersection(*seeds.values()))


def _ignored(by: str) -> tuple[str, ...]:
    head = by.partition(".")[0]
    implied = _IMPLIED.get(by, (by.replace("/", "."),))
    data = ("data_digest",) if head == "dataset" else ()
    return ("seed", "folds_digest", "versions", *implied, *data)


def comparable(study: ComparedStudy, by: str) -> dict[str, Any]:
    """What has to be equal within a group."""
    return _comparable(study.identity, study.record.tags, by)


def _comparable(identity: Mapping[str, Any], tags: Mapping[str, str], by: str) -> dict[str, Any]:
    ignored = _ignored(by)
    kept = {k: v for k, v in identity.items() if not any(k == i or k.startswith(f"{i}.") for i in ignored)}
    kept |= {f"versions.{name}": identity.get(f"versions.{name}") for name in _VERSIONS}
    return kept | {f"limits.{name}": tags.get(limit_tag(name)) for name in LIMITS}


def _level(by: str, identity: Mapping[str, Any], choices: Mapping[str, str]) -> str:
    if by in choices:
        return str(choices[by])
    inside = {key: value for key, value in identity.items() if key == by or key.startswith(f"{by}.")}
    if not inside:
        return "absent"
    value = inside.get(by, inside)
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


@dataclass(frozen=True)
class Planned:
    """A study that a comparison would run: what will be recorded of it.

    Args:
        identity: as of :class:`ComparedStudy`.
        tags: its limits, by ``hpo.limits.<name>``.
        choices: the options of its groups.
    """

    identity: Mapping[str, Any]
    tags: Mapping[str, str]
    choices: Mapping[str, str]

    @classmethod
    def of(cls, study: Any) -> Planned:
        """Of a built :class:`hpo.study.study.Study`.

        Raises:
            ConfigError: when its winner will not be tested.
        """
        if not study.evaluator.has_model:
            expected = (
                "a model whose winner is tested, since test scores are compared; an objective has no test data here"
            )
            fix = "python -m hpo list shows what studies have reached"
            raise ConfigError("model", study.names.model, expected, fix)
        identity = json.loads(json.dumps(study.identity, default=str))
        limits = study.definition.limits
        tags = {limit_tag(name): str(getattr(limits, name)) for name in LIMITS}
        return cls(flat(identity), tags, study.names.choices)


def check_levels(by: str, planned: Mapping[str, Planned]) -> None:
    """Whether the studies of all levels could be compared, before any of them trains.

    Raises:
        ConfigError: when a level is none, or when the levels differ in more than the factor.
    """
    name = by.removeprefix("model.")
    for level, study in planned.items():
        if name != by and any(key.startswith(f"search_space.{name}.") for key in study.identity):
            expected = f"a key that is not searched: {level} would be the first trial and no other"
            raise ConfigError("by", by, expected, f"'~search_space.{name}'")
    values = {level: _level(by, each.identity, each.choices) for level, each in planned.items()}
    if "absent" in values.values():
        raise ConfigError("by", by, "a group, or a key that defines a study (--cfg job shows the keys)", "by=strategy")
    if by not in GROUP_TAGS and len(set(values.values())) < len(values):
        expected = f"values of {by} that differ; they are {', '.join(values.values())}"
        raise ConfigError("levels", list(values), expected, "levels=[0.0,0.5]")
    (first, one), *others = planned.items()
    for level, other in others:
        mine, theirs = _comparable(one.identity, one.tags, by), _comparable(other.identity, other.tags, by)
        if mine != theirs:
            what = difference(mine, theirs)
            expected = f"levels that differ in nothing else; {first} and {level} differ in {what}"
            raise ConfigError("by", by, expected, "give these keys one value for all levels, as KEY=VALUE")


def check_finished(record: StudyRecord, identity: Mapping[str, Any], planned: Planned) -> None:
    """Whether a finished study of the right name is the one that is asked for.

    Raises:
        ConfigError: saying what differs.
    """
    seeded = ("seed", "folds_digest")
    mine = {k: v for k, v in planned.identity.items() if k not in seeded} | dict(planned.tags)
    theirs = {k: v for k, v in identity.items() if k not in seeded}
    theirs |= {key: record.tags.get(key) for key in planned.tags}
    if mine != theirs:
        expected = f"the study that is asked for; it has finished with other settings: {difference(theirs, mine)}"
        raise ConfigError("study", record.name, expected, "name=another, which begins anew")


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The first keys in which two mappings differ, with their values."""
    keys = [key for key in sorted({*one, *other}) if one.get(key) != other.get(key)]
    shown = [f"{key} ({one.get(key)}, not {other.get(key)})" for key in keys[:3]]
    return ", ".join(shown) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _key(study: ComparedStudy, by: str) -> str:
    # As Python compares them: 0 and 0.0 are the same value of a key.
    values = {k: float(v) if type(v) is int else v for k, v in comparable(study, by).items()}
    return json.dumps(values, sort_keys=True, default=str)


def _differs(study: ComparedStudy, other: ComparedStudy, by: str) -> str:
    return difference(comparable(study, by), comparable(other, by))


def _drop_other_folds(found: dict[str, dict[int, ComparedStudy]], by: str, excluded: list[LeftOut]) -> None:
    """Studies of one seed share their folds, unless the factor is what makes them."""
    if by.partition(".")[0] in ("resampling", "dataset"):
        return
    for seed in {seed for by_seed in found.values() for seed in by_seed}:
        digests = Counter(s[seed].record.tags[Tag.FOLDS_DIGEST] for s in found.values() if seed in s)
        common = digests.most_common(1)[0][0]
        for by_seed in found.values():
            has_others = seed in by_seed and by_seed[seed].record.tags[Tag.FOLDS_DIGEST] != common
            others = [by_seed.pop(seed)] if has_others else []
            excluded.extend(LeftOut(study.name, "its folds are others, with the same seed") for study in others)


def _nothing(by: str, excluded: Sequence[LeftOut]) -> ConfigError:
    return ConfigError("compare", "no finished study", f"finished studies that differ in {by}{_list(excluded)}", _RUN)


_RUN = "python -m hpo compare 'strategies=[random,optuna]' seeds=5 … runs what is missing"


def _one_level(made: Group) -> ConfigError:
    level = next(iter(made.studies), "none")
    expected = f"at least two levels of {made.by}; all comparable studies have {level}{_list(made.left_out)}"
    shared = _overrides(made.any, "seed", "study", made.by)
    fix = shlex.join(["python", "-m", "hpo", "compare", f"by={made.by}", f"levels=[{level},…]", *shared])
    return ConfigError("compare", f"{len(made.all)} studies", expected, fix)


def _few_seeds(made: Group) -> ConfigError:
    have = "; ".join(f"{level}: {', '.join(map(str, by_seed)) or 'none'}" for level, by_seed in made.studies.items())
    expected = f"at least two seeds that every level has (seeds there are: {have}){_list(made.left_out)}"
    seeds = sorted({seed for by_seed in made.studies.values() for seed in by_seed})
    seeds = seeds if len(seeds) > 1 else [*seeds, seeds[-1] + 1]
    missing = [
        shlex.join(["python", "-m", "hpo", *_overrides(next(iter(by_seed.values())), "seed", "study"), f"seed={seed}"])
        for by_seed in made.studies.values()
        for seed in seeds
        if seed not in by_seed
    ]
    return ConfigError("compare", f"{len(made.all)} studies", expected, "; ".join(missing[:4]))


def _overrides(study: ComparedStudy, *without: str) -> list[str]:
    """The command line of a study, in parts."""
    given: list[str] = json.loads(study.record.tags.get(Tag.OVERRIDES, "[]"))
    return [override for override in given if override.lstrip("+~").partition("=")[0] not in without]


def _list(excluded: Sequence[LeftOut]) -> str:
    shown = [f"{each.name}: {each.reason}{f'; {each.fix}' if each.fix else ''}" for each in list(excluded)[:10]]
    return "".join(f"\n    left out: {each}" for each in shown)


def unfinished(record: StudyRecord) -> LeftOut | None:
    """Why a study cannot be compared yet, if that is so."""
    if record.state != "finished":
        return LeftOut(record.name, f"it is {record.state}", f"python -m hpo resume {record.name}")
    is_tested = bool(read_metrics_on_test(record.metrics))
    if not is_tested and record.tags.get(Tag.DATASET) == OWN:
        return LeftOut(record.name, "its objective has no test data here, and test scores are compared")
    if not is_tested:
        return LeftOut(record.name, "its winner was not tested", f"python -m hpo resume {record.name}")
    return None


def each_test_split(records: Sequence[StudyRecord]) -> Iterator[tuple[str, int]]:
    """How often the test split of each dataset has been scored, by data digest, over all studies given."""
    counts: Counter[str] = Counter()
    for record in records:
        counts[record.tags.get(Tag.DATA_DIGEST, "unknown")] += int(record.tags.get(Tag.N_TESTS, 0))
    yield from sorted(counts.items())
