"""Answers the trials of a resumed study from its record, so that nothing finished is trained or recorded again."""

from __future__ import annotations

from collections.abc import Sequence

from hpo.core.measurement import STEP, Measurement, OnReport
from hpo.core.params import Params, canonical
from hpo.core.space import SearchSpace, Suggest
from hpo.core.trial import FoldResult, RecordedTrial, Trial


class RecordedTrials:
    """The trials of the record that the strategy has not proposed again yet.

    Args:
        trials: in the order of their numbers.
    """

    def __init__(self, trials: Sequence[RecordedTrial] = ()) -> None:
        self._by_params: dict[str, list[RecordedTrial]] = {}
        for each in trials:
            self._by_params.setdefault(canonical(each.trial.params), []).append(each)

    def take(self, params: Params) -> RecordedTrial | None:
        """Remove and return the recorded trial with these params and the lowest number; None if there is none left."""
        same = self._by_params.get(canonical(params))
        return same.pop(0) if same else None


class ReplayedTrial:
    """A finished trial of the record that is proposed again; see :class:`hpo.strategies.base.OpenTrial`.

    Args:
        full_budget: the most epochs of one fold.
        metric: of the objective; its recorded curve is reported to the pruner again.
        suggest: receives the parameters that the trial asked for while it ran.
    """

    def __init__(self, recorded: RecordedTrial, full_budget: int, metric: str, suggest: Suggest | None = None) -> None:
        self._recorded, self._full, self._metric, self._suggest = recorded, full_budget, metric, suggest
        self._last = {fold.fold: fold for fold in recorded.trial.folds}
        self._folds: dict[int, FoldResult] = {}

    @property
    def trial(self) -> Trial:
        folds = tuple(self._folds[fold] for fold in sorted(self._folds))
        return Trial(self._recorded.trial.number, self._recorded.trial.params, folds, self._recorded.trial.seconds)

    def train_fold(
        self, fold: int, max_epochs: int | None = None, on_report: OnReport | None = None
    ) -> FoldResult | None:
        budget = min(max_epochs or self._full, self._full)
        result = self._recorded.results.get((fold, budget), self._last.get(fold))
        if result is not None:
            report_curve(result, self._metric, on_report)
            self._folds[fold] = result
        return result

    def train(self, max_epochs: int | None = None, on_report: OnReport | None = None) -> Trial:
        if self._suggest is not None:  # the strategy receives the same requests as in the first run
            for parameter in SearchSpace.from_record(self._recorded.domains).values():
                self._suggest(parameter)
        for fold in sorted(self._last):
            self.train_fold(fold, max_epochs, on_report)
        return self.trial

    def close(self, dropped: bool = False) -> Trial:
        return self._recorded.trial


def report_curve(result: FoldResult, metric: str, on_report: OnReport | None) -> None:
    """Report a recorded curve to a pruner again; its decisions are ignored, since the fold has ended."""
    if on_report is not None:
        steps = result.history.get(STEP)
        for epoch, value in enumerate(result.history.get(metric, ())):
            on_report(Measurement(result.fold, epoch if steps is None else int(steps[epoch]), value))
