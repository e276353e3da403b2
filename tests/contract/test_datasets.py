"""What every dataset in ``conf/dataset`` keeps to."""

from pathlib import Path

import numpy as np
import pytest

from hpo import config as configs
from hpo.datasets.base import Dataset
from hpo.study import _build

from .test_configs import compose

NEEDS_FILES = {"mnist": "keras_home_with_mnist"}


@pytest.mark.parametrize("name", list(configs.options("dataset")))
def test_a_dataset_is_labelled_split_and_digested(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if name in NEEDS_FILES:
        request.getfixturevalue(NEEDS_FILES[name])
    first, second = (_build(compose(f"dataset={name}"), "dataset", Dataset) for _ in range(2))
    assert first.name == name
    assert 0 < len(first.digest) <= 36
    assert first.digest == second.digest
    assert np.array_equal(first.y_test, second.y_test)
    assert set(np.unique(first.y_test)) <= set(np.unique(first.y)) == set(range(first.spec.n_classes))
    # No row of the test split is among those to be trained on.
    train = {row.tobytes() for row in first.x}
    assert sum(row.tobytes() in train for row in first.x_test) <= len(first.x_test) // 1000
