"""Shared by all tests: no network, an MLflow store of their own, and real data where they lie beside the checkout."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpo.core.process import prepare_process

ROOT = Path(__file__).resolve().parent.parent
# Where real data may lie; a user's own Keras cache serves as well.
SHARED = ROOT.parent / "shared"
KERAS_HOMES = (
    SHARED / "keras_home",
    Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser(),
)
CLOSED_PORT = "http://127.0.0.1:9"

prepare_process()
os.environ["COLUMNS"] = "160"
# One thread a test process, since there is one a core.
os.environ["OMP_NUM_THREADS"] = "1"


def real_data(path: str) -> Path:
    """A file of real data beside the checkout; where that folder lies there, nothing of it may be missing."""
    file = SHARED / path
    if not file.exists():
        assert not SHARED.exists(), f"{path} is not in the folder of real data, which is there"
        pytest.skip(f"real data are not at hand beside the checkout: {path}")
    return file


def mnist_file() -> Path | None:
    """MNIST as Keras caches it, if it is at hand."""
    files = (home / "datasets" / "mnist.npz" for home in KERAS_HOMES)
    return next((file for file in files if file.exists()), None)


def pytest_configure(config: pytest.Config) -> None:
    """Keras turns its own variables into arrays in a way that NumPy 2 warns of, whenever it reads a learning rate."""
    config.addinivalue_line("filterwarnings", "ignore:__array__ implementation:DeprecationWarning:keras")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One process has all tests of Ray, which takes long to start and much memory."""
    for item in items:
        if "ray" in item.nodeid.partition("tests/")[2]:
            item.add_marker(pytest.mark.xdist_group("ray"))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of the person who runs the tests, and no way out to the network."""
    for name in ("HYDRA_FULL_ERROR", "MLFLOW_TRACKING_URI", "MLFLOW_BACKEND_STORE_URI", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, CLOSED_PORT)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras_home"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "tests"), str(ROOT)]))
    monkeypatch.setattr(sys, "argv", ["hpo"])
    # One number of threads for all studies of this process, as TensorFlow has it.
    for module in ("inline", "local.executor"):
        monkeypatch.setattr(f"hpo.executors.{module}.usable_cores", lambda: 1)


@pytest.fixture
def keras_home_with_mnist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A Keras cache that holds MNIST."""
    file = mnist_file()
    if file is None:
        assert not SHARED.exists(), "MNIST is not in the folder of real data, which is there"
        pytest.skip("MNIST is not at hand: neither beside the checkout nor in Keras's cache")
    datasets = tmp_path / "keras_home" / "datasets"
    datasets.mkdir(parents=True)
    (datasets / "mnist.npz").symlink_to(file)
    return datasets.parent


@pytest.fixture
def keras_home_with_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A Keras cache that holds MNIST, Fashion-MNIST and IMDB."""
    found = real_data("keras_home/datasets")
    datasets = tmp_path / "keras_home" / "datasets"
    datasets.mkdir(parents=True, exist_ok=True)
    for file in found.iterdir():
        if not (datasets / file.name).exists():
            (datasets / file.name).symlink_to(file)
    return datasets.parent


@pytest.fixture(scope="session")
def prepared_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite store: making one takes seconds, copying it none."""
    from hpo.tracking.store import open_store

    folder = tmp_path_factory.mktemp("store")
    client, _ = open_store(f"sqlite:///{folder}/mlflow.db", "prepared", folder)
    assert client.search_experiments()
    return folder / "mlflow.db"


@pytest.fixture(scope="session")
def one_ray() -> Iterator[None]:
    """One Ray for all searches of the tests, since starting one takes seconds."""
    import logging
    import warnings

    from hpo.executors.ray.cluster import import_ray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own deprecations
        ray = import_ray()
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
    yield
    ray.shutdown()


@pytest.fixture
def workdir(tmp_path: Path, prepared_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder whose default store is ready."""
    folder = tmp_path / "work"
    (folder / "hpo_runs").mkdir(parents=True)
    shutil.copy(prepared_store, folder / "hpo_runs" / "mlflow.db")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def store_with_base(prepared_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one study, ``mnist-base``, whose winner is a small CNN that has seen digits."""
    from hydra.core.global_hydra import GlobalHydra

    from hpo.cli.main import main

    folder = tmp_path_factory.mktemp("base")
    shutil.copy(prepared_store, folder / "mlflow.db")
    where = [f"tracking.uri=sqlite:///{folder}/mlflow.db", f"tracking.output_path={folder}"]
    # Optuna's first trial has the model's own values.
    options = ["model=mnist_cnn", "model.filters=8", "model.dense_units=64", "model.batch_size=64", "dataset=digits"]
    options += ["max_epochs=6", "strategy=optuna", "limits.n_trials=1"]
    options += ["executor=inline", "executor.threads_per_trial=1"]
    assert main(["study=mnist-base", *options, *where]) == 0
    GlobalHydra.instance().clear()
    return folder / "mlflow.db"


@pytest.fixture
def with_base(workdir: Path, store_with_base: Path) -> Path:
    """The working folder, whose default store has the study ``mnist-base``."""
    shutil.copy(store_with_base, workdir / "hpo_runs" / "mlflow.db")
    return workdir


@pytest.fixture
def hpo(workdir: Path) -> Iterator[Callable[..., int]]:
    """The command line, in this process and in the working folder; studies train inline unless told otherwise."""
    from hydra.core.global_hydra import GlobalHydra

    from hpo.cli.main import main

    def run(*arguments: str) -> int:
        is_study = not arguments or arguments[0] in ("run", "plan", "resume") or not arguments[0].isidentifier()
        is_plain = {"--help", "-h", "--version"}.isdisjoint(arguments)
        chosen = any(argument.startswith("executor=") for argument in arguments)
        return main([*arguments, *(["executor=inline"] if is_study and is_plain and not chosen else [])])

    yield run
    GlobalHydra.instance().clear()
