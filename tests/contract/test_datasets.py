"""What every dataset in ``conf/dataset`` keeps to."""

from pathlib import Path

import numpy as np
import pytest

from hpo import config as configs
from hpo.datasets.base import Dataset
from hpo.study import _build

from .test_configs import NEEDED, compose

NEEDS_FILES = {"mnist": "keras_home_with_mnist"}
# Equal rows that the data themselves have, one of a pair on each side of the split.
TWINS = {"iris": 1}


@pytest.mark.parametrize("name", list(configs.options("dataset")))
def test_a_dataset_is_labelled_split_and_digested(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if name in NEEDS_FILES:
        request.getfixturevalue(NEEDS_FILES[name])
    monkeypatch.chdir(tmp_path)
    Path("data.csv").write_text("size,label\n" + "".join(f"{row / 7},{'ab'[row % 2]}\n" for row in range(50)))
    overrides = [f"dataset={name}", *NEEDED.get(("dataset", name), [])]
    first, second = (_build(compose(*overrides), "dataset", Dataset) for _ in range(2))
    assert first.name == name
    assert 0 < len(first.digest) <= 36
    assert first.digest == second.digest
    assert np.array_equal(first.y_test, second.y_test)
    if first.is_regression:
        # The test split is of the same kind: its middle lies among what is trained on.
        assert first.spec.n_classes == len(first.class_names) == 0
        assert np.quantile(first.y, 0.1) < np.median(first.y_test) < np.quantile(first.y, 0.9)
    else:
        assert set(np.unique(first.y_test)) <= set(np.unique(first.y)) == set(range(first.spec.n_classes))
        assert len(first.class_names) in (0, first.spec.n_classes)
    # No row of the test split is among those to be trained on.
    train = {row.tobytes() for row in first.x}
    assert sum(row.tobytes() in train for row in first.x_test) <= TWINS.get(name, len(first.x_test) // 1000)
