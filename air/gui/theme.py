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
WARNING: RGB = (255, 184, 92)
ERROR: RGB = (255, 122, 112)
INK: RGB = (0, 0, 0)
SHADE: RGB = (8, 9, 12)

PALETTES: dict[str, tuple[RGB, ...]] = {
    "rgb": drawing.COLOURS,
    # Okabe and Ito (2008): told apart with any common colour blindness; black left out, as canvases are black.
    "safe": ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0), (0, 114, 178)),
}
"""Colours of the steps, from the first on, and again from the start."""
PALETTE_LABELS = {"rgb": "Red, green, blue", "safe": "Colour-blind safe"}


def step_colour(palette: str, step: int) -> RGB:
    """The colour of a step, counted from 0."""
    colours = PALETTES[palette]
    return colours[step % len(colours)]


def mix(a: RGB, b: RGB, share: float) -> RGB:
    """`share` of b in a."""
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))


@functools.lru_cache(maxsize=64)
def font(size: int, bold: bool) -> pygame.font.Font:
    """A font of a height in pixels: DejaVu Sans as matplotlib brings it, which is the same on every machine."""
    path = _font_path("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")
    return pygame.font.Font(path, max(size, 6))


@functools.lru_cache
def _font_path(name: str) -> str | None:
    spec = importlib.util.find_spec("matplotlib")  # finds the package without importing it
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "mpl-data" / "fonts" / "ttf" / name
        if path.is_file():
            return str(path)
    return None  # pygame's own font
