import socket
import time
from pathlib import Path

import pytest

from hpo.datasets import mnist
from hpo.datasets.base import DatasetUnavailable
from hpo.datasets.readers import keras_cache
from hpo.errors import DatasetError


def test_file_in_the_cache_of_keras_is_used(keras_home_with_mnist: Path) -> None:
    data = mnist.load()
    assert data.x.shape == (60000, 28, 28, 1)
    assert data.x_test.shape == (10000, 28, 28, 1)
    assert data.spec.n_classes == 10
    # The first published test images are a 7, a 2 and a 1.
    assert data.y_test[:3].tolist() == [7, 2, 1]


def test_error_without_cache_and_network_is_fast() -> None:
    started = time.monotonic()
    with pytest.raises(DatasetUnavailable) as caught:
        mnist.load()
    assert time.monotonic() - started < 20
    for way in (str(mnist.FILE.path), mnist.FILE.url, "dataset=digits"):
        assert way in caught.value.fix


def test_unresponsive_network_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_cache, "CONNECT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(DatasetUnavailable, match=r"timed out|no answer"):
            mnist.load()
    assert time.monotonic() - started < 5


def test_corrupt_file_is_refused_and_not_changed() -> None:
    path = mnist.FILE.path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not MNIST")
    with pytest.raises(DatasetError, match="SHA-256") as caught:
        mnist.load(fallback="digits")
    assert not isinstance(caught.value, DatasetUnavailable)
    assert path.read_bytes() == b"not MNIST"
