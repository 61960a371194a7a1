"""The sliders of z_what: one for each of the dimensions that matter most, between pictures of its ends."""

import pygame

from air.gui import theme
from air.gui.editor import Editor
from air.gui.layout import cut
from air.gui.painter import Painter

HEAD, PAD, GAP, TRACK = 38, 8, 10, 7  # units
MIN_CELL, MAX_END = 170, 44  # units: the least width of a slider beside another, and the greatest side of a picture


class Sliders:
    """The sliders of the selected object in an area of the window; `unit` is in pixels."""

    def __init__(self, area: pygame.Rect, unit: float, editor: Editor) -> None:
        self.area, self.editor = area, editor
        self.inner = area.inflate(-2 * round(PAD * unit), 0)
        self.head = cut(self.inner, "top", HEAD * unit)
        cut(self.inner, "bottom", PAD * unit)
        self._gap = round(GAP * unit)
        self.columns = 2 if self.inner.width > 2 * MIN_CELL * unit else 1
        self.rows = -(-len(editor.dimensions) // self.columns)
        self.end = max(1, min(self.inner.height // self.rows - round(2 * unit), self.inner.width // 6, round(MAX_END * unit)))

    def cell(self, index: int) -> pygame.Rect:
        """Return the place of a slider and its two pictures; they are in order column by column."""
        column, row = divmod(index, self.rows)
        width = (self.inner.width - (self.columns - 1) * 2 * self._gap) // self.columns
        top, bottom = (self.inner.top + i * self.inner.height // self.rows for i in (row, row + 1))
        return pygame.Rect(self.inner.left + column * (width + 2 * self._gap), top, width, max(1, bottom - top))

    def track(self, index: int) -> pygame.Rect:
        """Return the part of a cell in which a slider can be dragged."""
        cell = self.cell(index)
        return pygame.Rect(
            cell.left + self.end + self._gap, cell.top, max(1, cell.width - 2 * (self.end + self._gap)), cell.height
        )

    def dimension_at(self, at: tuple[float, float]) -> int | None:
        """Return the dimension of the slider at a pixel of the window."""
        hit = (i for i in range(len(self.editor.dimensions)) if self.track(i).inflate(self._gap, 0).collidepoint(at))
        index = next(hit, None)
        return None if index is None else self.editor.dimensions[index]

    def value_at(self, dimension: int, x: float) -> float:
        """Return the value of a slider at a pixel from the left of the window."""
        track, (low, high) = self.track(self.editor.dimensions.index(dimension)), self.editor.limits
        return low + (high - low) * (x - track.left) / track.width

    def draw(self, painter: Painter, colour: theme.RGB, room: float) -> None:
        """Draw the sliders in the colour of the selected object; the title has `room` pixels."""
        painter.panel(self.area)
        editor = self.editor
        title = f"z_what of object {editor.selected + 1}"
        end = painter.text(title, "body", theme.TEXT, room, bold=True, midleft=self.head.midleft).right + painter.px(10)
        dimension = editor.dimension
        number = f"z[{dimension}] = {editor.z_what[dimension]:+.2f}"
        painter.text(number, "small", theme.MUTED, self.head.left + room - end, midleft=(end, self.head.centery))
        for index, dimension in enumerate(editor.dimensions):
            self._slider(painter, index, dimension, colour)

    def _slider(self, painter: Painter, index: int, dimension: int, colour: theme.RGB) -> None:
        cell, track, is_chosen = self.cell(index), self.track(index), dimension == self.editor.dimension
        line = pygame.Rect(track.left, 0, track.width, max(2, round(TRACK * painter.unit)))
        line.centery = track.centery
        painter.panel(line, theme.HOVERED if is_chosen else theme.RAISED)
        low, high = self.editor.limits

        def place(value: float) -> int:
            return round(track.left + (min(max(value, low), high) - low) / (high - low) * track.width)

        middle, knob = place((low + high) / 2), place(float(self.editor.z_what[dimension]))
        painter.panel(pygame.Rect(min(middle, knob), line.top, max(1, abs(knob - middle)), line.height), colour)
        inferred = self.editor.inferred_z_what
        if inferred is not None:
            mark = place(float(inferred[dimension]))
            pygame.draw.line(painter.surface, theme.TEXT, (mark, line.top - 2), (mark, line.bottom + 1), painter.px(1.5))
        radius = min(0.4 * track.height, 1.2 * line.height)
        pygame.draw.circle(painter.surface, theme.TEXT if is_chosen else colour, (knob, track.centery), radius)
        pygame.draw.circle(painter.surface, theme.PANEL, (knob, track.centery), radius, painter.px(1.5))
        if self.editor.ends is None:
            return
        for picture, left in zip(self.editor.ends[index], (cell.left, cell.right - self.end), strict=True):
            rect = pygame.Rect(left, 0, self.end, self.end)
            rect.centery = cell.centery
            painter.picture(picture, rect)
            pygame.draw.rect(painter.surface, theme.TEXT if is_chosen else theme.LINE, rect, 1)
