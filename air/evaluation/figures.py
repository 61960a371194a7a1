"""Draw what a model sees, does and gets wrong. The steps have the colours of `air.support.drawing`: red, green, blue first."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from air.data.scenes import SceneSet
from air.evaluation import scores
from air.evaluation.measures import Observations
from air.model import transformer
from air.model.air_model import AIRModel, Scenes
from air.support.drawing import colour as step_colour

CELL = 1.1  # inches of a small picture
EXAMPLES = 8  # scenes in a row
FAILURES = 3 * EXAMPLES


class Cell(NamedTuple):
    """A small picture of a grid."""

    image: np.ndarray  # [H, W] or [H, W, 3], uint8 or float in [0, 1]; from -1 if signed
    boxes: np.ndarray | tuple = ()  # [K, 4] pixels
    first: int = 0  # step of the first box, which colours it
    edge: str | None = None  # colour of all boxes, instead of those of the steps
    note: str = ""  # above the picture
    signed: bool = False

    def draw(self, ax: Axes) -> None:
        white = 255 if self.image.dtype == np.uint8 else 1
        height, width = self.image.shape[:2]
        colours: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -white} if self.signed else {"cmap": "gray", "vmin": 0}
        ax.imshow(self.image, vmax=white, extent=(0, width, height, 0), interpolation="nearest", **colours)  # axes in pixels
        for step, (x, y, w, h) in enumerate(self.boxes, start=self.first):
            colour, linewidth = (self.edge, 1.0) if self.edge else (np.divide(step_colour(step), 255), 1.4)
            ax.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor=colour, linewidth=linewidth))
        ax.set(xlim=(0, width), ylim=(height, 0))
        if self.note:
            ax.set_title(self.note, fontsize=7.5)


def _grid(
    rows: Sequence[Sequence[Cell]], title: str, *, names: Sequence[str] = (), heads: Sequence[str] = (), columns: int = 1
) -> Figure:
    """Draw rows of pictures, at least `columns` wide, with names of the rows and heads of the columns."""
    columns = max(columns, *map(len, rows))
    noted = sum(any(cell.note for cell in row) for row in rows)
    margin = 0.09 * max((len(line) for name in names for line in name.split("\n")), default=0)
    figure = Figure((columns * CELL + margin, len(rows) * CELL + 0.25 * noted + (0.7 if heads or noted else 0.45)))
    bare = {"xticks": [], "yticks": [], "frame_on": False}
    axes = figure.subplots(len(rows), columns, squeeze=False, subplot_kw=bare)
    for ax, name in zip(axes[:, 0], names, strict=False):
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
    for ax, head in zip(axes[0], heads, strict=False):
        ax.set_title(head)
    for row_axes, row in zip(axes, rows, strict=True):
        for ax, cell in zip(row_axes, row, strict=False):
            cell.draw(ax)
    figure.suptitle(title)
    return figure


def _attended(inferred: Scenes) -> list[np.ndarray]:
    """Return the attention boxes of each scene's objects."""
    return [boxes[:count] for boxes, count in zip(inferred.attention_boxes, inferred.count, strict=True)]


def _varied(count: np.ndarray, total: int) -> np.ndarray:
    """Pick scenes of every common count, about as many of each, in order of count."""
    groups = [np.flatnonzero(count == n) for n in np.unique(count)]
    groups = [group for group in groups if 100 * len(group) >= len(count)]
    return np.concatenate([group[: -(-total // len(groups))] for group in groups])[-total:]


def examples(scenes: SceneSet) -> Figure:
    """Draw scenes of each true count, with the true boxes."""
    count = np.zeros(len(scenes), int) if scenes.count is None else scenes.count
    boxes = np.zeros((len(scenes), 0, 4)) if scenes.boxes is None else scenes.boxes
    kinds = np.unique(count)
    names = [] if scenes.count is None else [f"{n} digit{'' if n == 1 else 's'}" for n in kinds]
    shown = [np.flatnonzero(count == n)[:EXAMPLES] for n in kinds]
    rows = [[Cell(scenes.images[i], boxes[i, : count[i]], edge="#ffcc00") for i in row] for row in shown]
    return _grid(rows, "Test scenes", names=names, columns=EXAMPLES)


def strips(model: AIRModel, images: np.ndarray, found: Observations) -> Figure:
    """Draw inputs, attention, the reconstruction as it grows step by step, and the residual."""
    picked = _varied(found.count, EXAMPLES)
    inferred = model.infer(images[picked])
    steps = max(int(inferred.count.max()), 1)
    has_background = model.config.background != "none"
    renders = [_first_steps(model, inferred, step + 1) for step in range(steps)]
    columns = []
    for i, (image, boxes) in enumerate(zip(images[picked], _attended(inferred), strict=True)):
        behind = [Cell(inferred.background[i])] * has_background
        growing = [Cell(after[i], boxes[step : step + 1], first=step) for step, after in enumerate(renders)]
        residual = image / np.float32(255) - inferred.reconstruction[i]
        residual = residual if residual.ndim == 2 else residual.mean(axis=-1)
        columns.append([Cell(image), Cell(image, boxes), *behind, *growing, Cell(residual, signed=True)])
    names = ["input", "attention", *["background"] * has_background, *(f"after step {t + 1}" for t in range(steps))]
    names.append("residual\nred: missing\nblue: too much")
    return _grid(list(zip(*columns, strict=True)), "Attention and reconstruction, step by step", names=names)


def _first_steps(model: AIRModel, inferred: Scenes, steps: int) -> np.ndarray:
    """Render the objects of the first few steps on the background: [batch, H, W], or with 3 channels."""
    present = (np.arange(inferred.scale.shape[1]) < np.minimum(inferred.count, steps)[:, None]).astype(np.float32)
    size = inferred.reconstruction.shape[1:3]
    return np.asarray(model.decode(inferred.z_what, inferred.z_where, present, size, inferred.background).reconstruction)


def windows(model: AIRModel, images: np.ndarray, found: Observations) -> Figure:
    """Draw each step's glimpse, its decoded window, and that window rendered onto the canvas."""
    picked = _varied(found.count, 9)[::-1][:6]  # the fullest first, which have a window under each head
    inferred = model.infer(images[picked])
    steps = max(int(inferred.count.max()), 1)
    seen = tf.constant(images[picked] / np.float32(255))
    crops = transformer.crop(seen[:, None], inferred.z_where, model.config.window_size)
    pictures, objects = inferred.pictured_windows, inferred.pictured_objects
    rows = []
    for i, boxes in enumerate(_attended(inferred)):
        row = [Cell(images[picked[i]], boxes)]
        for step in range(len(boxes)):
            render = Cell(objects[i, step], boxes[step : step + 1], first=step)
            row += [Cell(crops[i, step].numpy()), Cell(pictures[i, step]), render]
        rows.append(row)
    heads = ["input", *(f"step {t + 1}\n{kind}" for t in range(steps) for kind in ("glimpse", "decoded", "rendered"))]
    return _grid(rows, "Windows: read, decoded, rendered", heads=heads, columns=len(heads))


def confusion(matrix: np.ndarray | Sequence[Sequence[int]], accuracy: float, interval: Sequence[float]) -> Figure:
    """Draw a matrix of true (rows) and inferred numbers of objects: scenes, shaded by their fraction of the row."""
    matrix = np.asarray(matrix)
    fractions = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(0.85 * matrix.shape[1] + 1.6, 0.75 * matrix.shape[0] + 1.6))
    ax = figure.subplots()
    ax.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    ax.grid(False)
    for (row, column), scenes in np.ndenumerate(matrix):
        shade = "white" if fractions[row, column] > 0.5 else "black"
        ax.text(column, row, f"{scenes:,}\n{fractions[row, column]:.2%}", ha="center", va="center", color=shade)
    ax.set(xticks=range(matrix.shape[1]), yticks=range(matrix.shape[0]))
    ax.set(xlabel="inferred number of digits", ylabel="true number of digits")
    ax.set_title(f"accuracy {accuracy:.2%}, 95 % interval {interval[0]:.2%} to {interval[1]:.2%}")
    figure.suptitle("Counting")
    return figure


def policy(found: Observations, canvas_size: tuple[int, int]) -> Figure:
    """Draw where each step looks: the density of the centres of its attention boxes (compare the paper's figure 3)."""
    steps = max(int(found.count.max()), 1)
    height, width = canvas_size
    figure = Figure(figsize=(2.7 * steps + 0.5, 3.7))
    for step, ax in enumerate(figure.subplots(1, steps, squeeze=False)[0]):
        attended = found.attention_boxes[found.count > step, step]
        x, y = scores.centres(attended).T
        density, _, _ = np.histogram2d(y, x, bins=25, range=[[0, height], [0, width]])
        ax.imshow(density, cmap="magma", extent=(0, width, height, 0), interpolation="bilinear")
        side = f"\nmean side {attended[:, 2].mean():.0f} pixels" if len(attended) else ""
        ax.set_title(f"step {step + 1}: {len(attended):,} windows{side}", color=np.divide(step_colour(step), 255))
        ax.set(xlabel="x, pixels", ylabel="y, pixels" if step == 0 else "")
        ax.grid(False)
    figure.suptitle("Localisation policy:\ncentres of the attention windows")
    return figure


def prior_samples(model: AIRModel, seed: int = 0) -> Figure:
    """Draw scenes sampled from the model's prior, with the attention boxes of their objects."""
    images, sampled = model.generate(3 * EXAMPLES, seed=seed)
    cells = [Cell(image, boxes) for image, boxes in zip(images, _attended(sampled), strict=True)]
    return _grid([cells[start : start + EXAMPLES] for start in range(0, len(cells), EXAMPLES)], "Samples from the prior")


def traversals(model: AIRModel, found: Observations, reach: float = 3.0) -> Figure:
    """Draw the decoded window of an object as one dimension of its z_what varies, for the dimensions that vary most.

    The dimension moves by up to `reach` of its standard deviations over all objects.
    """
    exists = np.arange(found.z_what.shape[1]) < found.count[:, None]
    objects = found.z_what[exists] if exists.any() else found.z_what[:, 0]
    std = objects.std(axis=0)
    active = np.argsort(-std)[:8]
    offsets = np.linspace(-reach, reach, 9)
    z_what = np.tile(objects[0], (len(active), len(offsets), 1))
    z_what[np.arange(len(active)), :, active] += std[active, None] * offsets
    decoded = model.composition.appearance(model.decoder(tf.constant(z_what)))[0].numpy()
    names = [f"dimension {dimension}\nsd {std[dimension]:.2f}" for dimension in active]
    heads = [f"{offset:+.2f} sd" if offset else "the object" for offset in offsets]
    rows = [[Cell(window) for window in row] for row in decoded]
    return _grid(rows, "Traversals of z_what: one object, one dimension a row", names=names, heads=heads)


def miscounted(model: AIRModel, scenes: SceneSet, found: Observations) -> Figure:
    """Draw scenes with a wrong count, those with the lowest probability of the true count first."""
    wrong = np.flatnonzero(scenes.count != found.count)
    certainty = _probability_of(scenes.count, found.presence)
    picked = wrong[np.argsort(certainty[wrong])][:FAILURES]
    notes = [f"{scenes.count[i]} → {found.count[i]}, q {certainty[i]:.0e}" for i in picked]
    title = (
        f"Wrong counts, worst first: {len(picked)} of {len(wrong):,} in {len(scenes):,} scenes\n"
        "true → inferred, and the probability q given to the true count; below, the reconstruction"
    )
    return _failures(model, scenes, picked, notes, title)


def misplaced(model: AIRModel, scenes: SceneSet, found: Observations) -> Figure:
    """Draw scenes with the right count, those with the lowest IoU of an object's box and the true one first."""
    overlaps = scores.iou(found.object_boxes, scenes.boxes)
    pairs = scores.match(-overlaps, np.where(found.count == scenes.count, found.count, 0), scenes.count)
    lowest = np.ones(len(scenes))
    np.minimum.at(lowest, pairs.scene, overlaps[pairs])
    picked = np.argsort(lowest, kind="stable")[:FAILURES]
    title = (
        f"Right counts, worst boxes first: {(lowest < 0.5).sum():,} of {len(scenes):,} scenes have an IoU below 0.5\n"
        "the lowest IoU of an object's box with the true one; below, the reconstruction"
    )
    return _failures(model, scenes, picked, [f"IoU {lowest[i]:.2f}" for i in picked], title)


def unexplained(model: AIRModel, scenes: SceneSet, found: Observations) -> Figure:
    """Draw the scenes whose reconstruction has the highest cross-entropy; needs no labels."""
    picked = np.argsort(-found.nats)[:FAILURES]
    notes = [f"{found.nats[i]:.0f} nats" for i in picked]
    return _failures(model, scenes, picked, notes, "Worst reconstructions\ncross-entropy; below, the reconstruction")


def _failures(model: AIRModel, scenes: SceneSet, picked: np.ndarray, notes: Sequence[str], title: str) -> Figure:
    inferred = model.infer(scenes.images[picked])
    boxes = _attended(inferred)
    above = [Cell(scenes.images[picked[i]], boxes[i], note=note) for i, note in enumerate(notes)]
    below = [Cell(image, boxes[i]) for i, image in enumerate(inferred.reconstruction)]
    starts = range(0, max(len(picked), 1), EXAMPLES)
    rows = [cells[start : start + EXAMPLES] for start in starts for cells in (above, below)]
    return _grid(rows, title, columns=EXAMPLES)


def _probability_of(count: np.ndarray, presence: np.ndarray) -> np.ndarray:
    """Compute q(n = count) of each scene from q(n >= t) [N, T]: [N]; 0 for counts beyond T."""
    probabilities = -np.diff(np.pad(np.asarray(presence, np.float64), ((0, 0), (0, 2))), prepend=1.0)
    return probabilities[np.arange(len(count)), np.minimum(count, presence.shape[1] + 1)]
