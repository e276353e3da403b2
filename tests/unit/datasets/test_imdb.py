from pathlib import Path

import numpy as np
import pytest

from hpo.datasets import imdb
from hpo.datasets.base import DatasetUnavailable
from hpo.errors import DatasetError


def test_reviews_equal_those_of_keras(keras_home_with_data: Path) -> None:
    data = imdb.load(n_words=4000, length=13, keep="first")
    assert data.x.shape == data.x_test.shape == (25000, 13)
    assert data.x.dtype == np.int32
    assert (data.n_words, int(data.x.max())) == (4000, 3999)
    assert data.class_names == ("negative", "positive")
    assert np.bincount(data.y_test).tolist() == [12500, 12500]
    # The first reviews that keras.datasets.imdb.load_data(num_words=4000) returns; the 12th word of one is rare.
    assert data.x[0].tolist() == [1, 14, 22, 16, 43, 530, 973, 1622, 1385, 65, 458, 2, 66]
    assert data.x_test[0].tolist() == [1, 591, 202, 14, 31, 6, 717, 10, 10, 2, 2, 5, 4]
    assert (data.y[:3].tolist(), data.y_test[:3].tolist()) == ([1, 0, 0], [0, 1, 1])


def test_error_without_cache_and_network_names_file_and_address() -> None:
    with pytest.raises(DatasetUnavailable) as caught:
        imdb.load()
    for way in (str(imdb.FILE.path), imdb.FILE.url):
        assert way in caught.value.fix
    assert not imdb.FILE.path.exists()


def test_corrupt_file_is_refused_without_unpickling_and_not_changed() -> None:
    path = imdb.FILE.path
    path.parent.mkdir(parents=True)
    # Reading it before the hash is checked would unpickle it.
    np.savez(path, x_train=np.array([[1], [1, 2]], dtype=object))
    before = path.read_bytes()
    with pytest.raises(DatasetError, match="SHA-256") as caught:
        imdb.load()
    assert not isinstance(caught.value, DatasetUnavailable)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "key"),
    [({"n_words": 4}, "n_words"), ({"length": 0}, "length"), ({"keep": "middle"}, "keep")],
)
def test_unusable_option_is_refused(options: dict[str, object], key: str) -> None:
    with pytest.raises(DatasetError) as caught:
        imdb.load(**options)  # type: ignore[arg-type]
    assert caught.value.key == f"dataset.{key}"
