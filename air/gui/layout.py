"""Where everything is in a window of some size.

All lengths grow with the window, so that text stays readable on a high-density screen. A small window leaves out the buttons,
a smaller one everything but the canvases, as every action has a key.
"""

import math
from typing import NamedTuple

import pygame

from air.gui.pen import LINE_WIDTHS

DESIGN_SIZE = (1200, 760)
"""Width and height in pixels of the window at which one unit is one pixel."""
MIN_SIZE = (150, 110)
"""Pixels below which nothing can be shown but a word."""
MIN_CANVAS = 90
"""Units along a canvas' shorter side below which the cards give way to the canvases."""
UNITS = (0.62, 8.0)  # least and most pixels of a unit
SMOOTH_ZOOM = 4  # from this many pixels a canvas pixel on, whole numbers only

TOOLS: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...] = (
    ("PEN", (("draw", "erase"), tuple(f"width {n}" for n in range(1, len(LINE_WIDTHS) + 1)), ("undo", "redo"), ("clear",))),
    ("PICTURE", (("test scene",), ("dream",), ("save picture",))),
    ("MODEL", (("mean", "sample"), ("slower", "faster"))),
    ("VIEW", (("windows",), ("palette",), ("help",))),
)
"""Groups of rows of buttons, by the names of their actions."""


class Layout(NamedTuple):
    """Rectangles in pixels; None for what has no room."""

    unit: float  # pixels of a unit
    drawn: pygame.Rect  # the canvas that is drawn on
    painted: pygame.Rect  # the reconstruction
    canvas_titles: bool  # whether there is a line above the canvases
    header: pygame.Rect | None
    status: pygame.Rect | None
    count: pygame.Rect | None
    objects: pygame.Rect | None  # the area of `cards`
    cards: tuple[pygame.Rect, ...]  # one for each step
    tools: dict[str, pygame.Rect]  # buttons by the name of their action
    groups: dict[str, tuple[int, int]]  # upper left corners of the tools' headings


def arrange(size: tuple[int, int], canvas_size: tuple[int, int], steps: int) -> Layout | None:
    """Lays out a window.

    Args:
        size: width and height of the window, in pixels.
        canvas_size: height and width of the model's canvas, in its pixels.
        steps: of the model.

    Returns:
        None for a window in which nothing can be seen.
    """
    width, height = size
    if width < MIN_SIZE[0] or height < MIN_SIZE[1]:
        return None
    unit = min(max(min(width / DESIGN_SIZE[0], height / DESIGN_SIZE[1]), UNITS[0]), UNITS[1])
    area = pygame.Rect(0, 0, width, height)
    header = status = None
    tools: dict[str, pygame.Rect] = {}
    groups: dict[str, tuple[int, int]] = {}
    gap = round(16 * unit)
    if height >= 300 * unit:
        status = _cut(area, "bottom", 30 * unit)
    if height >= 480 * unit:
        header = _cut(area, "top", 46 * unit)
        _cut(area, "top", 12 * unit)
    if width >= 620 * unit and area.height >= 600 * unit:
        column = _cut(area, "left", 200 * unit)
        tools, groups = _tools(column.inflate(-2 * gap, 0), unit)
        area = pygame.Rect(area.left - gap, area.top, area.width + gap, area.height)  # the column has a margin of its own
    area = pygame.Rect(area.left + gap, area.top, area.width - 2 * gap, area.height - (gap if status else 2 * gap))
    if header is None:
        area = pygame.Rect(area.left, area.top + gap, area.width, area.height - (gap if status else 0))
    titles = area.height >= 260 * unit
    drawn, painted, rest = _canvases(area, canvas_size, steps, unit, gap, titles)
    count = objects = None
    cards: tuple[pygame.Rect, ...] = ()
    if rest is not None:
        count, objects = _count_and_objects(rest, unit, gap)
        cards = grid(objects, steps, round(12 * unit), 220 * unit)
    return Layout(unit, drawn, painted, titles, header, status, count, objects, cards, tools, groups)


def _cut(area: pygame.Rect, side: str, length: float) -> pygame.Rect:
    """Cuts a strip off a rectangle, which shrinks."""
    length = round(length)
    if side == "left":
        strip = pygame.Rect(area.left, area.top, length, area.height)
        area.update(area.left + length, area.top, area.width - length, area.height)
    else:
        strip = pygame.Rect(area.left, area.top if side == "top" else area.bottom - length, area.width, length)
        area.update(area.left, area.top + (length if side == "top" else 0), area.width, area.height - length)
    return strip


def _tools(column: pygame.Rect, unit: float) -> tuple[dict[str, pygame.Rect], dict[str, tuple[int, int]]]:
    rows = sum(len(rows) for _, rows in TOOLS)
    line, heading, space, between = 34 * unit, 24 * unit, 6 * unit, 10 * unit
    needed = rows * (line + space) + len(TOOLS) * heading + (len(TOOLS) - 1) * between
    shrink = min(1.0, (column.height - 8 * unit) / needed)
    y, tools, groups = float(column.top), {}, {}
    for title, group in TOOLS:
        groups[title] = (column.left, round(y))
        y += heading * shrink
        for names in group:
            width = (column.width - (len(names) - 1) * space) / len(names)
            for i, name in enumerate(names):
                left = column.left + i * (width + space)
                tools[name] = pygame.Rect(round(left), round(y), round(width), round(line * shrink))
            y += (line + space) * shrink
        y += between * shrink
    return tools, groups


def _canvases(
    area: pygame.Rect, canvas_size: tuple[int, int], steps: int, unit: float, gap: int, titles: bool
) -> tuple[pygame.Rect, pygame.Rect, pygame.Rect | None]:
    """Both canvases and what is left for the rest: the arrangement whose canvases are largest."""
    title = round(28 * unit) if titles else 0
    cards = 150 if steps <= 8 else 215  # height of one row, or two
    height, width = canvas_size

    def zoom(side_by_side: bool, rest: str | None) -> float:
        free_width = area.width - (250 * unit + gap if rest == "right" else 0)
        free_height = area.height - (cards * unit + gap if rest == "below" else 0)
        if side_by_side:
            return min((free_width - gap) / (2 * width), (free_height - title) / height)
        return min(free_width / width, (free_height - 2 * title - gap) / (2 * height))

    best = max(((beside, rest) for beside in (True, False) for rest in ("below", "right")), key=lambda each: zoom(*each))
    if zoom(*best) * min(width, height) < MIN_CANVAS * unit:
        best = max(((True, None), (False, None)), key=lambda each: zoom(*each))
    side_by_side, rest = best
    factor = _whole(max(zoom(*best), 1e-3))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return _place(area, size, steps, unit, title, gap, side_by_side, rest)


def _place(
    area: pygame.Rect,
    size: tuple[int, int],
    steps: int,
    unit: float,
    title: int,
    gap: int,
    side_by_side: bool,
    rest: str | None,
) -> tuple[pygame.Rect, pygame.Rect, pygame.Rect | None]:
    """Puts canvases of a size, and the rest beside or below them, in the middle of an area."""
    width, height = size
    block = (2 * width + gap, title + height) if side_by_side else (width, 2 * (title + height) + gap)
    beside = min(area.width - block[0] - gap, round(420 * unit)) if rest == "right" else 0
    left = area.left + max(0, area.width - block[0] - (beside + gap if beside else 0)) // 2
    top = area.top + (0 if rest else max(0, area.height - block[1]) // 2)
    first = pygame.Rect(left, top + title, width, height)
    second = first.move(width + gap, 0) if side_by_side else first.move(0, title + height + gap)
    if rest is None:
        return first, second, None
    if rest == "right":
        return first, second, pygame.Rect(left + block[0] + gap, top + title, max(1, beside), max(1, area.height - title))
    below = min(area.width, max(block[0], round((640 if steps <= 4 else 1500) * unit)))
    left, top = left + (block[0] - below) // 2, top + block[1] + gap
    return first, second, pygame.Rect(max(left, area.left), top, below, max(1, area.bottom - top))


def _whole(zoom: float) -> float:
    return float(math.floor(zoom)) if zoom >= SMOOTH_ZOOM else zoom


def _count_and_objects(rest: pygame.Rect, unit: float, gap: int) -> tuple[pygame.Rect, pygame.Rect]:
    if rest.width > 1.6 * rest.height:
        width = round(min(150 * unit, rest.width / 4))
        count = pygame.Rect(rest.left, rest.top, width, rest.height)
        return count, pygame.Rect(rest.left + width + gap, rest.top, rest.width - width - gap, rest.height)
    height = round(min(110 * unit, rest.height / 4))
    count = pygame.Rect(rest.left, rest.top, rest.width, height)
    return count, pygame.Rect(rest.left, rest.top + height + gap, rest.width, rest.height - height - gap)


def grid(area: pygame.Rect, cells: int, gap: int, most_height: float) -> tuple[pygame.Rect, ...]:
    """Equal cells in rows, as many columns as make them largest; a cell is best wider than high."""

    def size(columns: int) -> tuple[float, float]:
        rows = -(-cells // columns)
        return (area.width - (columns - 1) * gap) / columns, (area.height - (rows - 1) * gap) / rows

    columns = max(range(1, cells + 1), key=lambda n: min(size(n)[0] / 1.7, size(n)[1]))
    width, height = size(columns)
    height = min(height, most_height)
    return tuple(
        pygame.Rect(
            round(area.left + i % columns * (width + gap)),
            round(area.top + i // columns * (height + gap)),
            max(1, math.floor(width)),
            max(1, math.floor(height)),
        )
        for i in range(cells)
    )
