"""Text, buttons, bars and pictures on a surface, in the units of a layout."""

import bisect
import functools
import math

import numpy as np
import pygame

from air.gui import theme
from air.gui.theme import RGB

SMOOTH_ZOOM = 4  # from this zoom of a picture on, sharp pixels need not have the same size
SIZES = {"tiny": 11, "small": 12, "body": 14, "title": 16, "head": 21}
"""Heights of text by name, in units."""
MIN_TEXT = 11  # pixels


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
        written = _written(text, self._height(size), bold, colour, max(0.0, width))
        rect = written.get_rect(**{name: (round(x), round(y)) for name, (x, y) in place.items()})
        self.surface.blit(written, rect)
        return rect

    def measure(self, text: str, size: str | float, bold: bool = False) -> tuple[int, int]:
        """Return the width and height of a line of text in pixels."""
        return theme.font(self._height(size), bold).size(text)

    def _height(self, size: str | float) -> int:
        return max(round(SIZES[size] * self.unit if isinstance(size, str) else size), MIN_TEXT)

    def panel(self, rect: pygame.Rect, colour: RGB = theme.PANEL, outline: RGB | None = None, radius: float = 8) -> None:
        """Draw a rounded rectangle; `radius` in units is limited to half of its shorter side."""
        if outline is not None:
            self._rounded(rect, outline, radius)
            width = self.px(1.5)
            rect, radius = rect.inflate(-2 * width, -2 * width), radius - 1.5
        self._rounded(rect, colour, radius)

    def _rounded(self, rect: pygame.Rect, colour: RGB, radius: float) -> None:
        pixels = min(self.px(radius), min(rect.size) // 2)
        self.surface.fill(colour, rect.inflate(-2 * pixels, 0))
        self.surface.fill(colour, rect.inflate(0, -2 * pixels))
        if pixels:
            disc = _disc(pixels, colour)
            for left in (rect.left, rect.right - disc.get_width()):
                self.surface.blits([(disc, (left, rect.top)), (disc, (left, rect.bottom - disc.get_height()))])

    def outline(self, rect: pygame.Rect, colour: RGB, width: float, radius: float = 0) -> None:
        """Draw the outline of a rectangle, `width` units wide, inside it."""
        radius = min(round(radius * self.unit), min(rect.size) // 2)
        pygame.draw.rect(self.surface, colour, rect, self.px(width), border_radius=radius)

    def button(self, rect: pygame.Rect, label: str, key: str, *, chosen: bool, enabled: bool, hovered: bool) -> None:
        """Draw a button with its label and, if there is room, its key."""
        colour = theme.CHOSEN if chosen else theme.PANEL if not enabled else theme.HOVERED if hovered else theme.RAISED
        self.panel(rect, colour, radius=6)
        text = theme.TEXT if enabled else theme.FAINT
        inner, size = rect.inflate(-2 * self.px(10), 0), min(SIZES["body"] * self.unit, 0.62 * rect.height)
        if rect.width > 118 * self.unit:
            hint = self.text(key, 0.8 * size, theme.MUTED if enabled else text, midright=inner.midright)
            self.text(label, size, text, hint.left - inner.left - self.px(5), midleft=inner.midleft)
        else:
            self.text(label, size, text, rect.width - self.px(4), center=rect.center)

    def tag(self, corner: tuple[int, int], step: int, colour: RGB) -> None:
        """Draw a coloured square with the number of a step; `corner` is its top left one."""
        rect = pygame.Rect(corner, (max(self.px(16), MIN_TEXT + 3),) * 2)
        pygame.draw.rect(self.surface, colour, rect)
        self.text(str(step + 1), 0.75 * rect.height, theme.text_on(colour), bold=True, center=rect.center)

    def picture(self, image: np.ndarray, rect: pygame.Rect, smooth: bool = False) -> None:
        """Draw a picture, [height, width] or [height, width, 3], uint8 or float in [0, 1], sharp or interpolated."""
        if image.dtype != np.uint8:
            image = np.rint(255 * np.clip(image, 0.0, 1.0)).astype(np.uint8)
        height, width = image.shape[:2]
        pixels = np.ascontiguousarray(image) if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
        picture = pygame.image.frombuffer(pixels.data, (width, height), "RGB")
        zoom = max(rect.width / width, rect.height / height)
        if smooth:
            picture = pygame.transform.smoothscale(picture, rect.size)
        elif zoom == int(zoom) or zoom >= SMOOTH_ZOOM:
            picture = pygame.transform.scale(picture, rect.size)
        else:  # enlarged to whole pixels and then reduced by area, all pixels have the same size and only their edges are soft
            larger = pygame.transform.scale_by(picture, math.ceil(zoom))
            picture = pygame.transform.smoothscale(larger, rect.size)
        self.surface.blit(picture, rect)

    def tint(self, mask: np.ndarray, rect: pygame.Rect, colour: RGB) -> None:
        """Lay a colour over a picture, as opaque as a mask [height, width] in [0, 1] is there."""
        height, width = mask.shape
        rgba = np.empty((height, width, 4), np.uint8)
        rgba[..., :3], rgba[..., 3] = colour, np.rint(255 * mask)
        veil = pygame.image.frombuffer(rgba.data, (width, height), "RGBA")
        self.surface.blit(pygame.transform.smoothscale(veil, rect.size), rect)

    def shade(self, rect: pygame.Rect, strength: int) -> None:
        """Darken a rectangle; `strength` is from 0 to 255."""
        veil = pygame.Surface(rect.size, pygame.SRCALPHA)
        veil.fill((*theme.SHADE, strength))
        self.surface.blit(veil, rect)


@functools.lru_cache(maxsize=64)
def _disc(radius: int, colour: RGB) -> pygame.Surface:
    disc = pygame.Surface((2 * radius + 1, 2 * radius + 1), pygame.SRCALPHA)
    disc.fill((*colour, 0))
    pygame.draw.aacircle(disc, colour, (radius, radius), radius)
    return disc


@functools.lru_cache(maxsize=256)
def _written(text: str, height: int, bold: bool, colour: RGB, width: float) -> pygame.Surface:
    font = theme.font(height, bold)
    if font.size(text)[0] > width:
        fitting = bisect.bisect_right(range(len(text)), width, key=lambda n: font.size(text[:n] + "…")[0])
        text = text[: fitting - 1].rstrip() + "…" if fitting > 1 else ""
    return font.render(text, True, colour)
