"""Text, buttons, bars and pictures on a surface, in the units of a layout."""

import bisect
import functools
import math

import numpy as np
import pygame

from air.gui import theme
from air.gui.layout import SMOOTH_ZOOM
from air.gui.theme import RGB

SIZES = {"tiny": 10, "small": 12, "body": 14, "title": 16, "head": 20}
"""Heights of text by name, in units."""
MIN_TEXT = 9  # pixels


class Painter:
    """A surface to draw on, and the number of its pixels in a unit."""

    def __init__(self, surface: pygame.Surface, unit: float) -> None:
        self.surface, self.unit = surface, unit

    def px(self, units: float) -> int:
        """Convert units to whole pixels, at least 1."""
        return max(1, round(units * self.unit))

    def text(
        self,
        text: str,
        size: str | float,
        colour: RGB,
        width: float = math.inf,
        bold: bool = False,
        **place: tuple[float, float],
    ) -> pygame.Rect:
        """Write one line of text and return its rectangle.

        `size` is a name in `SIZES` or a height in pixels. Text wider than `width` pixels is cut short and ends in "…". `place`
        is one corner, edge or centre as in `pygame.Rect`, such as midleft=(x, y).
        """
        height = round(SIZES[size] * self.unit) if isinstance(size, str) else round(size)
        written = _written(text, max(height, MIN_TEXT), bold, colour, max(0.0, width))
        rect = written.get_rect(**{name: (round(x), round(y)) for name, (x, y) in place.items()})
        self.surface.blit(written, rect)
        return rect

    def panel(self, rect: pygame.Rect, colour: RGB = theme.PANEL, outline: RGB | None = None, radius: float = 8) -> None:
        """Draw a rounded rectangle; `radius` in units is limited to half of its shorter side."""
        radius = min(self.px(radius), min(rect.size) // 2)
        pygame.draw.rect(self.surface, colour, rect, border_radius=radius)
        if outline is not None:
            pygame.draw.rect(self.surface, outline, rect, self.px(1.5), border_radius=radius)

    def button(self, rect: pygame.Rect, label: str, key: str, *, chosen: bool, enabled: bool, hovered: bool) -> None:
        """Draw a button with its label and, if there is room, its key."""
        colour = theme.ACCENT if chosen else theme.HOVERED if hovered and enabled else theme.RAISED
        self.panel(rect, colour, radius=6)
        text = theme.ON_ACCENT if chosen else theme.TEXT if enabled else theme.FAINT
        inner, size = rect.inflate(-2 * self.px(10), 0), min(SIZES["body"] * self.unit, 0.62 * rect.height)
        if rect.width > 110 * self.unit:
            hint = self.text(key, 0.8 * size, theme.mix(text, colour, 0.45), midright=inner.midright)
            self.text(label, size, text, hint.left - inner.left - self.px(5), midleft=inner.midleft)
        else:
            self.text(label, size, text, rect.width - self.px(4), center=rect.center)

    def tag(self, rect: pygame.Rect, step: int, text: RGB, colour: RGB, radius: float = 0) -> None:
        """Draw a coloured square with the number of a step."""
        pygame.draw.rect(self.surface, colour, rect, border_radius=round(radius * self.unit))
        self.text(str(step + 1), 0.75 * rect.height, text, bold=True, center=rect.center)

    def picture(self, image: np.ndarray, rect: pygame.Rect) -> None:
        """Draw a picture, [height, width] or [height, width, 3], uint8 or float in [0, 1], with sharp pixels."""
        if image.dtype != np.uint8:
            image = np.rint(255 * np.clip(image, 0.0, 1.0)).astype(np.uint8)
        height, width = image.shape[:2]
        pixels = np.ascontiguousarray(image) if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
        picture = pygame.image.frombuffer(pixels.data, (width, height), "RGB")
        zoom = max(rect.width / width, rect.height / height)
        if zoom == int(zoom) or zoom >= SMOOTH_ZOOM:
            picture = pygame.transform.scale(picture, rect.size)
        else:  # enlarged to whole pixels and then reduced by area, all pixels have the same size and only their edges are soft
            larger = pygame.transform.scale_by(picture, math.ceil(zoom))
            picture = pygame.transform.smoothscale(larger, rect.size)
        self.surface.blit(picture, rect)

    def shade(self, rect: pygame.Rect, strength: int) -> None:
        """Darken a rectangle; `strength` is from 0 to 255."""
        veil = pygame.Surface(rect.size, pygame.SRCALPHA)
        veil.fill((*theme.SHADE, strength))
        self.surface.blit(veil, rect)


@functools.lru_cache(maxsize=256)
def _written(text: str, height: int, bold: bool, colour: RGB, width: float) -> pygame.Surface:
    font = theme.font(height, bold)
    if font.size(text)[0] > width:
        fitting = bisect.bisect_right(range(len(text)), width, key=lambda n: font.size(text[:n] + "…")[0])
        text = text[: fitting - 1].rstrip() + "…" if fitting > 1 else ""
    return font.render(text, True, colour)
