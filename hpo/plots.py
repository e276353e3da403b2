"""Pictures of a study: how the best value grew, which parameters matter, and how the best trials learned.

Drawn by Optuna's own plots from any strategy's trials.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import optuna
from matplotlib.figure import Figure

from hpo.config import Definition
from hpo.strategies.optuna import distribution
from hpo.trial import State, Trial

N_CURVES = 5
_STYLE = {"axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False, "font.size": 10}


def draw(trials: Sequence[Trial], definition: Definition, folder: Path) -> list[Path]:
    """Write PNG files to ``folder`` and return their paths; a plot that too few trials allow is left out."""
    plt.switch_backend("agg")
    complete = [trial for trial in trials if trial.state is State.COMPLETE]
    if not complete:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    study = as_optuna(trials, definition)
    target = definition.objective.metric
    plots: dict[str, Callable[[], Figure]] = {
        "optimization_history": lambda: _optuna_figure("plot_optimization_history", study, target_name=target),
        "learning_curves": lambda: learning_curves(complete, definition),
    }
    values = {trial.value for trial in complete}
    if len(complete) >= 2 and len(values) >= 2:
        plots["param_importances"] = lambda: _optuna_figure("plot_param_importances", study, target_name=target)
        plots["parallel_coordinate"] = lambda: _optuna_figure("plot_parallel_coordinate", study, target_name=target)
    paths = []
    with mpl.rc_context(_STYLE):
        for name, plot in plots.items():
            figure = plot()
            path = folder / f"{name}.png"
            figure.savefig(path, dpi=110, bbox_inches="tight")
            paths.append(path)
            plt.close(figure)
    return paths


def as_optuna(trials: Sequence[Trial], definition: Definition) -> optuna.Study:
    """The trials as an Optuna study in memory, for the plots and statistics that Optuna has."""
    study = optuna.create_study(direction=definition.objective.direction)
    states = {
        State.COMPLETE: optuna.trial.TrialState.COMPLETE,
        State.PRUNED: optuna.trial.TrialState.PRUNED,
        State.FAIL: optuna.trial.TrialState.FAIL,
    }
    for trial in trials:
        if trial.state in states:
            study.add_trial(
                optuna.create_trial(
                    params=dict(trial.params),
                    distributions={name: distribution(definition.space[name]) for name in trial.params},
                    value=trial.value,
                    state=states[trial.state],
                )
            )
    return study


def _optuna_figure(plot: str, study: optuna.Study, **options: Any) -> Figure:
    from optuna.visualization import matplotlib as optuna_plots

    with warnings.catch_warnings():
        # Optuna marks its matplotlib plots as experimental; the versions are pinned.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # A parameter that has had one value only makes an axis without length, which is drawn well enough.
        warnings.filterwarnings("ignore", "Attempting to set identical low and high")
        axes = getattr(optuna_plots, plot)(study, **options)
    figure: Figure = axes.figure
    figure.set_size_inches(9, 5)
    return figure


def learning_curves(complete: Sequence[Trial], definition: Definition) -> Figure:
    """The objective's metric and the watched one, by epoch, for the best trials; the kept epoch is marked."""
    sign = -1 if definition.objective.direction == "maximize" else 1
    best = sorted(complete, key=lambda trial: sign * (trial.value or 0.0))[:N_CURVES]
    metrics = list(dict.fromkeys([definition.objective.metric, definition.early_stopping.monitor]))
    figure, grid = plt.subplots(1, len(metrics), figsize=(5.5 * len(metrics), 4.5), squeeze=False)
    for axes, metric in zip(grid[0], metrics, strict=True):
        for rank, trial in enumerate(best):
            fold = trial.folds[0]
            own, train = fold.history.get(metric, ()), fold.history.get(metric.removeprefix("val_"), ())
            (line,) = axes.plot(own, color=f"C{rank}", label=f"trial {trial.number}")
            axes.plot(train, color=line.get_color(), linestyle=":", alpha=0.7)
            kept = fold.outcome.best_epoch
            if kept is not None and kept < len(own):
                axes.plot(kept, own[kept], "o", color=line.get_color())
        axes.set(title=f"{metric} (dotted: training)", xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    grid[0][0].legend()
    figure.suptitle(f"Learning curves of the best {len(best)} trials; a dot marks the epoch kept")
    return figure
