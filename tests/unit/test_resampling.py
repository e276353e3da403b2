import numpy as np
import pytest

from hpo.errors import ConfigError
from hpo.resampling import Holdout, digest

Y = np.repeat(np.arange(3), [60, 30, 10])


def test_holdout_is_stratified_complete_and_seeded() -> None:
    (split,) = Holdout(0.2).splits(Y, 0)
    assert sorted([*split.train, *split.watch]) == list(range(100))
    assert np.bincount(Y[split.watch]).tolist() == [12, 6, 2]
    assert split.score is None
    assert digest(Holdout(0.2).splits(Y, 0)) == digest([split])
    assert digest(Holdout(0.2).splits(Y, 1)) != digest([split])
    assert len(digest([split])) <= 36


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, "half", True])
def test_holdout_refuses_what_is_no_share(fraction: object) -> None:
    with pytest.raises(ConfigError, match="validation_fraction"):
        Holdout(fraction)  # type: ignore[arg-type]


def test_holdout_refuses_a_class_that_cannot_be_on_both_sides() -> None:
    with pytest.raises(ConfigError, match="every class"):
        Holdout(0.2).splits(np.array([0, 0, 0, 0, 1]), 0)
