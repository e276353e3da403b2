"""The ledger of interim analyses: which seeds and levels of a question were compared, and how much alpha that spent.

Every analysis of a question is recorded twice: in ``comparisons/looks.json`` beside the studies, and as a tag of the
comparison's MLflow run. Both are read, so that neither a lost folder nor a store that was down hides an analysis.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from hpo.compare.eligibility import format_1_settings, shared_settings
from hpo.compare.groups import Group
from hpo.compare.studies import ComparedStudy
from hpo.errors import ConfigError
from hpo.study.previous_format import FORMAT

LEDGER_FILE = "looks.json"


@dataclass(frozen=True)
class InterimAnalysis:
    """One analysis of a question, and the plan that it followed.

    Args:
        seeds: in order.
        levels: sorted by name.
        spent: error probability that it used.
        max_seeds, min_effect, alpha: see :class:`hpo.compare.spending.AnalysisPlan`.
    """

    seeds: tuple[int, ...]
    levels: tuple[str, ...]
    spent: float
    max_seeds: int | None
    min_effect: float
    alpha: float

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> InterimAnalysis:
        """Read an analysis as :meth:`to_record` writes it."""
        return cls(
            tuple(record["seeds"]), tuple(record["levels"]), float(record["spent"]),
            record["max_seeds"], record["min_effect"], record["alpha"],
        )  # fmt: skip

    def to_record(self) -> dict[str, Any]:
        """The analysis as JSON values; names and order are those that earlier versions recorded."""
        return {
            "seeds": list(self.seeds),
            "levels": list(self.levels),
            "spent": self.spent,
            "max_seeds": self.max_seeds,
            "min_effect": self.min_effect,
            "alpha": self.alpha,
        }

    def is_of(self, seeds: Collection[int], levels: Collection[str]) -> bool:
        """Whether it compared exactly these seeds and levels."""
        return {*self.seeds} == {*seeds} and {*self.levels} == {*levels}

    def shares_pair(self, levels: Collection[str]) -> bool:
        """Whether it tested a pair of ``levels``."""
        return len({*levels} & {*self.levels}) > 1

    def shares_seed(self, seeds: Collection[int]) -> bool:
        """Whether it used one of ``seeds``."""
        return not {*self.seeds}.isdisjoint(seeds)


def overlapping(
    analyses: Iterable[InterimAnalysis], seeds: Collection[int], levels: Collection[str]
) -> list[InterimAnalysis]:
    """Analyses that tested a pair of ``levels`` on at least one of ``seeds``: only these spend the same alpha."""
    return [each for each in analyses if each.shares_pair(levels) and each.shares_seed(seeds)]


def question_keys(group: Group) -> list[str]:
    """Digests of a question: equal for all studies that differ in seed and level only, whichever levels are compared.

    A group with studies of an earlier format has one key for each format; the first one is that of the newest.
    """
    by_format = {study.identity["format"]: study for study in reversed(group.members)}
    return [_question_key(by_format[each], group.by) for each in sorted(by_format, reverse=True)]


def _question_key(study: ComparedStudy, by: str) -> str:
    is_current = study.identity["format"] == FORMAT
    settings = shared_settings(study, by) if is_current else format_1_settings(study, by)
    question = json.dumps([by, sorted((key, str(value)) for key, value in settings.items())])
    return hashlib.blake2b(question.encode(), digest_size=16).hexdigest()


class AnalysisLedger:
    """Every interim analysis of one question, oldest first.

    Args:
        folder: of the comparisons; its file holds the analyses of all questions.
        keys: of the question, see :func:`question_keys`.
        logged: analyses of the question that MLflow has, as recorded.

    Raises:
        ConfigError: if the file cannot be read.
    """

    def __init__(self, folder: Path, keys: Sequence[str], logged: Sequence[Mapping[str, Any]]) -> None:
        self._path, self._keys = folder / LEDGER_FILE, tuple(keys)
        on_disk = self._read()
        recorded = [each for key in reversed(self._keys) for each in on_disk.get(key, [])]
        # What only MLflow has comes first, so that its plan holds.
        known = _distinct(recorded)
        self.analyses = [*(each for each in _distinct(logged) if not _is_in(each, known)), *known]

    def add(self, analysis: InterimAnalysis) -> None:
        """Record an analysis, unless one of the same seeds and levels is recorded."""
        if _is_in(analysis, self.analyses):
            return
        with filelock.FileLock(self._path.with_suffix(".lock")):
            everything = self._read()
            for key in self._keys:
                everything.setdefault(key, []).append(analysis.to_record())
            partial = self._path.with_suffix(".partial")
            partial.write_text(json.dumps(everything, indent=2), encoding="utf-8")
            partial.replace(self._path)
        self.analyses.append(analysis)

    def _read(self) -> dict[str, list[dict[str, Any]]]:
        try:
            text = self._path.read_text(encoding="utf-8") if self._path.exists() else "{}"
            found: dict[str, list[dict[str, Any]]] = json.loads(text)
        except ValueError as error:
            expected = "the file of interim analyses, as hpo wrote it"
            raise ConfigError(LEDGER_FILE, str(self._path), expected, "restore it, or move it away") from error
        return found


def _distinct(records: Iterable[Mapping[str, Any]]) -> list[InterimAnalysis]:
    """The first analysis of each set of seeds and levels."""
    found: list[InterimAnalysis] = []
    for record in records:
        analysis = InterimAnalysis.from_record(record)
        if not _is_in(analysis, found):
            found.append(analysis)
    return found


def _is_in(analysis: InterimAnalysis, analyses: Iterable[InterimAnalysis]) -> bool:
    return any(analysis.is_of(each.seeds, each.levels) for each in analyses)
