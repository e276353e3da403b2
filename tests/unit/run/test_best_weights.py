"""Which weights a study keeps while it runs, and when it is resumed."""

from pathlib import Path

import pytest

from hpo.core.objective import Objective
from hpo.core.states import StopReason
from hpo.core.trial import Trial
from hpo.run.best_weights import BestWeights, delete_weights

from .trials import fold, trial

LOSS = Objective("val_loss", "minimize")
ACCURACY = Objective("val_accuracy", "maximize")


def weights(folder: Path, objective: Objective = LOSS) -> BestWeights:
    return BestWeights(folder, ".npz", objective)


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"weights")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_paths_have_the_number_of_the_trial(tmp_path: Path) -> None:
    kept = weights(tmp_path)
    assert kept.path_of(7) == tmp_path / "trial-0007"
    assert kept.find(7) is None
    write(tmp_path, "trial-0007.npz")
    assert kept.find(7) == tmp_path / "trial-0007.npz"


@pytest.mark.parametrize(("objective", "better", "worse"), [(LOSS, 0.2, 0.8), (ACCURACY, 0.8, 0.2)])
def test_better_trial_replaces_the_best_one(objective: Objective, better: float, worse: float, tmp_path: Path) -> None:
    kept = weights(tmp_path, objective)
    assert (kept.best, kept.score_to_beat) == (None, None)
    first, second, third = trial(0, 0.5), trial(1, better), trial(2, worse)
    assert kept.offer(first) is None
    assert (kept.best, kept.score_to_beat) == (first, 0.5)
    assert kept.offer(second) is first
    assert (kept.best, kept.score_to_beat) == (second, better)
    assert kept.offer(third) is third
    assert kept.best is second


def test_best_trial_needs_a_strictly_better_value(tmp_path: Path) -> None:
    kept = weights(tmp_path)
    pruned = trial(0, None, StopReason.PRUNED)
    assert kept.offer(pruned) is pruned
    assert kept.best is None
    first, equal = trial(1, 0.5), trial(2, 0.5)
    kept.offer(first)
    assert kept.offer(equal) is equal
    assert kept.best is first


def test_only_the_files_of_the_given_folds_are_deleted(tmp_path: Path) -> None:
    write(tmp_path, "a.npz", "b.npz")
    gone = str(tmp_path / "gone.npz")
    delete_weights([fold(weights_path=str(tmp_path / "a.npz")), fold(), fold(weights_path=gone)])
    assert names(tmp_path) == {"b.npz"}


def finished(*scores: float | None) -> list[Trial]:
    return [trial(number, score, ended_seconds=float(number)) for number, score in enumerate(scores)]


def test_resume_deletes_outdated_weights(tmp_path: Path) -> None:
    write(tmp_path, "trial-0000.npz", "trial-0001.npz", "trial-0002.npz", "partial-trial-0002.npz")
    write(tmp_path, "outbox.jsonl", "trial-0000.other")
    kept = weights(tmp_path)
    restored = kept.restore(finished(0.5, 0.2, 0.4), [])
    assert names(tmp_path) == {"trial-0001.npz", "outbox.jsonl", "trial-0000.other"}
    assert kept.best is restored[1]
    assert kept.best.folds[0].weights_path == str(tmp_path / "trial-0001.npz")


def test_resume_keeps_weights_of_unfinished_trials(tmp_path: Path) -> None:
    write(tmp_path, "trial-0000.npz", "trial-0001.npz", "trial-0002.npz", "trial-0003.npz")
    weights(tmp_path).restore(finished(0.5, 0.2), [3, 4])
    assert names(tmp_path) == {"trial-0001.npz", "trial-0003.npz"}


def test_resume_without_files_finds_the_best_trial_without_weights(tmp_path: Path) -> None:
    kept = weights(tmp_path)
    restored = kept.restore(finished(0.5, 0.2), [])
    assert kept.best is restored[1]
    assert kept.best.folds[0].weights_path is None


def test_resume_without_a_complete_trial_deletes_all_weights(tmp_path: Path) -> None:
    write(tmp_path, "trial-0000.npz", "trial-0001.npz")
    kept = weights(tmp_path)
    failed = [trial(0, None, StopReason.ERROR), Trial(1, {"x": 0.5})]
    assert [each.number for each in kept.restore(failed, [])] == [0, 1]
    assert kept.best is None
    assert names(tmp_path) == set()


def test_resume_breaks_ties_by_end_time(tmp_path: Path) -> None:
    kept = weights(tmp_path)
    trials = [trial(0, 0.5, ended_seconds=9.0), trial(1, 0.5, ended_seconds=0.5), trial(2, 0.5), trial(3, 0.5)]
    assert [each.number for each in kept.restore(trials, [])] == [2, 3, 1, 0]
    assert kept.best is not None
    assert kept.best.number == 2


def test_only_the_first_fold_gets_the_weights(tmp_path: Path) -> None:
    write(tmp_path, "trial-0000.npz")
    folds = (fold(index=0), fold(index=1))
    (restored,) = weights(tmp_path).restore([Trial(0, {}, folds)], [])
    assert [each.weights_path for each in restored.folds] == [str(tmp_path / "trial-0000.npz"), None]
    assert names(tmp_path) == {"trial-0000.npz"}
