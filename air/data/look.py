"""A look at training data before all of it is read: sizes, channels, brightness, background.

look = Look.at("coins")                   # one picture of 303x384 pixels
look = Look.at("multi_mnist")             # scenes of 50x50 pixels
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from air.data.multi_mnist import find_scenes
from air.data.scenes import read_first
from air.errors import DataError
from air.support import pictures

SAMPLE = 200  # scenes of a file that are looked at
SAMPLED_PICTURES = 50  # at most, of a folder
COLOURFUL = 16 / 255  # difference between the greatest and the least of red, green and blue in a pixel that has a colour
COLOURED = 0.01  # fraction of such pixels from which a picture is one in colour
DARK = 0.1  # brightness up to which a pixel is black
BRIGHT_BORDER = 0.1  # fraction of the scenes' borders that may be brighter: objects cross them now and then
PLAIN = 0.03  # standard deviation of the border of a scene before a plain background


class _Brightness(NamedTuple):
    """Summarise the brightness of a picture, so that its pixels need not be kept."""

    least: float
    median: float
    greatest: float
    border: np.ndarray  # of its outermost pixels

    @classmethod
    def of(cls, grey: np.ndarray) -> "_Brightness":
        """Measure a picture [H, W] in [0, 1]."""
        border = np.concatenate([grey[[0, -1]].ravel(), grey[:, [0, -1]].ravel()])
        return cls(float(grey.min()), float(np.median(grey)), float(grey.max()), border)


class Look(NamedTuple):
    """A summary of training data, made before all of it is read."""

    path: Path
    files: list[Path]
    """Pictures of a folder; none if the data are a file of scenes."""
    sizes: list[tuple[int, int]]
    """Height and width of each picture, or of all scenes of a file, in pixels."""
    channels: int
    """1 for grey, 3 for colour."""
    brightness: tuple[float, float, float]
    """Least, median and greatest, in [0, 1]."""
    border: tuple[float, float]
    """Median brightness of the scenes' borders, and the median of its standard deviation within a scene's."""
    has_background: bool
    """True if objects are not on black."""

    @classmethod
    def at(cls, path: str | os.PathLike[str], channels: int | None = None) -> "Look":
        """Look at a folder with train.npz, a file of scenes, or pictures.

        Args:
            path: where they are.
            channels: 1 or 3 to look at pictures in grey or in colour; by default as they are.

        Raises:
            DataError: if there are none, if one can't be read, or if some pictures are grey and others in colour.
        """
        path = Path(path)
        scenes = find_scenes(path, "train")
        found = pictures.list_pictures(path) if scenes == path else []  # a data set has a preview too
        if not found and scenes.is_dir():
            raise DataError(f"{path}: has no pictures (PNG, JPEG, WebP), and no train.npz")
        if not found:
            return cls.of(path, read_first(scenes, SAMPLE))
        chosen = found[:: -(-len(found) // SAMPLED_PICTURES)]
        is_coloured, seen = zip(*(_see(pictures.read_pixels(file, 3), channels) for file in chosen), strict=True)
        if len(set(is_coloured)) > 1:
            grey, coloured = (chosen[is_coloured.index(value)].name for value in (False, True))
            raise DataError(f"{path}: {grey} is grey, but {coloured} is in colour; choose --channels 1 or 3")
        return cls(path, found, [pictures.read_size(file) for file in found], 3 if is_coloured[0] else 1, *_summarise(seen))

    @classmethod
    def of(cls, path: Path, images: np.ndarray) -> "Look":
        """Look at scenes [N, H, W] or [N, H, W, 3] in [0, 1], which are called by a path."""
        seen = [_Brightness.of(image if image.ndim == 2 else image.max(axis=-1)) for image in images]
        return cls(path, [], [images.shape[1:3]], 1 if images.ndim == 3 else 3, *_summarise(seen))

    def describe(self) -> str:
        """Return one line for the user."""
        least, greatest = ("x".join(map(str, size)) for size in (min(self.sizes), max(self.sizes)))
        sizes = f"{least} pixels (height x width)" if least == greatest else f"{least} to {greatest} pixels (height x width)"
        number = f"{len(self.files)} picture{'' if len(self.files) == 1 else 's'}" if self.files else "scenes"
        level, variation = self.border
        texture = "plain" if variation <= PLAIN else "textured"
        ground = f"{texture} ({level:.2f} ± {variation:.2f})" if self.has_background else "black"
        (low, median, high), colour = self.brightness, "in colour" if self.channels == 3 else "grey"
        brightness = f"brightness {low:.2f} to {high:.2f}, half below {median:.2f}"
        return f"{self.path}: {number} of {sizes}, {colour}, {brightness}, background probably {ground}"


def _see(pixels: np.ndarray, channels: int | None) -> tuple[bool, _Brightness]:
    """Look at a picture, uint8 [H, W, 3], as it is or in so many channels; return whether that is in colour."""
    picture = pixels / np.float32(255)
    is_coloured = channels == 3 or (channels is None and bool((np.ptp(picture, axis=-1) > COLOURFUL).mean() > COLOURED))
    # Black is black in each colour.
    return is_coloured, _Brightness.of(picture.max(axis=-1) if is_coloured else picture @ pictures.LUMINANCE)


def _summarise(seen: Sequence[_Brightness]) -> tuple[tuple[float, float, float], tuple[float, float], bool]:
    """Return the last three fields of a Look."""
    least, median, greatest = np.median([picture[:3] for picture in seen], axis=0).tolist()
    borders = np.concatenate([picture.border for picture in seen])
    border = float(np.median(borders)), float(np.median([picture.border.std() for picture in seen]))
    return (least, median, greatest), border, least > DARK or float((borders > DARK).mean()) > BRIGHT_BORDER
