"""Fixtures of all tests: no network, an MLflow store for each test, and real data beside the checkout."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpo.core.process import prepare_process

ROOT = Path(__file__).resolve().parent.parent
# Folders that may hold real data; the user's Keras cache is used too.
SHARED = ROOT.parent / "shared"
KERAS_HOMES = (
    SHARED / "keras_home",
    Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser(),
)
CLOSED_PORT = "http://127.0.0.1:9"

prepare_process()
os.environ["COLUMNS"] = "160"
# One thread per test process, since there is one process per core.
os.environ["OMP_NUM_THREADS"] = "1"


def real_data(path: str) -> Path:
    """Return a file of real data beside the checkout; skip without that folder, fail if the folder lacks the file."""
    file = SHARED / path
    if not file.exists():
        assert not SHARED.exists(), f"{path} is missing from the folder of real data"
        pytest.skip(f"no folder of real data beside the checkout: {path}")
    return file


def mnist_file() -> Path | None:
    """Return the file of MNIST in Keras's format, or None."""
    files = (home / "datasets" / "mnist.npz" for home in KERAS_HOMES)
    return next((file for file in files if file.exists()), None)


def pytest_configure(config: pytest.Config) -> None:
    """Ignore NumPy 2's warning about how Keras converts its variables to arrays."""
    config.addinivalue_line("filterwarnings", "ignore:__array__ implementation:DeprecationWarning:keras")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all tests of Ray in one process, since Ray starts slowly and needs much memory."""
    for item in items:
        if "ray" in item.nodeid.partition("tests/")[2]:
            item.add_marker(pytest.mark.xdist_group("ray"))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove the settings of the user who runs the tests, and block the network."""
    for name in ("HYDRA_FULL_ERROR", "MLFLOW_TRACKING_URI", "MLFLOW_BACKEND_STORE_URI", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, CLOSED_PORT)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras_home"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "tests"), str(ROOT)]))
    monkeypatch.setattr(sys, "argv", ["hpo"])
    # TensorFlow has one number of threads for the whole process.
    for module in ("inline", "local.executor"):
        monkeypatch.setattr(f"hpo.executors.{module}.usable_cores", lambda: 1)


@pytest.fixture
def keras_home_with_mnist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return a Keras cache with MNIST."""
    file = mnist_file()
    if file is None:
        assert not SHARED.exists(), "MNIST is missing from the folder of real data"
        pytest.skip("MNIST is neither beside the checkout nor in Keras's cache")
    datasets = tmp_path / "keras_home" / "datasets"
    datasets.mkdir(parents=True)
    (datasets / "mnist.npz").symlink_to(file)
    return datasets.parent


@pytest.fixture
def keras_home_with_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return a Keras cache with MNIST, Fashion-MNIST and IMDB."""
    found = real_data("keras_home/datasets")
    datasets = tmp_path / "keras_home" / "datasets"
    datasets.mkdir(parents=True, exist_ok=True)
    for file in found.iterdir():
        if not (datasets / file.name).exists():
            (datasets / file.name).symlink_to(file)
    return datasets.parent


@pytest.fixture(scope="session")
def prepared_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty SQLite store; creating one takes seconds, copying it is instant."""
    from hpo.tracking.store import open_store

    folder = tmp_path_factory.mktemp("store")
    client, _ = open_store(f"sqlite:///{folder}/mlflow.db", "prepared", folder)
    assert client.search_experiments()
    return folder / "mlflow.db"


@pytest.fixture(scope="session")
def one_ray() -> Iterator[None]:
    """Start one Ray for all tests, since starting one takes seconds."""
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
    """Change to an empty working folder with a prepared default store, and return it."""
    folder = tmp_path / "work"
    (folder / "hpo_runs").mkdir(parents=True)
    shutil.copy(prepared_store, folder / "hpo_runs" / "mlflow.db")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def store_with_base(prepared_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with one study, ``mnist-base``: its winner is a small CNN trained on digits."""
    from hydra.core.global_hydra import GlobalHydra

    from hpo.cli.main import main

    folder = tmp_path_factory.mktemp("base")
    shutil.copy(prepared_store, folder / "mlflow.db")
    where = [f"tracking.uri=sqlite:///{folder}/mlflow.db", f"tracking.output_path={folder}"]
    # Optuna's first trial has the defaults of the model.
    options = ["model=mnist_cnn", "model.filters=8", "model.dense_units=64", "model.batch_size=64", "dataset=digits"]
    options += ["max_epochs=6", "strategy=optuna", "limits.n_trials=1"]
    options += ["executor=inline", "executor.threads_per_trial=1"]
    assert main(["study=mnist-base", *options, *where]) == 0
    GlobalHydra.instance().clear()
    return folder / "mlflow.db"


@pytest.fixture
def with_base(workdir: Path, store_with_base: Path) -> Path:
    """Return the working folder with the study ``mnist-base`` in its default store."""
    shutil.copy(store_with_base, workdir / "hpo_runs" / "mlflow.db")
    return workdir


@pytest.fixture
def hpo(workdir: Path) -> Iterator[Callable[..., int]]:
    """Return the command line, run in this process and in the working folder; studies train inline by default."""
    from hydra.core.global_hydra import GlobalHydra

    from hpo.cli.main import main

    def run(*arguments: str) -> int:
        is_study = not arguments or arguments[0] in ("run", "plan", "resume") or not arguments[0].isidentifier()
        is_plain = {"--help", "-h", "--version"}.isdisjoint(arguments)
        chosen = any(argument.startswith("executor=") for argument in arguments)
        return main([*arguments, *(["executor=inline"] if is_study and is_plain and not chosen else [])])

    yield run
    GlobalHydra.instance().clear()
