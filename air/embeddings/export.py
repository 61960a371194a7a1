"""Export z_what of the objects in scenes, for TensorBoard's projector and as plots and arrays.

| file | |
|---|---|
| `projector_config.pbtxt` | names the files below for TensorBoard |
| `z_what.tsv` | posterior means of all exported objects |
| `z_what_whitened.tsv` | the same after PCA, with unit variance in each of the components that explain 99 % of the variance |
| `z_what_clean.tsv` | z_what of the matched digits, each alone on an empty canvas at the same place |
| `metadata_*.tsv`, `sprite_*.png` | a row and a picture for each object: `scenes` for the first two, `clean` for the third |
| `bookmarks_*.json` | the views of the plots, for the projector |
| `events.out.tfevents.*` | empty, but TensorBoard looks for a projector only where such a file lies |
| `pca.png`, `tsne.png` | plots |
| `embeddings.npz` | all vectors, metadata and positions in the plots as arrays |

A clean digit passes through the whole model, because its encoder has only seen crops with the margin that the model learned. So
what differs from z_what in the scene is due to the neighbours. Of several objects found in one digit, the first is taken.

Metadata, where known: `digit` (`none` without a true object), `true_count` and `inferred_count` of the scene, `matched`, `step`
from 1 on, `presence` probability, `scale` and `shift` of the attention window in canvas units, its `box` in pixels, `scene`
from 0 on, and `true_digit`. The last is `digit` again, but empty without a true object: the projector has only ten colours, and
paints points with an empty cell black. For clean digits, all but `true_count` and `scene` describe the digit alone.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from air.config import DEFAULT_DATA
from air.data import held_out, mnist, multi_mnist
from air.data.scenes import SceneSet, read_canvas_size
from air.embeddings import objects, plots, projector
from air.embeddings.config import OWN_FILES, EmbeddingsConfig
from air.errors import DataError
from air.evaluation import probes
from air.evaluation.config import EvaluationConfig
from air.model.air_model import AIRModel
from air.support.console import stage
from air.support.files import replacing_folder
from air.training import checkpoints

NO_LIMIT = np.iinfo(np.int64).max


class Exported(NamedTuple):
    """The exported objects, K of them."""

    scene: np.ndarray  # [K] index of their scene
    step: np.ndarray  # [K] from 0 on
    latents: objects.Inferred  # fields [K, ...]
    truth: np.ndarray | None  # [K] index of the true object in the scene, -1 for none; None where unknown


class Summary(NamedTuple):
    """The numbers of an export; None where unknown."""

    scenes: int
    present: int | None  # true objects in the scenes
    inferred: int  # objects
    matched: int | None  # inferred objects with a true one
    classes: dict[str, tuple[int, int]]  # for each class, true objects present and matched
    exported: int  # of the inferred objects
    capacity: int  # objects that fit into a sprite
    clean: int | None  # exported objects that were found again alone on an empty canvas
    knn: float | None  # accuracy of 5 nearest neighbours, as in an evaluation
    reference_objects: int  # labelled training objects that the 5 neighbours come from

    def __str__(self) -> str:
        """Describe the export in a few lines for the console."""
        numbers = [(self.present, "objects present"), (self.inferred, "inferred"), (self.matched, "matched")]
        known = ", ".join(f"{number:,} {what}" for number, what in numbers if number is not None)
        lines = [f"{self.scenes:,} scenes: {known}"]
        if self.classes:
            present, matched = zip(*self.classes.values(), strict=True)
            width = max(7, *(len(f"{number:,}") + 1 for number in present))
            for name, values in (("digit", self.classes), ("present", present), ("matched", matched)):
                lines.append(f"  {name:8}" + "".join(f"{value:>{width}}" for value in values))
        if self.knn is not None:
            lines.append(f"5-NN accuracy of z_what: {100 * self.knn:.1f} %, from {self.reference_objects:,} training objects")
        elif self.classes:
            lines.append("5-NN accuracy of z_what: needs labelled training scenes; give --data a folder with train.npz")
        if self.exported < self.inferred:
            full = f"; a sprite of {projector.SPRITE_SIDE} pixels a side holds no more" * (self.exported == self.capacity)
            lines.append(f"Truncated: only the first {self.exported:,} of {self.inferred:,} objects are exported{full}")
        if self.clean is not None:
            lines.append(f"Clean: {self.clean:,} of the matched digits were found again alone on an empty canvas")
        return "\n".join(lines)


def export(
    run: str | Path,
    output: str | Path,
    config: EmbeddingsConfig | None = None,
    *,
    data: str | Path = DEFAULT_DATA,
    mnist_path: str | Path | None = None,
    overwrite: bool = False,
) -> Summary:
    """Write the folder, completely or not at all; `overwrite` replaces one that holds nothing but embeddings.

    `run` is a run folder, a folder with `air.keras` or a `.keras` file; `data` a folder or file of scenes, labelled or not (see
    `air.data.held_out.load`), on any canvas that the model takes; `mnist_path` the digits that they are made of (see
    `air.data.mnist.load`).

    Raises:
        UsageError: if the output exists.
        DataError: if the model or the data can't be used, or no object is found.
    """
    config = config or EmbeddingsConfig()
    model = checkpoints.load(run)
    size = model.config.canvas_size
    multi_mnist.ensure(data, size, mnist_path)
    if model.config.takes_any_canvas:
        size = read_canvas_size(multi_mnist.find_scenes(data, "test"))
    numbers = config.scenes or NO_LIMIT, EvaluationConfig().reference_scenes
    scenes, reference = held_out.load(data, size, *numbers, None, model.config.channels)
    if scenes.labels is not None and scenes.segments is None:
        scenes = held_out.with_segments(scenes, mnist.load(mnist_path))

    with replacing_folder(output, overwrite, OWN_FILES, "embeddings") as folder:
        with stage("Attending to scenes", len(scenes)) as progress:
            inferred = objects.infer(model, scenes.images, config.sprite, progress)
        truth = objects.match(inferred, scenes, config.distance) if _has(scenes, "count", "boxes") else None
        capacity = projector.capacity(*model.config.window_size)
        exported = _first_objects(inferred, truth, min(config.limit or NO_LIMIT, capacity))
        if not len(exported.scene):
            raise DataError(f"{data}: {run} finds no object in these {len(scenes)} scenes, so there is nothing to export")
        knn, reference_objects = _knn(model, inferred, scenes, reference)
        clean = _clean(model, scenes, exported, config.sprite)
        _write(folder, scenes, exported, clean, knn, config)
    return Summary(
        scenes=len(scenes),
        present=None if scenes.count is None else int(scenes.count.sum()),
        inferred=int(inferred.count.sum()),
        matched=None if truth is None else int((truth >= 0).sum()),
        classes=_classes(scenes, truth),
        exported=len(exported.scene),
        capacity=capacity,
        clean=None if clean is None else len(clean.scene),
        knn=knn,
        reference_objects=reference_objects,
    )


def _has(scenes: SceneSet, *fields: str) -> bool:
    return all(getattr(scenes, field) is not None for field in fields)


def _first_objects(inferred: objects.Inferred, truth: np.ndarray | None, limit: int) -> Exported:
    """Select the first objects of all scenes, at most `limit`."""
    present = np.arange(inferred.presence.shape[1]) < inferred.count[:, None]
    scene, step = (indices[:limit] for indices in np.nonzero(present))
    return Exported(scene, step, inferred.at(scene, step), None if truth is None else truth[scene, step])


def _knn(model: AIRModel, inferred: objects.Inferred, scenes: SceneSet, reference: SceneSet | None) -> tuple[float | None, int]:
    """Compute the 5-NN accuracy that an evaluation reports of these scenes, and the number of reference objects."""
    if reference is None or not all(_has(labelled, "count", "boxes", "labels") for labelled in (reference, scenes)):
        return None, 0
    with stage("Attending to training scenes", len(reference)) as progress:
        known = objects.infer(model, reference.images, progress=progress)
    first = slice(EvaluationConfig().scenes)
    with stage("Classifying"):
        neighbours = _labelled(known, reference)
        test = _labelled(objects.Inferred(*(field[first] for field in inferred)), scenes.select(first))
        return probes.classification(neighbours, test).get("knn"), len(neighbours.labels)


def _labelled(inferred: objects.Inferred, scenes: SceneSet) -> probes.Objects:
    return probes.matched_objects(inferred.count, inferred.attention_boxes, inferred.z_what, scenes)


def _clean(model: AIRModel, scenes: SceneSet, exported: Exported, picture: objects.Picture) -> Exported | None:
    """Infer the true digits of matched objects, each alone on a canvas; None where they can't be isolated."""
    if exported.truth is None or scenes.segments is None or not (exported.truth >= 0).any():
        return None
    scene, truth = (indices[exported.truth >= 0] for indices in (exported.scene, exported.truth))
    with stage("Attending to clean digits", len(scene)) as progress:
        inferred = objects.infer(model, objects.isolate(scenes, scene, truth), picture, progress)
    found = np.flatnonzero(inferred.count)
    first = np.zeros_like(found)
    return Exported(scene[found], first, inferred.at(found, first), truth[found]) if len(found) else None


def _classes(scenes: SceneSet, truth: np.ndarray | None) -> dict[str, tuple[int, int]]:
    if truth is None or scenes.labels is None:
        return {}
    scene, step = np.nonzero(truth >= 0)
    matched = scenes.labels[scene, truth[scene, step]]
    present = scenes.labels[scenes.labels >= 0]
    return {str(label): (int((present == label).sum()), int((matched == label).sum())) for label in np.unique(present)}


def _columns(scenes: SceneSet, exported: Exported) -> dict[str, np.ndarray]:
    """Collect the metadata as columns [K]; the projector labels points by the first column."""
    latents, truth = exported.latents, exported.truth
    columns: dict[str, np.ndarray] = {}
    if truth is not None and scenes.labels is not None:
        columns["digit"] = np.where(truth < 0, -1, scenes.labels[exported.scene, truth])
    if scenes.count is not None:
        columns["true_count"] = scenes.count[exported.scene]
    if truth is not None:
        columns["matched"] = (truth >= 0).astype(np.uint8)
    columns |= {"inferred_count": latents.count, "step": exported.step + 1, "presence": latents.presence}
    columns |= {"scale": latents.scale, "shift_x": latents.shift[:, 0], "shift_y": latents.shift[:, 1]}
    columns |= {f"box_{name}": latents.attention_boxes[:, i] for i, name in enumerate(("x", "y", "width", "height"))}
    return columns | {"scene": exported.scene}


def _points(name: str, columns: dict[str, np.ndarray], pictures: np.ndarray) -> projector.Points:
    if "digit" not in columns:
        return projector.Points(name, columns, "step", "step", pictures)
    digit, none = columns["digit"].astype(str), columns["digit"] < 0
    texts = {"digit": np.where(none, "none", digit), "true_digit": np.where(none, "", digit)}
    return projector.Points(name, columns | texts, "digit", "true_digit", pictures)


def _write(
    folder: Path, scenes: SceneSet, exported: Exported, clean: Exported | None, knn: float | None, config: EmbeddingsConfig
) -> None:
    z_what, columns = exported.latents.z_what, _columns(scenes, exported)
    points = _points("scenes", columns, exported.latents.pictures)
    arrays = dict(columns)
    embeddings = [projector.Embedding("z_what", z_what, points)]
    if plots.can_project(z_what):
        with stage("Projecting"):
            pca, tsne = plots.pca(z_what), plots.tsne(z_what, config.tsne_objects, config.seed)
            whitened = projector.Embedding("z_what_whitened", plots.whiten(z_what), points)
        embeddings = [embeddings[0]._replace(bookmarks=(None, tsne)), whitened]
        for name, projection in (("pca", pca), ("tsne", tsne)):
            with stage(f"Drawing {projection.method}"):
                _plot(folder / f"{name}.png", projection, points, knn)
            arrays |= {name: projection.positions, f"{name}_objects": projection.indices}
    if clean is not None:
        clean_columns = _columns(scenes, clean)
        arrays |= {f"clean_{name}": values for name, values in clean_columns.items()}
        clean_points = _points("clean", clean_columns, clean.latents.pictures)
        embeddings.append(projector.Embedding("z_what_clean", clean.latents.z_what, clean_points))
    arrays |= {embedding.name: embedding.vectors for embedding in embeddings}
    with stage("Writing"):
        projector.write(folder, embeddings)
        np.savez_compressed(folder / "embeddings.npz", **arrays)  # type: ignore[arg-type]


def _plot(path: Path, projection: plots.Projection, points: projector.Points, knn: float | None) -> None:
    number, total = len(projection.indices), len(points.pictures)
    part = f"{number:,} of {total:,} objects" if number < total else f"{total:,} objects"
    accuracy = "" if knn is None else f", 5-NN accuracy {100 * knn:.1f} %"
    title = f"{projection.method} of z_what: {part}{accuracy}"
    groups = points.metadata[points.column][projection.indices].astype(str)
    plots.scatter(projection.positions, points.pictures[projection.indices], groups, points.column, title).savefig(path)
