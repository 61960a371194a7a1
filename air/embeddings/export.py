"""Exports z_what of the objects in scenes, for TensorBoard's projector and as plots and arrays.

| file | |
|---|---|
| `projector_config.pbtxt` | names the files below for TensorBoard |
| `z_what.tsv` | posterior means of all exported objects |
| `z_what_whitened.tsv` | the same by PCA, with unit variance in each of the components that make up 99 % of their variance |
| `z_what_clean.tsv` | z_what of the matched digits, each alone on an empty canvas at the same place |
| `metadata_*.tsv`, `sprite_*.png` | a row and a picture for each object: `scenes` for the first two, `clean` for the third |
| `bookmarks_*.json` | the views of the plots, for the projector |
| `pca.png`, `tsne.png` | plots |
| `embeddings.npz` | all vectors, metadata and places of the plots as arrays |

The model attends to a clean digit by itself, rather than being given its crop: its windows have a margin that it chose, and
a crop without one would be unlike anything that its encoder has seen. What differs from z_what in the scene is then the
doing of the neighbours. Where the model finds no object, the digit is left out; where it finds two, the first one counts.

Metadata, as far as known: `digit` (`none` for an object without a true digit), `true_count` and `inferred_count` of its scene,
`matched` to a true digit or not, `step` from 1 on, `presence` probability, `scale` and `shift` of the attention window in
canvas units, its `box` in pixels, and `scene` from 0 on. In those of clean digits, all but `true_count` and `scene` are
about the digit alone.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from air.config import DEFAULT_DATA
from air.data import held_out, mnist, multi_mnist
from air.data.scenes import SceneSet
from air.embeddings import objects, projections, projector, scatter
from air.embeddings.config import OWN_FILES, EmbeddingsConfig
from air.errors import DataError
from air.evaluation import probes
from air.evaluation.config import EvaluationConfig
from air.model.air_model import AIRModel
from air.support.console import stage
from air.support.files import replacing_folder
from air.training import checkpoints


class Found(NamedTuple):
    """The exported objects, K of them."""

    scene: np.ndarray  # [K] position of their scene
    step: np.ndarray  # [K] from 0 on
    attention: objects.Attention  # fields [K, ...]
    truth: np.ndarray | None  # [K] position among the scene's true objects, -1 for none


class Export(NamedTuple):
    """What was exported."""

    scenes: int
    present: int | None  # true objects in the scenes; None where unknown
    inferred: int  # objects
    matched: int | None  # to true objects
    classes: dict[str, tuple[int, int]]  # of each class, objects present and matched
    exported: int  # of the inferred objects
    capacity: int  # most objects that a sprite has room for
    clean: int | None  # of the exported objects, those found again alone; None where the true digits can't be cut out
    knn: float | None  # accuracy of 5 nearest neighbours, as an evaluation measures it
    bank: int  # objects that taught them


def export(
    run: Path,
    output: Path,
    config: EmbeddingsConfig | None = None,
    *,
    data: Path = DEFAULT_DATA,
    mnist_path: Path | None = None,
    overwrite: bool = False,
) -> Export:
    """Writes the folder, as a whole or not at all.

    Args:
        run: a run folder, a folder with `air.keras` or a `.keras` file.
        output: folder to write.
        config: what to export; None for the defaults.
        data: folder of scenes or a file, see `air.data.held_out.load`; `multi_mnist` is made if missing. Needs no labels.
        mnist_path: the digits that the scenes are made of, see `air.data.mnist.load`.
        overwrite: replace a folder of embeddings.

    Raises:
        UsageError: for an output that exists.
        DataError: if the model or the data can't be used, or no object is found.
    """
    config = config or EmbeddingsConfig()
    model = checkpoints.load(run)
    size = model.config.canvas_size
    multi_mnist.ensure(data, size, mnist_path)
    every = np.iinfo(np.int64).max
    known = held_out.load(data, size, config.scenes or every, EvaluationConfig().reference_scenes, None)
    scenes, capacity = known.test, projector.capacity(*model.config.window_size)
    if scenes.labels is not None and scenes.segments is None:
        scenes = held_out.with_segments(scenes, mnist.load(mnist_path))

    with replacing_folder(output, overwrite, OWN_FILES, "embeddings") as folder:
        with stage("Attending to scenes", len(scenes)) as advance:
            attention = objects.attend(model, scenes.images, config.sprite, advance)
        truth = objects.match(attention, scenes, config.distance) if _has(scenes, "count", "boxes") else None
        found = _found(attention, truth, min(config.limit or every, capacity))
        if not len(found.scene):
            raise DataError(f"{data}: {run} finds no object in these {len(scenes)} scenes, so there is nothing to export")
        knn, bank = _knn(model, attention, scenes, known.bank)
        clean = _clean(model, scenes, found, config.sprite)
        _write(folder, scenes, found, clean, knn, config)
    return Export(
        scenes=len(scenes),
        present=None if scenes.count is None else int(scenes.count.sum()),
        inferred=int(attention.count.sum()),
        matched=None if truth is None else int((truth >= 0).sum()),
        classes=_classes(scenes, truth),
        exported=len(found.scene),
        capacity=capacity,
        clean=None if clean is None else len(clean.scene),
        knn=knn,
        bank=bank,
    )


def _has(scenes: SceneSet, *fields: str) -> bool:
    return all(getattr(scenes, field) is not None for field in fields)


def _found(attention: objects.Attention, truth: np.ndarray | None, limit: int) -> Found:
    """The first objects of all scenes, up to the limit."""
    present = np.arange(attention.presence.shape[1]) < attention.count[:, None]
    scene, step = (positions[:limit] for positions in np.nonzero(present))
    return Found(scene, step, attention.at(scene, step), None if truth is None else truth[scene, step])


def _knn(model: AIRModel, attention: objects.Attention, scenes: SceneSet, bank: SceneSet | None) -> tuple[float | None, int]:
    """The 5-NN accuracy that an evaluation reports of these scenes, and the number of objects that it knows."""
    labelled = ("count", "boxes", "labels")
    if bank is None or not _has(bank, *labelled) or not _has(scenes, *labelled):
        return None, 0
    with stage("Attending to training scenes", len(bank)) as advance:
        known = objects.attend(model, bank.images, progress=advance)
    first = slice(EvaluationConfig().scenes)
    with stage("Classifying"):
        teachers = probes.matched_objects(known.count, known.attention_boxes, known.z_what, bank)
        judged = probes.matched_objects(
            attention.count[first], attention.attention_boxes[first], attention.z_what[first], scenes.select(first)
        )
        return probes.classification(teachers, judged).get("knn"), len(teachers.labels)


def _clean(model: AIRModel, scenes: SceneSet, found: Found, picture: objects.Picture) -> Found | None:
    """The true digits of matched objects, as the model sees them alone; None where they can't be cut out."""
    if found.truth is None or not _has(scenes, "segments") or not (found.truth >= 0).any():
        return None
    matched = found.truth >= 0
    scene, truth = found.scene[matched], found.truth[matched]
    with stage("Attending to clean digits", len(scene)) as advance:
        attention = objects.attend(model, objects.alone(scenes, scene, truth), picture, advance)
    seen = attention.count > 0
    if not seen.any():
        return None
    first = np.zeros(seen.sum(), int)
    return Found(scene[seen], first, attention.at(np.flatnonzero(seen), first), truth[seen])


def _classes(scenes: SceneSet, truth: np.ndarray | None) -> dict[str, tuple[int, int]]:
    if truth is None or not _has(scenes, "labels"):
        return {}
    scene, step = np.nonzero(truth >= 0)
    matched = scenes.labels[scene, truth[scene, step]]
    present = scenes.labels[scenes.labels >= 0]
    return {str(label): (int((present == label).sum()), int((matched == label).sum())) for label in np.unique(present)}


def _columns(scenes: SceneSet, found: Found) -> dict[str, np.ndarray]:
    """Metadata as columns of [K]; the projector labels points by the first column of text, or the first of all."""
    attention, truth = found.attention, found.truth
    columns: dict[str, np.ndarray] = {}
    if truth is not None and _has(scenes, "labels"):
        columns["digit"] = np.where(truth < 0, -1, scenes.labels[found.scene, truth])
    if _has(scenes, "count"):
        columns["true_count"] = scenes.count[found.scene]
    if truth is not None:
        columns["matched"] = (truth >= 0).astype(np.uint8)
    columns |= {"inferred_count": attention.count, "step": found.step + 1, "presence": attention.presence}
    columns |= {"scale": attention.scale, "shift_x": attention.shift[:, 0], "shift_y": attention.shift[:, 1]}
    columns |= {f"box_{name}": attention.attention_boxes[:, i] for i, name in enumerate(("x", "y", "width", "height"))}
    return columns | {"scene": found.scene}


def _points(name: str, columns: dict[str, np.ndarray], pictures: np.ndarray) -> projector.Points:
    shown: dict[str, list[Any]] = {}
    for column, values in columns.items():
        if values.dtype.kind == "f":
            shown[column] = [f"{value:.4g}" for value in values.tolist()]
        else:
            shown[column] = ["none" if column == "digit" and value < 0 else value for value in values.tolist()]
    return projector.Points(name, shown, pictures)


def _write(
    folder: Path, scenes: SceneSet, found: Found, clean: Found | None, knn: float | None, config: EmbeddingsConfig
) -> None:
    columns = _columns(scenes, found)
    z_what, points = found.attention.z_what, _points("scenes", columns, found.attention.pictures)
    with stage("Projecting"):
        white = projections.whitened(z_what)
        planes = {"pca": projections.pca(z_what), "tsne": projections.tsne(z_what, config.tsne_objects, config.seed)}
    column = "digit" if "digit" in columns else "step"
    arrays = {"z_what": z_what, **columns}
    embeddings = [_embedding("z_what", z_what, points, column, planes["tsne"])]
    for name, plane in planes.items():
        if plane is not None:
            with stage(f"Drawing {plane.method}"):
                _draw(plane, points, column, knn).savefig(folder / f"{name}.png")
            arrays |= {name: plane.places, f"{name}_objects": plane.points}
    if white is not None:
        arrays["z_what_whitened"] = white
        embeddings.append(_embedding("z_what_whitened", white, points, column))
    if clean is not None:
        of_clean = _columns(scenes, clean)
        arrays |= {"z_what_clean": clean.attention.z_what, **{f"clean_{name}": value for name, value in of_clean.items()}}
        clean_points = _points("clean", of_clean, clean.attention.pictures)
        embeddings.append(_embedding("z_what_clean", clean.attention.z_what, clean_points, column))
    with stage("Writing"):
        projector.write(folder, embeddings)
        np.savez_compressed(folder / "embeddings.npz", **arrays)


def _embedding(
    name: str, vectors: np.ndarray, points: projector.Points, column: str, plane: projections.Plane | None = None
) -> projector.Embedding:
    """An embedding with bookmarks: its PCA, and a plane if given."""
    bookmarks = [projector.bookmark(f"PCA, by {column}", vectors.shape, column)]
    if plane is not None:
        title = f"{plane.method}, by {column}"
        bookmarks.append(projector.bookmark(title, vectors.shape, column, plane.places, plane.points))
    return projector.Embedding(name, vectors, points, bookmarks)


def _draw(plane: projections.Plane, points: projector.Points, column: str, knn: float | None) -> Figure:
    number, total = len(plane.points), len(points.pictures)
    part = f"{number:,} of {total:,} objects" if number < total else f"{total:,} objects"
    accuracy = "" if knn is None else f", 5-NN accuracy {100 * knn:.1f} %"
    groups = np.array([str(value) for value in points.metadata[column]])[plane.points]
    title = f"{plane.method} of z_what: {part}{accuracy}"
    return scatter.scatter(plane.places, points.pictures[plane.points], groups, column, title)


def describe(export: Export) -> str:
    """The numbers of objects, the classes and the accuracy as text of a few lines."""
    lines = [f"{export.scenes:,} scenes: {_numbers(export)}"]
    if export.classes:
        width = max(7, *(len(f"{present:,}") + 1 for present, _ in export.classes.values()))
        rows = {"digit": export.classes, "present": [p for p, _ in export.classes.values()]}
        rows["matched"] = [m for _, m in export.classes.values()]
        lines += [f"  {name:8}" + "".join(f"{value:>{width}}" for value in values) for name, values in rows.items()]
    if export.knn is not None:
        lines.append(f"5-NN accuracy of z_what: {100 * export.knn:.1f} %, taught by {export.bank:,} objects of training scenes")
    elif export.classes:
        lines.append(
            "5-NN accuracy of z_what: not known without labelled training scenes; --data takes a folder with train.npz"
        )
    if export.exported < export.inferred:
        reason = f"; a sprite of {projector.SPRITE_SIDE} pixels a side holds no more" * (export.exported == export.capacity)
        lines.append(f"Cut: exported are the first {export.exported:,} of {export.inferred:,} objects{reason}")
    if export.clean is not None:
        lines.append(f"Clean: {export.clean:,} of the matched digits were found again alone on an empty canvas")
    return "\n".join(lines)


def _numbers(export: Export) -> str:
    known = [(export.present, "objects present"), (export.inferred, "inferred"), (export.matched, "matched")]
    return ", ".join(f"{number:,} {what}" for number, what in known if number is not None)
