"""Picture files, read with Pillow, and arrays of them."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from air.errors import DataError
from air.support.files import data_errors

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""Endings of the names of the pictures that `read_pictures` takes from a folder."""
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in a grey level (ITU-R BT.601), as in Pillow."""


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """Open a picture file; any failure in the block is a DataError."""
    Image.init()
    formats = [name for name in Image.OPEN if name not in ("EPS", "WMF")]  # Pillow runs other programs for these two
    with data_errors(Path(path), "not a picture that can be read"), warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path, formats=formats) as file:
            yield file


def read_picture(path: str | os.PathLike[str], paper: int | None = None) -> Image.Image:
    """Read a picture file, turn it upright as its EXIF data says, and flatten it onto paper.

    Args:
        path: a file in any format that Pillow decodes by itself.
        paper: grey level in [0, 255] behind transparent pixels; by default white behind dark ink, black behind light ink.

    Returns:
        A picture of mode "L", "RGB", or "F" when the file has more than 8 bits per pixel; "F" keeps the file's own range.

    Raises:
        DataError: if the file is missing, larger than Pillow's limit or not a readable picture.
    """
    with _opened(path) as file:
        picture = ImageOps.exif_transpose(file)
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            if paper is None:
                pixels = np.asarray(picture)
                ink = pixels[pixels[..., 3] > 127, :3]
                paper = 255 if ink.size and ink.mean() < 128 else 0
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, (paper, paper, paper, 255)), picture)
        if picture.mode in ("1", "L"):
            return picture.convert("L")
        return picture.convert("F" if picture.mode.startswith(("I", "F")) else "RGB")


def read_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Read the height and width of an upright picture, without its pixels; raise DataError if that fails."""
    with _opened(path) as file:
        is_turned = file.getexif().get(0x0112, 1) >= 5
        return file.size if is_turned else file.size[::-1]


def read_pixels(path: str | os.PathLike[str], channels: int, paper: int | None = None) -> np.ndarray:
    """Read a picture file as `read_picture` does, as uint8 [H, W] for one channel or [H, W, 3] for three."""
    picture = read_picture(path, paper)
    if picture.mode == "F":  # of 16 bits, up to 65535
        picture = Image.fromarray(np.rint(np.clip(np.asarray(picture) / 257, 0, 255)).astype(np.uint8))
    return np.asarray(picture.convert("RGB" if channels == 3 else "L"))


def read_cutout(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a picture file with its transparency, [H, W, 4] uint8, upright; raise DataError if that fails."""
    with _opened(path) as file:
        return np.asarray(ImageOps.exif_transpose(file).convert("RGBA"))


def list_pictures(path: str | os.PathLike[str]) -> list[Path]:
    """Return a picture file, or the pictures of a folder sorted by name; none if `path` is neither."""
    path = Path(path)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [file for file in files if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and not file.is_dir()]


def read_pictures(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a picture file, or all of a folder's, as grey images [N, H, W] uint8; transparent pixels become black.

    Raises:
        DataError: if there is no picture, or if one can't be read or has another size than the first.
    """
    advice = "give pictures (PNG, JPEG, WebP) of one size, or save an array [N, H, W] of them: numpy.save('mine.npy', array)"
    images: list[np.ndarray] = []
    files = list_pictures(path)
    for file in files:
        grey = read_pixels(file, 1, paper=0)
        if images and grey.shape != images[0].shape:
            (height, width), (first_height, first_width) = grey.shape, images[0].shape
            first = f"{files[0].name} has {first_height}x{first_width}"
            raise DataError(f"{path}: {first} pixels (height x width), but {file.name} has {height}x{width}; {advice}")
        images.append(grey)
    if not images:
        seen = sorted(entry.name for entry in Path(path).iterdir())
        listed = ", ".join(seen[:3]) + (f" and {len(seen) - 3} more" if len(seen) > 3 else "")
        raise DataError(f"{path}: has no pictures, but {listed or 'nothing at all'}; {advice}")
    return np.stack(images)
