"""The parts of the window around the pictures: header, buttons, tooltips, messages and shortcuts."""

from typing import NamedTuple

import pygame

from air.gui import theme
from air.gui.actions import ACTIONS, BY_NAME
from air.gui.layout import Layout
from air.gui.painter import Painter
from air.gui.pen import LINE_WIDTHS, Point
from air.gui.session import Session

# Labels of buttons, where they are not the names of their actions.
LABELS = {
    "save picture": "Save",
    "palette": "Colours",
    "help": "Shortcuts",
    "copy object": "Copy",
    "delete object": "Delete",
    "close": "Cancel",
}
SENTENCE = "The model attends to one object after another, and redraws each from {} numbers. No one told it what a digit is."
TITLE = "Attend, Infer, Repeat"
TIPS = {
    "count": "Objects that the model found",
    "card": "As the model redraws it; the digit it resembles, and how sure both are. Click to change it",
}
"""Explanations of what is no button."""


class Hand(NamedTuple):
    """Hold what the mouse and the keyboard point at."""

    at: Point | None = None  # the mouse, in pixels of the window's surface
    over: str | None = None  # the action or the key of TIPS under the mouse
    rests: bool = False  # whether it has been there for a while
    focus: str | None = None  # the action or card that the Enter key performs


def draw_header(painter: Painter, layout: Layout, session: Session, frame_rate: float | None) -> None:
    """Draw the title, what one sees, and the state of the model; `frame_rate` is None while nothing moves."""
    if layout.header is None:
        return
    inner = layout.header
    first, second = inner.top + painter.px(19), inner.top + painter.px(39)
    title = painter.text(TITLE, "head", theme.TEXT, bold=True, midleft=(inner.left, first))
    text, colour = "Ready", theme.READY
    if session.lost:
        text, colour = "No model", theme.ERROR
    elif session.loading:
        text, colour = session.loading, theme.WARNING
    room = inner.right - title.right - painter.px(48)
    state = painter.text(text, "body", theme.MUTED, room, midright=(inner.right, first))
    pygame.draw.aacircle(painter.surface, colour, (state.left - painter.px(11), first), painter.px(4))
    note = _numbers(session, frame_rate) if session.numbers_visible else session.engine.recognition_note
    left = painter.text(note, "small", theme.MUTED, 0.6 * inner.width, midright=(inner.right, second)).left
    sentence, room = SENTENCE.format(session.config.z_what_size), left - inner.left - painter.px(16)
    if painter.measure(sentence, "small")[0] > room:
        sentence = sentence[: sentence.index(".") + 1]
    if session.message is None:  # which stands in its place
        painter.text(sentence, "small", theme.MUTED, room, midleft=(inner.left, second))
    line = pygame.Rect(inner.left, inner.bottom - 1, inner.width, 1)
    pygame.draw.rect(painter.surface, theme.LINE, line)
    if session.loading:
        done = pygame.Rect(
            inner.left, inner.bottom - painter.px(3), round(inner.width * session.engine.progress), painter.px(3)
        )
        pygame.draw.rect(painter.surface, theme.ACCENT, done)


def _numbers(session: Session, frame_rate: float | None) -> str:
    """Describe the last answer and the pace of the window in numbers."""
    seen = session.last_seen
    parts = [f"update every {session.period} ms", "idle" if frame_rate is None else f"{frame_rate:.0f} fps"]
    if seen is not None:
        parts = [f"reconstruction loss {seen.loss:.1f} nats", f"inference {seen.milliseconds:.1f} ms", *parts]
    return "    ".join(parts)


def draw_tools(painter: Painter, layout: Layout, session: Session, hand: Hand) -> None:
    """Draw the buttons."""
    for title, corner in layout.headings.items():
        painter.text(title, "small", theme.FAINT, bold=True, topleft=corner)
    chosen = {
        "erase" if session.erasing else "draw": True,
        f"width {session.width + 1}": True,
        **{f"canvas {number}": size == session.canvas_size for number, size in enumerate(session.canvas_sizes, 1)},
        "sample" if session.sampling else "mean": True,
        "windows": session.windows_visible,
        "pixels": session.pixels_visible,
        "help": session.help_visible,
    }
    enabled = {
        "undo": session.drawing.can_undo,
        "redo": session.drawing.can_redo,
        "clear": not session.drawing.is_empty,
        "dream": session.engine.is_ready,
    }
    for name, rect in layout.tools.items():
        label = _canvas_label(session, name) or ("" if name.startswith("width ") else LABELS.get(name, name.capitalize()))
        state = {"chosen": chosen.get(name, False), "enabled": enabled.get(name, True), "hovered": name == hand.over}
        painter.button(rect, label, BY_NAME[name].keys[0], **state)
        if name.startswith("width "):
            radius = 0.275 * rect.height * LINE_WIDTHS[int(name[-1]) - 1] / LINE_WIDTHS[-1]
            pygame.draw.aacircle(painter.surface, theme.TEXT, rect.center, max(1.5, radius))


def draw_object_tools(painter: Painter, layout: Layout, hand: Hand) -> None:
    """Draw the buttons of the selected object."""
    for name, rect in layout.object_tools.items():
        label = LABELS.get(name, name.capitalize())
        painter.button(rect, label, "", chosen=False, enabled=True, hovered=name == hand.over)


def _canvas_label(session: Session, name: str) -> str | None:
    """Return the label of the button of a canvas: its side, or both sides of one that is not square."""
    if not name.startswith("canvas "):
        return None
    height, width = session.canvas_sizes[int(name[-1]) - 1]
    return str(width) if width == height else f"{width} x {height}"


def draw_focus(painter: Painter, rect: pygame.Rect) -> None:
    """Outline what the keyboard points at."""
    painter.outline(rect.inflate(painter.px(6), painter.px(6)), theme.ACCENT, 2, radius=8)


def tip(name: str | None) -> str:
    """Return the explanation of what the mouse is over: a button, a card or a key of TIPS; "" if it needs none."""
    action = BY_NAME.get(name)
    return f"{action.label}    {' or '.join(action.keys)}" if action else TIPS.get((name or "").partition(" ")[0], "")


def draw_tip(painter: Painter, hand: Hand) -> None:
    """Draw the explanation of what the mouse rests on, beside it."""
    text, bounds = tip(hand.over), painter.surface.get_rect()
    if not hand.rests or not text:
        return
    size = painter.measure(text, "small")
    rect = pygame.Rect(0, 0, size[0] + painter.px(20), size[1] + painter.px(12))
    rect.topleft = (round(hand.at[0]) + painter.px(12), round(hand.at[1]) + painter.px(18))
    if rect.bottom > bounds.bottom:
        rect.bottom = round(hand.at[1]) - painter.px(8)
    rect.clamp_ip(bounds.inflate(-painter.px(8), -painter.px(8)))
    painter.panel(rect, theme.HOVERED, theme.LINE, radius=5)
    painter.text(text, "small", theme.TEXT, rect.width, center=rect.center)


def draw_message(painter: Painter, layout: Layout, session: Session) -> None:
    """Draw the session's message, if there is one, in the header, where it covers nothing but, if it is long, the state."""
    if session.message is None:
        return
    bounds, colour = painter.surface.get_rect(), theme.ERROR if session.message.is_error else theme.TEXT
    room = bounds.width - painter.px(64)
    width, height = painter.measure(session.message.text, "body")
    rect = pygame.Rect(0, 0, min(width, room) + painter.px(32), height + painter.px(16))
    rect.midtop = (bounds.centerx, painter.px(9))
    if layout.header is not None:
        end = layout.header.left + painter.measure(TITLE, "head", bold=True)[0] + painter.px(16)
        rect.left = min(max(rect.left, end), max(bounds.right - painter.px(9) - rect.width, bounds.left))
    painter.panel(rect, theme.RAISED, colour)
    painter.text(session.message.text, "body", colour, room, center=rect.center)


def draw_shortcuts(painter: Painter) -> None:
    """Draw all shortcuts over the window, in two columns if there is room."""
    bounds = painter.surface.get_rect()
    painter.shade(bounds, 244)
    groups: dict[str, dict[str, str]] = {}  # keys by label
    for action in ACTIONS:
        label, keys = action.label, "   ".join(action.keys)
        for name, text, last in (("width ", "Line width", f"1 … {len(LINE_WIDTHS)}"), ("canvas ", "Canvas", "Ctrl+1 … 3")):
            if action.name.startswith(name):  # one line for all of them
                label, keys = text, last
        groups.setdefault(action.group, {})[label] = keys
    lines = sum(len(rows) + 2 for rows in groups.values())
    columns = 2 if bounds.width > 1.1 * bounds.height else 1
    line = min(painter.px(26), int((bounds.height - painter.px(70)) / (lines / columns + 2)))
    size, width = 0.55 * line, min(painter.px(480), (bounds.width - painter.px(40)) // columns)
    left, top = bounds.centerx - columns * width // 2, painter.px(70)
    painter.text("Shortcuts", "head", theme.TEXT, bold=True, midtop=(bounds.centerx, painter.px(24)))
    x, y = left, top
    for title, rows in groups.items():
        if columns == 2 and x == left and y + (len(rows) + 1) * line > bounds.bottom - line:
            x, y = left + width, top
        painter.text(title, size, theme.ACCENT, bold=True, midleft=(x + line, y + line / 2))
        for label, keys in rows.items():
            y += line
            end = painter.text(keys, size, theme.TEXT, midright=(x + width - line, y + line / 2)).left
            painter.text(label, size, theme.MUTED, end - x - 2 * line, midleft=(x + line, y + line / 2))
        y += 2 * line
