"""Colours and fonts."""

import functools
import importlib.util
from pathlib import Path

import pygame

from air.support import drawing

RGB = tuple[int, int, int]

BACKGROUND: RGB = (17, 19, 24)
PANEL: RGB = (27, 30, 38)
RAISED: RGB = (41, 45, 56)
HOVERED: RGB = (54, 59, 73)
LINE: RGB = (58, 63, 77)
TEXT: RGB = (236, 238, 244)
MUTED: RGB = (156, 163, 179)
FAINT: RGB = (98, 104, 120)
ACCENT: RGB = (126, 178, 255)
ON_ACCENT: RGB = (12, 20, 34)
READY: RGB = (52, 199, 89)
WARNING: RGB = (255, 184, 92)
ERROR: RGB = (255, 122, 112)
INK: RGB = (0, 0, 0)
SHADE: RGB = (8, 9, 12)

PALETTES: dict[str, tuple[RGB, ...]] = {
    "rgb": drawing.COLOURS,
    # Okabe and Ito (2008): distinct under all common colour-vision deficiencies; without black, the canvas' colour.
    "safe": ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0), (0, 114, 178)),
}
"""Colours of the steps, repeated when there are more steps."""
PALETTE_LABELS = {"rgb": "Red, green, blue", "safe": "Colour-blind safe"}


def step_colour(palette: str, step: int) -> RGB:
    """Return the colour of a step, counted from 0."""
    colours = PALETTES[palette]
    return colours[step % len(colours)]


def mix(a: RGB, b: RGB, fraction: float) -> RGB:
    """Blend two colours; `fraction` is the weight of b."""
    red, green, blue = (round(x + (y - x) * fraction) for x, y in zip(a, b, strict=True))
    return red, green, blue


@functools.lru_cache(maxsize=64)
def font(size: int, bold: bool) -> pygame.font.Font:
    """Return DejaVu Sans as shipped with matplotlib, the same on every machine; `size` in pixels."""
    spec = importlib.util.find_spec("matplotlib")  # finds the package without importing it
    folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
    return pygame.font.Font(folder / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"), max(size, 6))
