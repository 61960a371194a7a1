"""Scenes and their file.

    scenes = SceneSet.load("multi_mnist/train.npz")

The file is an .npz archive of the fields of `SceneSet` and the number `version`, now 1. A file without `version` is fine too.
Images alone may also be an .npy file, a picture, or a folder of pictures: the model can be trained on images of any origin.
"""

import contextlib
import dataclasses
import math
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from air.errors import DataError
from air.support import arrays, pictures
from air.support.files import SCENES_LIMIT, data_errors, write_atomically

VERSION = 1


class _Field(NamedTuple):
    axes: str  # N scenes of at most M objects on a canvas of H x W pixels
    dtype: type
    minimum: int
    maximum: int


_FIELDS = {
    "count": _Field("N", np.uint8, 0, 255),
    "boxes": _Field("NM4", np.float32, 0, 65535),
    "labels": _Field("NM", np.int8, -1, 127),
    "indices": _Field("NM", np.int32, -1, 2**31 - 1),
    "segments": _Field("NHW", np.uint8, 0, 255),
}
_IN_FILE = {name: name for name in ("images", *_FIELDS)} | {"count": "counts"}
"""Names of the fields in files, which have been public from the start."""


@dataclasses.dataclass(frozen=True, eq=False)
class SceneSet:
    """Scenes and what is known of their content: N scenes of at most M objects on a canvas of [H, W] pixels.

    Only images are required. The other fields describe the first `count` objects of each scene and are padded to M. Arrays of
    other number types are converted (images from [0, 1]); DataError is raised for an impossible shape, type or value.
    """

    images: np.ndarray
    """[N, H, W] uint8, or [N, H, W, 3] in colour."""
    count: np.ndarray | None = None
    """[N] uint8: number of objects in each scene."""
    boxes: np.ndarray | None = None
    """[N, M, 4] float32: x and y of the upper left corner, width and height of each object in pixels; padded with 0."""
    labels: np.ndarray | None = None
    """[N, M] int8: class of each object, from 0 on; padded with -1."""
    indices: np.ndarray | None = None
    """[N, M] int32: position of each object's image in its split of MNIST; padded with -1."""
    segments: np.ndarray | None = None
    """[N, H, W] uint8: the object that each pixel shows, counted from 1; 0 for the background."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", _as_pixels(np.asarray(self.images)))
        sizes = {**dict(zip("NHW", self.images.shape[:3], strict=True)), "4": 4}
        for name, field in _FIELDS.items():
            if getattr(self, name) is not None:
                array = _checked(name, field, np.asarray(getattr(self, name)), sizes)
                sizes.update(zip(field.axes, array.shape, strict=True))  # the first field with objects fixes M
                object.__setattr__(self, name, array)
        self._check_boxes()
        self._check_count()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def canvas_size(self) -> tuple[int, int]:
        """Height and width of the scenes, in pixels."""
        return self.images.shape[1], self.images.shape[2]

    @property
    def channels(self) -> int:
        """1 for grey scenes, 3 for scenes in colour."""
        return 1 if self.images.ndim == 3 else 3

    def in_colour(self) -> "SceneSet":
        """Return the scenes with three channels."""
        images = self.images if self.channels == 3 else np.repeat(self.images[..., None], 3, axis=-1)
        return dataclasses.replace(self, images=images)

    def select(self, which: Any) -> "SceneSet":
        """Return some of the scenes, given by a boolean mask [N], an array of positions or a slice."""
        fields = (getattr(self, name) for name in _IN_FILE)
        return SceneSet(*(None if field is None else field[which] for field in fields))

    def checksum(self) -> int:
        """Compute the CRC-32 of the images and the counts."""
        return arrays.checksum(str(self.images.shape), self.images, *([] if self.count is None else [self.count]))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an .npz file atomically, with the same bytes for the same scenes; raise DataError if that fails."""
        fields = {key: getattr(self, name) for name, key in _IN_FILE.items() if getattr(self, name) is not None}

        def write(temporary: Path) -> None:
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
                for name, array in {"version": np.array(VERSION), **fields}.items():
                    info = zipfile.ZipInfo(f"{name}.npy")  # with a fixed date
                    info.compress_type = zipfile.ZIP_DEFLATED
                    info.external_attr = 0o644 << 16
                    with archive.open(info, "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, array, allow_pickle=False)

        try:
            write_atomically(path, write)
        except OSError as error:
            raise DataError(f"{path}: can't be written ({error.strerror or error})") from None

    @classmethod
    def load(cls, path: str | os.PathLike[str], fields: Sequence[str] = tuple(_FIELDS)) -> "SceneSet":
        """Read an .npz file with at least `images`, an .npy file of images, a picture or a folder of pictures of one size.

        Args:
            path: where they are.
            fields: to read besides the images, where there are any.

        Raises:
            DataError: if there are no scenes in it.
        """
        if Path(path).is_dir() or pictures.list_pictures(path):
            return cls(pictures.read_pictures(path))
        found = arrays.read_arrays(path, ["images"], ["version", *(_IN_FILE[name] for name in fields)], limit=SCENES_LIMIT)
        version = found.pop("version", np.array(VERSION))
        if version.shape or version != VERSION:
            raise DataError(f"{path}: version: {version!s:.40} is not allowed; only version {VERSION} can be read")
        try:
            return cls(**{name: found.get(key) for name, key in _IN_FILE.items()})
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    def _check_boxes(self) -> None:
        """Check that boxes are on the canvas."""
        if self.boxes is None:
            return
        height, width = self.canvas_size
        far = self.boxes[..., :2] + self.boxes[..., 2:]
        outside = np.argwhere((far > np.array([width, height]) + 1e-3).any(axis=-1))  # boxes may have been rounded
        if len(outside):
            scene, slot = outside[0].tolist()
            box = tuple(self.boxes[scene, slot].tolist())
            raise DataError(f"boxes: {box} of scene {scene} is not allowed; the canvas has {width}x{height} pixels")

    def _check_count(self) -> None:
        """Check that the first `count` slots of each scene are filled and the others padded; segments may hide objects."""
        if self.count is None:
            return
        for name in ("boxes", "labels", "indices", "segments"):
            array = getattr(self, name)
            if array is None:
                continue
            if name == "segments":
                objects = array.max(axis=(1, 2))
                wrong = objects > self.count
            else:
                filled = (array[..., 2:] > 0).all(axis=-1) if name == "boxes" else array >= 0
                objects = filled.sum(axis=1)
                wrong = (objects != self.count) | (filled[:, 1:] > filled[:, :-1]).any(axis=1)
            if wrong.any():
                scene = int(wrong.argmax())
                raise DataError(f"{name}: scene {scene} has {objects[scene]} objects, but its count is {self.count[scene]}")


def read_canvas_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Read the height and width of the scenes at a path that `SceneSet.load` takes, without reading more than the first.

    Raises:
        DataError: if that fails.
    """
    if found := pictures.list_pictures(path):
        return pictures.read_size(found[0])
    with _images(Path(path)) as (_, header):
        _, height, width, *_ = header[0]
        return height, width


def read_shape(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """Read the number, height and width of the scenes of an .npz or .npy file, and 3 if they are in colour; nothing else.

    Raises:
        DataError: if that fails.
    """
    with _images(Path(path)) as (_, (shape, *_)):
        shape = shape[:-1] if len(shape) == 4 and shape[-1] == 1 else shape
        if len(shape) not in (3, 4) or not math.prod(shape):
            raise DataError(
                f"{path}: images: shape {shape} is not allowed; it must be [scenes, height, width], or with 3 colours"
            )
        return shape


def read_first(path: str | os.PathLike[str], number: int) -> np.ndarray:
    """Read the images of the first scenes of an .npz or .npy file, [number, H, W] or [number, H, W, 3] in [0, 1].

    Raises:
        DataError: if that fails.
    """
    with _images(Path(path)) as (file, (shape, is_fortran, dtype)):
        if is_fortran:
            return SceneSet.load(path).images[:number] / np.float32(255)
        shape = (min(number, shape[0]), *shape[1:])
        images = np.frombuffer(file.read(math.prod(shape) * dtype.itemsize), dtype).reshape(shape)
    return SceneSet(images).images / np.float32(255)


@contextlib.contextmanager
def _images(path: Path) -> Iterator[tuple[IO[bytes], tuple[tuple[int, ...], bool, np.dtype]]]:
    """Open the images of a file, and read their shape, whether they are in Fortran's order, and their type."""
    with data_errors(path, "has no images"), contextlib.ExitStack() as stack:
        if zipfile.is_zipfile(path):
            file = stack.enter_context(stack.enter_context(zipfile.ZipFile(path)).open("images.npy"))
        else:
            file = stack.enter_context(open(path, "rb"))
        is_first_version = np.lib.format.read_magic(file) == (1, 0)
        read_header = np.lib.format.read_array_header_1_0 if is_first_version else np.lib.format.read_array_header_2_0
        yield file, read_header(file)


def _checked(name: str, field: _Field, array: np.ndarray, sizes: dict[str, int]) -> np.ndarray:
    """Convert a field to its type; raise DataError for a wrong shape, type or value."""
    shape = [sizes.get(axis) for axis in field.axes]
    fits = array.ndim == len(shape) and all(size in (None, found) for size, found in zip(shape, array.shape, strict=True))
    integers = np.issubdtype(field.dtype, np.integer)
    if not fits or array.dtype.kind not in ("ui" if integers else "uif"):
        allowed = ", ".join(str(sizes.get(axis, axis)) for axis in field.axes)
        kind = "integers" if integers else "numbers"
        raise DataError(f"{name}: {array.dtype} of shape {array.shape} is not allowed; it must be {kind} of shape [{allowed}]")
    _check_range(name, array, field.minimum, field.maximum)
    return array.astype(field.dtype, copy=False)


def _check_range(name: str, array: np.ndarray, minimum: float, maximum: float) -> None:
    for extreme in (array.min(), array.max()) if array.size else ():
        if not minimum <= extreme <= maximum:  # also refuses NaN
            raise DataError(f"{name}: {extreme} is not allowed; values must be in [{minimum}, {maximum}]")


def _as_pixels(images: np.ndarray) -> np.ndarray:
    """Convert images [N, H, W] or [N, H, W, 3] to uint8, without an axis of one channel."""
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    if not images.size or images.shape[3:] not in ((), (3,)) or images.ndim < 3:
        raise DataError(f"images: shape {images.shape} is not allowed; it must be [scenes, height, width], or with 3 colours")
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise DataError(f"images: type {images.dtype} is not allowed; it must be uint8, or float in [0, 1]")
    _check_range("images", images, 0, 1)
    return np.rint(images * np.float32(255)).astype(np.uint8)
