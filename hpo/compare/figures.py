"""Interactive figures of a comparison's HTML report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from hpo.compare.comparison import Comparison
from hpo.compare.export import join_tables
from hpo.compare.tasks import TaskRanking
from hpo.compare.verdicts import Difference
from hpo.core.space import Categorical, Numeric, Parameter, SearchSpace
from hpo.core.states import StopReason
from hpo.reporting import importance

# Okabe and Ito (2008): distinguishable with colour-vision deficiencies.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#999933", "#000000")
HEIGHT = 380
N_PARALLEL = 2000  # lines that a browser draws without delay
MIN_IMPORTANCE = 8  # complete trials


def figures(comparison: Comparison) -> dict[str, tuple[str, go.Figure]]:
    """Name → title and figure, in the order of the page, without the figures that the studies have no data for."""
    made: dict[str, tuple[str, go.Figure | None]] = {
        "differences": (
            "Paired differences of the test score (positive: the first is better)",
            differences(comparison),
        ),
        "scores": ("Test scores of the winners (one line per seed)", scores(comparison)),
        **{
            f"curve-{axis}": (f"Best validation value so far, by {axis}", curve(comparison, axis))
            for axis in comparison.curves.axes
        },
        "over-tuning": ("Validation and test score of the winners", over_tuning(comparison)),
        "importances": ("Hyperparameter importance (fANOVA), over all trials", importances(comparison)),
        "parallel": ("Hyperparameters of all complete trials", parallel(comparison)),
        "stopping": ("Stop reasons of the trained folds", stopping(comparison)),
        "savings": ("Epochs run, and saved by early stopping or pruning", savings(comparison)),
        "fits": ("Over- and underfitting of complete trials", fits(comparison)),
        "cost": ("Cost of the searches", cost(comparison)),
    }
    return {name: (title, figure) for name, (title, figure) in made.items() if figure is not None}


def _layout(figure: go.Figure, x: str = "", y: str = "", height: int = HEIGHT, **options: Any) -> go.Figure:
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 10, "r": 10, "t": 34, "b": 10},
        legend={"orientation": "h", "y": -0.25, "x": 0},
        font={"size": 12},
        **options,
    )
    figure.update_xaxes(title_text=x, automargin=True)
    figure.update_yaxes(title_text=y, automargin=True)
    return figure


def colors(comparison: Comparison) -> dict[str, str]:
    """Level → colour, the same in every figure."""
    return {level: COLORS[i % len(COLORS)] for i, level in enumerate(comparison.group.studies)}


def differences(comparison: Comparison) -> go.Figure:
    """One row per pair: mean with interval, and difference of each seed; grey marks differences below min_effect."""
    figure = go.Figure()
    figure.add_vrect(-comparison.min_effect, comparison.min_effect, fillcolor="grey", opacity=0.15, line_width=0)
    figure.add_vline(0, line_color="grey", line_width=1)
    pairs = list(reversed(comparison.differences))
    names = [f"{d.first} − {d.second}" for d in pairs]
    for name, difference in zip(names, pairs, strict=True):
        seeds = difference.differences
        figure.add_scatter(
            x=list(seeds.values()), y=[name] * len(seeds), mode="markers", showlegend=False,
            marker={"color": "rgba(0,0,0,0.35)", "size": 7}, text=[f"seed {seed}" for seed in seeds],
            hovertemplate="%{text}: %{x:.4f}<extra></extra>",
        )  # fmt: skip
    figure.add_scatter(
        x=[d.mean for d in pairs], y=names, mode="markers", name="mean and interval",
        marker={"color": "#0072B2", "size": 11, "symbol": "diamond"}, error_x=_errors(pairs),
        hovertemplate="%{y}: %{x:.4f}<extra></extra>",
    )  # fmt: skip
    return _layout(figure, f"difference in test {comparison.metric}", height=150 + 55 * len(pairs))


def _errors(pairs: Sequence[Difference]) -> dict[str, Any]:
    upper = [d.high - d.mean if abs(d.high) < float("inf") else 0.0 for d in pairs]
    lower = [d.mean - d.low if abs(d.low) < float("inf") else 0.0 for d in pairs]
    return {"type": "data", "symmetric": False, "array": upper, "arrayminus": lower, "thickness": 2.5, "width": 7}


def scores(comparison: Comparison) -> go.Figure:
    """Test score by level, with one line per seed."""
    figure, levels = go.Figure(), [level.name for level in comparison.levels]
    for seed in comparison.seeds:
        values = [comparison.scores[level][seed] for level in levels]
        figure.add_scatter(
            x=levels, y=values, mode="lines+markers", name=f"seed {seed}",
            line={"width": 1, "color": "rgba(0,0,0,0.3)"}, marker={"size": 8}, showlegend=False,
        )  # fmt: skip
    means = [level.mean for level in comparison.levels]
    marker = {"symbol": "line-ew-open", "size": 34, "color": "#D55E00", "line": {"width": 3}}
    figure.add_scatter(x=levels, y=means, mode="markers", name="mean", marker=marker)
    return _layout(figure, comparison.by, f"test {comparison.metric}")


def curve(comparison: Comparison, axis: str) -> go.Figure:
    """Mean of the best value so far, with pointwise 95 % intervals over seeds."""
    figure, color_of = go.Figure(), colors(comparison)
    for level, found in comparison.curves.bands(axis).items():
        color = color_of[level]
        around = [*found.high, *reversed(found.low)]
        figure.add_scatter(
            x=[*found.at, *reversed(found.at)], y=around, mode="lines", fill="toself", fillcolor=_faint(color),
            line={"width": 0}, hoverinfo="skip", showlegend=False, legendgroup=level, line_shape="hv",
        )  # fmt: skip
        figure.add_scatter(
            x=found.at, y=found.mean, mode="lines", name=level, legendgroup=level,
            line={"color": color, "width": 2.5, "shape": "hv"},
        )  # fmt: skip
    unit = {"trials": "trials", "epochs": "epochs trained", "seconds": "search seconds"}[axis]
    return _layout(figure, unit, f"best {comparison.objective.metric} so far")


def _faint(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.15)"


def over_tuning(comparison: Comparison) -> go.Figure:
    """Test score by validation score, one point per study; on the dotted line they are equal."""
    figure, color_of = go.Figure(), colors(comparison)
    every = [value for level in comparison.levels for value in (*level.validation, *level.test)]
    ends = [min(every), max(every)]
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"color": "grey", "dash": "dot"}, showlegend=False)
    for level in comparison.levels:
        figure.add_scatter(
            x=level.validation, y=level.test, mode="markers", name=level.name,
            marker={"color": color_of[level.name], "size": 9}, text=[f"seed {seed}" for seed in comparison.seeds],
            hovertemplate="%{text}: validation %{x:.4f}, test %{y:.4f}<extra></extra>",
        )  # fmt: skip
    return _layout(figure, f"best {comparison.objective.metric}", f"test {comparison.metric}")


def _space(comparison: Comparison) -> SearchSpace | None:
    """Search space of all studies; None if it differs between them."""
    config: dict[str, dict[str, Any]] = {}
    spaces = []
    for study in comparison.group.members:
        config = {}
        for key, value in study.identity.items():
            if key.startswith("search_space."):
                name, _, field = key.removeprefix("search_space.").partition(".")
                parent, _, child = field.partition(".")
                if child:  # of `when`
                    config.setdefault(name, {}).setdefault(parent, {})[child] = value
                elif value is not None:
                    config.setdefault(name, {})[field] = value
        spaces.append(json.dumps(config, sort_keys=True))
    return SearchSpace.from_config(config) if len(set(spaces)) == 1 and config else None


def importances(comparison: Comparison) -> go.Figure | None:
    """Importance of the hyperparameters over the trials of all studies; None without a shared search space."""
    space, trials = _space(comparison), join_tables(comparison, "trials")
    complete = trials[trials["objective"].notna()]
    if space is None or len(complete) < MIN_IMPORTANCE:
        return None
    pairs = [(json.loads(str(p)), float(v)) for p, v in zip(complete["params"], complete["objective"], strict=True)]
    found = importance.importances(space, pairs, comparison.objective.direction)
    if not found:
        return None
    names = list(reversed(found))
    figure = go.Figure(go.Bar(x=[found[name] for name in names], y=names, orientation="h", marker_color="#0072B2"))
    some = f"{importance.MAX_TRIALS:,} of " if len(pairs) > importance.MAX_TRIALS else ""
    return _layout(figure, f"fraction of variance, from {some}{len(pairs):,} trials", height=130 + 26 * len(names))


def parallel(comparison: Comparison) -> go.Figure | None:
    """Parallel coordinates, one line per complete trial, coloured by the objective; None without a shared space."""
    space, trials = _space(comparison), join_tables(comparison, "trials")
    complete = trials[trials["objective"].notna()]
    if space is None or not len(complete):
        return None
    shown = (
        complete.nlargest(N_PARALLEL, "objective")
        if comparison.maximize
        else complete.nsmallest(N_PARALLEL, "objective")
    )
    params = [json.loads(str(text)) for text in shown["params"]]
    levels = list(comparison.group.studies)
    dimensions = [
        {"label": comparison.by, "values": [levels.index(level) for level in shown["level"]],
         "tickvals": list(range(len(levels))), "ticktext": levels},
        *[_dimension(parameter, params) for parameter in space.values()],
        {"label": comparison.objective.metric, "values": shown["objective"].tolist()},
    ]  # fmt: skip
    line = {"color": shown["objective"], "colorscale": "Viridis", "showscale": True}
    line["reversescale"] = not comparison.maximize
    figure = go.Figure(go.Parcoords(dimensions=dimensions, line=line, labelangle=-20, labelside="bottom"))
    figure = _layout(figure, height=430)
    figure.update_layout(margin={"l": 50, "r": 30, "t": 30, "b": 60})
    return figure


def _dimension(parameter: Parameter, params: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if isinstance(parameter, Categorical):
        choices: list[Any] = [*parameter.choices, *(["(none)"] if parameter.when else [])]
        values = [choices.index(p.get(parameter.name, "(none)")) for p in params]
        return {
            "label": parameter.name,
            "values": values,
            "tickvals": list(range(len(choices))),
            "ticktext": [str(choice) for choice in choices],
        }
    assert isinstance(parameter, Numeric)
    places = [parameter.place(float(p[parameter.name])) if parameter.name in p else -0.1 for p in params]
    ends = list(dict.fromkeys([parameter.low, parameter.high]))
    ticks = [*([-0.1] if parameter.when else []), *(parameter.place(end) for end in ends)]
    text = [*(["(none)"] if parameter.when else []), *(f"{end:.4g}" for end in ends)]
    return {
        "label": parameter.name,
        "values": places,
        "range": [min([0, *places]), 1],
        "tickvals": ticks,
        "ticktext": text,
    }


def stopping(comparison: Comparison) -> go.Figure:
    """Fraction of folds by stop reason, for each level."""
    figure, levels = go.Figure(), comparison.levels
    for place, reason in enumerate(StopReason):
        counts = [level.stopping.stop_reasons.get(reason.value, 0) for level in levels]
        totals = [max(1, sum(level.stopping.stop_reasons.values())) for level in levels]
        if any(counts):
            figure.add_bar(
                y=[level.name for level in levels], x=[c / t for c, t in zip(counts, totals, strict=True)],
                name=reason.value, orientation="h", marker_color=COLORS[place % len(COLORS)], customdata=counts,
                hovertemplate="%{y}: %{customdata} × " + reason.value + "<extra></extra>",
            )  # fmt: skip
    figure.update_xaxes(tickformat=".0%")
    return _layout(figure, "fraction of trained folds", height=150 + 40 * len(levels), barmode="stack", showlegend=True)


def savings(comparison: Comparison) -> go.Figure:
    """Epochs run and saved over all folds of all trials, for each level."""
    figure, levels = go.Figure(), comparison.levels
    names = [level.name for level in levels]
    for label, values, color in (
        ("run", [level.stopping.epochs_run for level in levels], "#0072B2"),
        ("saved", [level.stopping.epochs_saved for level in levels], "#009E73"),
    ):
        figure.add_bar(y=names, x=values, name=label, orientation="h", marker_color=color)
    return _layout(figure, "epochs", height=150 + 40 * len(levels), barmode="stack")


def fits(comparison: Comparison) -> go.Figure | None:
    """Fit verdicts of the complete trials, for each level."""
    figure, levels = go.Figure(), comparison.levels
    verdicts = list(dict.fromkeys(fit for level in levels for fit in sorted(level.fits)))
    shades = {"well-fitted": "#009E73", "over-fitted": "#D55E00", "under-fitted": "#56B4E9", "undetermined": "#BBBBBB"}
    for verdict in verdicts:
        counts = [level.fits.get(verdict, 0) for level in levels]
        names = [level.name for level in levels]
        figure.add_bar(y=names, x=counts, name=verdict, orientation="h", marker_color=shades.get(verdict))
    return _layout(figure, "complete trials", height=150 + 40 * len(levels), barmode="stack") if verdicts else None


def cost(comparison: Comparison) -> go.Figure:
    """Search seconds, or epochs if seconds are not compared; one point per study."""
    figure, color_of = go.Figure(), colors(comparison)
    axis = "seconds" if "seconds" in comparison.curves.axes else "epochs"
    for level in comparison.levels:
        values = level.seconds if axis == "seconds" else level.epochs
        figure.add_box(
            x=list(values), name=level.name, boxpoints="all", marker_color=color_of[level.name], orientation="h",
            text=[f"seed {seed}" for seed in comparison.seeds], showlegend=False,
        )  # fmt: skip
    unit = "search seconds" if axis == "seconds" else "epochs trained"
    return _layout(figure, f"{unit} (one point per study)", height=130 + 45 * len(comparison.levels))


def rank_diagram(ranking: TaskRanking) -> go.Figure:
    """Critical-difference diagram: levels on an axis of mean ranks, and bars over those that do not differ."""
    figure = go.Figure()
    names = list(ranking.mean_ranks)
    for row, run in enumerate(ranking.indistinguishable, 1):
        ends = [ranking.mean_ranks[run[0]], ranking.mean_ranks[run[-1]]]
        figure.add_scatter(
            x=ends, y=[0.35 * row] * 2, mode="lines", line={"color": "#1c2330", "width": 6}, hoverinfo="skip",
            name="no significant difference", showlegend=row == 1,
        )  # fmt: skip
    for place, name in enumerate(names):
        rank, depth = ranking.mean_ranks[name], -0.5 * (place + 1)
        color = COLORS[ranking.levels.index(name) % len(COLORS)]
        figure.add_scatter(
            x=[rank, rank], y=[0, depth], mode="lines+markers+text", text=["", f" {name} {rank:.2f}"],
            textposition="middle right" if rank < (1 + len(names)) / 2 else "middle left",
            line={"color": color, "width": 2}, marker={"size": [10, 1], "color": color}, showlegend=False,
            hovertemplate=f"{name}: {rank:.2f}<extra></extra>",
        )  # fmt: skip
    figure.add_hline(0, line_color="#1c2330", line_width=1.5)
    figure.update_layout(
        template="plotly_white",
        height=190 + 26 * len(names),
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        legend={"orientation": "h", "y": -0.3, "x": 0},
        font={"size": 12},
    )
    figure.update_xaxes(title_text="mean rank (1 is best)", range=[0.8, len(names) + 0.2], dtick=1, automargin=True)
    top = 0.35 * (len(ranking.indistinguishable) + 1)
    figure.update_yaxes(visible=False, range=[-0.5 * (len(names) + 0.6), top])
    return figure
