"""Text, buttons, bars and pictures on a surface, in the units of a layout."""

import functools
import math

import numpy as np
import pygame

from air.gui import theme
from air.gui.layout import SMOOTH_ZOOM
from air.gui.theme import RGB

SIZES = {"tiny": 10, "small": 12, "body": 14, "title": 16, "head": 20, "digit": 34, "count": 84}
"""Heights of text by name, in units."""
MIN_TEXT = 9  # pixels


class Painter:
    """Draws on a surface.

    Args:
        surface: to draw on.
        unit: pixels of a unit.
    """

    def __init__(self, surface: pygame.Surface, unit: float) -> None:
        self.surface, self.unit = surface, unit

    def px(self, units: float) -> int:
        """Units in whole pixels, at least 1."""
        return max(1, round(units * self.unit))

    def text(
        self,
        text: str,
        size: str | float,
        colour: RGB,
        width: float | None = None,
        bold: bool = False,
        **place: tuple[float, float],
    ) -> pygame.Rect:
        """Writes one line, which ends in "…" where it would be wider than `width` pixels.

        Args:
            text: to write.
            size: a name of `SIZES`, or a height in pixels.
            colour: of the text.
            width: most pixels.
            bold: bold face.
            place: one corner, edge or centre as in `pygame.Rect`, such as midleft=(x, y).
        """
        height = round(SIZES[size] * self.unit) if isinstance(size, str) else round(size)
        written = _written(text, max(height, MIN_TEXT), bold, colour, None if width is None else max(0, math.floor(width)))
        rect = written.get_rect(**{name: (round(x), round(y)) for name, (x, y) in place.items()})
        self.surface.blit(written, rect)
        return rect

    def panel(self, rect: pygame.Rect, colour: RGB = theme.PANEL, line: RGB | None = None, radius: float = 8) -> None:
        """A rounded rectangle, with an outline if `line` is given."""
        radius = min(self.px(radius), min(rect.size) // 2)
        pygame.draw.rect(self.surface, colour, rect, border_radius=radius)
        if line is not None:
            pygame.draw.rect(self.surface, line, rect, self.px(1.5), border_radius=radius)

    def button(self, rect: pygame.Rect, label: str, key: str, *, chosen: bool, enabled: bool, hovered: bool) -> None:
        """A button with its label, and its key at the right where there is room for both."""
        colour = theme.ACCENT if chosen else theme.HOVERED if hovered and enabled else theme.RAISED
        self.panel(rect, colour, radius=6)
        text = theme.ON_ACCENT if chosen else theme.TEXT if enabled else theme.FAINT
        margin, size = self.px(10), min(SIZES["body"] * self.unit, 0.62 * rect.height)
        if key and rect.width > 110 * self.unit:
            hint = theme.mix(text, colour, 0.45)
            room = self.text(key, 0.8 * size, hint, midright=(rect.right - margin, rect.centery))
            self.text(label, size, text, room.left - rect.left - 1.5 * margin, midleft=(rect.left + margin, rect.centery))
        else:
            self.text(label, size, text, rect.width - self.px(4), center=rect.center)

    def dot(self, rect: pygame.Rect, share: float, chosen: bool) -> None:
        """A dot in the middle of a button, whose diameter is a share of the button's height."""
        colour = theme.ON_ACCENT if chosen else theme.TEXT
        pygame.draw.circle(self.surface, colour, rect.center, max(1.0, share * rect.height / 2))

    def bar(self, rect: pygame.Rect, share: float, colour: RGB) -> None:
        """A horizontal bar that is filled from the left."""
        radius = rect.height // 2
        pygame.draw.rect(self.surface, theme.RAISED, rect, border_radius=radius)
        filled = pygame.Rect(rect.left, rect.top, round(rect.width * min(max(share, 0.0), 1.0)), rect.height)
        if filled.width:
            pygame.draw.rect(self.surface, colour, filled, border_radius=min(radius, filled.width // 2))

    def picture(self, image: np.ndarray, rect: pygame.Rect) -> None:
        """A grey picture, [height, width] uint8 or float in [0, 1], as large as a rectangle; its pixels stay sharp."""
        self.surface.blit(scaled(image, rect.size), rect)

    def window(self, canvas: pygame.Rect, zoom: tuple[float, float], box: np.ndarray, colour: RGB, name: str) -> None:
        """An attention window (x, y, width, height) in canvas pixels on a canvas, with a name at its corner."""
        x, y, width, height = (float(value) for value in box)
        rect = pygame.Rect(
            round(canvas.left + x * zoom[0]), round(canvas.top + y * zoom[1]), round(width * zoom[0]), round(height * zoom[1])
        )
        before = self.surface.get_clip()
        self.surface.set_clip(canvas.clip(before))
        pygame.draw.rect(self.surface, colour, rect, self.px(2))
        size = self.px(16)
        visible = rect.clip(canvas)
        tag = pygame.Rect(visible.left, visible.top, size, size)
        if visible.width > 2 * size and visible.height > 2 * size:
            pygame.draw.rect(self.surface, colour, tag)
            self.text(name, 0.75 * size, theme.INK, bold=True, center=tag.center)
        self.surface.set_clip(before)

    def shade(self, rect: pygame.Rect, strength: int) -> None:
        """Darkens a rectangle; `strength` from 0 to 255."""
        veil = pygame.Surface(rect.size)
        veil.fill(theme.SHADE)
        veil.set_alpha(strength)
        self.surface.blit(veil, rect)


def scaled(image: np.ndarray, size: tuple[int, int]) -> pygame.Surface:
    """A grey picture [height, width] at a size in pixels: enlarged without smoothing, reduced by area."""
    if image.dtype != np.uint8:
        image = np.rint(255 * np.clip(image, 0.0, 1.0)).astype(np.uint8)
    height, width = image.shape
    picture = pygame.image.frombuffer(np.ascontiguousarray(image), (width, height), "P")
    picture.set_palette([(level, level, level) for level in range(256)])
    zoom = max(size[0] / width, size[1] / height)
    if zoom == int(zoom) or zoom >= SMOOTH_ZOOM:
        return pygame.transform.scale(picture, size)
    # Enlarged to whole pixels and then reduced by area, every pixel has the same size and only its edges are soft.
    larger = pygame.transform.scale_by(picture.convert(24), math.ceil(zoom))
    return pygame.transform.smoothscale(larger, size)


@functools.lru_cache(maxsize=256)
def _written(text: str, height: int, bold: bool, colour: RGB, width: int | None) -> pygame.Surface:
    font = theme.font(height, bold)
    text = text.replace("\0", "")
    if width is not None and font.size(text)[0] > width:
        least, most = 0, len(text)  # characters that fit before the dots
        while least < most:
            middle = (least + most + 1) // 2
            least, most = (middle, most) if font.size(text[:middle] + "…")[0] <= width else (least, middle - 1)
        text = text[:least].rstrip() + "…" if least else ""
    return font.render(text, True, colour)
