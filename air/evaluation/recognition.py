"""Names what an object is from its z_what, by its nearest neighbours in a small labelled bank.

    python -m air.evaluation.recognition model --data multi_mnist     # writes model/reference_set.npz for model/air.keras

    bank = recognition.build(model, SceneSet.load("multi_mnist/train.npz"))
    bank.save("model/reference_set.npz")
    labels, confidences = bank.predict(scenes.z_what[0, :2])

AIR itself never sees a label: the bank holds z_what of objects that it found on its own, and the labels of the true ones there.
"""

import dataclasses
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

from air.data.scenes import SceneSet
from air.errors import DataError, UsageError
from air.evaluation import probes
from air.support import cli, files
from air.support.arrays import read_arrays
from air.training import checkpoints

if TYPE_CHECKING:
    from air.model.air_model import AIRModel

BANK = "reference_set.npz"  # in a folder such as model/
PER_CLASS = 400  # members of each class; more make the file and the demo's start slower for 1-2 % of accuracy
MAX_PER_CLASS = 1_000_000
NEIGHBOURS = 10
LIMIT = 1 << 28  # bytes of a bank that is read


@dataclasses.dataclass(frozen=True, eq=False)
class Bank:
    """Latent vectors whose class is known, K of them.

    Raises:
        DataError: at construction, for arrays of impossible shapes, types or values.
    """

    z_what: np.ndarray
    """[K, Z] float16: posterior means."""
    labels: np.ndarray
    """[K] int8: the classes, from 0 on."""
    fingerprint: int
    """Of the weights that inferred them, see `fingerprint`."""

    def __post_init__(self) -> None:
        z_what, labels = self.z_what, self.labels
        if z_what.ndim != 2 or not z_what.size or z_what.dtype.kind != "f" or not np.isfinite(z_what).all():
            raise DataError(f"z_what: {z_what.dtype} of shape {z_what.shape} is not allowed; it must be finite floats [K, Z]")
        if labels.shape != z_what.shape[:1] or labels.dtype.kind not in "ui" or labels.min() < 0 or labels.max() > 127:
            raise DataError(
                f"labels: {labels.dtype} of shape {labels.shape} is not allowed; it must be integers from 0 to 127, [K]"
            )
        if np.abs(z_what).max() > np.finfo(np.float16).max:
            raise DataError(f"z_what: {np.abs(z_what).max()} is not allowed; it must fit in float16")
        object.__setattr__(self, "z_what", z_what.astype(np.float16))
        object.__setattr__(self, "labels", labels.astype(np.int8))
        object.__setattr__(self, "_members", self.z_what.astype(np.float32))
        object.__setattr__(self, "_squares", np.square(self._members).sum(axis=1))

    def predict(self, z_what: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The classes of objects.

        Args:
            z_what: [N, Z].

        Returns:
            The likeliest class [N], and its share of the nearest neighbours' votes [N], which are weighted by 1 / distance.
        """
        z_what = np.asarray(z_what, np.float32)
        squares = np.square(z_what).sum(axis=1)[:, None] - 2.0 * z_what @ self._members.T + self._squares
        neighbours = min(NEIGHBOURS, len(self.labels))
        nearest = np.argpartition(squares, neighbours - 1, axis=1)[:, :neighbours]
        weights = 1.0 / (np.sqrt(np.maximum(np.take_along_axis(squares, nearest, axis=1), 0.0)) + 1e-3)
        votes = np.zeros((len(z_what), int(self.labels.max()) + 1), np.float32)
        np.add.at(votes, (np.arange(len(z_what))[:, None], self.labels[nearest]), weights)
        votes /= np.maximum(votes.sum(axis=1, keepdims=True), 1e-12)
        return votes.argmax(axis=1), votes.max(axis=1)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an .npz file, as a whole or not at all."""
        arrays = {"z_what": self.z_what, "labels": self.labels, "fingerprint": np.array(self.fingerprint, np.uint32)}
        files.write_atomically(Path(path), lambda temporary: np.savez_compressed(temporary, **arrays))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Bank":
        """Reads a file of `save`.

        Raises:
            DataError: for a file that is missing, damaged or not a bank.
        """
        arrays = read_arrays(path, ["z_what", "labels", "fingerprint"], limit=LIMIT)
        if arrays["fingerprint"].shape or arrays["fingerprint"].dtype.kind not in "ui":
            raise DataError(f"{path}: fingerprint: must be one integer")
        try:
            return cls(arrays["z_what"], arrays["labels"], int(arrays["fingerprint"]))
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    def check(self, model: "AIRModel") -> None:
        """Raises DataError if other weights than this model's inferred the bank: their z_what have nothing in common."""
        if self.fingerprint != fingerprint(model) or self.z_what.shape[1] != model.config.z_what_size:
            raise DataError("the bank was made with other weights; make it again with: python -m air.evaluation.recognition")


def fingerprint(model: "AIRModel") -> int:
    """A checksum of the weights that decide z_what."""
    checksum = 0
    for part in model.parts:  # the decoder's too, by the second look
        for weight in part.get_weights():
            checksum = zlib.crc32(np.ascontiguousarray(weight), checksum)
    return checksum


def build(model: "AIRModel", scenes: SceneSet, per_class: int = PER_CLASS, batch_size: int = 500) -> Bank:
    """Makes a bank with equally many members of each class.

    Args:
        model: infers them.
        scenes: of training digits, with counts, boxes and labels; as many are looked at as are needed.
        per_class: members of each class; fewer where the scenes don't have as many.
        batch_size: scenes at a time.

    Raises:
        UsageError: if per_class is not from 1 to 1,000,000.
        DataError: if the scenes have another canvas size or no labels, or the model finds no object in them.
    """
    _check_per_class(per_class)
    missing = [name for name in ("count", "boxes", "labels") if getattr(scenes, name) is None]
    if missing:
        raise DataError(f"the scenes have no {missing[0]}; a bank needs counts, boxes and labels")
    if scenes.canvas_size != model.config.canvas_size:
        raise DataError(f"scenes of {scenes.canvas_size} pixels don't fit the model's canvas_size {model.config.canvas_size}")
    classes = np.unique(scenes.labels[scenes.labels >= 0])
    z_what = np.zeros((0, model.config.z_what_size), np.float32)
    labels = np.zeros(0, np.int8)
    for start in range(0, len(scenes), batch_size):
        batch = scenes.select(slice(start, start + batch_size))
        inferred = model.infer(batch.images)
        fields = inferred.count, inferred.attention_boxes, inferred.z_what
        right = (inferred.count == batch.count) & (batch.count > 0)  # elsewhere a match may be no more than the nearest
        if not right.any():
            continue
        found = probes.matched_objects(*(field[right] for field in fields), batch.select(right))
        z_what, labels = np.concatenate([z_what, found.z_what]), np.concatenate([labels, found.labels])
        if all((labels == label).sum() >= per_class for label in classes):
            break
    if not len(labels):
        raise DataError("the model finds no object in these scenes")
    members = np.concatenate([np.flatnonzero(labels == label)[:per_class] for label in classes])
    return Bank(z_what[members], labels[members], fingerprint(model))


def _check_per_class(per_class: int) -> None:
    if not 1 <= per_class <= MAX_PER_CLASS:
        raise UsageError(f"per_class: {per_class} is not allowed; it must be from 1 to {MAX_PER_CLASS}")


@dataclasses.dataclass(frozen=True)
class Arguments:
    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")] = Path("model")
    """Folder with air.keras, a run folder or a .keras file; reference_set.npz is written beside it."""
    data: Annotated[Path, tyro.conf.arg(metavar="PATH")] = Path("multi_mnist")
    """Folder with train.npz, or one file of labelled scenes of training digits."""
    per_class: int = PER_CLASS
    """Members of each class."""


def bank_path(model: Path) -> Path:
    """Where the bank of a model belongs: in its folder."""
    return (model if model.is_dir() else model.parent) / BANK


def main(args: Any = None) -> None:
    arguments = cli.parse(Arguments, __doc__, args)
    _check_per_class(arguments.per_class)  # here, because a mistake should not wait for TensorFlow
    scenes = SceneSet.load(arguments.data / "train.npz" if arguments.data.is_dir() else arguments.data)
    with cli.quiet_import():
        pass
    model = checkpoints.load(arguments.model)
    bank = build(model, scenes, arguments.per_class)
    path = bank_path(arguments.model)
    bank.save(path)
    print(f"{path}: {len(bank.labels):,} objects of {len(np.unique(bank.labels))} classes, {path.stat().st_size >> 10} KB")


if __name__ == "__main__":
    cli.run(main)
