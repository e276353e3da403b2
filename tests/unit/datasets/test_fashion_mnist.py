from pathlib import Path

import pytest

from hpo.datasets import fashion_mnist
from hpo.datasets.base import DatasetUnavailable
from hpo.errors import DatasetError


def test_files_in_the_cache_of_keras_are_used(keras_home_with_data: Path) -> None:
    data = fashion_mnist.load()
    assert data.x.shape == (60000, 28, 28, 1)
    assert data.x_test.shape == (10000, 28, 28, 1)
    assert data.spec.n_classes == len(data.class_names) == 10
    # The authors' figure shows an ankle boot and a T-shirt first.
    assert [data.class_names[label] for label in data.y[:2]] == ["Ankle boot", "T-shirt/top"]
    # The boot is in the lower half of its image, with nothing above it.
    assert data.x[0, 0].max() == 0 < data.x[0, 20].max()


def test_error_without_cache_and_network_names_files_and_folder() -> None:
    with pytest.raises(DatasetUnavailable) as caught:
        fashion_mnist.load()
    for file in fashion_mnist.FILES:
        assert file.url in caught.value.fix
    assert str(fashion_mnist.FILES[0].path.parent) in caught.value.fix


def test_corrupt_file_among_four_is_named_and_not_changed(keras_home_with_data: Path) -> None:
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


def test_only_the_missing_file_among_four_is_requested(keras_home_with_data: Path) -> None:
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
