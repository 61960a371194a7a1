"""A recording of the model's attention to some scenes, small enough to lie beside its weights.

    python -m air.evaluation.attract --model model

The demo shows it while TensorFlow loads. Reading it needs NumPy only.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import tyro

from air.config import DEFAULT_MODEL, find_model
from air.errors import AIRError, DataError
from air.evaluation import recognition
from air.support import arrays, cli, files
from air.training import checkpoints

if TYPE_CHECKING:  # the demo opens its window before TensorFlow is loaded
    from air.model import AIRModel

ATTRACT = "attract.npz"  # in a folder such as model/
SCENES = 12
TRIED = 100  # scenes, of which the first SCENES with the right number of objects are kept
MAX_BYTES = 1 << 24  # of the arrays of a recording


class RecordedScene(NamedTuple):
    """One scene of T steps as the model saw it: the fields of `air.Scenes` that can be shown, and the objects' classes."""

    image: np.ndarray  # [H, W] uint8
    count: int  # type: ignore[assignment]
    presence: np.ndarray  # [T]
    attention_boxes: np.ndarray  # [T, 4]
    decoded_windows: np.ndarray  # [T, h, w] in [0, 1]
    objects: np.ndarray  # [T, H, W] each object on a canvas of its own, in [0, 1]
    labels: tuple[int, ...]  # of the first `count` objects; empty without a reference set
    confidences: tuple[float, ...]

    @property
    def reconstruction(self) -> np.ndarray:
        """[H, W] all objects on one canvas, in [0, 1]."""
        return np.clip(self.objects.sum(axis=0), 0, 1)


@dataclasses.dataclass(frozen=True)
class Arguments:
    model: Annotated[Path, tyro.conf.arg(metavar="PATH")] = DEFAULT_MODEL
    """Folder with air.keras and, if digits are to be named, a reference set; the recording is written into it."""


def record(model: "AIRModel", images: np.ndarray, reference_set: recognition.ReferenceSet | None = None) -> list[RecordedScene]:
    """Infer scenes from images [N, H, W] uint8, with posterior means."""
    scenes = model.infer(images)
    fields = (scenes.count, scenes.presence, scenes.attention_boxes, scenes.decoded_windows, scenes.objects, scenes.z_what)
    recorded = []
    for image, count, presence, boxes, windows, objects, z_what in zip(images, *fields, strict=True):
        named: Sequence[np.ndarray] = (np.zeros(0), np.zeros(0))
        if reference_set is not None and count:
            named = reference_set.predict(z_what[:count])
        labels, confidences = (tuple(field.tolist()) for field in named)
        recorded.append(RecordedScene(image, int(count), presence, boxes, windows, objects, labels, confidences))
    return recorded


def save(path: str | os.PathLike[str], scenes: Sequence[RecordedScene]) -> None:
    """Write an .npz file atomically; pictures are kept in 256 grey values."""
    classes = np.full((len(scenes), len(scenes[0].presence)), -1, np.int8)
    confidences = np.zeros(classes.shape, np.float16)
    for i, scene in enumerate(scenes):
        classes[i, : len(scene.labels)], confidences[i, : len(scene.labels)] = scene.labels, scene.confidences
    fields: dict[str, Any] = {
        name: np.stack([getattr(scene, name) for scene in scenes])
        for name in ("image", "count", "presence", "attention_boxes", "decoded_windows", "objects")
    }
    for name in ("decoded_windows", "objects"):
        fields[name] = np.rint(255 * fields[name]).astype(np.uint8)
    fields |= {"labels": classes, "confidences": confidences}
    files.write_atomically(Path(path), lambda temporary: np.savez_compressed(temporary, **fields))


def load(path: str | os.PathLike[str]) -> list[RecordedScene]:
    """Read a file written by `save`; raise DataError if it is missing, damaged or not a recording."""
    fields = arrays.read_arrays(path, list(RecordedScene._fields), limit=MAX_BYTES)
    lengths = {len(field) if field.ndim else 0 for field in fields.values()}
    shapes = {name: field.ndim for name, field in fields.items()}
    expected = dict(zip(RecordedScene._fields, (3, 1, 2, 3, 4, 4, 2, 2), strict=True))
    if len(lengths) != 1 or shapes != expected:
        raise DataError(f"{path}: arrays of {shapes} dimensions are not allowed; a recording has {expected}")
    scenes = []
    for image, count, presence, boxes, windows, objects, labels, confidences in zip(*fields.values(), strict=True):
        known = labels >= 0
        pictures = (field.astype(np.float32) / 255 for field in (windows, objects))
        named = (tuple(field[known].tolist()) for field in (labels, confidences))
        scenes.append(RecordedScene(image, int(count), presence, boxes, *pictures, *named))
    return scenes


def record_test_scenes(folder: Path) -> None:
    """Write the recording of a model in a folder, of new scenes of MNIST's test digits."""
    from air.data import mnist
    from air.data.generator import Digits, GeneratorConfig, generate

    model = checkpoints.load(folder)
    path = folder / recognition.REFERENCE_SET
    reference_set = recognition.ReferenceSet.load(path) if path.is_file() else None
    source = mnist.load()
    digits = Digits.from_images(source.test_images, source.test_labels)
    config = GeneratorConfig(canvas_size=model.config.canvas_size)
    rng = np.random.default_rng(0)
    counts = 1 + (np.arange(TRIED) + 1) % config.max_digits  # two, one, two ...
    made = generate(config, digits, counts, rng)
    recorded = record(model, made.images, reference_set)
    right = [scene for scene, count in zip(recorded, made.count, strict=True) if scene.count == count]
    if not right:
        raise AIRError(f"{folder}: the model counts no scene right")
    save(folder / ATTRACT, right[:SCENES])


def main() -> None:
    arguments = cli.parse(Arguments, __doc__)
    folder = find_model(arguments.model)
    if not folder.is_dir():
        raise DataError(f"{folder}: not a folder; the recording is written beside the weights of one")
    with cli.quiet_import():
        from air.model import AIRModel  # noqa: F401
    record_test_scenes(folder)
    print(f"{folder / ATTRACT}: {(folder / ATTRACT).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    cli.run(main)
