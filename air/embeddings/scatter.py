"""Scatter plots in which every group has its colour, and some of the points are shown as pictures."""

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from air.evaluation.curves import STYLE
from air.support.drawing import colour

CLASS_COLOURS = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd"),
    *("#8c564b", "#e377c2", "#1c2b6b", "#bcbd22", "#17becf"),
)
CELLS = 44  # pictures along each side of a plot
Colour = tuple[float, ...]


def group_colours(column: str, groups: np.ndarray) -> dict[str, Colour]:
    """RGB of each group, in the order of a legend.

    Args:
        column: "step", whose colours are those of all pictures of this project, or anything else.
        groups: [K] names: numbers from 0 on (steps from 1 on), or others, which are grey.
    """
    numbers = sorted({int(name) for name in groups if name.isdigit()})
    if column == "step":
        return {str(step): tuple(value / 255 for value in colour(step - 1)) for step in numbers}
    if len(numbers) <= len(CLASS_COLOURS):
        colours = [to_rgb(name) for name in CLASS_COLOURS]
    else:
        turbo = mpl.colormaps["turbo"].resampled(len(numbers))
        colours = [turbo(i)[:3] for i in range(len(numbers))]
    known = {str(number): colours[i] for i, number in enumerate(numbers)}
    return known | dict.fromkeys(sorted(set(groups.tolist()) - set(known)), (0.7, 0.7, 0.7))


def scatter(places: np.ndarray, pictures: np.ndarray, groups: np.ndarray, column: str, title: str) -> Figure:
    """A plane of points, with a picture wherever there is room for one.

    Args:
        places: [K, 2].
        pictures: [K, h, w] uint8, bright on dark; drawn in the colour of the group.
        groups: [K] names, see `group_colours`.
        column: what the groups are.
        title: of the figure.
    """
    low, high = places.min(axis=0), places.max(axis=0)
    side = max((high - low).max(), 1e-6) * 1.02  # the same on both axes, so that distances can be compared
    unit = (places - (low + high) / 2) / side + 0.5  # [K, 2] in [0, 1]
    colours = group_colours(column, groups)
    tint = np.array([colours[name] for name in groups], np.float32)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 8.6))
        ax = figure.subplots()
        ax.scatter(*unit.T, s=3, c=tint, alpha=0.35, linewidths=0)
        ax.imshow(mosaic(unit, pictures, tint), extent=(0, 1, 0, 1), interpolation="antialiased", zorder=3)
        ax.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1), aspect="equal")
        ax.spines[:].set_visible(False)
        handles = [Line2D([], [], color=colour, marker="o", linestyle="", label=name) for name, colour in colours.items()]
        ax.legend(handles=handles, title=column, loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.suptitle(title)
        return figure


def mosaic(unit: np.ndarray, pictures: np.ndarray, tint: np.ndarray) -> np.ndarray:
    """The picture of one point in each cell of a grid, the one nearest to the cell's centre.

    Args:
        unit: [K, 2] places in [0, 1], y upwards.
        pictures: [K, h, w] uint8, their brightness becomes opacity.
        tint: [K, 3] their colours in [0, 1].

    Returns:
        [CELLS * h, CELLS * w, 4] RGBA in [0, 1].
    """
    height, width = pictures.shape[1:]
    cell = np.clip((unit * CELLS).astype(int), 0, CELLS - 1)
    order = np.argsort(((unit * CELLS - cell - 0.5) ** 2).sum(axis=1), kind="stable")
    _, first = np.unique(cell[order] @ np.array([1, CELLS]), return_index=True)
    shown = order[first]
    image = np.zeros((CELLS, CELLS, height, width, 4), np.float32)
    rows, columns = CELLS - 1 - cell[shown, 1], cell[shown, 0]
    image[rows, columns, ..., :3] = tint[shown, None, None]
    image[rows, columns, ..., 3] = pictures[shown] / 255
    return image.swapaxes(1, 2).reshape(CELLS * height, CELLS * width, 4)
