"""Backgrounds of scenes: plain colours, noise, grids, gradients, paper, and pictures.

backgrounds = Backgrounds(SCENES["grid"], "train")
canvas = backgrounds.draw(np.random.default_rng(0))  # [H, W, channels] in [0, 1]
"""

import math
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image, ImageFilter

from air.data.objects import split
from air.data.rules import BackgroundKind, GeneratorConfig
from air.errors import DataError
from air.support.pictures import list_pictures, read_picture

PHOTOS = (
    "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png", "grass.png",
    "gravel.png", "ihc.png", "moon.png", "motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg",
)  # fmt: skip
"""Photographs in scikit-image's wheel; chelsea, ihc and rocket appear in held-out scenes only."""
GRID_SPACING = (5, 10)  # least and greatest distance between lines, in pixels
SHADE = 0.15  # by which a side of a paper may be darker than its middle, as a fraction of its brightness
GRAIN = 0.02  # greatest standard deviation of a paper's pixels
MIN_PART = 0.3  # of a photo's height and width that a scene shows
DETAIL = 4  # photos are kept at this many times the canvas' size


class Backgrounds:
    """The backgrounds of one set of scenes; pictures are read at the beginning.

    Args:
        config: the rules.
        name: the set, "train", "validation" or "test", whose pictures of a folder, and photos, are shown; all if None.

    Raises:
        DataError: if a picture can't be read, or a folder has none.
    """

    def __init__(self, config: GeneratorConfig, name: str | None = None) -> None:
        self.config = config
        self._pictures = {str(kind): self._read(kind, name) for kind in config.background if _is_picture(kind)}

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a background, float32 [H, W, channels] in [0, 1]."""
        config = self.config
        if not config.background:
            return np.zeros((*config.canvas_size, config.channels), np.float32)
        kind = str(config.background[rng.integers(len(config.background))])
        intensity = rng.uniform(*config.background_intensity)
        if kind in self._pictures:
            return self._picture(kind, intensity, rng)
        first, second = (intensity * rng.random((2, 3))).astype(np.float32) if config.channels == 3 else _greys(intensity, rng)
        return np.clip(_DRAW[kind](config.canvas_size, first, second, rng), 0, 1).astype(np.float32)

    def _read(self, kind: str | Path, name: str | None) -> list[Image.Image]:
        if kind == "photos":
            import skimage

            folder = Path(skimage.__file__).parent / "data"
            files = [folder / photo for photo in PHOTOS]
        else:
            files = list_pictures(kind) if Path(kind).is_dir() else [Path(kind)]
            if not files:
                raise DataError(f"background: {kind} has no pictures (PNG, JPEG, WebP)")
            if not Path(kind).exists():
                kinds = ", ".join(get_args(BackgroundKind))
                raise DataError(f"background: {kind} is not allowed; it must be {kinds}, a picture or a folder of pictures")
        height, width = self.config.canvas_size
        pictures = []
        for path in split(files)[name] if name else files:
            try:
                picture = read_picture(path, paper=0)
            except DataError as error:
                raise DataError(f"background: {error}") from None
            if picture.mode == "F":  # more than 8 bits
                pixels = np.clip(np.nan_to_num(np.asarray(picture)), 0, 2.0**32)
                picture = Image.fromarray(np.rint(255 * pixels / max(pixels.max(), 1e-9)).astype(np.uint8))
            picture = picture.convert("RGB" if self.config.channels == 3 else "L")
            if Path(kind).is_dir() or kind == "photos":
                picture.thumbnail((DETAIL * width, DETAIL * height))
            pictures.append(picture)
        return pictures

    def _picture(self, kind: str, intensity: float, rng: np.random.Generator) -> np.ndarray:
        """Resize a picture to the canvas, of a folder a random part of a random picture, perhaps mirrored."""
        height, width = self.config.canvas_size
        pictures = self._pictures[kind]
        picture = pictures[rng.integers(len(pictures))]
        box = (0, 0, picture.width, picture.height)
        if Path(kind).is_dir() or kind == "photos":
            zoom = rng.uniform(MIN_PART, 1) * min(picture.width / width, picture.height / height)
            left, top = rng.random(2) * (picture.width - zoom * width, picture.height - zoom * height)
            box = (left, top, left + zoom * width, top + zoom * height)
        canvas = picture.resize((width, height), Image.Resampling.BILINEAR, box)
        blur = rng.uniform(*self.config.background_blur)
        if blur:
            canvas = canvas.filter(ImageFilter.GaussianBlur(blur))
        pixels = np.asarray(canvas, np.float32).reshape(height, width, -1)
        return pixels * np.float32(intensity / max(pixels.max(), 1))


def _is_picture(kind: str | Path) -> bool:
    return kind == "photos" or kind not in get_args(BackgroundKind)


def _greys(intensity: float, rng: np.random.Generator) -> np.ndarray:
    """Return two greys, [2, 1]: the given one and one that is not lighter."""
    return np.array([[intensity], [intensity * rng.random()]], np.float32)


def _plain(size: tuple[int, int], first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.broadcast_to(first, (*size, len(first)))


def _noise(size: tuple[int, int], first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw each pixel uniformly from black to a colour."""
    return first * rng.random((*size, len(first)), np.float32)


def _grid(size: tuple[int, int], first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw lines of a pixel across and down, at equal distances."""
    spacing = rng.integers(GRID_SPACING[0], GRID_SPACING[1] + 1)
    rows, columns = ((np.arange(side) + rng.integers(spacing)) % spacing == 0 for side in size)
    return first * (rows[:, None] | columns)[..., None]


def _gradient(size: tuple[int, int], first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change evenly from one colour to another, in any direction."""
    return first + (second - first) * _ramp(size, rng)[..., None]


def _paper(size: tuple[int, int], first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a colour under uneven light, with a fine grain."""
    light = 1 - rng.uniform(0, SHADE) * _ramp(size, rng)
    grain = rng.normal(0, rng.uniform(0, GRAIN), size)
    return first * light[..., None] + grain[..., None]


def _ramp(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Rise from 0 to 1 across a canvas in a random direction, [H, W]."""
    angle = rng.uniform(0, 2 * math.pi)
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in size)
    ramp = math.cos(angle) * x + math.sin(angle) * y[:, None]
    return (ramp - ramp.min()) / np.ptp(ramp)


_DRAW = {"plain": _plain, "noise": _noise, "grid": _grid, "gradient": _gradient, "paper": _paper}
