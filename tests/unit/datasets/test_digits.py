import numpy as np

from hpo.datasets import digits


def test_images_have_a_fixed_stratified_test_split() -> None:
    data = digits.load()
    assert data.x.shape == (1437, 8, 8, 1)
    assert data.x_test.shape == (360, 8, 8, 1)
    assert (data.x.min(), data.x.max(), data.x.dtype) == (0, 255, np.uint8)
    assert data.spec.n_classes == 10
    shares = np.bincount(data.y_test) / np.bincount(data.y)
    assert np.all(np.abs(shares - 0.25) < 0.02)
    assert digits.load().digest == data.digest
