"""The largest group of comparable studies: level → seed → study, with the reason for each study that is left out."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpo.compare.eligibility import (
    LeftOut,
    aligned_settings,
    compare_settings,
    describe_differences,
    shared_versions,
)
from hpo.compare.studies import ComparedStudy
from hpo.errors import ConfigError
from hpo.tracking.schema import Tag

INFINITE = 1e300  # MLflow's SQL stores record infinity as 1.8e308
MIN_LEVELS = MIN_SEEDS = 2
N_SHOWN_LEFT_OUT = 10
N_SHOWN_COMMANDS = 4

Place = tuple[str, int, str]
"""Level, seed and digest of the shared settings of a study."""


@dataclass(frozen=True)
class Group:
    """Studies that differ in one factor and the seed only.

    Args:
        by: the factor.
        studies: level → seed → study.
        left_out: studies that are not compared.
    """

    by: str
    studies: Mapping[str, Mapping[int, ComparedStudy]]
    left_out: tuple[LeftOut, ...]

    @property
    def seeds(self) -> list[int]:
        """Seeds that every level has, in order."""
        return sorted(set.intersection(*(set(by_seed) for by_seed in self.studies.values())))

    @property
    def members(self) -> list[ComparedStudy]:
        """Every study that is compared."""
        return [study for by_seed in self.studies.values() for study in by_seed.values()]

    @property
    def example(self) -> ComparedStudy:
        """One of the studies, to read what all of them share."""
        return self.members[0]


def group_studies(studies: Sequence[ComparedStudy], by: str, left_out: Sequence[LeftOut] = ()) -> Group:
    """Select the largest set of comparable studies.

    Args:
        studies: finished studies, newest first.
        by: the factor: ``strategy``, ``model``, ``dataset``, ``resampling`` or a config key.
        left_out: studies that were left out before.

    Raises:
        ConfigError: if there are not two levels with two common seeds; it names what is missing.
    """
    excluded = list(left_out)
    settings = aligned_settings(studies, by)
    placed = _place(studies, by, settings, excluded)
    if not placed:
        expected = f"finished studies that differ in {by}{_listed(excluded)}"
        fix = "python -m hpo compare 'strategies=[random,optuna]' seeds=5 … runs what is missing"
        raise ConfigError("compare", "no finished study", expected, fix)
    found = _largest(placed, settings, excluded)
    _drop_other_versions(found, excluded)
    _drop_other_folds(found, by, excluded)
    _drop_levels_with_few_seeds(found, by, excluded)
    levels = {level: dict(sorted(by_seed.items())) for level, by_seed in sorted(found.items()) if by_seed}
    candidates = Group(by, levels, tuple(excluded))
    if len(levels) < MIN_LEVELS:
        raise _too_few_levels(candidates)
    seeds = candidates.seeds
    if len(seeds) < MIN_SEEDS:
        raise _too_few_seeds(candidates)
    paired = {level: {seed: by_seed[seed] for seed in seeds} for level, by_seed in levels.items()}
    unpaired = [s for by_seed in levels.values() for seed, s in by_seed.items() if seed not in seeds]
    excluded.extend(LeftOut(study.name, f"not every level has a study with seed {study.seed}") for study in unpaired)
    return Group(by, paired, tuple(excluded))


def _place(
    studies: Sequence[ComparedStudy], by: str, settings: Mapping[str, Mapping[str, Any]], excluded: list[LeftOut]
) -> dict[Place, ComparedStudy]:
    """One study for each level, seed and set of shared settings: the newest one with a test score."""
    placed: dict[Place, ComparedStudy] = {}
    for study in studies:
        if not abs(study.test_score) < INFINITE:
            reason = f"the test score ({study.objective.metric}) of its winner is not recorded"
            excluded.append(LeftOut(study.name, reason))
            continue
        place = (study.level(by), study.seed, _digest(settings[study.record.run_id]))
        if place in placed:
            reason = f"{placed[place].name} is newer and has the same {by} and seed"
            excluded.append(LeftOut(study.name, reason))
        else:
            placed[place] = study
    return placed


def _digest(settings: Mapping[str, Any]) -> str:
    # 0 and 0.0 are the same value of a key.
    values = {k: float(v) if type(v) is int else v for k, v in settings.items()}
    return json.dumps(values, sort_keys=True, default=str)


def _largest(
    placed: Mapping[Place, ComparedStudy], settings: Mapping[str, Mapping[str, Any]], excluded: list[LeftOut]
) -> dict[str, dict[int, ComparedStudy]]:
    """Studies of the largest set with equal settings, by level and seed; sets with two levels and seeds come first."""
    sizes = Counter(digest for _, _, digest in placed)
    seeds: dict[str, dict[str, set[int]]] = {}
    for level, seed, digest in placed:
        seeds.setdefault(digest, {}).setdefault(level, set()).add(seed)

    def rank(digest: str) -> tuple[bool, bool, int]:
        by_level = seeds[digest]
        has_levels = len(by_level) >= MIN_LEVELS
        n_common = len(set.intersection(*by_level.values())) if has_levels else 0
        return n_common >= MIN_SEEDS, has_levels, sizes[digest]

    chosen = max(sizes, key=rank)
    inside = {place: study for place, study in placed.items() if place[2] == chosen}
    example = settings[next(iter(inside.values())).record.run_id]
    found: dict[str, dict[int, ComparedStudy]] = {}
    for place, study in placed.items():
        if place in inside:
            found.setdefault(place[0], {})[place[1]] = study
        else:
            differing = compare_settings(settings[study.record.run_id], example)
            reason = f"it differs in {describe_differences(differing)}"
            excluded.append(LeftOut(study.name, reason))
    return found


def _drop_other_versions(found: dict[str, dict[int, ComparedStudy]], excluded: list[LeftOut]) -> None:
    """Drop studies that used another version of a shared library than most."""
    used = {study.name: shared_versions(study) for by_seed in found.values() for study in by_seed.values()}
    counts: dict[str, Counter[str]] = {}
    for versions in used.values():
        for library, version in versions.items():
            counts.setdefault(library, Counter())[version] += 1
    common = {library: count.most_common(1)[0][0] for library, count in counts.items()}
    for by_seed in found.values():
        for seed, study in list(by_seed.items()):
            expected = {library: common[library] for library in used[study.name]}
            if differing := compare_settings(used[study.name], expected):
                del by_seed[seed]
                excluded.append(LeftOut(study.name, f"it differs in versions: {describe_differences(differing)}"))


def _drop_other_folds(found: dict[str, dict[int, ComparedStudy]], by: str, excluded: list[LeftOut]) -> None:
    """Drop studies whose folds differ from those of the same seed, unless the factor changes the folds."""
    if by.partition(".")[0] in ("resampling", "dataset"):
        return
    for seed in {seed for by_seed in found.values() for seed in by_seed}:
        digests = Counter(s[seed].record.tags[Tag.FOLDS_DIGEST] for s in found.values() if seed in s)
        common = digests.most_common(1)[0][0]
        for by_seed in found.values():
            if seed in by_seed and by_seed[seed].record.tags[Tag.FOLDS_DIGEST] != common:
                reason = f"its folds differ from those of the other studies with seed {seed}"
                excluded.append(LeftOut(by_seed.pop(seed).name, reason))


def _drop_levels_with_few_seeds(found: dict[str, dict[int, ComparedStudy]], by: str, excluded: list[LeftOut]) -> None:
    """Drop the smallest levels until the others share two seeds, as long as more than two levels are left."""
    while len(found) > MIN_LEVELS and len(set.intersection(*(set(by_seed) for by_seed in found.values()))) < MIN_SEEDS:
        smallest = min(found, key=lambda level: len(found[level]))
        reason = f"{by}={smallest} has too few seeds in common with the other levels"
        excluded.extend(LeftOut(study.name, reason) for study in found.pop(smallest).values())


def _too_few_levels(group: Group) -> ConfigError:
    level = next(iter(group.studies), "none")
    expected = f"at least two levels of {group.by}; all comparable studies have {level}{_listed(group.left_out)}"
    shared = _overrides(group.example, "seed", "study", group.by)
    fix = shlex.join(["python", "-m", "hpo", "compare", f"by={group.by}", f"levels=[{level},…]", *shared])
    return ConfigError("compare", f"{len(group.members)} studies", expected, fix)


def _too_few_seeds(group: Group) -> ConfigError:
    have = "; ".join(f"{level}: {', '.join(map(str, by_seed)) or 'none'}" for level, by_seed in group.studies.items())
    expected = f"at least two seeds that every level has (present: {have}){_listed(group.left_out)}"
    seeds = sorted({seed for by_seed in group.studies.values() for seed in by_seed})
    seeds = seeds if len(seeds) >= MIN_SEEDS else [*seeds, seeds[-1] + 1]
    missing = [
        shlex.join(["python", "-m", "hpo", *_overrides(next(iter(by_seed.values())), "seed", "study"), f"seed={seed}"])
        for by_seed in group.studies.values()
        for seed in seeds
        if seed not in by_seed
    ]
    return ConfigError("compare", f"{len(group.members)} studies", expected, "; ".join(missing[:N_SHOWN_COMMANDS]))


def _overrides(study: ComparedStudy, *without: str) -> list[str]:
    """Command-line overrides of a study, except those of the keys ``without``."""
    given: list[str] = json.loads(study.record.tags.get(Tag.OVERRIDES, "[]"))
    return [override for override in given if override.lstrip("+~").partition("=")[0] not in without]


def _listed(excluded: Sequence[LeftOut]) -> str:
    shown = [f"{each.name}: {each.reason}{f'; {each.fix}' if each.fix else ''}" for each in excluded[:N_SHOWN_LEFT_OUT]]
    return "".join(f"\n    left out: {each}" for each in shown)
