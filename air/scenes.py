"""Scenes: what a data set is, its file, and the pipeline that feeds it to a model.

    scenes = SceneSet.load("multi_mnist/train.npz")
    batches = pipeline(scenes, batch_size=64, seed=0)            # endless; yields (images, counts)
    batches = pipeline(scenes, batch_size=64, seed=0, start_step=1000)   # the same from its 1,001st batch on

The file is an .npz archive of the fields of `SceneSet` and the number `version`, now 1. A file without `version` is
fine too, as is an .npy file with images only: pictures of any origin can be trained on.
"""

import contextlib
import dataclasses
import os
import secrets
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from air.errors import DataError, UsageError
from air.mnist import read_arrays

if TYPE_CHECKING:
    import tensorflow as tf

VERSION = 1
LIMIT = 8 << 30
"""Most bytes of a data set."""
MOST_OBJECTS = 255
"""Of one scene."""


@dataclasses.dataclass(frozen=True, eq=False)
class SceneSet:
    """Scenes and, as far as known, what is in them; N scenes of at most M objects on a canvas of [H, W] pixels.

    Only images are needed. The other fields describe each scene's first `counts` objects and are padded up to M.
    Arrays of other number types are converted on construction; images may be floats in [0, 1].

    Raises:
        DataError: at construction, for a field with an impossible shape, type or value.
    """

    images: np.ndarray
    """[N, H, W] uint8."""
    counts: np.ndarray | None = None
    """[N] uint8: objects in each scene."""
    boxes: np.ndarray | None = None
    """[N, M, 4] float32: x, y (of the upper left corner), width and height of each object in pixels; padded with 0."""
    labels: np.ndarray | None = None
    """[N, M] int8: what each object is, from 0 on; padded with -1."""
    indices: np.ndarray | None = None
    """[N, M] int32: which image of MNIST's split each object is; padded with -1."""
    segments: np.ndarray | None = None
    """[N, H, W] uint8: which object each pixel shows, counted from 1; 0 for the background."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", _as_pixels(np.asarray(self.images)))
        for name, (shape, kinds, dtype, least, most) in _FIELDS.items():
            if getattr(self, name) is not None:
                field = np.asarray(getattr(self, name))
                _check_shape(name, field, len(self), shape, kinds)
                _check_range(name, field, least, most)
                object.__setattr__(self, name, field.astype(dtype, copy=False))
        self._check_slots()
        self._check_boxes()
        self._check_segments()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def canvas_size(self) -> tuple[int, int]:
        """Height and width of the scenes, in pixels."""
        return self.images.shape[1], self.images.shape[2]

    def select(self, which: Any) -> "SceneSet":
        """Some of the scenes: those of a boolean mask [N], an array of positions or a slice."""
        return SceneSet(*(None if field is None else field[which] for field in self._arrays().values()))

    def checksum(self) -> int:
        """CRC-32 of the images and the counts."""
        checksum = zlib.crc32(np.ascontiguousarray(self.images), zlib.crc32(str(self.images.shape).encode()))
        return checksum if self.counts is None else zlib.crc32(np.ascontiguousarray(self.counts), checksum)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an .npz file that is there as a whole or not at all; the same scenes always give the same bytes.

        Raises:
            DataError: when the file can't be written; what was there before is then untouched.
        """
        arrays = {"version": np.array(VERSION), **self._arrays()}
        with (
            _replacing(path) as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive,
        ):
            for name, array in arrays.items():
                if array is not None:
                    # A ZipInfo of its own has a fixed date, which keeps the bytes the same.
                    info = zipfile.ZipInfo(f"{name}.npy")
                    info.compress_type = zipfile.ZIP_DEFLATED
                    info.external_attr = 0o644 << 16
                    with archive.open(info, "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, array, allow_pickle=False)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "SceneSet":
        """Reads a file of scenes: one of `save`, an .npz file with at least `images`, or an .npy file of images.

        Raises:
            DataError: for a file that is missing, damaged or doesn't hold scenes; it names the file and the field.
        """
        arrays = read_arrays(path, ["images"], ["version", *_FIELDS], limit=LIMIT)
        version = arrays.pop("version", np.array(VERSION))
        if version.shape or version != VERSION:
            raise DataError(f"{path}: version: {version!s:.40} is not allowed; only version {VERSION} can be read")
        try:
            return cls(**arrays)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    def _arrays(self) -> dict[str, np.ndarray | None]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def _check_slots(self) -> None:
        """Fields with a slot for each object must agree on M, and on which slots are padding."""
        fields = {name: getattr(self, name) for name in ("boxes", "labels", "indices")}
        slotted = {name: array for name, array in fields.items() if array is not None}
        rooms = {name: array.shape[1] for name, array in slotted.items()}
        if len(set(rooms.values())) > 1:
            listed = ", ".join(f"{name} for {room}" for name, room in rooms.items())
            raise DataError(f"{listed}: these rooms for objects are not allowed; they must be the same")
        for name, room in rooms.items():
            if room > MOST_OBJECTS:
                raise DataError(f"{name}: room for {room} objects is not allowed; a scene has at most {MOST_OBJECTS}")
        for name, array in slotted.items() if self.counts is not None else ():
            slots = rooms[name]
            if self.counts.max() > slots:
                raise DataError(f"counts: {self.counts.max()} is not allowed; {name} has room for {slots} objects")
            filled = (array[..., 2] > 0) & (array[..., 3] > 0) if name == "boxes" else array >= 0
            wrong = (filled != (np.arange(slots) < self.counts[:, None])).any(axis=1)
            if wrong.any():
                scene = int(wrong.argmax())
                raise DataError(
                    f"{name}: scene {scene} has {filled[scene].sum()} objects, but its count is {self.counts[scene]}"
                )

    def _check_boxes(self) -> None:
        if self.boxes is None:
            return
        height, width = self.canvas_size
        far = self.boxes[..., :2] + self.boxes[..., 2:]
        outside = (far > np.array([width, height]) + 1e-3).any(axis=-1)  # boxes may have been rounded
        if outside.any():
            scene, slot = np.argwhere(outside)[0].tolist()
            box = tuple(self.boxes[scene, slot].tolist())
            raise DataError(f"boxes: {box} of scene {scene} is not allowed; the canvas has {width}x{height} pixels")

    def _check_segments(self) -> None:
        if self.segments is None:
            return
        if self.segments.shape != self.images.shape:
            raise DataError(
                f"segments: shape {self.segments.shape} is not allowed; it must be that of images {self.images.shape}"
            )
        most = self.segments.max(axis=(1, 2))
        if self.counts is not None and (most > self.counts).any():
            scene = int((most > self.counts).argmax())
            raise DataError(f"segments: scene {scene} has object {most[scene]}, but its count is {self.counts[scene]}")


# Shape after [N] (None: any), kinds of number, type that is kept, least and greatest value.
_FIELDS: dict[str, tuple[tuple[int | None, ...], str, type, int, int]] = {
    "counts": ((), "ui", np.uint8, 0, 255),
    "boxes": ((None, 4), "uif", np.float32, 0, 65535),
    "labels": ((None,), "ui", np.int8, -1, 127),
    "indices": ((None,), "ui", np.int32, -1, 2**31 - 1),
    "segments": ((None, None), "ui", np.uint8, 0, 255),
}


def _check_shape(name: str, field: np.ndarray, scenes: int, shape: tuple[int | None, ...], kinds: str) -> None:
    expected = (scenes, *shape)
    fits = field.ndim == len(expected) and all(b is None or a == b for a, b in zip(field.shape, expected, strict=True))
    if not fits or field.dtype.kind not in kinds:
        allowed = ", ".join("M" if size is None else str(size) for size in expected)
        number = "numbers" if "f" in kinds else "integers"
        raise DataError(
            f"{name}: {field.dtype} of shape {field.shape} is not allowed; it must be {number} of shape [{allowed}]"
        )


def _check_range(name: str, field: np.ndarray, least: float, most: float) -> None:
    if not field.size:
        return
    for extreme in (field.min(), field.max()):
        if not least <= extreme <= most:  # which a NaN isn't either
            raise DataError(f"{name}: {extreme} is not allowed; values must be in [{least}, {most}]")


def _as_pixels(images: np.ndarray) -> np.ndarray:
    """Images [N, H, W] as uint8."""
    if images.ndim != 3 or not images.size:
        raise DataError(f"images: shape {images.shape} is not allowed; it must be [scenes, height, width]")
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise DataError(f"images: type {images.dtype} is not allowed; it must be uint8, or float in [0, 1]")
    pixels = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), 1024):  # in parts, as a copy of all would be several times the result
        part = images[start : start + 1024]
        _check_range("images", part, 0, 1)
        pixels[start : start + 1024] = np.rint(part.astype(np.float32) * 255)
    return pixels


@contextlib.contextmanager
def _replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when it was written to its end, and vanishes otherwise."""
    target = Path(os.path.realpath(path))
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with open(partial, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    except OSError as error:
        raise DataError(f"{path}: can't be written ({error.strerror or error})") from None
    finally:
        with contextlib.suppress(OSError):  # it is gone when all went well
            partial.unlink()


def check_batch_size(batch_size: int, scenes: int) -> None:
    """Raises UsageError if a batch can't have this many of so many scenes."""
    if not 1 <= batch_size <= scenes:
        raise UsageError(f"batch_size: {batch_size} is not allowed; it must be at least 1 and at most the {scenes} scenes")


def pipeline(
    scenes: SceneSet,
    batch_size: int,
    seed: int = 0,
    *,
    shuffle: bool = True,
    epochs: int | None = None,
    drop_remainder: bool = True,
    start_step: int = 0,
) -> "tf.data.Dataset":
    """Batches of scenes, which depend on nothing but the arguments.

    The order of epoch e is a permutation drawn from (seed, e) alone: a run that was interrupted after `start_step`
    steps goes on with exactly the batches that it would have seen.

    Args:
        scenes: the data set.
        batch_size: scenes in a batch, B.
        seed: of the permutations, in [0, 2^63).
        shuffle: whether each epoch has an order of its own; otherwise the file's.
        epochs: after how many epochs the batches end; None: never.
        drop_remainder: leaves out the scenes of an epoch that don't fill a batch, so that all batches have one shape.
        start_step: batches at the beginning that are left out.

    Returns:
        A data set of (images float32 [B, H, W] in [0, 1], counts int32 [B], -1 where unknown).

    Raises:
        UsageError: for a batch_size with which there are no batches, or a negative start_step.
    """
    check_batch_size(batch_size, len(scenes) if drop_remainder else batch_size)
    if start_step < 0:
        raise UsageError(f"start_step: {start_step} is not allowed; it must be at least 0")
    import tensorflow as tf  # here, as everything else about scenes does without

    size = len(scenes)
    batches = size // batch_size if drop_remainder else -(-size // batch_size)
    with tf.device("CPU:0"):
        images = tf.constant(scenes.images)
        counts = tf.constant(np.full(size, -1, np.int32) if scenes.counts is None else scenes.counts.astype(np.int32))

    def epoch_order(epoch: tf.Tensor) -> tf.Tensor:
        if not shuffle:
            return tf.range(size, dtype=tf.int64)
        seeds = tf.stack([tf.constant(seed, tf.int64), epoch])
        keys = tf.random.stateless_uniform([size], seeds, minval=None, maxval=None, dtype=tf.int64, alg="philox")
        return tf.argsort(keys, stable=True)

    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        order = epoch_order(epoch)
        first = tf.where(epoch == start_step // batches, start_step % batches, 0)
        return tf.data.Dataset.range(tf.cast(first, tf.int64), batches).map(
            lambda batch: order[batch * batch_size : (batch + 1) * batch_size]
        )

    def gather(members: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if drop_remainder:
            members = tf.ensure_shape(members, [batch_size])
        return tf.cast(tf.gather(images, members), tf.float32) / 255.0, tf.gather(counts, members)

    numbers = tf.data.Dataset.range(start_step // batches, tf.int64.max if epochs is None else epochs)
    dataset = numbers.flat_map(epoch_batches).map(gather, num_parallel_calls=2, deterministic=True)
    if epochs is not None:
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(max(epochs * batches - start_step, 0)))
    options = tf.data.Options()
    options.autotune.enabled = False  # there is nothing to tune, and its thread may keep an iterator from ending for seconds
    return dataset.prefetch(4).with_options(options)
