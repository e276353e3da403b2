import numpy as np
import pytest

from hpo.datasets.base import Dataset
from hpo.errors import DatasetError


def make(x: np.ndarray, y: np.ndarray, n_test: int = 2) -> Dataset:
    return Dataset("d", x[n_test:], y[n_test:], x[:n_test], y[:n_test], source="tests")


IMAGES = np.arange(6 * 4 * 4, dtype="uint8").reshape(6, 4, 4, 1)
LABELS = np.array([0, 1, 0, 1, 0, 1])


def test_digest_depends_on_every_value_its_type_and_position() -> None:
    digest = make(IMAGES, LABELS).digest
    assert len(digest) <= 36
    changed = IMAGES.copy()
    changed[-1, -1, -1, 0] += 1
    swapped = IMAGES[[0, 1, 3, 2, 4, 5]]
    others = [
        make(changed, LABELS),
        make(swapped, LABELS),
        make(IMAGES.astype("int64"), LABELS),
        make(IMAGES, LABELS, 3),
    ]
    assert len({digest, *(other.digest for other in others)}) == 5
    assert make(IMAGES.copy(), LABELS.copy()).digest == digest


def test_resizing_keeps_digest_range_and_order() -> None:
    original = make(IMAGES, LABELS)
    resized = original.with_images_of((8, 8, 1))
    assert resized.x.shape == (4, 8, 8, 1)
    assert resized.x_test.shape == (2, 8, 8, 1)
    assert resized.digest == original.digest
    assert resized.x.dtype == np.uint8
    assert resized.x.min() >= original.x.min()
    assert resized.x.max() <= original.x.max()
    means = resized.x.mean(axis=(1, 2, 3))
    assert np.all(np.diff(means) > 0)
    assert original.with_images_of((4, 4, 1)) is original


def test_only_images_with_matching_channels_are_resized() -> None:
    with pytest.raises(DatasetError, match="images of shape"):
        make(IMAGES.reshape(6, 16), LABELS).with_images_of((8, 8, 1))
    with pytest.raises(DatasetError, match="channels"):
        make(IMAGES, LABELS).with_images_of((8, 8, 3))


def test_labels_have_to_match_the_samples_and_differ() -> None:
    with pytest.raises(DatasetError, match="labels"):
        Dataset("d", IMAGES[2:], LABELS[1:], IMAGES[:2], LABELS[:2], source="tests")
    with pytest.raises(DatasetError, match="two classes"):
        make(IMAGES, np.zeros(6, int))
