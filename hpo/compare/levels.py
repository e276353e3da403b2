"""Numbers of one level of a comparison, over all its seeds."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpo.compare.curves import SearchCurves
from hpo.compare.early_stopping import EarlyStoppingSummary, combine, summarize_study
from hpo.compare.studies import ComparedStudy
from hpo.tracking.schema import Metric


@dataclass(frozen=True)
class Level:
    """One level of the factor; tuples have one value for each seed, in the order of the comparison's seeds.

    Args:
        test: test scores of the winners.
        validation: validation scores of the winners.
        over_tuning: how much better the validation score is than the test score.
        n_trials, epochs, seconds: spent by the search.
        states: state → trials, over all seeds.
        fits: fit verdict → COMPLETE trials, over all seeds.
        reached: axis → position at which the target was reached; None if it was not.
        areas: axis → mean of the best value so far, over the range that all studies share.
        stopping: early stopping over all seeds.
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
    stopping: EarlyStoppingSummary

    @property
    def mean(self) -> float:
        """Mean test score."""
        return statistics.fmean(self.test)


def summarize_level(name: str, studies: Sequence[ComparedStudy], curves: SearchCurves, maximize: bool) -> Level:
    """Summarise the studies of a level.

    Args:
        studies: one for each seed, in the order of the comparison's seeds.
        maximize: whether a higher score is better.
    """
    test = tuple(study.test_score for study in studies)
    validation = tuple(_best_validation(study, maximize) for study in studies)
    sign = 1 if maximize else -1
    return Level(
        name=name,
        test=test,
        validation=validation,
        over_tuning=tuple(sign * (v - t) for v, t in zip(validation, test, strict=True)),
        n_trials=tuple(int(study.trials["ended_order"].notna().sum()) for study in studies),
        epochs=tuple(int(study.trials["epochs_run"].sum()) for study in studies),
        seconds=tuple(float(study.record.metrics.get(Metric.SEARCH_SECONDS, math.nan)) for study in studies),
        states=_count(studies, "state"),
        fits=_count(studies, "fit"),
        reached={axis: curves.reached(axis, name) for axis in curves.axes},
        areas={axis: curves.areas(axis, name) for axis in curves.axes},
        stopping=combine([summarize_study(study) for study in studies]),
    )


def _best_validation(study: ComparedStudy, maximize: bool) -> float:
    values = study.trials["objective"].dropna()
    return float(values.max() if maximize else values.min())


def _count(studies: Sequence[ComparedStudy], column: str) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for study in studies:
        counts.update(map(str, study.trials[column].dropna()))
    return dict(counts)
