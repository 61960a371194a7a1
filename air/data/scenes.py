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

from air.errors import DataError
from air.support.arrays import read_arrays

if TYPE_CHECKING:
    pass

VERSION = 1
LIMIT = 8 << 30
"""Most bytes of a data set."""
MAX_OBJECTS = 255
"""Of one scene."""


@dataclasses.dataclass(frozen=True, eq=False)
class SceneSet:
    """Scenes and, as far as known, what is in them; N scenes of at most M objects on a canvas of [H, W] pixels.

    Only images are needed. The other fields describe each scene's first `count` objects and are padded up to M.
    Arrays of other number types are converted on construction; images may be floats in [0, 1].

    Raises:
        DataError: at construction, for a field with an impossible shape, type or value.
    """

    images: np.ndarray
    """[N, H, W] uint8."""
    count: np.ndarray | None = None
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
        return checksum if self.count is None else zlib.crc32(np.ascontiguousarray(self.count), checksum)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an .npz file that is there as a whole or not at all; the same scenes always give the same bytes.

        Raises:
            DataError: when the file can't be written; what was there before is then untouched.
        """
        arrays = {"version": np.array(VERSION), **{_IN_FILES.get(name, name): array for name, array in self._arrays().items()}}
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
        arrays = read_arrays(path, ["images"], ["version", *(_IN_FILES.get(name, name) for name in _FIELDS)], limit=LIMIT)
        version = arrays.pop("version", np.array(VERSION))
        if version.shape or version != VERSION:
            raise DataError(f"{path}: version: {version!s:.40} is not allowed; only version {VERSION} can be read")
        try:
            return cls(**{name: arrays.get(_IN_FILES.get(name, name)) for name in ("images", *_FIELDS)})
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
            if room > MAX_OBJECTS:
                raise DataError(f"{name}: room for {room} objects is not allowed; a scene has at most {MAX_OBJECTS}")
        for name, array in slotted.items() if self.count is not None else ():
            slots = rooms[name]
            if self.count.max() > slots:
                raise DataError(f"count: {self.count.max()} is not allowed; {name} has room for {slots} objects")
            filled = (array[..., 2] > 0) & (array[..., 3] > 0) if name == "boxes" else array >= 0
            wrong = (filled != (np.arange(slots) < self.count[:, None])).any(axis=1)
            if wrong.any():
                scene = int(wrong.argmax())
                raise DataError(
                    f"{name}: scene {scene} has {filled[scene].sum()} objects, but its count is {self.count[scene]}"
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
        if self.count is not None and (most > self.count).any():
            scene = int((most > self.count).argmax())
            raise DataError(f"segments: scene {scene} has object {most[scene]}, but its count is {self.count[scene]}")


# Shape after [N] (None: any), kinds of number, type that is kept, least and greatest value.
_FIELDS: dict[str, tuple[tuple[int | None, ...], str, type, int, int]] = {
    "count": ((), "ui", np.uint8, 0, 255),
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


_IN_FILES = {"count": "counts"}  # the name that files have had from the start
