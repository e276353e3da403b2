import numpy as np
import pytest
import toy

from hpo.datasets.base import Array, Dataset
from hpo.evaluation.resampling import Holdout, KFoldResampling, Resampling
from hpo.evaluation.split_data import SplitData

N = 60


def numbered() -> Dataset:
    """Rows with their own number as the only feature."""
    x = np.arange(N + 10, dtype="float64").reshape(-1, 1)
    y = np.arange(N + 10) % 2
    return Dataset("numbered", x[:N], y[:N], x[N:], y[N:], source="tests")


def split(resampling: Resampling, seed: int = 0) -> SplitData:
    return SplitData.for_model(toy.CurveModel(), numbered(), resampling, seed)


def rows_of(x: Array) -> list[int]:
    return [int(number) for number in x[:, 0]]


@pytest.mark.parametrize("resampling", [Holdout(0.2), KFoldResampling(4)])
def test_training_sample_is_a_random_sample_of_the_training_rows(resampling: Resampling) -> None:
    data = split(resampling)
    train = rows_of(data.training(0).x_train)
    x, y = data.training_sample(0, seed=1)
    rows = rows_of(x)
    assert set(rows) < set(train)
    assert len(set(rows)) == len(rows) == data.n_samples["validation"]
    assert rows == sorted(rows)
    assert y.tolist() == [row % 2 for row in rows]
    # Neither the first rows nor the last: those of a sorted file are of one class, or of one time.
    assert rows not in (train[: len(rows)], train[-len(rows) :])
    assert rows == rows_of(data.training_sample(0, seed=1)[0])
    assert rows != rows_of(data.training_sample(0, seed=2)[0])
    # Over many seeds, every training row is as likely as any other.
    counts = np.bincount(
        np.concatenate([rows_of(data.training_sample(0, seed)[0]) for seed in range(300)]), minlength=N
    )
    expected = 300 * len(rows) / len(train)
    assert np.all(np.abs(counts[train] - expected) < 5 * np.sqrt(expected))


def test_training_sample_has_no_more_rows_than_there_are() -> None:
    data = split(Holdout(0.9))
    assert len(data.training_sample(0, 0)[0]) == data.n_samples["train"]


def test_holdout_scores_the_watched_rows() -> None:
    data = split(Holdout(0.2))
    assert data.n_folds == 1
    assert not data.has_scored_rows
    assert data.scored(0) is None
    assert data.n_samples == {"train": 48, "validation": 12, "test": 10}
    fold = data.training(0)
    assert sorted(rows_of(fold.x_train) + rows_of(fold.x_watch)) == list(range(N))


def test_folds_score_rows_that_training_never_sees() -> None:
    data = split(KFoldResampling(4))
    assert data.n_folds == 4
    assert data.has_scored_rows
    assert data.n_samples["validation"] == 15
    for place in range(4):
        fold, scored = data.training(place), data.scored(place)
        assert scored is not None
        seen, unseen = data.row_splits[place]
        assert sorted(rows_of(fold.x_train) + rows_of(fold.x_watch)) == seen.tolist()
        assert rows_of(scored[0]) == unseen.tolist()
        assert scored[1].tolist() == [row % 2 for row in unseen]
        assert not set(seen) & set(unseen)


def test_refit_uses_all_training_rows_without_validation() -> None:
    fold = split(KFoldResampling(4)).all_training()
    assert rows_of(fold.x_train) == list(range(N))
    assert fold.is_refit


def test_digest_depends_on_the_folds_alone() -> None:
    assert split(Holdout(0.2)).digest == split(Holdout(0.2)).digest
    assert split(Holdout(0.2)).digest != split(Holdout(0.2), seed=1).digest
