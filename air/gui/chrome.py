"""The parts of the window around the pictures: header, buttons, status line, messages and shortcuts."""

import pygame

from air.gui import theme
from air.gui.actions import ACTIONS, BY_NAME
from air.gui.layout import Layout
from air.gui.painter import Painter
from air.gui.pen import LINE_WIDTHS
from air.gui.session import PERIODS, Session

# Labels of buttons, where they are not the names of their actions.
LABELS = {"slower": "- Slower", "faster": "+ Faster", "palette": "Colours", "help": "Shortcuts"}


def draw_header(painter: Painter, layout: Layout, session: Session) -> None:
    """Draw the title and the state of the model."""
    if layout.header is None:
        return
    inner = layout.header.inflate(-2 * painter.px(16), 0)
    title = painter.text("Attend, Infer, Repeat", "head", theme.TEXT, bold=True, midleft=inner.midleft)
    text, colour = f"{session.model} loaded", theme.READY
    if session.lost:
        text, colour = "No model", theme.ERROR
    elif session.loading:
        text, colour = session.loading, theme.WARNING
    room = inner.right - title.right - 2 * painter.px(16)
    state = painter.text(text, "body", theme.MUTED, room, midright=inner.midright)
    pygame.draw.circle(painter.surface, colour, (state.left - painter.px(11), inner.centery), painter.px(4))
    pygame.draw.line(painter.surface, theme.LINE, layout.header.bottomleft, layout.header.bottomright)


def draw_tools(painter: Painter, layout: Layout, session: Session, hovered: str | None) -> None:
    """Draw the buttons; `hovered` is the action whose button is under the mouse."""
    for title, corner in layout.headings.items():
        painter.text(title, "tiny", theme.FAINT, bold=True, topleft=corner)
    chosen = {
        "erase" if session.erasing else "draw": True,
        f"width {session.width + 1}": True,
        "sample" if session.sampling else "mean": True,
        "help": session.help_visible,
    }
    enabled = {
        "undo": session.drawing.can_undo,
        "redo": session.drawing.can_redo,
        "clear": not session.drawing.is_empty,
        "dream": session.engine.is_ready,
        "faster": session.period != PERIODS[0],
        "slower": session.period != PERIODS[-1],
    }
    for name, rect in layout.tools.items():
        is_chosen, is_width = chosen.get(name, False), name.startswith("width ")
        label = "" if is_width else LABELS.get(name, name.capitalize())
        if name == "windows":
            label = "Hide windows" if session.windows_visible else "Show windows"
        key, is_enabled = BY_NAME[name].keys[0], enabled.get(name, True)
        painter.button(rect, label, key, chosen=is_chosen, enabled=is_enabled, hovered=name == hovered)
        if is_width:
            radius = 0.275 * rect.height * LINE_WIDTHS[int(name[-1]) - 1] / LINE_WIDTHS[-1]
            pygame.draw.circle(painter.surface, theme.ON_ACCENT if is_chosen else theme.TEXT, rect.center, max(1.0, radius))


def draw_status(painter: Painter, layout: Layout, session: Session, frame_rate: float | None) -> None:
    """Draw the line at the bottom: loss, time, frame rate (None while nothing moves), and whether digits are recognised."""
    if layout.header is None:
        return
    inner, seen = layout.header, session.last_seen
    parts = [f"update every {session.period} ms", "idle" if frame_rate is None else f"{frame_rate:.0f} fps"]
    if seen is not None:
        parts = [f"reconstruction loss {seen.loss:.1f} nats", f"inference {seen.milliseconds:.1f} ms", *parts]
    line = painter.text("    ".join(parts), "small", theme.MUTED, inner.width, midright=inner.midright)
    note = session.engine.recognition_note or f"Colours: {theme.PALETTE_LABELS[session.palette]}"
    painter.text(note, "small", theme.MUTED, line.left - 2 * painter.px(16), midleft=inner.midleft)


def draw_message(painter: Painter, layout: Layout, session: Session) -> None:
    """Draw the session's message, if there is one."""
    if session.message is None:
        return
    bounds, colour = painter.surface.get_rect(), theme.ERROR if session.message.is_error else theme.TEXT
    place = (bounds.centerx, painter.px(27))
    text = (session.message.text, "body", colour, bounds.width - painter.px(60))
    painter.panel(painter.text(*text, center=place).inflate(painter.px(32), painter.px(18)), theme.RAISED, colour)
    painter.text(*text, center=place)


def draw_shortcuts(painter: Painter) -> None:
    """Draw all shortcuts over the window, in two columns if there is room."""
    bounds = painter.surface.get_rect()
    painter.shade(bounds, 238)
    groups: dict[str, dict[str, str]] = {}  # keys by label
    for action in ACTIONS:
        is_width = action.name.startswith("width ")  # one line for all of them
        label, keys = ("Line width", f"1 … {len(LINE_WIDTHS)}") if is_width else (action.label, "   ".join(action.keys))
        groups.setdefault(action.group, {})[label] = keys
    lines = sum(len(rows) + 2 for rows in groups.values())
    columns = 2 if bounds.width > 1.1 * bounds.height else 1
    line = min(painter.px(26), int((bounds.height - painter.px(70)) / (lines / columns + 2)))
    size, width = 0.55 * line, min(painter.px(460), (bounds.width - painter.px(40)) // columns)
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
