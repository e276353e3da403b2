import numpy as np
import pytest

from hpo.errors import ConfigError
from hpo.evaluation.resampling import (
    CrossValidation,
    GroupKFoldResampling,
    Holdout,
    KFoldResampling,
    LeaveOneOutResampling,
    RepeatedKFoldResampling,
    Resampling,
    StratifiedKFoldResampling,
    TimeSeriesResampling,
    digest,
)

Y = np.arange(120) % 3
GROUPS = np.arange(120) // 10
FOLDED: list[tuple[CrossValidation, int]] = [
    (KFoldResampling(4), 4),
    (StratifiedKFoldResampling(4), 4),
    (RepeatedKFoldResampling(4, 2), 8),
    (GroupKFoldResampling(4), 4),
    (TimeSeriesResampling(4), 4),
    (LeaveOneOutResampling(), 120),
]
ids = [type(resampling).__name__ for resampling, _ in FOLDED]


def test_holdout_is_stratified_and_uses_every_row_once() -> None:
    (split,) = Holdout(0.25).splits(Y, 0)
    assert sorted([*split.train, *split.watch]) == list(range(120))
    assert np.bincount(Y[split.watch]).tolist() == [10, 10, 10]
    assert split.score is None


@pytest.mark.parametrize(("resampling", "n_folds"), FOLDED, ids=ids)
def test_parts_of_a_fold_do_not_overlap(resampling: CrossValidation, n_folds: int) -> None:
    splits = resampling.splits(Y, 0, GROUPS)
    assert len(splits) == n_folds
    for split in splits:
        assert split.score is not None
        parts = [set(split.train), set(split.watch), set(split.score)]
        assert all(parts)
        assert sum(map(len, parts)) == len(set.union(*parts))


@pytest.mark.parametrize(("resampling", "n_folds"), FOLDED, ids=ids)
def test_every_row_is_scored_once_per_repetition(resampling: CrossValidation, n_folds: int) -> None:
    scored = np.concatenate([split.score for split in resampling.splits(Y, 0, GROUPS) if split.score is not None])
    counts = np.bincount(scored, minlength=120)
    if isinstance(resampling, TimeSeriesResampling):
        assert counts.tolist() == [0] * 24 + [1] * 96
    else:
        assert set(counts) == {n_folds // 4 if n_folds < 120 else 1}


@pytest.mark.parametrize("resampling", [Holdout(0.25), *(resampling for resampling, _ in FOLDED)])
def test_folds_and_stop_splits_depend_on_the_seed_only(resampling: Resampling) -> None:
    def of(seed: int) -> str:
        np.random.seed(seed)
        return digest(resampling.splits(Y, seed, GROUPS))

    assert of(0) == of(0)
    # Of a series nothing is left to chance.
    assert isinstance(resampling, TimeSeriesResampling) == (of(0) == of(1))


def test_resampling_seed_replaces_the_study_seed() -> None:
    own = KFoldResampling(4, seed=5)
    assert digest(own.splits(Y, 0)) == digest(own.splits(Y, 1)) == digest(KFoldResampling(4).splits(Y, 5))


def test_stratified_folds_and_stop_splits_keep_class_proportions() -> None:
    y = np.array([0] * 90 + [1] * 30)
    for split in StratifiedKFoldResampling(3, stop_fraction=0.25).splits(y, 0):
        for part in (split.train, split.watch, split.score):
            assert np.mean(y[part]) == pytest.approx(0.25, abs=0.02)


def test_folds_and_stop_splits_keep_groups_together() -> None:
    for split in GroupKFoldResampling(4).splits(Y, 0, GROUPS):
        assert split.score is not None
        groups = [set(GROUPS[part]) for part in (split.train, split.watch, split.score)]
        assert sum(map(len, groups)) == len(set.union(*groups)) == 12


def test_time_series_folds_train_then_watch_then_score() -> None:
    for split in TimeSeriesResampling(4).splits(Y, 0):
        assert split.score is not None
        assert max(split.train) < min(split.watch) <= max(split.watch) < min(split.score)


@pytest.mark.parametrize(
    ("resampling", "y", "key"),
    [
        (StratifiedKFoldResampling(5), np.array([0] * 20 + [1] * 4), "resampling.n_splits"),
        (RepeatedKFoldResampling(5, 2), np.array([0] * 20 + [1] * 4), "resampling.n_splits"),
        (KFoldResampling(30), np.arange(20) % 2, "resampling.n_splits"),
        (TimeSeriesResampling(10), np.arange(20) % 2, "resampling.n_splits"),
        (GroupKFoldResampling(3), np.arange(20) % 2, "resampling"),
        (LeaveOneOutResampling(), np.arange(2), "resampling"),
        (Holdout(0.01), np.arange(10) % 5, "resampling.validation_fraction"),
    ],
)
def test_data_that_cannot_be_split_is_refused(resampling: Resampling, y: np.ndarray, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resampling.splits(y, 0)
    assert caught.value.key == key


def test_more_folds_than_groups_are_refused() -> None:
    with pytest.raises(ConfigError, match="number of groups, 12"):
        GroupKFoldResampling(12).splits(Y, 0, GROUPS)


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Holdout(1.0), "validation_fraction"),
        (lambda: KFoldResampling(1), "n_splits"),
        (lambda: KFoldResampling(3, stop_fraction=0), "stop_fraction"),
        (lambda: KFoldResampling(3, seed=-1), "seed"),
        (lambda: RepeatedKFoldResampling(3, 0), "n_repeats"),
    ],
)
def test_options_out_of_range_are_refused(make: object, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()  # type: ignore[operator]
    assert caught.value.key == f"resampling.{key}"


def test_fraction_that_leaves_no_training_rows_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        KFoldResampling(2, stop_fraction=0.99).splits(np.arange(4) % 2, 0)
    assert caught.value.key == "resampling.stop_fraction"


REAL = np.linspace(0.0, 1.0, 60)


@pytest.mark.parametrize(
    "resampling", [Holdout(0.25), KFoldResampling(4), RepeatedKFoldResampling(3, 2), TimeSeriesResampling(3)]
)
def test_real_targets_are_split_without_classes(resampling: Resampling) -> None:
    splits = resampling.splits(REAL, 0)
    for split in splits:
        parts = [split.train, split.watch, *([] if split.score is None else [split.score])]
        rows = np.concatenate(parts)
        assert len(np.unique(rows)) == len(rows)
        assert all(len(part) for part in parts)
    if not isinstance(resampling, TimeSeriesResampling):
        assert any(np.any(np.diff(split.train) != 1) for split in splits)  # shuffled


def test_stratified_folds_of_real_targets_are_refused() -> None:
    with pytest.raises(ConfigError, match="real number"):
        StratifiedKFoldResampling(3).splits(REAL, 0)


@pytest.mark.parametrize("gap", [0, 3])
@pytest.mark.parametrize("resampling", [Holdout(0.25), TimeSeriesResampling(3)])
def test_time_ordered_rows_are_split_with_a_gap(resampling: Resampling, gap: int) -> None:
    for split in resampling.splits(REAL, 0, gap=gap):
        assert split.watch[0] - split.train[-1] == gap + 1
        assert np.all(np.diff(split.train) == 1)
        assert np.all(np.diff(split.watch) == 1)
        if split.score is not None:
            assert split.score[0] - split.watch[-1] == gap + 1


@pytest.mark.parametrize("resampling", [KFoldResampling(3), LeaveOneOutResampling()])
def test_shuffled_folds_of_time_ordered_rows_are_refused(resampling: Resampling) -> None:
    with pytest.raises(ConfigError, match="resampling=time_series"):
        resampling.splits(REAL, 0, gap=0)


def test_gap_that_leaves_no_rows_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"resampling\.validation_fraction"):
        Holdout(0.25).splits(REAL, 0, gap=50)
