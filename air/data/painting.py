"""Paint objects over a background, the later ones in front."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from air.data.backgrounds import Backgrounds
from air.data.rules import GeneratorConfig
from air.support.pictures import LUMINANCE

COLOUR_TRIES = 100  # random colours for an object before the one with the best contrast is taken


class Part(NamedTuple):
    """An object as a scene shows it."""

    opacity: np.ndarray  # [height, width] uint8
    colours: np.ndarray | None = None  # [height, width, 3] uint8, times opacity; None if the scene chooses one

    def map(self, change: Callable[[np.ndarray], np.ndarray]) -> "Part":
        """Change the opacity and each of the colours alike, as images [height, width]."""
        colours = None
        if self.colours is not None:
            colours = np.stack([change(image) for image in np.moveaxis(self.colours, 2, 0)], axis=2)
        return Part(change(self.opacity), colours)


class Placed(NamedTuple):
    """An object at its place."""

    digit: int  # position in Digits
    part: Part
    x: int  # of its left column, in pixels
    y: int  # of its upper row

    @property
    def region(self) -> tuple[slice, slice]:
        """The rows and columns of the canvas that it takes."""
        height, width = self.part.opacity.shape
        return np.s_[self.y : self.y + height, self.x : self.x + width]


class Painter:
    """Paints scenes by a configuration's rules for colours and backgrounds."""

    def __init__(self, config: GeneratorConfig, backgrounds: Backgrounds, rng: np.random.Generator) -> None:
        self.config, self.backgrounds, self.rng = config, backgrounds, rng

    def paint(self, scene: Sequence[Placed]) -> tuple[np.ndarray, np.ndarray]:
        """Paint a scene: image uint8 [H, W, channels], and the object that each pixel shows, uint8 [H, W], 0 for none."""
        canvas = self.backgrounds.draw(self.rng)
        behind = canvas.copy()
        segments = np.zeros(canvas.shape[:2], np.uint8)
        used: list[np.ndarray] = []
        for slot, placed in enumerate(scene):
            region = placed.region
            opacity = placed.part.opacity[..., None] / np.float32(255)
            if placed.part.colours is not None:
                ink = placed.part.colours / np.float32(255)
                ink = ink if self.config.channels == 3 else ink @ LUMINANCE[:, None]
            else:
                used.append(self._colour([(behind[region] * opacity).sum(axis=(0, 1)) / opacity.sum(), *used]))
                ink = used[-1] * opacity
            canvas[region] = canvas[region] * (1 - opacity) + ink
            segments[region][is_solid(placed.part.opacity)] = slot + 1
        canvas = canvas.clip(0, 1)  # as turning an object, by bicubic interpolation, may make its colours brighter than opaque
        if self.config.dark_fraction and self.rng.random() < self.config.dark_fraction:
            canvas = 1 - canvas
        return np.rint(255 * canvas).astype(np.uint8), segments

    def _colour(self, others: Sequence[np.ndarray]) -> np.ndarray:
        """Return white, or a random colour in contrast to others if there is one."""
        if self.config.channels == 1:
            return np.ones(1, np.float32)
        colours = self.rng.random((COLOUR_TRIES, 3), np.float32)
        contrasts = np.abs(colours[:, None] - np.array(others)).max(axis=2).min(axis=1)
        enough = contrasts >= self.config.contrast
        return colours[enough.argmax() if enough.any() else contrasts.argmax()]


def is_solid(opacity: np.ndarray) -> np.ndarray:
    """Return the mask of an object: pixels at least half as opaque as its most opaque one."""
    return opacity >= max(opacity.max(initial=0) / 2, 1)


def visible_fractions(scene: Sequence[Placed], canvas_size: tuple[int, int]) -> list[float]:
    """Compute the fraction of each object's mask that no later object covers."""
    taken = np.zeros(canvas_size, bool)
    fractions = []
    for placed in reversed(scene):
        solid = is_solid(placed.part.opacity)
        covered = taken[placed.region]
        fractions.append(float((solid & ~covered).sum() / max(solid.sum(), 1)))
        covered |= solid
    return fractions[::-1]
