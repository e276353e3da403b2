import numpy as np
import pytest

from hpo.datasets.splits import check_test_fraction, split_off_test, split_rows, stratified_sample
from hpo.errors import DatasetError

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("given", [0, 1, -0.1, 1.5, True, "0.2", None])
def test_test_fraction_is_between_0_and_1(given: object) -> None:
    check_test_fraction(0.3)
    with pytest.raises(DatasetError) as caught:
        check_test_fraction(given)
    assert caught.value.key == "dataset.test_fraction"


def test_split_off_test_is_reproducible_and_stratified_on_request() -> None:
    x, y = np.arange(100), np.repeat([0, 1], [80, 20])
    first, second = (split_off_test(x, y) for _ in range(2))
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    train, train_y, test, test_y = first
    assert sorted([*train, *test]) == list(range(100))
    assert (np.bincount(train_y).tolist(), np.bincount(test_y).tolist()) == ([64, 16], [16, 4])
    assert np.array_equal(y[test], test_y)
    plain = split_off_test(x, RANDOM.normal(size=100), is_stratified=False)
    assert (len(plain[0]), len(plain[2])) == (80, 20)


def test_last_rows_are_the_test_rows_if_rows_are_ordered() -> None:
    train, test = split_rows(np.zeros(10), 0.25, None, is_ordered=True)
    assert (train.tolist(), test.tolist()) == (list(range(8)), [8, 9])


def test_groups_are_in_one_part() -> None:
    groups = np.arange(40) % 8
    train, test = split_rows(np.zeros(40), 0.25, groups, is_ordered=False)
    assert not set(groups[train]) & set(groups[test])
    assert len(train) + len(test) == 40


def test_fraction_that_leaves_no_group_is_refused() -> None:
    with pytest.raises(DatasetError, match="leaves a group on both sides"):
        split_rows(np.zeros(4), 0.01, np.array([0, 0, 0, 0]), is_ordered=False)


@pytest.mark.parametrize("n", [2, 3, 7, 40])
def test_both_splits_have_rows_and_singletons_are_trained_on(n: int) -> None:
    for y in (RANDOM.normal(size=n), np.arange(n) // 2, np.arange(n)):
        train, test = split_rows(y, 0.2, None, is_ordered=False)
        assert len(train) and len(test)
        assert sorted([*train, *test]) == list(range(n))
    y = np.array([0] * 10 + [1] * 10 + [2])
    assert 20 in split_rows(y, 0.5, None, is_ordered=False)[0]


def test_stratified_sample_has_the_classes_in_their_proportions() -> None:
    y = np.repeat([0, 1, 2], [60, 30, 10])
    chosen = stratified_sample(y, 20)
    assert np.bincount(y[chosen]).tolist() == [12, 6, 2]
    assert len(set(chosen)) == 20
    assert np.array_equal(chosen, stratified_sample(y, 20))
    assert len(stratified_sample(y, 1000)) == 100
