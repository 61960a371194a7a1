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
        images = [pictures.read_pixels(file, 3) / np.float32(255) for file in chosen]
        if channels is None:
            is_coloured = [bool((np.ptp(image, axis=-1) > COLOURFUL).mean() > COLOURED) for image in images]
            if len(set(is_coloured)) > 1:
                grey, coloured = (chosen[is_coloured.index(value)].name for value in (False, True))
                raise DataError(f"{path}: {grey} is grey, but {coloured} is in colour; choose --channels 1 or 3")
            channels = 3 if is_coloured[0] else 1
        images = images if channels == 3 else [image @ pictures.LUMINANCE for image in images]
        return cls(path, found, [pictures.read_size(file) for file in found], *_measure(images))

    @classmethod
    def of(cls, path: Path, images: np.ndarray) -> "Look":
        """Look at scenes [N, H, W] or [N, H, W, 3] in [0, 1], which are called by a path."""
        return cls(path, [], [images.shape[1:3]], *_measure(list(images)))

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


def _measure(images: Sequence[np.ndarray]) -> tuple[int, tuple[float, float, float], tuple[float, float], bool]:
    """Return the last four fields of a Look at images [H, W] or [H, W, 3] in [0, 1]."""
    greys = [image if image.ndim == 2 else image.max(axis=-1) for image in images]  # black is black in each colour
    borders = [np.concatenate([grey[[0, -1]].ravel(), grey[:, [0, -1]].ravel()]) for grey in greys]
    least, middle, greatest = (float(np.median([f(grey) for grey in greys])) for f in (np.min, np.median, np.max))
    border = float(np.median(np.concatenate(borders))), float(np.median([line.std() for line in borders]))
    bright = float((np.concatenate(borders) > DARK).mean())
    return 1 if images[0].ndim == 2 else 3, (least, middle, greatest), border, least > DARK or bright > BRIGHT_BORDER
