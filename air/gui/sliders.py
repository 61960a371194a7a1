"""The sliders of z_what: a column for each dimension, the most informative first."""

import pygame

from air.gui import theme
from air.gui.editor import Editor
from air.gui.layout import cut
from air.gui.painter import Painter

MIN_COLUMN = 9  # units


class Sliders:
    """The sliders of the selected object in an area of the window; `unit` is in pixels."""

    def __init__(self, area: pygame.Rect, unit: float, editor: Editor) -> None:
        self.area, self.editor = area, editor
        self.tracks = area.inflate(-min(2 * round(12 * unit), area.width - 1), 0)
        self.head, self.foot = (cut(self.tracks, side, 26 * unit) for side in ("top", "bottom"))
        self.columns = max(1, min(len(editor.dimensions), int(self.tracks.width // (MIN_COLUMN * unit))))
        place = editor.dimensions.tolist().index(editor.dimension)
        self.first = place // self.columns * self.columns  # pages, if there is no room for all dimensions

    @property
    def shown(self) -> list[int]:
        """The dimensions that have a slider on this page."""
        return self.editor.dimensions[self.first : self.first + self.columns].tolist()

    def column(self, index: int) -> pygame.Rect:
        left, right = (round(self.tracks.left + i * self.tracks.width / self.columns) for i in (index, index + 1))
        return pygame.Rect(left, self.tracks.top, right - left, self.tracks.height)

    def dimension_at(self, at: tuple[float, float]) -> int | None:
        """Return the dimension of the slider at a pixel of the window."""
        index = int((at[0] - self.tracks.left) * self.columns // self.tracks.width)
        return self.shown[index] if self.tracks.collidepoint(at) and index < len(self.shown) else None

    def value_at(self, y: float) -> float:
        """Return the value of a slider at a height in the window, in pixels."""
        low, high = self.editor.limits
        return low + (high - low) * (self.tracks.bottom - y) / self.tracks.height

    def draw(self, painter: Painter, colour: theme.RGB) -> None:
        """Draw the sliders in the colour of the selected object."""
        painter.panel(self.area)
        values, inferred = self.editor.z_what, self.editor.inferred.scene.z_what[self.editor.selected]
        chosen = self.editor.dimension
        title = f"z_what of object {self.editor.selected + 1}"
        end = painter.text(title, "body", theme.TEXT, self.head.width, bold=True, midleft=self.head.midleft).right
        number = f"z[{chosen}] = {values[chosen]:+.2f}   inferred {inferred[chosen]:+.2f}"
        painter.text(number, "small", theme.MUTED, self.head.right - end - painter.px(16), midright=self.head.midright)
        for index, dimension in enumerate(self.shown):
            self._slider(painter, index, float(values[dimension]), float(inferred[dimension]), colour, dimension == chosen)
        hint = "Drag, or use the arrow keys    R resets    Escape closes"
        if self.columns < len(self.editor.dimensions):
            pages = -(-len(self.editor.dimensions) // self.columns)
            hint = f"Page {self.first // self.columns + 1} of {pages}    " + hint
        painter.text(hint, "tiny", theme.MUTED, self.foot.width, midleft=self.foot.midleft)

    def _slider(self, painter: Painter, index: int, value: float, inferred: float, colour: theme.RGB, is_chosen: bool) -> None:
        column = self.column(index)
        track = column.inflate(-max(2, column.width // 4), 0)
        pygame.draw.rect(painter.surface, theme.HOVERED if is_chosen else theme.RAISED, track)
        low, high = self.editor.limits
        middle, top, mark = (
            round(track.bottom - (min(max(v, low), high) - low) / (high - low) * track.height)
            for v in ((low + high) / 2, value, inferred)
        )
        filled = pygame.Rect(track.left, min(middle, top), track.width, max(painter.px(2), abs(top - middle)))
        pygame.draw.rect(painter.surface, colour, filled.clip(track))
        pygame.draw.line(painter.surface, theme.TEXT, (track.left, mark), (track.right - 1, mark), painter.px(1))
        if is_chosen:
            pygame.draw.rect(painter.surface, theme.TEXT, track, painter.px(1))
