"""The figures of an evaluation: what a model sees, does and gets wrong. Steps are red, green and blue, as in `air.support.drawing`."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import tensorflow as tf
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from air.data.scenes import SceneSet
from air.evaluation import scores
from air.evaluation.curves import STYLE
from air.evaluation.measures import Observations
from air.model import transformer
from air.model.air_model import AIRModel
from air.support.drawing import colour

CELL = 1.1  # inches of a small picture
EXAMPLES = 8  # scenes in a figure
TRAVERSED = 8  # dimensions of z_what
FAILURES = 24
MAX_COUNTS = 10  # numbers of objects that a figure tells apart: scenes from elsewhere may have hundreds, and so much memory


def _styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    def styled(*args: Any, **kwargs: Any) -> Figure:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    styled.__doc__ = draw.__doc__
    return styled


def step_colour(step: int) -> tuple[float, ...]:
    """Of a step counted from 0, for matplotlib."""
    return tuple(value / 255 for value in colour(step))


def _grid(rows: int, columns: int, title: str, *, names: Sequence[str] = (), heads: Sequence[str] = ()) -> tuple[Figure, Any]:
    """A grid of small pictures, with names of its rows and of its columns."""
    margin = 0.09 * max((len(line) for name in names for line in name.split("\n")), default=0)
    height = rows * CELL + 0.45 + (0.25 if heads else 0.0)
    figure = Figure(figsize=(columns * CELL + margin, height))
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        for spine in ax.spines.values():
            spine.set_visible(False)
    for ax, name in zip(axes[:, 0], names, strict=False):
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
    for ax, head in zip(axes[0], heads, strict=False):
        ax.set_title(head)
    figure.suptitle(title)
    return figure, axes


def _show(ax: Axes, image: np.ndarray, boxes: Sequence[Sequence[float]] = (), first: int = 0, **options: Any) -> None:
    """A picture [H, W], 0 black and 1 (of uint8: 255) white, with boxes in the colours of the steps from `first` on."""
    top = 255 if image.dtype == np.uint8 else 1
    height, width = image.shape
    extent = (0, width, height, 0)  # so that boxes are in pixels
    ax.imshow(image, **{"cmap": "gray", "vmin": 0, "vmax": top, "extent": extent, "interpolation": "nearest", **options})
    for step, (x, y, w, h) in enumerate(boxes, start=first):
        ax.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor=step_colour(step), linewidth=1.4))
    ax.set(xlim=(0, width), ylim=(height, 0))


def _varied(counts: np.ndarray, most: int) -> np.ndarray:
    """Positions of scenes with as many different counts as there are, but for a rare count's, ordered by count."""
    groups = [np.flatnonzero(counts == count) for count in np.unique(counts)]
    groups = [group for group in groups if 100 * len(group) >= len(counts)]
    # The more objects, the more there is to see.
    shares = np.arange(1, len(groups) + 1) if len(groups) > 1 else np.ones(1)
    sizes = np.maximum((most * shares / shares.sum()).astype(int), 1)
    sizes[-1] += max(most - sizes.sum(), 0)
    return np.concatenate([group[:size] for group, size in zip(groups, sizes, strict=True)])[:most]


@_styled
def examples(scenes: SceneSet) -> Figure:
    """Scenes of each true count with the true boxes."""
    counts = np.zeros(len(scenes), int) if scenes.count is None else scenes.count
    kinds = np.unique(counts)[:MAX_COUNTS]
    names = [] if scenes.count is None else [f"{count} digit{'' if count == 1 else 's'}" for count in kinds]
    figure, axes = _grid(len(kinds), EXAMPLES, "Test scenes", names=names)
    for row, count in zip(axes, kinds, strict=True):
        for ax, scene in zip(row, np.flatnonzero(counts == count)[:EXAMPLES], strict=False):
            _show(ax, scenes.images[scene])
            if scenes.boxes is not None and scenes.count is not None:
                for x, y, w, h in scenes.boxes[scene, :count]:
                    ax.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor="#ffcc00", linewidth=1.0))
    return figure


@_styled
def strips(model: AIRModel, images: np.ndarray, found: Observations) -> Figure:
    """Inputs, attention and the reconstruction as it grows step by step, and what is left."""
    picked = _varied(found.count, EXAMPLES)
    inferred = model.infer(images[picked])
    steps = max(int(inferred.count.max()), 1)
    names = ["input", "attention", *(f"after step {t + 1}" for t in range(steps)), "residual\nred: missing\nblue: too much"]
    figure, axes = _grid(len(names), len(picked), "Attention and reconstruction, step by step", names=names)
    for column, image in enumerate(images[picked]):
        count = int(inferred.count[column])
        boxes = inferred.attention_boxes[column, :count]
        _show(axes[0, column], image)
        _show(axes[1, column], image, boxes)
        for step in range(steps):
            painted = inferred.objects[column, : step + 1].sum(axis=0).clip(0, 1)
            _show(axes[2 + step, column], painted, boxes[step : step + 1], first=step)
        residual = image / np.float32(255) - inferred.reconstruction[column]
        _show(axes[-1, column], residual, cmap="RdBu_r", vmin=-1)
    return figure


@_styled
def windows(model: AIRModel, images: np.ndarray, found: Observations) -> Figure:
    """What each step reads from the canvas, what the decoder makes of it, and that on the canvas."""
    most = int(found.count.max(initial=1))
    picked = np.flatnonzero(found.count == max(most, 1))[:3]
    picked = np.concatenate([picked, np.flatnonzero(found.count == max(most - 1, 1))[:3]])[:6]
    picked = picked if len(picked) else np.arange(min(len(images), 4))
    inferred = model.infer(images[picked])
    steps = max(int(inferred.count.max()), 1)
    z_where = np.concatenate([inferred.scale[..., None], inferred.shift], axis=-1)
    glimpses = transformer.crop(tf.constant(images[picked] / np.float32(255)), tf.constant(z_where), model.config.window_size)
    heads = ["input", *(f"step {t + 1}\n{kind}" for t in range(steps) for kind in ("glimpse", "decoded", "rendered"))]
    figure, axes = _grid(len(picked), len(heads), "Windows: read, decoded, rendered", heads=heads)
    for row, scene in zip(axes, range(len(picked)), strict=True):
        count = int(inferred.count[scene])
        _show(row[0], images[picked[scene]], inferred.attention_boxes[scene, :count])
        for step in range(steps):
            for ax in row[1 + 3 * step : 4 + 3 * step]:
                ax.set_visible(step < count)
            if step < count:
                _show(row[1 + 3 * step], glimpses[scene, step].numpy())
                _show(row[2 + 3 * step], inferred.decoded_windows[scene, step])
                box = inferred.attention_boxes[scene, step : step + 1]
                _show(row[3 + 3 * step], inferred.objects[scene, step], box, first=step)
    return figure


@_styled
def confusion(matrix: Sequence[Sequence[int]], accuracy: float, interval: Sequence[float]) -> Figure:
    """Inferred against true number of objects: scenes, shaded by their share of the row; up to 9 of each."""
    matrix = np.asarray(matrix)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    matrix, shares = matrix[:MAX_COUNTS, :MAX_COUNTS], shares[:MAX_COUNTS, :MAX_COUNTS]
    figure = Figure(figsize=(0.85 * matrix.shape[1] + 1.6, 0.75 * matrix.shape[0] + 1.6))
    ax = figure.subplots()
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ax.grid(False)
    for (row, column), scenes in np.ndenumerate(matrix):
        shade = "white" if shares[row, column] > 0.5 else "black"
        ax.text(column, row, f"{scenes:,}\n{shares[row, column]:.2%}", ha="center", va="center", color=shade)
    ax.set(xticks=range(matrix.shape[1]), yticks=range(matrix.shape[0]))
    ax.set(xlabel="inferred number of digits", ylabel="true number of digits")
    ax.set_title(f"accuracy {accuracy:.2%}, 95 % interval {interval[0]:.2%} to {interval[1]:.2%}")
    figure.suptitle("Counting")
    return figure


@_styled
def policy(found: Observations, canvas_size: tuple[int, int]) -> Figure:
    """Where each step looks: frequencies of the centres of its attention windows (compare the paper's figure 3)."""
    used = range(max(int(found.count.max(initial=0)), 1))
    height, width = canvas_size
    figure = Figure(figsize=(2.7 * len(used) + 0.5, 3.7))
    for step, ax in zip(used, figure.subplots(1, len(used), squeeze=False)[0], strict=True):
        attended = found.attention_boxes[found.count > step, step]
        x, y = scores.centres(attended).T
        density, _, _ = np.histogram2d(y, x, bins=25, range=[[0, height], [0, width]])
        ax.imshow(density, cmap="magma", extent=(0, width, height, 0), interpolation="bilinear")
        side = f"\nmean side {attended[:, 2].mean():.0f} pixels" if len(attended) else ""
        ax.set_title(f"step {step + 1}: {len(attended):,} windows{side}", color=step_colour(step))
        ax.set(xlabel="x, pixels", ylabel="y, pixels" if step == 0 else "")
        ax.grid(False)
    figure.suptitle("Localisation policy:\ncentres of the attention windows")
    return figure


@_styled
def prior_samples(model: AIRModel, seed: int = 0) -> Figure:
    """Scenes drawn from the model's prior, with the windows of their objects."""
    rows = 3
    images, drawn = model.generate(rows * EXAMPLES, seed=seed)
    figure, axes = _grid(rows, EXAMPLES, "Samples from the prior")
    for ax, image, count, boxes in zip(axes.flat, images, drawn.count, drawn.attention_boxes, strict=True):
        _show(ax, image, boxes[:count])
    return figure


@_styled
def traversals(model: AIRModel, found: Observations, deviations: float = 3.0) -> Figure:
    """What the decoder paints as one dimension of an object's z_what moves, for the dimensions that vary most."""
    exists = np.arange(found.z_what.shape[1]) < found.count[:, None]
    objects = found.z_what[exists] if exists.any() else found.z_what[:, 0]
    spread = objects.std(axis=0)
    active = np.argsort(-spread)[:TRAVERSED]
    values = np.linspace(-deviations, deviations, 9)
    start = np.repeat(objects[:1], len(active) * len(values), axis=0).reshape(len(active), len(values), -1)
    for row, dimension in enumerate(active):
        start[row, :, dimension] += values * spread[dimension]
    pictures = tf.sigmoid(model.decoder(tf.constant(start.reshape(-1, 1, start.shape[-1])))).numpy()[:, 0]
    figure, axes = _grid(
        len(active), len(values), "Traversals of z_what: one object, one dimension a row",
        names=[f"dimension {dimension}\nsd {spread[dimension]:.2f}" for dimension in active],
        heads=[f"{value:+.2f} sd" if value else "the object" for value in values],
    )  # fmt: skip
    for ax, picture in zip(axes.flat, pictures, strict=True):
        _show(ax, picture)
    return figure


@_styled
def miscounted(model: AIRModel, scenes: SceneSet, found: Observations) -> Figure:
    """Scenes whose count is wrong, that of the least probability for the true count first."""
    wrong = np.flatnonzero(scenes.count != found.count)
    certainty = _probability_of(scenes.count, found.presence)
    picked = wrong[np.argsort(certainty[wrong])][:FAILURES]
    notes = [f"{scenes.count[i]} → {found.count[i]}, q {certainty[i]:.0e}" for i in picked]
    title = (
        f"Wrong counts, worst first: {len(picked)} of {len(wrong):,} in {len(scenes):,} scenes\n"
        "true → inferred, and the probability q given to the true count; below, the reconstruction"
    )
    return _failures(model, scenes, picked, notes, title)


@_styled
def misplaced(model: AIRModel, scenes: SceneSet, found: Observations) -> Figure:
    """Scenes whose count is right, that of the least overlap of an object's box with the true one first."""
    overlaps = scores.iou(found.object_boxes, scenes.boxes)
    pairs = scores.match(-overlaps, np.where(found.count == scenes.count, found.count, 0), scenes.count)
    least = np.ones(len(scenes))
    np.minimum.at(least, pairs.scene, overlaps[pairs])
    picked = np.argsort(least, kind="stable")[:FAILURES]
    title = (
        f"Right counts, worst boxes first: {(least < 0.5).sum():,} of {len(scenes):,} scenes have an IoU below 0.5\n"
        "the least IoU of an object's box with the true one; below, the reconstruction"
    )
    return _failures(model, scenes, picked, [f"IoU {least[i]:.2f}" for i in picked], title)


@_styled
def unexplained(model: AIRModel, scenes: SceneSet, found: Observations) -> Figure:
    """Scenes of the greatest cross-entropy of the reconstruction first; needs no labels."""
    picked = np.argsort(-found.nats)[:FAILURES]
    notes = [f"{found.nats[i]:.0f} nats" for i in picked]
    return _failures(model, scenes, picked, notes, "Worst reconstructions\ncross-entropy; below, the reconstruction")


def _failures(model: AIRModel, scenes: SceneSet, picked: np.ndarray, notes: Sequence[str], title: str) -> Figure:
    columns = EXAMPLES
    rows = max(-(-len(picked) // columns), 1)
    figure, axes = _grid(2 * rows, columns, title)
    figure.set_figheight(figure.get_figheight() + 0.25 * rows + 0.2)
    inferred = model.infer(scenes.images[picked])
    for i, note in enumerate(notes):
        row, column = 2 * (i // columns), i % columns
        boxes = inferred.attention_boxes[i, : int(inferred.count[i])]
        _show(axes[row, column], scenes.images[picked[i]], boxes)
        _show(axes[row + 1, column], inferred.reconstruction[i], boxes)
        axes[row, column].set_title(note, fontsize=7.5)
    return figure


def _probability_of(counts: np.ndarray, presence: np.ndarray) -> np.ndarray:
    """q(n = count) of each scene from q(n >= t) of [N, T]: [N]; 0 for counts beyond T."""
    at_least = np.pad(np.asarray(presence, np.float64), ((0, 0), (1, 1)))
    at_least[:, 0] = 1.0
    of_count = np.pad(at_least[:, :-1] - at_least[:, 1:], ((0, 0), (0, 1)))
    return of_count[np.arange(len(counts)), np.minimum(counts, of_count.shape[1] - 1)]
