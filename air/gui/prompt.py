"""A line in which the path of a picture is typed, where the system has no file dialog."""

import os
from pathlib import Path

import pygame

from air.gui import sources, theme
from air.gui.painter import Painter

MAX_PATH = 1024  # characters
HINT = "Tab completes    Enter opens    Escape closes    or drop a picture on the window"
WIDTH, HEIGHT = 640, 112  # units


class Prompt:
    """The line, which begins with the current folder."""

    def __init__(self) -> None:
        self.text = str(Path.cwd()) + os.sep

    def type(self, key: int, character: str) -> None:
        """Take a key that changes the text."""
        if key == pygame.K_BACKSPACE:
            self.text = self.text[:-1]
        elif key == pygame.K_TAB:
            self.text = sources.complete(self.text)
        elif character.isprintable():
            self.paste(character)

    def paste(self, text: str) -> None:
        self.text = (self.text + text)[:MAX_PATH]

    @property
    def path(self) -> Path:
        return Path(self.text.strip()).expanduser()

    def draw(self, painter: Painter) -> None:
        """Draw the line in the middle of the window; the end of a long text is visible."""
        bounds = painter.surface.get_rect()
        painter.shade(bounds, 150)
        box = pygame.Rect(0, 0, min(painter.px(WIDTH), bounds.width - painter.px(16)), min(painter.px(HEIGHT), bounds.height))
        box.center = bounds.center
        painter.panel(box, theme.PANEL, theme.ACCENT)
        inner = box.inflate(-2 * painter.px(14), 0)
        line = pygame.Rect(inner.left, 0, inner.width, painter.px(30))
        line.centery = box.centery
        painter.text(sources.TITLE, "title", theme.TEXT, inner.width, bold=True, midleft=(inner.left, box.top + painter.px(20)))
        painter.panel(line, theme.INK, theme.LINE, radius=4)
        field = Painter(painter.surface.subsurface(line.inflate(-2 * painter.px(8), 0).clip(bounds)), painter.unit)
        width, size = field.surface.get_width() - field.px(2), field.surface.get_rect()
        end = field.text(self.text, "body", theme.TEXT, midleft=(0, size.centery)).width
        if end > width:
            field.surface.fill(theme.INK)
            field.text(self.text, "body", theme.TEXT, midright=(width, size.centery))
        cursor = min(end, width)
        pygame.draw.line(
            field.surface,
            theme.ACCENT,
            (cursor, size.centery - field.px(8)),
            (cursor, size.centery + field.px(8)),
            field.px(1.5),
        )
        painter.text(HINT, "small", theme.MUTED, inner.width, midleft=(inner.left, box.bottom - painter.px(18)))
