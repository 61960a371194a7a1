"""Learning curves, drawn from the rows of a run's metrics.csv, and the style of all figures."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "figure.titlesize": 11,
    "figure.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e5e5e5",
    "legend.frameon": False,
    "savefig.dpi": 130,
    "figure.constrained_layout.use": True,
}
"""matplotlib's settings for all figures of this project."""

COUNT_COLOURS = {"all": "#222222", "0": "#8e8e93", "1": "#ff9500", "2": "#af52de", "3": "#00a5a5"}
"""Colours by true number of objects; none of them is the colour of a step."""
ESTIMATOR_COLOURS = {"concrete": "#007aff", "nvil": "#ff9500", "enumerated": "#2e9e4f"}
GOAL_COLOUR = "#d70015"
ACCURACY = "count_accuracy/"
"""Prefix of the columns of accuracies: all scenes, or those with a given true count."""

Rows = Sequence[Mapping[str, float]]


def training_curves(rows: Rows) -> Figure:
    """Plot wrong counts by true count, the loss and the reconstruction over the training steps, from rows of metrics.csv."""
    smallest = 0.005  # %, where the logarithmic axis shows an accuracy of 100 %
    steps = [row["step"] for row in rows]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.6))
        left, right = figure.subplots(1, 2)
        for name in filter(lambda name: name.startswith(ACCURACY), rows[0]):
            count = name.removeprefix(ACCURACY)
            label, width = ("all scenes", 2.0) if count == "all" else (f"{count} digit{'' if count == '1' else 's'}", 1.2)
            errors = [_percent_wrong(row, smallest, name) for row in rows]
            left.plot(steps, errors, label=label, linewidth=width, color=COUNT_COLOURS.get(count), zorder=3)
        left.set(title="Wrong counts of held-out scenes, by true count", xlabel="training step", ylabel="% of scenes")
        left.set(yscale="log", ylim=(smallest, 100))
        left.yaxis.set_major_formatter(lambda value, _: "0" if value <= smallest else f"{value:g}")
        if left.lines:
            left.legend(loc="upper right")
        for name, label in (("train_loss", "training loss"), ("reconstruction/all", "held-out reconstruction")):
            if name in rows[0]:
                right.plot(steps, [row[name] for row in rows], label=label, zorder=3)
        right.set(title="Negative ELBO and its reconstruction term", xlabel="training step", ylabel="nats per scene")
        _set_log_scale(right)
        right.legend()
        figure.suptitle("Training")
        return figure


def seed_curves(runs: Mapping[str, Mapping[int, Rows]], title: str, goal: float = 0.98) -> Figure:
    """Plot the wrong counts of all runs over the training steps; several estimators by colour, with their medians.

    The runs are rows of metrics.csv by estimator and seed; a line is drawn at the accuracy `goal`.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 4))
        ax = figure.subplots()
        several = len(runs) > 1
        for name, by_seed in runs.items():
            faint = {"color": ESTIMATOR_COLOURS[name], "linewidth": 0.7, "alpha": 0.4}
            for i, (seed, rows) in enumerate(by_seed.items()):
                named = {"color": mpl.colormaps["viridis"](i / max(len(by_seed), 2)), "label": f"seed {seed}"}
                ax.plot([row["step"] for row in rows], [_percent_wrong(row) for row in rows], **(faint if several else named))
            if several:
                style: dict[str, Any] = {"color": ESTIMATOR_COLOURS[name], "label": f"{name}, median of {len(by_seed)}"}
                ax.plot(*_median_curve(by_seed.values()), linewidth=2.2, zorder=3, **style)
        ax.axhline(max(100 * (1 - goal), 0.01), color=GOAL_COLOUR, linestyle="--", label=f"{100 * goal:.6g} % right")
        ax.set(xlabel="training step", ylabel="test scenes with a wrong count, %")
        _set_log_scale(ax)
        ax.legend(ncols=1 if several else 2, loc="upper right", fontsize=8)
        figure.suptitle(title)
        return figure


def _set_log_scale(ax: Axes) -> None:
    """Make the vertical axis logarithmic, with plain numbers at more places than powers of ten."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
    ax.yaxis.set_major_formatter(ScalarFormatter())
    ax.yaxis.set_minor_formatter(NullFormatter())


def _percent_wrong(row: Mapping[str, float], smallest: float = 0.01, name: str = f"{ACCURACY}all") -> float:
    """Return the wrong counts in %, at least `smallest`, as a logarithmic axis has no 0."""
    return max(100 * (1 - row[name]), smallest)


def _median_curve(runs: Iterable[Rows]) -> tuple[list[float], list[float]]:
    """Return the steps and the median of all runs at each; a run that ended earlier counts as all wrong."""
    errors = [{row["step"]: _percent_wrong(row) for row in rows} for rows in runs]
    steps = sorted(set().union(*errors))
    return steps, [median(run.get(step, 100.0) for run in errors) for step in steps]
