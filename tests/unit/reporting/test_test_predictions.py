"""Reports on the predictions of the best model."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd

from hpo.evaluation.tasks import TestPredictions
from hpo.models.base import FeatureMaps
from hpo.reporting import test_predictions


def test_classes_have_a_report_and_a_confusion_matrix_of_all_samples(tmp_path: Path) -> None:
    targets, predicted = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 0])
    paths = test_predictions.write(TestPredictions(targets, predicted, ("cat", 'dog, "big"', "cow")), tmp_path / "test")
    assert {path.name for path in paths} == {
        "predictions.parquet", "classification_report.txt", "confusion_matrix.csv", "confusion_matrix.png",
    }  # fmt: skip
    text = (tmp_path / "test" / "confusion_matrix.csv").read_text(encoding="utf-8")
    rows = list(csv.reader(text.splitlines()))
    assert rows == [
        ["true \\ predicted", "cat", 'dog, "big"', "cow"],
        ["cat", "1", "1", "0"],
        ['dog, "big"', "0", "2", "0"],
        ["cow", "1", "0", "0"],
    ]
    assert "0.6000" in (tmp_path / "test" / "classification_report.txt").read_text(encoding="utf-8")
    table = pd.read_parquet(tmp_path / "test" / "predictions.parquet")
    assert list(table["predicted"]) == ["cat", 'dog, "big"', 'dog, "big"', 'dog, "big"', "cat"]


def test_real_targets_have_residuals(tmp_path: Path) -> None:
    targets = np.linspace(0, 1, 20)
    paths = test_predictions.write(TestPredictions(targets, targets + 0.1, ()), tmp_path)
    assert {path.name for path in paths} == {"predictions.parquet", "residuals.png"}
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    assert np.allclose(table["predicted"] - table["target"], 0.1)


def test_image_networks_have_figures_of_their_first_convolution(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    maps = FeatureMaps(draw.normal(size=(3, 3, 1, 5)), draw.random((2, 8, 8, 1)), draw.random((2, 6, 6, 5)))
    paths = test_predictions.write(TestPredictions(np.array([0, 1]), np.array([0, 1]), ("a", "b"), maps), tmp_path)
    assert {"filters.png", "feature_maps.png"} <= {path.name for path in paths}
