import socket
import time
from pathlib import Path

import pytest

from hpo.datasets import mnist
from hpo.datasets.base import DatasetUnavailable
from hpo.datasets.readers import keras_cache
from hpo.errors import DatasetError


def test_keras_s_own_cache_is_honoured(keras_home_with_mnist: Path) -> None:
    data = mnist.load()
    assert data.x.shape == (60000, 28, 28, 1)
    assert data.x_test.shape == (10000, 28, 28, 1)
    assert data.spec.n_classes == 10
    # Byte for byte the published files: the first test images are a 7, a 2 and a 1.
    assert data.y_test[:3].tolist() == [7, 2, 1]


def test_without_cache_and_network_it_gives_up_soon_and_says_what_to_do() -> None:
    started = time.monotonic()
    with pytest.raises(DatasetUnavailable) as caught:
        mnist.load()
    assert time.monotonic() - started < 20
    for way in (str(mnist.FILE.path), mnist.FILE.url, "dataset=digits"):
        assert way in caught.value.fix


def test_a_network_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_cache, "CONNECT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(DatasetUnavailable, match=r"timed out|no answer"):
            mnist.load()
    assert time.monotonic() - started < 5


def test_a_corrupt_file_is_refused_and_left_alone() -> None:
    path = mnist.FILE.path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not MNIST")
    with pytest.raises(DatasetError, match="SHA-256") as caught:
        mnist.load(fallback="digits")
    assert not isinstance(caught.value, DatasetUnavailable)
    assert path.read_bytes() == b"not MNIST"
