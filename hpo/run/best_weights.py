"""Decides which trial is the best and keeps its weights; those of other trials are deleted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from hpo.core.objective import Objective
from hpo.core.trial import FoldResult, Trial


class BestWeights:
    """The best trial of a study and the weight files in its folder.

    Args:
        folder: the study's folder; weights lie at ``trial-NUMBER`` with the model's suffix.
        suffix: of the model's weight files.
        objective: decides which of two trials is better.
    """

    def __init__(self, folder: Path, suffix: str, objective: Objective) -> None:
        self._folder, self._suffix, self._objective = folder, suffix, objective
        self._best: Trial | None = None

    @property
    def best(self) -> Trial | None:
        """The best trial so far; of equal ones, the first that ended."""
        return self._best

    @property
    def score_to_beat(self) -> float | None:
        """The objective of the best trial; a trial with a worse score need not save its weights."""
        return self._best.value if self._best else None

    def path_of(self, number: int) -> Path:
        """The path that a trial saves its weights to, without the model's suffix."""
        return self._folder / f"trial-{number:04d}"

    def find(self, number: int) -> Path | None:
        """The weight file of a trial; None if there is none."""
        path = self._folder / f"{self.path_of(number).name}{self._suffix}"
        return path if path.exists() else None

    def offer(self, trial: Trial) -> Trial | None:
        """Compare a trial that has ended with the best one.

        Returns:
            The trial of the two that is not the best: the caller deletes its weights with :func:`delete_weights` once
            the new best trial is recorded. None if there is none.
        """
        if trial.value is None or not self._objective.better(trial.value, self.score_to_beat):
            return trial
        beaten, self._best = self._best, trial
        return beaten

    def restore(self, finished: Sequence[Trial], unfinished: Iterable[int]) -> list[Trial]:
        """Find the best trial and its weights when a study is resumed, and delete the weights of the others.

        Args:
            finished: trials of the record.
            unfinished: numbers of the trials that will be run again, so that their weights are kept.

        Returns:
            ``finished`` in the order of their end, with the paths of their weight files.
        """
        kept = {self.find(number) for number in unfinished}
        restored = []
        # In the order of their end, since the first of equal trials is the best.
        for trial in sorted(finished, key=lambda trial: (trial.ended_seconds or 0.0, trial.number)):
            restored.append(self._with_weights(trial))
            self.offer(restored[-1])
        if self._best is not None:
            kept |= {Path(fold.weights_path) for fold in self._best.folds if fold.weights_path}
        for path in self._folder.glob(f"*trial-*{self._suffix}"):  # also those that were only partly written
            if path not in kept:
                path.unlink(missing_ok=True)
        return restored

    def _with_weights(self, trial: Trial) -> Trial:
        weights = self.find(trial.number)
        if weights is None or not trial.folds:
            return trial
        return replace(trial, folds=(replace(trial.folds[0], weights_path=str(weights)), *trial.folds[1:]))


def delete_weights(folds: Iterable[FoldResult]) -> None:
    """Delete the weight files of some folds."""
    for fold in folds:
        if fold.weights_path:
            Path(fold.weights_path).unlink(missing_ok=True)
