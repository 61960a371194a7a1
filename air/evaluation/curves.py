"""Figures of training, from the rows of a run's metrics.csv."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

STYLE = {
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
"""Of the true number of objects; none is the colour of a step."""

ESTIMATOR_COLOURS = {"concrete": "#007aff", "nvil": "#ff9500", "enumerated": "#2e9e4f"}
"""Of the estimators of z_pres."""

MIN_ERROR = 0.005  # %, where a logarithmic axis shows that no count was wrong

Rows = Sequence[Mapping[str, float]]
ACCURACY = "count_accuracy/"


def training_curves(rows: Rows) -> Figure:
    """Wrong counts by true count, and the loss and reconstruction, over the steps of a run.

    Args:
        rows: of metrics.csv, at least one.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.6))
        left, right = figure.subplots(1, 2)
        steps = [row["step"] for row in rows]
        for name in (name for name in rows[0] if name.startswith(ACCURACY)):
            count = name.removeprefix(ACCURACY)
            label = "all scenes" if count == "all" else f"{count} digit{'' if count == '1' else 's'}"
            width = 2.0 if count == "all" else 1.2
            errors = [max(100 * (1 - row[name]), MIN_ERROR) for row in rows]
            left.plot(steps, errors, label=label, linewidth=width, color=COUNT_COLOURS.get(count), zorder=3)
        left.set(title="Wrong counts of held-out scenes, by true count", xlabel="training step", ylabel="% of scenes")
        left.set(yscale="log", ylim=(MIN_ERROR, 100))
        left.yaxis.set_major_formatter(lambda value, _: "0" if value <= MIN_ERROR else f"{value:g}")
        if left.lines:
            left.legend(loc="upper right")
        for name, label in (("train_loss", "training loss"), ("reconstruction/all", "held-out reconstruction")):
            if name in rows[0]:
                right.plot(steps, [row[name] for row in rows], label=label, zorder=3)
        right.set(title="Negative ELBO and its reconstruction term", xlabel="training step", ylabel="nats per scene")
        right.set_yscale("log")
        _plain_ticks(right)
        right.legend()
        figure.suptitle("Training")
        return figure


def _plain_ticks(ax: Axes) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
    ax.yaxis.set_major_formatter(ScalarFormatter())
    ax.yaxis.set_minor_formatter(NullFormatter())


def seed_curves(runs: Mapping[str, Mapping[int, Rows]], title: str, goal: float = 0.98) -> Figure:
    """Error of the count over the steps of all runs; several estimators in colours of their own, with their medians.

    Args:
        runs: the rows of metrics.csv by estimator and seed.
        title: of the figure.
        goal: accuracy at which a line is drawn.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 4))
        ax = figure.subplots()
        for name, by_seed in runs.items():
            for i, (seed, rows) in enumerate(by_seed.items()):
                if len(runs) > 1:
                    style = {"color": ESTIMATOR_COLOURS[name], "linewidth": 0.7, "alpha": 0.4}
                else:
                    style = {"color": mpl.colormaps["viridis"](i / max(len(by_seed), 2)), "linewidth": 1.1}
                    style["label"] = f"seed {seed}"
                ax.plot([row["step"] for row in rows], [_error(row) for row in rows], **style)
            if len(runs) > 1:
                label = f"{name}, median of {len(by_seed)}"
                ax.plot(*_median_error(by_seed.values()), color=ESTIMATOR_COLOURS[name], linewidth=2.2, label=label, zorder=3)
        error, red = max(100 * (1 - goal), 0.01), "#d70015"
        ax.axhline(error, color=red, linewidth=0.9, linestyle="--")
        ax.text(
            1.0, error, f"{100 * goal:.6g} % right ", color=red, transform=ax.get_yaxis_transform(), ha="right", va="bottom"
        )
        ax.set_yscale("log")
        _plain_ticks(ax)
        ax.set(xlabel="training step", ylabel="test scenes with a wrong count, %")
        ax.legend(ncols=2 if len(runs) == 1 else 1, loc="upper right", fontsize=8)
        figure.suptitle(title)
        return figure


def _error(row: Mapping[str, float]) -> float:
    """Wrong counts in %, at least 0.01, which is 0 on a logarithmic axis."""
    return max(100 * (1 - row[ACCURACY + "all"]), 0.01)


def _median_error(runs: Iterable[Rows]) -> tuple[list[float], list[float]]:
    """Steps, and the median of all runs there; one that had ended before counts as all wrong."""
    errors = [{row["step"]: _error(row) for row in rows} for rows in runs]
    steps = sorted(set().union(*errors))
    return steps, [median(run.get(step, 100.0) for run in errors) for step in steps]
