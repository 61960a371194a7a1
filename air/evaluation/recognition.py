"""Make model/reference_set.npz, the labelled objects among which the demo looks for nearest neighbours.

    python -m air.evaluation.recognition model --data multi_mnist

AIR itself never sees a label: it found the objects of the reference set on its own, and they were labelled afterwards.
"""

import dataclasses
import functools
import itertools
import math
import os
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

from air.data.multi_mnist import ensure, find_scenes
from air.data.scenes import SceneSet
from air.errors import DataError, UsageError
from air.support import arrays, cli, files
from air.training import checkpoints

if TYPE_CHECKING:  # the demo opens its window before TensorFlow, SciPy and scikit-learn are loaded
    from air.model import AIRModel, Scenes

REFERENCE_SET = "reference_set.npz"  # in a folder such as model/
PER_CLASS = 400  # objects of each class, and as many small ones; more would slow down the demo's start, for 1-2 % of accuracy
NEIGHBOURS = 10
SHRINK_FACTORS = (0.6, 0.7, 0.8, 0.9)  # of the scenes that are added for the sake of small objects
SHRUNK_BATCH = 100  # scenes
FAMILIAR = 0.985  # fraction of the reference set's own objects that count as familiar
MEASURED = 1000  # objects of the set, about, whose distances to the others are measured
BLUR = 1.0  # std in pixels of a window, so that a stroke that is slightly off or thicker still matches
MAX_BYTES = 1 << 28  # of the arrays of a reference set


@dataclasses.dataclass(frozen=True, eq=False)
class ReferenceSet:
    """Inferred objects of known class, K of them."""

    z_what: np.ndarray  # [K, Z] float16, posterior means
    labels: np.ndarray  # [K] int8, classes from 0 on
    fingerprint: int  # of the weights that inferred the objects
    mismatch: np.ndarray | None = None  # [K] float16, see `mismatch`; None in older files

    def predict(self, z_what: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Classify objects [N, Z] by their nearest neighbours, whose votes weigh 1 / distance: classes and confidences, [N]."""
        return self.recognise(z_what)[:2]

    def recognise(self, z_what: np.ndarray, mismatch: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Classify objects [N, Z] as `predict` does, and tell which resemble those of the set at all.

        Those are as near to their neighbours as all but a few objects of the set are to theirs, and as well reconstructed.
        Only the first counts if their mismatch or that of the set is missing.

        Args:
            z_what: [N, Z].
            mismatch: [N], see `mismatch`.

        Returns:
            Classes, confidences, and whether each object is familiar, [N] bool.
        """
        distances, nearest = self._nearest(z_what, NEIGHBOURS)
        is_familiar = distances.mean(axis=1) <= self.max_distance
        if mismatch is not None and self.mismatch is not None:
            is_familiar &= mismatch <= np.quantile(np.float32(self.mismatch), FAMILIAR)
        votes = np.einsum("nk,nkc->nc", 1 / (distances + 1e-3), np.eye(self.labels.max() + 1)[self.labels[nearest]])
        votes /= votes.sum(axis=1, keepdims=True)
        return votes.argmax(axis=1), votes.max(axis=1), is_familiar

    @functools.cached_property
    def max_distance(self) -> float:
        """The quantile FAMILIAR of the mean distance between an object of the set and its nearest neighbours in it."""
        some = self.z_what[:: max(1, len(self.z_what) // MEASURED)]
        distances, _ = self._nearest(some, NEIGHBOURS + 1)  # the nearest is the object itself
        return float(np.quantile(distances.sum(axis=1) / max(distances.shape[1] - 1, 1), FAMILIAR))

    def _nearest(self, z_what: np.ndarray, neighbours: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest neighbours of objects [N, Z], in any order: distances and indices in the set, [N, neighbours]."""
        from scipy.spatial.distance import cdist

        distances = cdist(z_what, self.z_what)
        nearest = distances.argpartition(min(neighbours, len(self.z_what)) - 1, axis=1)[:, :neighbours]
        return np.take_along_axis(distances, nearest, axis=1), nearest

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an .npz file atomically."""
        fields = {"z_what": self.z_what, "labels": self.labels, "fingerprint": np.uint32(self.fingerprint)}
        if self.mismatch is not None:
            fields["mismatch"] = self.mismatch
        files.write_atomically(Path(path), lambda temporary: np.savez_compressed(temporary, **fields))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "ReferenceSet":
        """Read a file written by `save`; raise DataError if it is missing, damaged or not a reference set."""
        fields = arrays.read_arrays(path, ["z_what", "labels", "fingerprint"], ["mismatch"], limit=MAX_BYTES)
        z_what, labels, fingerprint, mismatch = (fields.get(name) for name in ("z_what", "labels", "fingerprint", "mismatch"))
        if z_what.ndim != 2 or not z_what.size or z_what.dtype.kind != "f" or not np.isfinite(z_what).all():
            raise DataError(f"{path}: z_what: {z_what.dtype} {z_what.shape} is not allowed; it must be finite floats [K, Z]")
        if labels.shape != z_what.shape[:1] or not np.isin(labels, range(128)).all():
            raise DataError(f"{path}: labels: {labels.dtype} {labels.shape} is not allowed; it must be integers 0 to 127, [K]")
        if fingerprint.shape or fingerprint.dtype.kind not in "ui":
            raise DataError(f"{path}: fingerprint: an array of {fingerprint.dtype} is not allowed; it must be one integer")
        if mismatch is not None and (mismatch.shape != labels.shape or not np.isfinite(mismatch).all()):
            raise DataError(f"{path}: mismatch: {mismatch.dtype} {mismatch.shape} is not allowed; it must be finite floats [K]")
        mismatch = None if mismatch is None else mismatch.astype(np.float16)
        return cls(z_what.astype(np.float16), labels.astype(np.int8), int(fingerprint), mismatch)

    def check(self, model: "AIRModel") -> None:
        """Raise DataError if other weights than this model's inferred the objects: their z_what would not be comparable."""
        if self.fingerprint != fingerprint(model) or self.z_what.shape[1] != model.config.z_what_size:
            raise DataError(f"the reference set belongs to other weights; make it again with: {command('MODEL')}")


def command(model: object) -> str:
    """Return the command line that makes a model's reference set."""
    return shlex.join(["python", "-m", "air.evaluation.recognition", str(model)])


def fingerprint(model: "AIRModel") -> int:
    """Compute a checksum of the weights that determine z_what; the decoder's do too, through the second look."""
    return arrays.checksum(*(weight for part in model.parts for weight in part.get_weights()))


def mismatch(images: np.ndarray, scenes: "Scenes") -> np.ndarray:
    """Measure how badly each object of scenes is reconstructed, from 0 (perfectly) to 1.

    It is 1 minus the cosine similarity of the image and the reconstruction in the object's attention window, both blurred. At
    any size of the object it compares as many pixels, those that the encoder reads.

    Args:
        images: [B, H, W] or [B, H, W, C] in [0, 1].
        scenes: inferred from them.

    Returns:
        [B, T].
    """
    from scipy.ndimage import gaussian_filter

    z_where, window_size = scenes.z_where, scenes.decoded_windows.shape[2:4]
    crop = _compiled_crop(images.ndim)
    seen, painted = (
        gaussian_filter(crop(np.float32(canvas)[:, None], z_where, window_size).numpy(), BLUR, axes=(2, 3))
        for canvas in (images, scenes.reconstruction)
    )
    pixels = tuple(range(2, seen.ndim))
    product, *squares = ((a * b).sum(axis=pixels) for a, b in ((seen, painted), (seen, seen), (painted, painted)))
    return 1.0 - product / np.sqrt(np.maximum(np.multiply(*squares), 1e-12))


@functools.cache
def _compiled_crop(rank: int) -> Callable[..., Any]:
    """Return a compiled `crop` for canvases of any size and of so many axes: grey and coloured ones can't share a trace."""
    import tensorflow as tf

    from air.model import transformer

    return tf.function(transformer.crop, autograph=False, reduce_retracing=True)


def build(model: "AIRModel", scenes: SceneSet, per_class: int = PER_CLASS, batch_size: int = 500) -> ReferenceSet:
    """Make a reference set with `per_class` objects of each class, inferring scenes only until there are as many.

    If the model finds objects of any size, as many are added of scenes that are shrunk by several factors, half of them with
    thicker strokes: a pen's stroke is no thinner in a small digit, and small objects are blurred when they are enlarged for the
    encoder.

    Raises:
        DataError: if the scenes have no labels or a canvas that the model doesn't take, or if it finds no object in them.
    """
    missing = [name for name in ("count", "boxes", "labels") if getattr(scenes, name) is None]
    if missing:
        raise DataError(f"the scenes have no {missing[0]}; a reference set needs counts, boxes and labels")
    if scenes.canvas_size != model.config.canvas_size and not model.config.takes_any_canvas:
        raise DataError(f"scenes of {scenes.canvas_size} pixels don't fit the model's canvas_size {model.config.canvas_size}")
    classes = np.unique(scenes.labels[scenes.labels >= 0])
    parts = [_describe(model, _batches(scenes, batch_size), False, classes, per_class)]
    factors = _factors(model, scenes.canvas_size) if model.config.takes_any_size else []
    ways = list(itertools.product(factors, (False, True)))
    for i, way in enumerate(ways, 1):
        first = i * len(scenes) // (len(ways) + 1)  # others in each way, if there are enough
        shrunk = (_shrink(batch, *way) for batch in _batches(scenes, SHRUNK_BATCH, first))
        parts.append(_describe(model, shrunk, True, classes, -(-per_class // len(ways))))
    described, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    if not len(labels):
        raise DataError("the model finds no object in these scenes")
    return ReferenceSet(described[:, :-1].astype(np.float16), labels, fingerprint(model), described[:, -1].astype(np.float16))


def _batches(scenes: SceneSet, size: int, first: int = 0) -> Iterator[SceneSet]:
    """Divide scenes, the first one first and those before it last."""
    order = np.roll(np.arange(len(scenes)), -first)
    return (scenes.select(order[start : start + size]) for start in range(0, len(scenes), size))


def _describe(
    model: "AIRModel", batches: Iterable[SceneSet], any_size: bool, classes: np.ndarray, per_class: int
) -> tuple[np.ndarray, np.ndarray]:
    """Infer scenes until `per_class` objects of each class are found: [K, Z + 1] z_what and mismatch, and labels [K]."""
    from air.evaluation import probes  # here, for the demo's sake: see above

    objects = np.zeros((0, model.config.z_what_size + 1), np.float32)
    labels = np.zeros(0, np.int8)
    for batch in batches:
        inferred = model.infer(batch.images, any_size=any_size)
        correct = inferred.count == batch.count  # elsewhere a match may be of different objects
        if not correct.any():
            continue
        described = np.concatenate([inferred.z_what, mismatch(batch.images / np.float32(255), inferred)[..., None]], axis=-1)
        fields = (inferred.count, inferred.attention_boxes, described)
        found = probes.matched_objects(*(field[correct] for field in fields), batch.select(correct))  # type: ignore[call-arg]
        objects, labels = np.concatenate([objects, found.z_what]), np.concatenate([labels, found.labels])
        if all((labels == label).sum() >= per_class for label in classes):
            break
    picked = np.concatenate([np.zeros(0, int), *(np.flatnonzero(labels == label)[:per_class] for label in classes)])
    return objects[picked], labels[picked].astype(np.int8)


def _factors(model: "AIRModel", canvas_size: tuple[int, int]) -> list[float]:
    """Return SHRINK_FACTORS, or the least that leave a canvas large enough for the model; none if it is small already."""
    least = max(np.divide(model.config.smallest_canvas, canvas_size).tolist())
    return sorted({max(factor, least) for factor in SHRINK_FACTORS if least < 1})


def _shrink(scenes: SceneSet, factor: float, thicker: bool) -> SceneSet:
    """Scale grey scenes, perhaps with strokes two pixels thicker."""
    from scipy.ndimage import generate_binary_structure, grey_dilation

    from air.model import transformer

    size = [math.ceil(round(factor * side, 3)) for side in scenes.canvas_size]
    images = grey_dilation(scenes.images, footprint=generate_binary_structure(2, 1)[None]) if thicker else scenes.images
    images = np.rint(transformer.resize(np.float32(images), size)).astype(np.uint8)
    height, width = np.divide(size, scenes.canvas_size)
    boxes = scenes.boxes * np.array([width, height, width, height], np.float32)
    return dataclasses.replace(scenes, images=images, boxes=boxes, segments=None)


def reference_set_path(model: str | os.PathLike[str]) -> Path:
    """Return the path of a model's reference set, which is beside its weights."""
    model = Path(model)
    path = (model if model.is_dir() else model.parent) / REFERENCE_SET
    older = path.with_name("bank.npz")
    return older if older.exists() and not path.exists() else path


@dataclasses.dataclass(frozen=True)
class Arguments:
    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")] = Path("model")
    """Folder with air.keras, a run folder or a .keras file; reference_set.npz is written beside it."""
    data: Annotated[Path, tyro.conf.arg(metavar="PATH")] = Path("multi_mnist")
    """Folder with train.npz, or one file of labelled scenes of training digits; multi_mnist is made if it is missing."""
    per_class: int = PER_CLASS
    """Objects of each class; as many small ones are added if the model finds objects of any size."""


def main(args: list[str] | None = None) -> None:
    arguments = cli.parse(Arguments, __doc__, args)
    if not 1 <= arguments.per_class <= 1_000_000:
        raise UsageError(f"per_class: {arguments.per_class} is not allowed; it must be from 1 to 1000000")
    with cli.quiet_import():
        from air.model import air_model  # noqa: F401
    model = checkpoints.load(arguments.model)
    ensure(arguments.data, model.config.canvas_size)
    reference_set = build(model, SceneSet.load(find_scenes(arguments.data, "train")), arguments.per_class)
    path = reference_set_path(arguments.model).with_name(REFERENCE_SET)
    reference_set.save(path)
    classes = len(np.unique(reference_set.labels))
    print(f"{path}: {len(reference_set.labels):,} objects of {classes} classes, {path.stat().st_size >> 10} KB")


if __name__ == "__main__":
    cli.run(main)
