import numpy as np
import pytest
from sklearn import datasets

from hpo.datasets import embedded


@pytest.mark.parametrize("name", ["breast_cancer", "wine", "iris"])
def test_classification_data_has_a_fixed_stratified_test_split(name: str) -> None:
    data, whole = getattr(embedded, name)(), getattr(datasets, f"load_{name}")()
    assert len(data.x) + len(data.x_test) == len(whole.data)
    assert np.allclose(np.concatenate([data.x, data.x_test]).sum(axis=0), whole.data.sum(axis=0))
    assert np.all(np.abs(np.bincount(data.y_test) / np.bincount(data.y) - 0.25) < 0.05)
    assert data.class_names == tuple(whole.target_names)
    assert [column.name for column in data.columns] == list(whole.feature_names)
    assert getattr(embedded, name)().digest == data.digest


def test_diabetes_is_a_regression() -> None:
    data = embedded.diabetes()
    assert data.is_regression
    assert (data.x.shape, data.x_test.shape) == ((353, 10), (89, 10))
    assert (data.y.min(), max(data.y.max(), data.y_test.max())) == (25.0, 346.0)
    assert not data.class_names
