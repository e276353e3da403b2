"""The contract of every dataset in ``conf/dataset``."""

from pathlib import Path

import numpy as np
import pytest

from hpo import config as configs
from hpo.study.build import build_dataset

from .test_configs import compose

IN_THE_CACHE_OF_KERAS = ("mnist", "fashion_mnist", "imdb")
# Number of test rows that the published data also has among its training rows.
KNOWN_TWICE = {"iris": 1, "imdb": 123, "fashion_mnist": 20}


def write_table(path: Path) -> list[str]:
    path.write_text("size,label\n" + "".join(f"{row / 7},{'ab'[row % 2]}\n" for row in range(50)))
    return ["dataset.target=label"]


def write_images(path: Path) -> list[str]:
    draw = np.random.default_rng(0)
    header = ",".join(["label", *(f"pixel{place}" for place in range(784))])
    rows = [",".join(map(str, [row % 10, *draw.integers(0, 256, 784)])) for row in range(60)]
    path.write_text("\n".join([header, *rows]) + "\n")
    return []


def write_texts(path: Path) -> list[str]:
    rows = [f"review {n} is {word},{word}" for n in range(50) for word in ("good", "bad")]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return []


def write_series(path: Path) -> list[str]:
    path.write_text("\n".join(["value", *(str(n % 12 + n / 10) for n in range(200))]) + "\n")
    return ["dataset.target=value"]


# Datasets from a user's file: functions that write one and return the options for it.
OWN_FILES = {"csv": write_table, "mnist_csv": write_images, "text_csv": write_texts, "timeseries_csv": write_series}


# The placeholder for data of an objective is tested with objectives.
@pytest.mark.parametrize("name", [name for name in configs.options("dataset") if name != "own"])
def test_dataset_has_labels_test_split_and_digest(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if name in IN_THE_CACHE_OF_KERAS:
        request.getfixturevalue("keras_home_with_data")
    file = tmp_path / "own.csv"
    own = [f"dataset.path={file}", *OWN_FILES[name](file)] if name in OWN_FILES else []
    first, second = (build_dataset(compose(f"dataset={name}", *own)) for _ in range(2))
    assert first.name == name
    assert 0 < len(first.digest) <= 36
    assert first.digest == second.digest
    assert np.array_equal(first.y_test, second.y_test)
    if first.is_regression:
        assert first.spec.n_classes == len(first.class_names) == 0
    else:
        assert set(np.unique(first.y_test)) <= set(np.unique(first.y)) == set(range(first.spec.n_classes))
        assert len(first.class_names) in (0, first.spec.n_classes)
    if first.is_regression and first.gap is None:
        # The test split is from the same distribution: its median is within the training targets.
        assert np.quantile(first.y, 0.1) < np.median(first.y_test) < np.quantile(first.y, 0.9)
    # No test row is a training row.
    train = {row.tobytes() for row in first.x}
    assert sum(row.tobytes() in train for row in first.x_test) <= KNOWN_TWICE.get(name, len(first.x_test) // 1000)
