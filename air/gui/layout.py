"""The position of everything in a window of a given size.

Everything stands between the same left and right margins: the buttons, the two canvases, and below them the bar of steps and
the cards of the objects. Lengths grow more slowly than the window, so that a large one mostly has larger canvases. A small
window leaves out the buttons, and a smaller one everything but the canvases; every action has a key too.
"""

import itertools
from typing import NamedTuple

import pygame
from pygame import Rect

from air.gui.pen import LINE_WIDTHS

DESIGN_SIZE = (1200, 760)  # pixels of the window in which one unit is one pixel
MIN_SIZE = (150, 110)  # pixels; a smaller window shows only a word
MIN_CANVAS = 150  # units of a canvas' shorter side below which the cards make room for the canvases
UNIT_RANGE = (0.62, 8.0)  # pixels
MARGIN, GAP, SPACE = 16, 12, 6  # units around everything, between parts, and between buttons
TITLE, BAR, HEADER = 28, 34, 54  # units: the height of a canvas' title, the bar of steps and the header
CARD = (190, 118)  # units: the least width of a card, and its height
SMALL_CARD = (76, 50)  # the least size of a card when there are too many objects for large ones
TOOL_WIDTHS = (182, 270)  # units: the narrowest and the widest column of buttons
LINE, HEADING, BETWEEN = 32, 22, 15  # units: the height of a button and of a heading, and the space between groups

TOOLS: dict[str, tuple[tuple[str, ...], ...]] = {
    "Pen": (("draw", "erase"), tuple(f"width {n}" for n in range(1, len(LINE_WIDTHS) + 1)), ("undo", "redo"), ("clear",)),
    "Picture": (("open", "paste"), ("test scene", "dream"), ("save picture", "record")),
    "Canvas": (("canvas 1", "canvas 2", "canvas 3"),),
    "Attention": (("mean", "sample"), ("windows", "pixels")),
    "Window": (("palette", "help"),),
}
"""Groups of rows of buttons, by the names of their actions."""
OBJECT_TOOLS = ("copy object", "delete object", "reset", "close")
"""Buttons above the sliders, while an object is selected."""


class Layout(NamedTuple):
    """Rectangles in pixels; None for what has no room."""

    unit: float  # pixels of a unit
    drawn: Rect  # the canvas to draw on
    reconstructed: Rect  # the canvas of the reconstruction
    has_titles: bool  # whether there is a line above the canvases
    header: Rect | None
    bar: Rect | None  # the steps of attention: play, pause, and one notch for each step
    count: Rect | None  # type: ignore[assignment]
    objects: Rect | None  # the area of the cards
    selected: Rect | None  # the card of the selected object
    sliders: Rect | None  # beside it, in place of the other cards and the bar
    tools: dict[str, Rect]  # buttons by the name of their action
    object_tools: dict[str, Rect]  # the same for the selected object
    headings: dict[str, tuple[int, int]]  # top left corners of the headings of the tools

    def cards(self, count: int) -> tuple[Rect, ...]:
        """Place a card for each object: as many places as large cards fit, or more small ones if there are more objects."""
        if self.objects is None:
            return ()
        gap, unit = round(SPACE * self.unit), self.unit
        columns, rows = (max(1, int((n + gap) // (m * unit + gap))) for n, m in zip(self.objects.size, CARD, strict=True))
        if count <= columns * rows:
            return _grid(self.objects, columns, rows, gap)
        rows = max(1, int((self.objects.height + gap) // (SMALL_CARD[1] * unit + gap)))
        columns = max(columns, -(-count // rows))
        most = max(columns, int((self.objects.width + gap) // (SMALL_CARD[0] * unit + gap)))
        if columns > most:
            columns, rows = most, -(-count // most)
        return _grid(self.objects, columns, rows, gap)[:count]


def arrange(size: tuple[int, int], canvas_size: tuple[int, int], without: frozenset[str] = frozenset()) -> Layout | None:
    """Lay out a window (width, height) for a canvas (height, width); return None if it is too small.

    `without` names groups of `TOOLS` that are left out.
    """
    width, height = size
    if width < MIN_SIZE[0] or height < MIN_SIZE[1]:
        return None
    ratio = min(width / DESIGN_SIZE[0], height / DESIGN_SIZE[1])
    unit = pygame.math.clamp(ratio ** (0.75 if ratio > 1 else 0.5), *UNIT_RANGE)
    margin, gap = round(MARGIN * unit), round(GAP * unit)
    area = Rect(0, 0, width, height).inflate(-2 * margin, 0)
    header = cut(area, "top", HEADER * unit) if height >= 400 * unit else None
    cut(area, "top", gap if header else margin)
    cut(area, "bottom", margin)
    groups = {name: rows for name, rows in TOOLS.items() if name not in without}
    has_tools = area.width >= 560 * unit and area.height >= 0.8 * _tools_height(groups) * unit
    column = round(TOOL_WIDTHS[0] * unit) + margin if has_tools else 0
    has_titles = area.height >= 240 * unit
    place = _place(Rect(area.left + column, area.top, area.width - column, area.height), canvas_size, unit, has_titles)

    spare = area.right - place.block.right
    wider = min(spare, round((TOOL_WIDTHS[1] - TOOL_WIDTHS[0]) * unit)) if has_tools else 0
    left = area.left + (spare - wider) // 2
    place = place.moved(left - area.left + wider)
    tools: dict[str, Rect] = {}
    headings: dict[str, tuple[int, int]] = {}
    if has_tools:
        tools, headings = _tools(Rect(left, area.top, column - margin + wider, area.height), groups, unit)
    if header is not None:
        header.left, header.width = left, place.block.right - left
    object_tools = _object_tools(place.sliders, unit) if place.sliders else {}
    parts = place._asdict()
    del parts["block"]
    return Layout(
        unit=unit, has_titles=has_titles, header=header, tools=tools, object_tools=object_tools, headings=headings, **parts
    )


def cut(area: Rect, side: str, length: float) -> Rect:
    """Cut a strip off one side of a rectangle, and return it; at least one pixel remains."""
    strip = area.copy()
    if side in ("left", "right"):
        strip.width = min(round(length), area.width - 1)
        area.width -= strip.width
        if side == "left":
            area.left = strip.right
        else:
            strip.left = area.right
    else:
        strip.height = min(round(length), area.height - 1)
        area.height -= strip.height
        if side == "top":
            area.top = strip.bottom
        else:
            strip.top = area.bottom
    return strip


class _Place(NamedTuple):
    """Hold where the canvases and what belongs to them stand; `block` is around all of it."""

    drawn: Rect
    reconstructed: Rect
    bar: Rect | None
    count: Rect | None  # type: ignore[assignment]
    objects: Rect | None
    selected: Rect | None
    sliders: Rect | None
    block: Rect

    def moved(self, by: int) -> "_Place":
        return _Place(*(rect and rect.move(by, 0) for rect in self))


def _place(area: Rect, canvas_size: tuple[int, int], unit: float, has_titles: bool) -> _Place:
    """Place the canvases, side by side or stacked, and the cards, below or to the right, so that the canvases are largest."""
    gap, title, bar = round(GAP * unit), round(TITLE * unit) if has_titles else 0, round(BAR * unit)
    height, width = canvas_size
    right, below = round((CARD[0] + 30) * unit), round(CARD[1] * unit)

    def zoom(choice: tuple[bool, str | None]) -> float:
        side_by_side, cards = choice
        free_width = area.width - (right + gap if cards == "right" else 0)
        free_height = area.height - {"below": bar + below + 2 * gap, "right": bar + gap, None: 0}[cards]
        if side_by_side:
            return min((free_width - gap) / (2 * width), (free_height - title) / height)
        return min(free_width / width, (free_height - 2 * title - gap) / (2 * height))

    choice = max(itertools.product((True, False), ("below", "right")), key=zoom)
    if zoom(choice) * min(canvas_size) < MIN_CANVAS * unit:
        alone = max(itertools.product((True, False), (None,)), key=zoom)
        choice = alone if zoom(alone) > 1.1 * zoom(choice) else choice  # cards don't make a wide canvas smaller
    (side_by_side, cards), factor = choice, max(zoom(choice), 1e-3)
    first = Rect(area.left, area.top + title, max(1, int(width * factor)), max(1, int(height * factor)))
    second = first.move(first.width + gap, 0) if side_by_side else first.move(0, title + first.height + gap)
    canvases = first.union(second)
    if cards is None:
        down = max(0, area.bottom - canvases.bottom) // 2
        return _Place(first.move(0, down), second.move(0, down), None, None, None, None, None, canvases)
    strip = Rect(canvases.left, canvases.bottom + gap, canvases.width, bar)
    if cards == "right":
        bottom = max(strip.bottom, min(area.bottom, first.top + 2 * below))  # as low canvases leave no room beside them
        rest = Rect(canvases.right + gap, first.top, right, bottom - first.top)
        count, _ = cut(rest, "top", 92 * unit), cut(rest, "top", gap)
        sliders = rest.copy()
        selected, _ = cut(sliders, "top", below), cut(sliders, "top", gap)
        return _Place(first, second, strip, count, rest, selected, sliders, canvases.union(rest))
    strip.width = max(strip.width, min(area.width, round(640 * unit)))
    rest = Rect(strip.left, strip.bottom + gap, strip.width, area.bottom - strip.bottom - gap)
    rest.height = min(rest.height, round(2.4 * below))
    count, _ = cut(rest, "left", min(110 * unit, rest.width / 4)), cut(rest, "left", gap)
    sliders = Rect(rest.left, strip.top, rest.width, rest.bottom - strip.top)
    selected, _ = cut(sliders, "left", min(CARD[0] * unit, rest.width / 3)), cut(sliders, "left", gap)
    selected.top, selected.height = rest.top, rest.height
    return _Place(first, second, strip, count, rest, selected, sliders, canvases.union(rest))


def _tools_height(groups: dict[str, tuple[tuple[str, ...], ...]]) -> float:
    """Return the height of the column of buttons in units."""
    rows = sum(map(len, groups.values()))
    return rows * (LINE + SPACE) + len(groups) * HEADING + (len(groups) - 1) * BETWEEN


def _tools(
    column: Rect, groups: dict[str, tuple[tuple[str, ...], ...]], unit: float
) -> tuple[dict[str, Rect], dict[str, tuple[int, int]]]:
    """Place the buttons and their headings in a column, closer together if it is short."""
    scale = unit * min(1.0, column.height / (_tools_height(groups) * unit))
    y, space, tools, headings = float(column.top), round(SPACE * unit), {}, {}
    for title, rows in groups.items():
        headings[title] = (column.left, round(y))
        y += HEADING * scale
        for names in rows:
            edges = [round(i * (column.width + space) / len(names)) for i in range(len(names) + 1)]
            for name, left, right in zip(names, edges, edges[1:], strict=False):
                tools[name] = Rect(column.left + left, round(y), right - left - space, round(LINE * scale))
            y += (LINE + SPACE) * scale
        y += BETWEEN * scale
    return tools, headings


def _object_tools(sliders: Rect, unit: float) -> dict[str, Rect]:
    """Place the buttons of the selected object in the upper right corner of the sliders."""
    width, height, space, pad = (round(length * unit) for length in (64, 22, SPACE, 8))
    width = min(width, (sliders.width - 2 * pad) // len(OBJECT_TOOLS) - space)
    if width < 1 or sliders.height < 3 * height:
        return {}
    left = sliders.right - pad - len(OBJECT_TOOLS) * (width + space) + space
    return {name: Rect(left + i * (width + space), sliders.top + pad, width, height) for i, name in enumerate(OBJECT_TOOLS)}


def _grid(area: Rect, columns: int, rows: int, gap: int) -> tuple[Rect, ...]:
    """Divide an area into equal cells, row by row."""
    xs, ys = (
        [round(start + i * (length + gap) / n) for i in range(n + 1)]
        for start, length, n in ((area.left, area.width, columns), (area.top, area.height, rows))
    )
    return tuple(
        Rect(left, top, max(1, right - left - gap), max(1, bottom - top - gap))
        for top, bottom in itertools.pairwise(ys)
        for left, right in itertools.pairwise(xs)
    )
