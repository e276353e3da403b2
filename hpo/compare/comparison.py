"""Everything that a report says, as numbers: made once from a group of studies, shown in several forms."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from hpo.compare.curves import (
    AXES,
    Band,
    Incumbent,
    area,
    band,
    common_end,
    common_start,
    incumbent,
    target_of,
)
from hpo.compare.statistics import MAX_N, Difference, Verdict, alpha_of_look, compare_pairs
from hpo.compare.stopping import Ledger, ledger
from hpo.compare.studies import ComparedStudy, Group
from hpo.core.early_stopping import EarlyStopping
from hpo.core.objective import Objective
from hpo.errors import ConfigError
from hpo.tracking.schema import Metric, Tag

ALPHA = 0.05
ROUNDING = 1e-12  # of sums of errors
# The smallest difference that matters where the user says nothing: a point of a share, else a share of the level.
DEFAULT_EFFECT = 0.01
SHARES = ("accuracy", "auc", "precision", "recall", "f1", "top_k", "r2")
RELATIVE_EFFECT = 0.05


@dataclass(frozen=True)
class Level:
    """One level of the factor; lists are by seed, in the order of :attr:`Comparison.seeds`.

    Args:
        test: test scores of the winners.
        validation: their validation scores.
        over_tuning: how much better the validation score is than the test score, with the sign that makes it positive.
        n_trials, epochs, seconds: what the search has spent.
        states: state → trials, over all seeds.
        fits: fit verdict → COMPLETE trials, over all seeds.
        reached: axis → where the target was reached; None where it was not.
        areas: axis → mean of the best value so far up to the end that all studies share.
        stopping: the early-stopping ledger over all seeds.
    """

    name: str
    test: tuple[float, ...]
    validation: tuple[float, ...]
    over_tuning: tuple[float, ...]
    n_trials: tuple[int, ...]
    epochs: tuple[int, ...]
    seconds: tuple[float, ...]
    states: Mapping[str, int]
    fits: Mapping[str, int]
    reached: Mapping[str, tuple[float | None, ...]]
    areas: Mapping[str, tuple[float, ...]]
    stopping: Ledger

    @property
    def mean(self) -> float:
        """Of the test scores."""
        return statistics.fmean(self.test)


@dataclass(frozen=True)
class Look:
    """One look at a question: the seeds and levels that were compared, in order, and the error that was spent on it."""

    seeds: tuple[int, ...]
    levels: tuple[str, ...]
    spent: float

    def shares_pair(self, levels: Iterable[str]) -> bool:
        """Whether it has tested a pair of ``levels``."""
        return len({*levels} & {*self.levels}) > 1


@dataclass(frozen=True)
class Settings:
    """What the user decides about a comparison before its results are known.

    Args:
        min_effect: the smallest difference that matters, in units of the metric; None takes a default by metric.
        max_seeds: the most seeds that will be run; None means that there will be no further look.
        alpha: the error that all looks and pairs together may spend.
    """

    min_effect: float | None = None
    max_seeds: int | None = None
    alpha: float = ALPHA

    def __post_init__(self) -> None:
        if self.min_effect is not None and not (math.isfinite(self.min_effect) and self.min_effect > 0):
            raise ConfigError(
                "min_effect", self.min_effect, "a number above 0, in units of the metric", "min_effect=0.01"
            )
        if not 0 < self.alpha < 1:
            raise ConfigError("alpha", self.alpha, "a number between 0 and 1", "alpha=0.05")
        if self.max_seeds is not None and self.max_seeds < 2:
            raise ConfigError("max_seeds", self.max_seeds, "a whole number of at least 2", "max_seeds=10")


class Comparison:
    """A group of studies, compared.

    Args:
        looks: earlier ones at studies that differ from these in seed and level only.
        test_scorings: data digest → how often its test split has been scored, by all studies of the experiment.
        missing: names of studies that were asked for and have not finished: what is said is said in the meantime.

    Raises:
        ConfigError: when there are more seeds than were declared.
    """

    def __init__(
        self,
        group: Group,
        settings: Settings,
        looks: Sequence[Look] = (),
        test_scorings: Mapping[str, int] | None = None,
        missing: Sequence[str] = (),
    ) -> None:
        self.group, self.settings, self.missing = group, settings, tuple(missing)
        self.test_scorings = dict(test_scorings or {})
        known = [look for look in looks if look.shares_pair(group.studies)]
        # Looks at other seeds alone were other experiments: they are told of, and charge nothing.
        self.looks = [look for look in known if {*look.seeds} & {*group.seeds}]
        self.n_apart = len(known) - len(self.looks)
        self.seeds = group.seeds
        n, most = len(self.seeds), settings.max_seeds
        if most is not None and n > most:
            raise ConfigError("max_seeds", most, f"at least the {n} seeds that there are", f"max_seeds={n}")
        self.max_seeds = most or n
        self.spent = self._spend()

    def _spend(self) -> float:
        """The error that this look may make: none where looks that were not declared have spent it all."""
        if self.this_look is not None:
            return self.this_look.spent  # nothing is new
        left = self.settings.alpha - sum(look.spent for look in self.looks)
        if left < ROUNDING:
            return 0.0
        if self.settings.max_seeds is None:
            return left
        before = [len(look.seeds) for look in self.looks]
        return min(left, alpha_of_look(self.settings.alpha, self.max_seeds, len(self.seeds), before))

    @property
    def this_look(self) -> Look | None:
        """The earlier look at these very seeds and levels, if there was one."""
        levels, seeds = {*self.group.studies}, tuple(self.seeds)
        return next((look for look in self.looks if look.seeds == seeds and {*look.levels} == levels), None)

    @property
    def earlier_looks(self) -> list[str]:
        """The others that share seeds and a pair, in words."""
        others = [look for look in self.looks if look is not self.this_look]
        same = {*self.group.studies}
        return [
            f"{len(look.seeds)} seeds" + ("" if {*look.levels} == same else f" of {', '.join(look.levels)}")
            for look in others
        ]

    @property
    def is_exploratory(self) -> bool:
        """Whether earlier looks have spent the whole error, so that what this one finds has to be found again."""
        return self.spent <= 0

    @property
    def alpha(self) -> float:
        """The level of the tests and the intervals."""
        return self.settings.alpha if self.is_exploratory else self.spent

    @property
    def by(self) -> str:
        """The factor."""
        return self.group.by

    @property
    def objective(self) -> Objective:
        """Of all studies."""
        return self.group.any.objective

    @property
    def metric(self) -> str:
        """The objective's metric as it is called on the test split."""
        return self.objective.metric.removeprefix("val_")

    @property
    def maximize(self) -> bool:
        """Whether more is better."""
        return self.objective.direction == "maximize"

    @property
    def is_default_effect(self) -> bool:
        """Whether ``min_effect`` is ours, and not the user's."""
        return self.settings.min_effect is None

    @cached_property
    def min_effect(self) -> float:
        """The smallest difference that matters."""
        if self.settings.min_effect is not None:
            return self.settings.min_effect
        if any(share in self.metric for share in SHARES):
            return DEFAULT_EFFECT
        return RELATIVE_EFFECT * abs(
            statistics.fmean(score for scores in self.scores.values() for score in scores.values())
        )

    @cached_property
    def scores(self) -> dict[str, dict[int, float]]:
        """Test scores: level → seed → score, of the seeds that all levels have."""
        return {
            level: {seed: by_seed[seed].test_score for seed in self.seeds}
            for level, by_seed in self.group.studies.items()
        }

    @cached_property
    def differences(self) -> list[Difference]:
        """Of every pair of levels: the primary endpoint."""
        return compare_pairs(self.scores, self.maximize, self.min_effect, self.alpha, self._planned)

    @property
    def _planned(self) -> float:
        """What the last look may spend or, where no other was declared, another comparison."""
        n, looks = len(self.seeds), [len(look.seeds) for look in self.looks]
        if self.settings.max_seeds is None or n >= self.max_seeds:
            return self.settings.alpha
        return alpha_of_look(self.settings.alpha, self.max_seeds, self.max_seeds, [*looks, n])

    def settles(self, n_more: int) -> str:
        """What would settle a pair that takes ``n_more`` seeds more than there are; empty where nothing is said."""
        if self.is_exploratory:
            return ""
        n = n_more if self.settings.max_seeds is not None else n_more + len(self.seeds)
        count = f"about {n:,}" if n_more + len(self.seeds) < MAX_N else f"more than {MAX_N:,}"
        kind = "more" if self.settings.max_seeds is not None else "other"
        return f"{count} {kind} seed{'s' * (n > 1)}"

    @property
    def digits(self) -> int:
        """Decimals that tell differences which matter apart."""
        return min(12, max(4, 2 - math.floor(math.log10(self.min_effect)))) if self.min_effect > 0 else 4

    @cached_property
    def incumbents(self) -> dict[str, dict[str, list[Incumbent]]]:
        """Axis → level → the best validation value so far, by seed."""
        return {
            axis: {
                level: [incumbent(by_seed[seed].trials, axis, self.maximize) for seed in self.seeds]
                for level, by_seed in self.group.studies.items()
            }
            for axis in self.axes
        }

    @property
    def axes(self) -> tuple[str, ...]:
        """On which budgets are compared: seconds only where all studies ran on the same kind of machine."""
        machines = {study.record.tags.get(Tag.HARDWARE) for study in self.group.all}
        ended = [study.trials.loc[study.trials["ended_order"].notna(), "ended_seconds"] for study in self.group.all]
        is_known = None not in machines and all(table.notna().all() for table in ended)
        return AXES if is_known and len(machines) == 1 else AXES[:-1]

    def range_of(self, axis: str) -> tuple[float, float]:
        """From where all studies have a value, to where the first one ends."""
        every = [each for found in self.incumbents[axis].values() for each in found]
        start, end = common_start(every), common_end(every)
        return start, max(start, end)

    def drawn_range_of(self, axis: str) -> tuple[float, float]:
        """The same to where the last one ends, since a search that has ended keeps what it found."""
        ends = [each.end for found in self.incumbents[axis].values() for each in found]
        start, _ = self.range_of(axis)
        return start, max([start, *ends])

    def bands(self, axis: str) -> dict[str, Band]:
        """Level → mean and interval of the best value so far."""
        return {level: band(found, *self.drawn_range_of(axis)) for level, found in self.incumbents[axis].items()}

    @cached_property
    def target(self) -> float:
        """The validation value that the time to target is taken for."""
        finals = {
            level: [float(each.values[-1]) for each in found if len(each.values)]
            for level, found in self.incumbents["trials"].items()
        }
        return target_of(finals, self.maximize)

    @cached_property
    def levels(self) -> list[Level]:
        """Best mean test score first."""
        made = [self._level(level) for level in self.group.studies]
        return sorted(made, key=lambda level: -level.mean if self.maximize else level.mean)

    def _level(self, name: str) -> Level:
        studies = [self.group.studies[name][seed] for seed in self.seeds]
        best = [_best_validation(study, self.maximize) for study in studies]
        test, sign = list(self.scores[name].values()), 1 if self.maximize else -1
        states: dict[str, int] = {}
        fits: dict[str, int] = {}
        for study in studies:
            for counted, column in ((states, "state"), (fits, "fit")):
                for value, count in study.trials[column].dropna().value_counts().items():
                    counted[str(value)] = counted.get(str(value), 0) + int(count)
        return Level(
            name=name,
            test=tuple(test),
            validation=tuple(best),
            over_tuning=tuple(sign * (b - t) for b, t in zip(best, test, strict=True)),
            n_trials=tuple(int(study.trials["ended_order"].notna().sum()) for study in studies),
            epochs=tuple(int(study.trials["epochs_run"].sum()) for study in studies),
            seconds=tuple(float(study.record.metrics.get(Metric.SEARCH_SECONDS, math.nan)) for study in studies),
            states=states,
            fits=fits,
            reached={
                axis: tuple(e.reaches(self.target, self.maximize) for e in self.incumbents[axis][name])
                for axis in self.axes
            },
            areas={
                axis: tuple(area(e, *self.range_of(axis)) for e in self.incumbents[axis][name]) for axis in self.axes
            },
            stopping=_ledger(studies),
        )

    def area_differences(self, axis: str) -> list[Difference]:
        """Of every pair: how much better the best value so far is on the mean; described, not judged."""
        areas = {level.name: dict(zip(self.seeds, level.areas[axis], strict=True)) for level in self.levels}
        return compare_pairs(areas, self.maximize, self.min_effect, ALPHA)

    @property
    def verdict(self) -> str:
        """The answer in a sentence or two."""
        best, *others = self.levels
        judged = {frozenset((d.first, d.second)): d for d in self.differences}
        against = [(other.name, judged[frozenset((best.name, other.name))]) for other in others]
        is_reversed = {other: d.first != best.name for other, d in against}
        beaten = [o for o, d in against if d.verdict is (Verdict.WORSE if is_reversed[o] else Verdict.BETTER)]
        equal = [o for o, d in against if d.verdict is Verdict.EQUIVALENT]
        unresolved = [(o, d) for o, d in against if o not in beaten and o not in equal]
        parts = []
        if beaten:
            parts.append(f"{best.name} is better than {listed(beaten)}")
        if equal:
            subject = "it" if parts else best.name
            parts.append(f"{subject} is equivalent to {listed(equal)} within {self.min_effect:.3g}")
        said = " and ".join(parts)
        if unresolved:
            more = max(d.n_more or 1 for _, d in unresolved)
            names = listed([o for o, _ in unresolved])
            lead = f"{best.name} has the best mean, but whether it is better than {names} is unresolved"
            if all(math.isclose(d.mean, 0.0, abs_tol=ROUNDING) for _, d in unresolved):
                lead = f"{best.name} has the same mean as {names}, and whether they are equivalent is unresolved"
            if parts:
                lead = f"against {names} it is unresolved"
            settle = self.settles(more)
            left = self.max_seeds - len(self.seeds)
            if settle:
                own = ", in a comparison of their own," if self.settings.max_seeds is None else ""
                settle = f": {settle}{own} would settle it"
            if settle and self.settings.max_seeds is not None and more > left:
                settle += f", of which max_seeds={self.max_seeds} allows {left}"
            said = f"{said}; {lead}{settle}" if said else f"{lead}{settle}"
        if self.is_exploratory:
            said = f"exploratory, since the error was spent on earlier looks: {said}"
        if self.missing:
            n = len(self.missing)
            said = f"in the meantime, with {n} stud{'ies' if n > 1 else 'y'} missing: {said}"
        return f"{said[0].upper()}{said[1:]}."


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _best_validation(study: ComparedStudy, maximize: bool) -> float:
    values = study.trials["objective"].dropna()
    return float(values.max() if maximize else values.min())


def _ledger(studies: Sequence[ComparedStudy]) -> Ledger:
    """Of several studies together, with what shorter patiences would have changed in each of them."""
    each = [ledger(s.trials, s.folds, s.epochs, early_stopping_of(s), s.objective) for s in studies]
    reasons: dict[str, int] = {}
    for one in each:
        for reason, count in one.stop_reasons.items():
            reasons[reason] = reasons.get(reason, 0) + count
    return Ledger(
        n_trials=sum(one.n_trials for one in each),
        epochs_run=sum(one.epochs_run for one in each),
        epochs_allowed=sum(one.epochs_allowed for one in each),
        epochs_saved=sum(one.epochs_saved for one in each),
        stop_reasons=reasons,
        shorter=(),
    )


def early_stopping_of(study: ComparedStudy) -> EarlyStopping:
    """As the study was configured."""
    prefix = "early_stopping."
    given = {key.removeprefix(prefix): value for key, value in study.identity.items() if key.startswith(prefix)}
    return EarlyStopping(**given)
