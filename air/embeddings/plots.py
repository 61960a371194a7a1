"""Project z_what: whitening, PCA and t-SNE, and scatter plots in which points are shown as pictures."""

from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from air.evaluation.curves import STYLE
from air.support.drawing import colour

WHITENED_VARIANCE = 0.99
"""Fraction of the variance that whitening keeps: the rest are unused dimensions, which unit variance would turn into noise."""
PERPLEXITY = 30.0  # of t-SNE
TAB10 = mpl.colormaps["tab10"](range(10))[:, :3].tolist()
CLASS_COLOURS = (*(TAB10[3 * i % 10] for i in range(9)), to_rgb("#1c2b6b"))
"""Colours of classes in the order of TensorBoard's projector, but with navy in place of grey, which means no class."""
CELLS = 44  # pictures along each side of a plot

Colour = Any  # tuple of RGB in [0, 1]


class Projection(NamedTuple):
    """P of the vectors, projected onto a plane."""

    method: str  # for titles
    positions: np.ndarray  # [P, 2]
    indices: np.ndarray  # [P] which vectors these are, ascending


def can_project(vectors: np.ndarray) -> bool:
    """Tell whether there are enough different vectors [K, D] for the functions below."""
    return len(vectors) >= 4 and vectors.shape[1] >= 2 and np.ptp(vectors, axis=0).any()


def whiten(vectors: np.ndarray) -> np.ndarray:
    """Project vectors [K, D] onto their principal components, scaled to unit variance: [K, components]."""
    return PCA(WHITENED_VARIANCE, whiten=True, svd_solver="full").fit_transform(vectors)


def pca(vectors: np.ndarray) -> Projection:
    """Project vectors [K, D] onto their first two principal components."""
    return Projection("PCA", PCA(2, svd_solver="full").fit_transform(vectors), np.arange(len(vectors)))


def tsne(vectors: np.ndarray, maximum: int, seed: int) -> Projection:
    """Embed vectors [K, D], or a random sample of `maximum` of them, with t-SNE (van der Maaten and Hinton, 2008)."""
    indices = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:maximum])
    perplexity = min(PERPLEXITY, (len(indices) - 1) / 3)
    fitted = TSNE(2, perplexity=perplexity, init="random", random_state=seed).fit_transform(vectors[indices])
    return Projection("t-SNE", fitted, indices)


def group_colours(column: str, groups: np.ndarray) -> dict[str, Colour]:
    """Choose a colour for each group, in the order of a legend.

    Groups [P] are numbers from 0 on, or names, which become grey. Steps, from 1 on, have the same colours as in all pictures of
    this project.
    """
    numbers = sorted({int(name) for name in groups if name.isdigit()})
    if column == "step":
        return {str(step): tuple(value / 255 for value in colour(step - 1)) for step in numbers}
    many = mpl.colormaps["turbo"].resampled(max(len(numbers), 1))
    colours = CLASS_COLOURS if len(numbers) <= len(CLASS_COLOURS) else many(range(len(numbers)))
    known = {str(number): tuple(colours[i][:3]) for i, number in enumerate(numbers)}
    return known | dict.fromkeys(sorted(set(groups.tolist()) - set(known)), (0.7, 0.7, 0.7))


def scatter(positions: np.ndarray, pictures: np.ndarray, groups: np.ndarray, column: str, title: str) -> Figure:
    """Plot points at positions [P, 2], with pictures [P, h, w] uint8, bright on dark, wherever there is room for one.

    Points and pictures have the colours of their groups [P], see `group_colours`.
    """
    low, high = positions.min(axis=0), positions.max(axis=0)
    side = max((high - low).max(), 1e-6) * 1.02  # the same on both axes, so that distances can be compared
    unit = (positions - (low + high) / 2) / side + 0.5  # [P, 2] in [0, 1]
    colours = group_colours(column, groups)
    tint = np.array([colours[name] for name in groups], np.float32)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 8.6))
        ax = figure.subplots()
        ax.scatter(unit[:, 0], unit[:, 1], s=3, c=tint, alpha=0.35, linewidths=0)
        ax.imshow(mosaic(unit, pictures, tint), extent=(0, 1, 0, 1), interpolation="antialiased", zorder=3)
        ax.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1), aspect="equal")
        ax.spines[:].set_visible(False)
        handles = [Line2D([], [], color=rgb, marker="o", linestyle="", label=name) for name, rgb in colours.items()]
        ax.legend(handles=handles, title=column, loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.suptitle(title)
        return figure


def mosaic(positions: np.ndarray, pictures: np.ndarray, tint: np.ndarray) -> np.ndarray:
    """Show one picture in each occupied cell of a grid, that of the point nearest to the cell's centre.

    Positions [P, 2] are in [0, 1], y upwards; the brightness of pictures [P, h, w] uint8 becomes opacity; tint [P, 3] is RGB in
    [0, 1]. Returns [CELLS * h, CELLS * w, 4] RGBA in [0, 1].
    """
    height, width = pictures.shape[1:]
    cell = np.clip((positions * CELLS).astype(int), 0, CELLS - 1)
    order = np.argsort(((positions * CELLS - cell - 0.5) ** 2).sum(axis=1), kind="stable")
    _, first = np.unique(cell[order] @ np.array([1, CELLS]), return_index=True)
    shown = order[first]
    image = np.zeros((CELLS, CELLS, height, width, 4), np.float32)
    rows, columns = CELLS - 1 - cell[shown, 1], cell[shown, 0]
    image[rows, columns, ..., :3] = tint[shown, None, None]
    image[rows, columns, ..., 3] = pictures[shown] / 255
    return image.swapaxes(1, 2).reshape(CELLS * height, CELLS * width, 4)
