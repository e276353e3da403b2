"""Figures of a search: optimization history, learning curves, parallel coordinates and parameter importance."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hpo.config.definition import Definition
from hpo.core.params import ParamValue
from hpo.core.space import Categorical, Numeric, Parameter
from hpo.core.states import State
from hpo.core.trial import Trial
from hpo.reporting import importance
from hpo.reporting.tables import mean_curves
from hpo.tracking.schema import Artifact

N_CURVES = 5
MIN_FOR_IMPORTANCES = 4
STYLE = {"axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False, "font.size": 10}
_COLORS = {State.COMPLETE: "C0", State.PRUNED: "C1", State.FAIL: "C3"}


def draw(trials: Sequence[Trial], definition: Definition, folder: Path) -> list[Path]:
    """Write PNG files to ``folder`` and return their paths.

    Without a COMPLETE trial there are none. Learning curves need trials with curves, parallel coordinates need a search
    space, and importances need at least :data:`MIN_FOR_IMPORTANCES` COMPLETE trials.
    """
    plt.switch_backend("agg")
    complete = [trial for trial in trials if trial.state is State.COMPLETE]
    if not complete:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    plots: dict[str, Callable[[], Figure]] = {
        Artifact.OPTIMIZATION_HISTORY: lambda: optimization_history(trials, definition),
    }
    if any(fold.history for trial in complete for fold in trial.folds):
        plots[Artifact.LEARNING_CURVES] = lambda: learning_curves(complete, definition)
    if definition.space:
        plots[Artifact.PARALLEL_COORDINATES] = lambda: parallel_coordinates(trials, definition)
    if found := _importances(complete, definition):
        plots[Artifact.PARAM_IMPORTANCES] = lambda: param_importances(found, len(complete), definition.objective.metric)
    paths = []
    with plt.rc_context(STYLE):
        for name, plot in plots.items():
            figure = plot()
            path = folder / name
            figure.savefig(path, dpi=110, bbox_inches="tight")
            paths.append(path)
            plt.close(figure)
    return paths


def optimization_history(trials: Sequence[Trial], definition: Definition) -> Figure:
    """Plot the objective of each trial and the best so far; a pruned trial is shown with the best epoch it reached."""
    figure, axes = plt.subplots(figsize=(9, 4.5))
    better = max if definition.objective.direction == "maximize" else min
    best: list[float] = []
    for state in (State.COMPLETE, State.PRUNED):
        points = [(t.number, _reached(t, definition)) for t in trials if t.state is state]
        shown = [(number, value) for number, value in points if value is not None]
        if shown:
            label = f"{state.value.lower()} ({len(points)})"
            axes.scatter(*zip(*shown, strict=True), color=_COLORS[state], label=label, zorder=3)
    for trial in trials:
        if trial.value is not None or best:
            best.append(better([*best[-1:], *([trial.value] if trial.value is not None else [])]))
    axes.step(range(trials[-1].number + 1 - len(best), trials[-1].number + 1), best, where="post", label="best so far")
    for trial in trials:
        if trial.state is State.FAIL:
            axes.axvline(trial.number, color=_COLORS[State.FAIL], alpha=0.4, linestyle=":")
    axes.set(title="Optimization history", xlabel="trial (dotted line: failed)", ylabel=definition.objective.metric)
    _whole_numbers(axes)
    axes.legend(loc="best")
    return figure


def _reached(trial: Trial, definition: Definition) -> float | None:
    """The objective of a COMPLETE trial; the best value of the metric during a pruned one; None if there is none."""
    if trial.value is not None:
        return trial.value
    curve = [v for fold in trial.folds for v in fold.history.get(definition.objective.metric, ()) if math.isfinite(v)]
    if not curve:
        return None
    return max(curve) if definition.objective.direction == "maximize" else min(curve)


def learning_curves(complete: Sequence[Trial], definition: Definition) -> Figure:
    """Plot the objective's metric and the monitored one by epoch, for the best trials; a dot marks the best epoch.

    With several folds, the curves are means over folds up to the end of the shortest, and the dot is the median.
    """
    sign = -1 if definition.objective.direction == "maximize" else 1
    best = sorted(complete, key=lambda trial: sign * (trial.value or 0.0))[:N_CURVES]
    reported = {name for trial in complete for fold in trial.folds for name in fold.history}
    metrics = [
        n for n in dict.fromkeys([definition.objective.metric, definition.early_stopping.monitor]) if n in reported
    ]
    figure, grid = plt.subplots(1, len(metrics), figsize=(5.5 * len(metrics), 4.5), squeeze=False)
    for axes, metric in zip(grid[0], metrics, strict=True):
        for rank, trial in enumerate(best):
            means = mean_curves(trial.folds)
            own = [values[metric] for values in means if metric in values]
            train = [values[name] for values in means if (name := metric.removeprefix("val_")) in values]
            (line,) = axes.plot(own, color=f"C{rank}", label=f"trial {trial.number}")
            axes.plot(train, color=line.get_color(), linestyle=":", alpha=0.7)
            kept = round(statistics.median(trial.best_epochs)) if trial.best_epochs else None
            if kept is not None and kept < len(own):
                axes.plot(kept, own[kept], "o", color=line.get_color())
        axes.set(title=f"{metric} (dotted line: on training data)", xlabel="epoch")
        _whole_numbers(axes)
    grid[0][0].legend()
    figure.suptitle(f"Learning curves of the best {len(best)} trials; a dot marks the best epoch")
    figure.tight_layout()
    return figure


def _importances(complete: Sequence[Trial], definition: Definition) -> dict[str, float]:
    pairs = [(trial.params, trial.value) for trial in complete if trial.value is not None]
    if len(pairs) < MIN_FOR_IMPORTANCES:
        return {}
    return importance.importances(definition.space, pairs, definition.objective.direction)


def param_importances(found: Mapping[str, float], n_complete: int, metric: str) -> Figure:
    """Plot a bar for each parameter; see :func:`hpo.reporting.importance.importances`."""
    names = list(found)[::-1]
    figure, axes = plt.subplots(figsize=(9, 0.4 * len(names) + 1.5))
    bars = axes.barh(names, [found[name] for name in names])
    axes.bar_label(bars, fmt="%.2f", padding=3)
    some = f"{importance.MAX_TRIALS:,} of " if n_complete > importance.MAX_TRIALS else ""
    share = f"share of the variance of {metric} (fANOVA, {some}{n_complete:,} complete trials)"
    axes.set(title="Parameter importance", xlabel=share)
    return figure


def parallel_coordinates(trials: Sequence[Trial], definition: Definition) -> Figure:
    """Plot a line through the params of each trial, coloured by the objective; pruned and failed trials in grey."""
    parameters = list(definition.space.values())
    complete = sorted((t for t in trials if t.value is not None), key=lambda t: t.value or 0.0)
    figure, axes = plt.subplots(figsize=(1.15 * len(parameters) + 2, 4.8))
    values = [t.value for t in complete if t.value is not None]
    scale = ScalarMappable(Normalize(min(values), max(values)), colormaps["viridis"])
    for trial in trials:
        if trial.value is None:
            axes.plot(*_line(trial, parameters), color="0.85", linewidth=1, zorder=1)
    for trial in complete if definition.objective.direction == "maximize" else reversed(complete):
        axes.plot(*_line(trial, parameters), color=scale.to_rgba(np.array([trial.value]))[0], linewidth=1.8, zorder=2)
    for place, parameter in enumerate(parameters):
        axes.axvline(place, color="0.4", linewidth=0.8, zorder=3)
        for value in _ticks(parameter):
            text = f"{value:.3g}" if isinstance(value, float) else str(value)
            box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.5}
            axes.text(place + 0.03, _height(parameter, value), text, fontsize=7, va="center", zorder=4, bbox=box)
    axes.set_xticks(range(len(parameters)), [p.name for p in parameters], rotation=25, ha="right")
    axes.set(yticks=[], title="Params of all trials (grey: pruned or failed)")
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False)
    figure.colorbar(scale, ax=axes, label=definition.objective.metric)
    return figure


def _line(trial: Trial, parameters: list[Parameter]) -> tuple[list[int], list[float]]:
    active = [(place, p) for place, p in enumerate(parameters) if p.name in trial.params]
    return [place for place, _ in active], [_height(p, trial.params[p.name]) for _, p in active]


def _height(parameter: Parameter, value: ParamValue) -> float:
    """Position of a value in its range, 0 to 1; on a logarithmic scale if the parameter has one."""
    if isinstance(parameter, Categorical):
        return (parameter.choices.index(value) + 0.5) / len(parameter.choices)
    assert isinstance(parameter, Numeric)
    return parameter.place(float(str(value)))


def _ticks(parameter: Parameter) -> Sequence[ParamValue]:
    if isinstance(parameter, Categorical):
        return parameter.choices
    assert isinstance(parameter, Numeric)
    return list(dict.fromkeys([parameter.low, parameter.high]))


def _whole_numbers(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
