"""The sliders of z_what: a column for each dimension, those that say most first."""

import pygame

from air.gui import theme
from air.gui.editor import Editor
from air.gui.painter import Painter

MIN_COLUMN = 9  # units


class Equaliser:
    """Sliders in a rectangle.

    Args:
        area: the rectangle, in pixels.
        unit: pixels of a unit.
        editor: whose z_what they show.
    """

    def __init__(self, area: pygame.Rect, unit: float, editor: Editor) -> None:
        self.area, self.editor = area, editor
        margin, line = round(12 * unit), round(26 * unit)
        self.head = pygame.Rect(area.left + margin, area.top, area.width - 2 * margin, line)
        height = max(1, area.height - 2 * line)
        self.tracks = pygame.Rect(area.left + margin, area.top + line, max(1, area.width - 2 * margin), height)
        self.foot = pygame.Rect(self.tracks.left, self.tracks.bottom, self.tracks.width, area.bottom - self.tracks.bottom)
        self.columns = max(1, min(len(editor.dimensions), int(self.tracks.width // (MIN_COLUMN * unit))))
        place = editor.dimensions.tolist().index(editor.dimension)
        self.first = place // self.columns * self.columns  # pages, where not all dimensions have room

    @property
    def shown(self) -> list[int]:
        """The dimensions that have a slider now."""
        return self.editor.dimensions[self.first : self.first + self.columns].tolist()

    def column(self, index: int) -> pygame.Rect:
        width = self.tracks.width / self.columns
        left = round(self.tracks.left + index * width)
        return pygame.Rect(left, self.tracks.top, round(self.tracks.left + (index + 1) * width) - left, self.tracks.height)

    def dimension_at(self, x: float) -> int | None:
        """The dimension of the slider at a window's x, in pixels."""
        index = int((x - self.tracks.left) * self.columns // self.tracks.width)
        return self.shown[index] if 0 <= index < len(self.shown) else None

    def value_at(self, y: float) -> float:
        """The value of a slider at a window's y, in pixels."""
        low, high = self.editor.limits
        return low + (high - low) * (self.tracks.bottom - y) / self.tracks.height

    def draw(self, painter: Painter, colour: theme.RGB) -> None:
        """Draws the sliders of the selected object, in its colour."""
        painter.panel(self.area)
        values, inferred = self.editor.z_what, self.editor.inferred_z_what
        chosen = self.editor.dimension
        title = f"z_what of object {self.editor.selected + 1}"
        end = painter.text(title, "body", theme.TEXT, self.head.width, bold=True, midleft=self.head.midleft).right
        number = f"z[{chosen}] = {values[chosen]:+.2f}   inferred {inferred[chosen]:+.2f}"
        room = self.head.right - end - painter.px(16)
        painter.text(number, "small", theme.MUTED, room, midright=self.head.midright)
        for index, dimension in enumerate(self.shown):
            self._slider(painter, index, float(values[dimension]), float(inferred[dimension]), colour, dimension == chosen)
        hint = "Drag, or use the arrow keys    R as inferred    Escape closes"
        if self.columns < len(self.editor.dimensions):
            pages = -(-len(self.editor.dimensions) // self.columns)
            hint = f"Page {self.first // self.columns + 1} of {pages}    " + hint
        painter.text(hint, "tiny", theme.MUTED, self.foot.width, midleft=self.foot.midleft)

    def _slider(self, painter: Painter, index: int, value: float, inferred: float, colour: theme.RGB, is_chosen: bool) -> None:
        column = self.column(index)
        track = column.inflate(-max(2, column.width // 4), 0)
        pygame.draw.rect(painter.surface, theme.HOVERED if is_chosen else theme.RAISED, track)
        low, high = self.editor.limits
        middle, top, was = (
            round(track.bottom - (min(max(v, low), high) - low) / (high - low) * track.height)
            for v in ((low + high) / 2, value, inferred)
        )
        filled = pygame.Rect(track.left, min(middle, top), track.width, max(painter.px(2), abs(top - middle)))
        pygame.draw.rect(painter.surface, colour, filled.clip(track))
        pygame.draw.line(painter.surface, theme.TEXT, (track.left, was), (track.right - 1, was), painter.px(1))
        if is_chosen:
            pygame.draw.rect(painter.surface, theme.TEXT, track, painter.px(1))
