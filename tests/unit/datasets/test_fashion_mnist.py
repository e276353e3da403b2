from pathlib import Path

import pytest

from hpo.datasets import fashion_mnist
from hpo.datasets.base import DatasetUnavailable
from hpo.errors import DatasetError


def test_keras_s_own_cache_is_honoured(keras_home_with_data: Path) -> None:
    data = fashion_mnist.load()
    assert data.x.shape == (60000, 28, 28, 1)
    assert data.x_test.shape == (10000, 28, 28, 1)
    assert data.spec.n_classes == len(data.class_names) == 10
    # As the authors' own figure has it, the first two are an ankle boot and a T-shirt.
    assert [data.class_names[label] for label in data.y[:2]] == ["Ankle boot", "T-shirt/top"]
    # The boot stands on the lower half of its picture, with nothing above it.
    assert data.x[0, 0].max() == 0 < data.x[0, 20].max()


def test_without_cache_and_network_it_says_where_the_files_belong() -> None:
    with pytest.raises(DatasetUnavailable) as caught:
        fashion_mnist.load()
    for file in fashion_mnist.FILES:
        assert file.url in caught.value.fix
    assert str(fashion_mnist.FILES[0].path.parent) in caught.value.fix


def test_one_corrupt_file_among_four_is_named_and_left_alone(keras_home_with_data: Path) -> None:
    folder = fashion_mnist.FILES[0].path.parent
    real = folder.resolve()
    folder.unlink()
    folder.mkdir()
    for file in fashion_mnist.FILES[:3]:
        file.path.symlink_to(real / file.name)
    labels = fashion_mnist.FILES[3]
    labels.path.write_bytes(b"no labels")
    with pytest.raises(DatasetError, match="SHA-256") as caught:
        fashion_mnist.load()
    assert not isinstance(caught.value, DatasetUnavailable)
    assert labels.name in str(caught.value.value)
    assert labels.path.read_bytes() == b"no labels"


def test_a_missing_file_among_four_is_the_only_one_that_is_asked_for(keras_home_with_data: Path) -> None:
    folder = fashion_mnist.FILES[0].path.parent
    real = folder.resolve()
    folder.unlink()
    folder.mkdir()
    for file in fashion_mnist.FILES[1:]:
        file.path.symlink_to(real / file.name)
    with pytest.raises(DatasetUnavailable) as caught:
        fashion_mnist.load()
    assert fashion_mnist.FILES[0].url in caught.value.fix
    assert fashion_mnist.FILES[1].url not in caught.value.fix
