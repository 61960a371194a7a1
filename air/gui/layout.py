"""The position of everything in a window of a given size.

All lengths grow with the window, so that text stays readable on a high-density display. A small window leaves out the buttons,
and a smaller one everything but the canvases; every action has a key too.
"""

import itertools
from typing import NamedTuple

import pygame
from pygame import Rect

from air.gui.pen import LINE_WIDTHS

DESIGN_SIZE = (1200, 760)  # pixels of the window in which one unit is one pixel
MIN_SIZE = (150, 110)  # pixels; a smaller window shows only a word
MIN_CANVAS = 90  # units of a canvas' shorter side below which the cards make room for the canvases
UNIT_RANGE = (0.62, 8.0)  # pixels
SMOOTH_ZOOM = 4  # from this zoom of a canvas on, only integers are used

TOOLS: dict[str, tuple[tuple[str, ...], ...]] = {
    "PEN": (("draw", "erase"), tuple(f"width {n}" for n in range(1, len(LINE_WIDTHS) + 1)), ("undo", "redo"), ("clear",)),
    "PICTURE": (("test scene",), ("dream",), ("save picture",)),
    "MODEL": (("mean", "sample"), ("slower", "faster")),
    "VIEW": (("windows",), ("palette",), ("help",)),
}
"""Groups of rows of buttons, by the names of their actions."""


class Layout(NamedTuple):
    """Rectangles in pixels; None for what has no room."""

    unit: float  # pixels of a unit
    drawn: Rect  # the canvas to draw on
    reconstructed: Rect  # the canvas of the reconstruction
    canvas_titles: bool  # whether there is a line above the canvases
    header: Rect | None
    status: Rect | None
    count: Rect | None  # type: ignore[assignment]
    objects: Rect | None  # the area of `cards`
    cards: tuple[Rect, ...]  # one for each step
    tools: dict[str, Rect]  # buttons by the name of their action
    headings: dict[str, tuple[int, int]]  # top left corners of the headings of the tools


def arrange(size: tuple[int, int], canvas_size: tuple[int, int], steps: int) -> Layout | None:
    """Lay out a window (width, height) for a model's canvas (height, width); return None if it is too small."""
    width, height = size
    if width < MIN_SIZE[0] or height < MIN_SIZE[1]:
        return None
    unit = pygame.math.clamp(min(width / DESIGN_SIZE[0], height / DESIGN_SIZE[1]), *UNIT_RANGE)
    gap, area = round(16 * unit), Rect(0, 0, width, height)
    status = cut(area, "bottom", 30 * unit) if height >= 300 * unit else None
    header = cut(area, "top", 46 * unit) if height >= 480 * unit else None
    cut(area, "top", 12 * unit if header else gap)
    tools: dict[str, Rect] = {}
    headings: dict[str, tuple[int, int]] = {}
    cards: tuple[Rect, ...] = ()
    count = objects = None
    if width >= 620 * unit and area.height >= 600 * unit:
        tools, headings = _tools(cut(area, "left", 200 * unit).inflate(-2 * gap, 0), unit)
    else:
        cut(area, "left", gap)
    area.width -= gap
    area.height -= gap if status or not header else 2 * gap
    titles = area.height >= 260 * unit
    drawn, reconstructed, rest = _canvases(area, canvas_size, steps, unit, titles)
    if rest is not None:
        is_wide = rest.width > 1.6 * rest.height
        side, length = ("left", min(150 * unit, rest.width / 4)) if is_wide else ("top", min(110 * unit, rest.height / 4))
        count, _, objects = cut(rest, side, length), cut(rest, side, gap), rest
        cards = _grid(objects, steps, round(12 * unit), 220 * unit)
    return Layout(unit, drawn, reconstructed, titles, header, status, count, objects, cards, tools, headings)


def cut(area: Rect, side: str, length: float) -> Rect:
    """Cut a strip off one side of a rectangle, and return it; at least one pixel remains."""
    strip = area.copy()
    if side == "left":
        strip.width = min(round(length), area.width - 1)
        area.left, area.width = strip.right, area.width - strip.width
    else:
        strip.height = min(round(length), area.height - 1)
        area.height -= strip.height
        if side == "top":
            area.top = strip.bottom
        else:
            strip.top = area.bottom
    return strip


def _tools(column: Rect, unit: float) -> tuple[dict[str, Rect], dict[str, tuple[int, int]]]:
    """Place the buttons and their headings in a column, closer together if it is short."""
    line, heading, space, between = 34 * unit, 24 * unit, 6 * unit, 10 * unit
    needed = sum(map(len, TOOLS.values())) * (line + space) + len(TOOLS) * heading + (len(TOOLS) - 1) * between
    shrink = min(1.0, (column.height - 8 * unit) / needed)
    y, tools, headings = float(column.top), {}, {}
    for title, rows in TOOLS.items():
        headings[title] = (column.left, round(y))
        y += heading * shrink
        for names in rows:
            width = (column.width - (len(names) - 1) * space) / len(names)
            for i, name in enumerate(names):
                tools[name] = Rect(round(column.left + i * (width + space)), round(y), round(width), round(line * shrink))
            y += (line + space) * shrink
        y += between * shrink
    return tools, headings


def _canvases(
    area: Rect, canvas_size: tuple[int, int], steps: int, unit: float, titles: bool
) -> tuple[Rect, Rect, Rect | None]:
    """Place the canvases, side by side or stacked, and the rest, below or to the right, so that the canvases are largest."""
    gap, title = round(16 * unit), round(28 * unit) if titles else 0
    cards = 150 if steps <= 8 else 215  # height of one row, or two
    height, width = canvas_size

    def zoom(choice: tuple[bool, str | None]) -> float:
        side_by_side, rest = choice
        free_width = area.width - (250 * unit + gap if rest == "right" else 0)
        free_height = area.height - (cards * unit + gap if rest == "below" else 0)
        if side_by_side:
            return min((free_width - gap) / (2 * width), (free_height - title) / height)
        return min(free_width / width, (free_height - 2 * title - gap) / (2 * height))

    choice = max(itertools.product((True, False), ("below", "right")), key=zoom)
    if zoom(choice) * min(canvas_size) < MIN_CANVAS * unit:
        choice = max(itertools.product((True, False), (None,)), key=zoom)
    (side_by_side, rest), factor = choice, max(zoom(choice), 1e-3)
    factor = int(factor) if factor >= SMOOTH_ZOOM else factor
    first = Rect(0, title, max(1, round(width * factor)), max(1, round(height * factor)))
    second = first.move(first.width + gap, 0) if side_by_side else first.move(0, title + first.height + gap)

    block = Rect(0, 0, second.right, second.bottom)
    beside = min(area.width - block.width - gap, round(420 * unit)) if rest == "right" else 0
    block.left = area.left + max(0, area.width - block.width - (beside + gap if beside else 0)) // 2
    block.top = area.top + (0 if rest else max(0, area.height - block.height) // 2)
    first, second = first.move(block.topleft), second.move(block.topleft)
    if rest is None:
        return first, second, None
    if rest == "right":
        return first, second, Rect(block.right + gap, first.top, max(1, beside), max(1, area.height - title))
    below = min(area.width, max(block.width, round((640 if steps <= 4 else 1500) * unit)))
    left, top = max(area.left, block.left + (block.width - below) // 2), block.bottom + gap
    return first, second, Rect(left, top, below, max(1, area.bottom - top))


def _grid(area: Rect, cells: int, gap: int, max_height: float) -> tuple[Rect, ...]:
    """Divide an area into equal cells, in as many columns as make them largest; a cell should be wider than high."""

    def size(columns: int) -> tuple[float, float]:
        rows = -(-cells // columns)
        return (area.width - (columns - 1) * gap) / columns, (area.height - (rows - 1) * gap) / rows

    columns = max(range(1, cells + 1), key=lambda n: min(size(n)[0] / 1.7, size(n)[1]))
    width, height = size(columns)
    height = min(height, max_height)
    corners = [(area.left + i % columns * (width + gap), area.top + i // columns * (height + gap)) for i in range(cells)]
    return tuple(Rect(round(x), round(y), max(1, int(width)), max(1, int(height))) for x, y in corners)
