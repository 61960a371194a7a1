"""Colours, fonts and the icon. Text has a contrast of at least 4.5 to what is behind it, and frames and marks one of 3."""

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
MUTED: RGB = (182, 188, 202)
FAINT: RGB = (148, 155, 170)
ACCENT: RGB = (126, 178, 255)
CHOSEN: RGB = (46, 84, 142)
READY: RGB = (52, 199, 89)
WARNING: RGB = (255, 184, 92)
ERROR: RGB = (255, 122, 112)
INK: RGB = (0, 0, 0)
WHITE: RGB = (255, 255, 255)
SHADE: RGB = (8, 9, 12)

PALETTES: dict[str, tuple[RGB, ...]] = {
    "rgb": drawing.COLOURS,
    # Okabe and Ito (2008): distinct under all common colour-vision deficiencies; without black, the canvas' colour.
    "safe": ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0), (0, 114, 178)),
}
"""Colours of the steps, repeated when there are more steps."""


def step_colour(palette: str, step: int) -> RGB:
    """Return the colour of a step, counted from 0."""
    colours = PALETTES[palette]
    return colours[step % len(colours)]


def text_on(colour: RGB) -> RGB:
    """Return black or white, whichever is easier to read on a colour."""
    return max(INK, WHITE, key=lambda text: contrast(text, colour))


def contrast(a: RGB, b: RGB) -> float:
    """Compute the contrast of two colours, from 1 to 21, as WCAG 2 defines it."""

    def luminance(colour: RGB) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


def icon(size: int = 64) -> pygame.Surface:
    """Draw the window's icon: two strokes of a drawing, each in its attention window."""
    surface, unit = pygame.Surface((size, size), pygame.SRCALPHA), size / 16
    pygame.draw.rect(surface, BACKGROUND, surface.get_rect(), border_radius=round(3 * unit))
    for colour, (left, top), stroke in (
        (drawing.COLOURS[0], (2, 2), ((4, 4.5), (6.5, 4.5), (4.5, 8.5), (7.5, 8.5))),
        (drawing.COLOURS[1], (7, 6), ((9, 8), (12.5, 8), (10, 12.5))),
    ):
        pygame.draw.lines(surface, TEXT, False, [(x * unit, y * unit) for x, y in stroke], round(1.3 * unit))
        frame = pygame.Rect(round(left * unit), round(top * unit), round(7 * unit), round(8 * unit))
        pygame.draw.rect(surface, colour, frame, max(1, round(0.8 * unit)))
    return surface


@functools.lru_cache(maxsize=64)
def font(size: int, bold: bool) -> pygame.font.Font:
    """Return DejaVu Sans as shipped with matplotlib, the same on every machine; `size` in pixels."""
    spec = importlib.util.find_spec("matplotlib")  # finds the package without importing it
    folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
    return pygame.font.Font(folder / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"), max(size, 6))
