"""Reports on the predictions of the best model on the test split, and figures of its first convolution."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import classification_report, confusion_matrix

from hpo.evaluation.tasks import TestPredictions
from hpo.models.base import FeatureMaps
from hpo.reporting.plots import STYLE
from hpo.reporting.tables import write_table
from hpo.tracking.schema import Artifact

# With more classes the numbers in the figure of a confusion matrix are too small to read.
MAX_NUMBERED_CLASSES = 20
MAX_FILTERS, MAX_MAPS = 32, 8


def write(predictions: TestPredictions, folder: Path) -> list[Path]:
    """Write the reports to ``folder`` and return their paths.

    - Always ``predictions.parquet``, one row for each sample of the test split.
    - For classes ``classification_report.txt``, ``confusion_matrix.csv`` and ``confusion_matrix.png``.
    - For real targets ``residuals.png``.
    - For networks with a convolution ``filters.png`` and ``feature_maps.png``.
    """
    plt.switch_backend("agg")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [write_table(_rows(predictions), folder / Artifact.PREDICTIONS)]
    pictures: dict[str, Callable[[], Figure]] = {}
    if predictions.class_names:
        paths += _report(predictions, folder)
        pictures[Artifact.CONFUSION_MATRIX_PLOT] = lambda: _confusion(predictions)
    else:
        pictures[Artifact.RESIDUALS] = lambda: _residuals(predictions)
    maps = predictions.feature_maps
    if maps is not None:
        pictures[Artifact.FILTERS] = lambda: _filters(maps)
        pictures[Artifact.FEATURE_MAPS] = lambda: _feature_maps(maps)
    with plt.rc_context(STYLE):
        for name, draw in pictures.items():
            figure = draw()
            paths.append(folder / name)
            figure.savefig(paths[-1], dpi=110, bbox_inches="tight")
            plt.close(figure)
    return paths


def _rows(predictions: TestPredictions) -> list[dict[str, object]]:
    names = predictions.class_names
    show = (lambda value: names[int(value)]) if names else float
    return [
        {"row": row, "target": show(target), "predicted": show(predicted)}
        for row, (target, predicted) in enumerate(zip(predictions.targets, predictions.predicted, strict=True))
    ]


def _report(predictions: TestPredictions, folder: Path) -> list[Path]:
    names, labels = list(predictions.class_names), np.arange(len(predictions.class_names))
    report = folder / Artifact.CLASSIFICATION_REPORT
    text = classification_report(
        predictions.targets, predictions.predicted, labels=labels, target_names=names, digits=4, zero_division=0
    )
    report.write_text(f"{text}\n{len(predictions.targets):,} samples of the test split\n", encoding="utf-8")
    matrix = folder / Artifact.CONFUSION_MATRIX
    counts = confusion_matrix(predictions.targets, predictions.predicted, labels=labels)
    with matrix.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["true \\ predicted", *names])
        writer.writerows([name, *row] for name, row in zip(names, counts.tolist(), strict=True))
    return [report, matrix]


def _confusion(predictions: TestPredictions) -> Figure:
    n_classes = len(predictions.class_names)
    counts = confusion_matrix(predictions.targets, predictions.predicted, labels=np.arange(n_classes))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(12.0, 3.0 + 0.55 * n_classes)
    figure, axes = plt.subplots(figsize=(side + 1, side))
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if n_classes <= MAX_NUMBERED_CLASSES:
        for (row, column), count in np.ndenumerate(counts):
            ink = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=ink, fontsize=9)
        axes.set_xticks(range(n_classes), predictions.class_names, rotation=45, ha="right")
        axes.set_yticks(range(n_classes), predictions.class_names)
    wrong = int(counts.sum() - np.trace(counts))
    title = f"{wrong:,} of {counts.sum():,} test samples misclassified"
    axes.set(xlabel="predicted class", ylabel="true class", title=title)
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, label="share of the samples of the true class", shrink=0.8)
    return figure


def _residuals(predictions: TestPredictions) -> Figure:
    residuals = predictions.targets - predictions.predicted
    figure, (scatter, histogram) = plt.subplots(
        1, 2, figsize=(10, 4.5), sharey=True, gridspec_kw={"width_ratios": [3, 1]}
    )
    scatter.scatter(predictions.predicted, residuals, s=12, alpha=0.5, linewidths=0)
    scatter.axhline(0, color="0.3", linewidth=1)
    rmse = float(np.sqrt(np.mean(residuals**2)))
    title = f"{len(residuals):,} test samples, RMSE {rmse:,.4g}"
    scatter.set(xlabel="predicted", ylabel="residual (target − predicted)", title=title)
    is_spread = np.ptp(residuals) > 1e-9 * max(1.0, float(np.abs(residuals).max()))
    histogram.hist(residuals, bins=30 if is_spread else 1, orientation="horizontal")
    histogram.set(xlabel="number of samples")
    return figure


def _filters(maps: FeatureMaps) -> Figure:
    kernels = maps.filters[..., :MAX_FILTERS]
    n_filters = kernels.shape[-1]
    n_columns = min(8, n_filters)
    n_rows = -(-n_filters // n_columns)
    figure, axes = plt.subplots(n_rows, n_columns, figsize=(n_columns, n_rows + 0.4), squeeze=False)
    most = float(np.abs(kernels).max()) or 1.0
    for place, panel in enumerate(axes.flat):
        panel.axis("off")
        if place < n_filters:
            panel.imshow(kernels[..., place].mean(axis=-1), cmap="RdBu", vmin=-most, vmax=most)
    figure.suptitle(f"Filters of the first convolution ({maps.filters.shape[-1]} in all; blue: positive)")
    return figure


def _feature_maps(maps: FeatureMaps) -> Figure:
    n_shown = min(MAX_MAPS, maps.maps.shape[-1])
    figure, axes = plt.subplots(
        len(maps.images), n_shown + 1, figsize=(n_shown + 1, len(maps.images) + 0.4), squeeze=False
    )
    for row, (image, found) in enumerate(zip(maps.images, maps.maps, strict=True)):
        grey = image.mean(axis=-1) if image.shape[-1] != 3 else image / max(float(image.max()), 1.0)
        axes[row, 0].imshow(grey, cmap="gray")
        for place in range(n_shown):
            axes[row, place + 1].imshow(found[..., place], cmap="viridis")
    for panel in axes.flat:
        panel.axis("off")
    figure.suptitle("Training images and the feature maps of the first convolution")
    return figure
