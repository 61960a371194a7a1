"""The parts of the window, drawn from the session's state."""

from typing import NamedTuple

import pygame

from air.gui import theme
from air.gui.actions import ACTIONS, BY_NAME
from air.gui.cards import draw_card
from air.gui.engine import Seen
from air.gui.equaliser import Equaliser
from air.gui.layout import Layout
from air.gui.painter import Painter
from air.gui.pen import LINE_WIDTHS
from air.gui.session import PERIODS, Session


class Extras(NamedTuple):
    """What the window knows and the session doesn't."""

    hovered: str | None = None  # action whose button is under the mouse
    frames_per_second: float | None = None  # None while nothing moves
    loading_seconds: float = 0.0


def draw(surface: pygame.Surface, layout: Layout | None, session: Session, extras: Extras) -> None:
    """Draws the whole window."""
    surface.fill(theme.BACKGROUND)
    if layout is None:
        painter = Painter(surface, 1.0)
        painter.text("Enlarge me", 11, theme.MUTED, surface.get_width(), center=surface.get_rect().center)
        return
    painter = Painter(surface, layout.unit)
    seen = session.seen
    if layout.header:
        _header(painter, layout, session, extras)
    _tools(painter, layout, session, extras)
    _canvases(painter, layout, session, seen, extras)
    if layout.count:
        _count(painter, layout, session, seen)
        _objects(painter, layout, session, seen)
    if layout.status:
        _status(painter, layout, session, extras)
    _message(painter, layout, session)
    if session.help_visible:
        _help(painter)


def objects_area(layout: Layout, session: Session) -> tuple[dict[int, pygame.Rect], Equaliser | None]:
    """The cards by step, and the sliders: with an object selected, its card and its sliders take the place of all cards."""
    selected = session.editor.selected
    if layout.objects is None or selected is None:
        return dict(enumerate(layout.cards)), None
    area, gap = layout.objects, round(12 * layout.unit)
    if area.width > area.height:
        width = round(min(270 * layout.unit, 0.4 * area.width))
        card = pygame.Rect(area.left, area.top, width, area.height)
        rest = pygame.Rect(card.right + gap, area.top, max(1, area.right - card.right - gap), area.height)
    else:
        height = round(min(200 * layout.unit, 0.4 * area.height))
        card = pygame.Rect(area.left, area.top, area.width, height)
        rest = pygame.Rect(area.left, card.bottom + gap, area.width, max(1, area.bottom - card.bottom - gap))
    return {selected: card}, Equaliser(rest, layout.unit, session.editor)


def _header(painter: Painter, layout: Layout, session: Session, extras: Extras) -> None:
    rect = layout.header
    margin = painter.px(16)
    title = painter.text("Attend, Infer, Repeat", "head", theme.TEXT, bold=True, midleft=(rect.left + margin, rect.centery))
    text, colour = _state(session, extras)
    room = rect.right - title.right - 3 * margin
    state = painter.text(text, "body", theme.MUTED, room, midright=(rect.right - margin, rect.centery))
    pygame.draw.circle(painter.surface, colour, (state.left - painter.px(11), rect.centery), painter.px(4))
    pygame.draw.line(painter.surface, theme.LINE, rect.bottomleft, rect.bottomright)


def _state(session: Session, extras: Extras) -> tuple[str, theme.RGB]:
    if session.lost:
        return "No model", theme.ERROR
    if session.engine.status.state == "loading":
        return f"{session.engine.status.text} … {extras.loading_seconds:.0f} s", theme.WARNING
    return str(session.model), theme.step_colour("rgb", 1)


def _tools(painter: Painter, layout: Layout, session: Session, extras: Extras) -> None:
    if not layout.tools:
        return
    for title, corner in layout.groups.items():
        painter.text(title, "tiny", theme.FAINT, bold=True, topleft=corner)
    chosen = {
        "erase" if session.erasing else "draw",
        f"width {session.width + 1}",
        "sample" if session.sampling else "mean",
        *(["help"] if session.help_visible else []),
    }
    disabled = {
        *([] if session.drawing.can_undo else ["undo"]),
        *([] if session.drawing.can_redo else ["redo"]),
        *(["clear"] if session.drawing.is_empty else []),
        *([] if session.engine.is_ready else ["dream"]),
        *(["faster"] if session.period == PERIODS[0] else []),
        *(["slower"] if session.period == PERIODS[-1] else []),
    }
    labels = {
        **{f"width {n}": "" for n in range(1, len(LINE_WIDTHS) + 1)},
        "clear": "Clear",
        "test scene": "Test scene",
        "dream": "Dream",
        "save picture": "Save picture",
        "mean": "Mean",
        "sample": "Sample",
        "slower": "- Slower",
        "faster": "+ Faster",
        "windows": "Hide windows" if session.windows_visible else "Show windows",
        "palette": "Colours",
        "help": "Shortcuts",
    }
    for name, rect in layout.tools.items():
        painter.button(
            rect, labels.get(name, BY_NAME[name].label), BY_NAME[name].keys[0],
            chosen=name in chosen, enabled=name not in disabled, hovered=name == extras.hovered,
        )  # fmt: skip
    for n, width in enumerate(LINE_WIDTHS, start=1):
        painter.dot(layout.tools[f"width {n}"], 0.55 * width / LINE_WIDTHS[-1], n == session.width + 1)


def _canvases(painter: Painter, layout: Layout, session: Session, seen: Seen | None, extras: Extras) -> None:
    last = session.last_seen
    for rect in (layout.drawn, layout.painted):
        pygame.draw.rect(painter.surface, theme.INK, rect)
    painter.picture(session.image, layout.drawn)
    if session.drawing.is_empty and not session.image.any():
        _invitation(painter, layout.drawn, session.config.canvas_size)
    if last is not None:
        painter.picture(last.scene.reconstruction, layout.painted)
        _windows(painter, layout.painted, session, last)
        if seen is None:  # the picture of this attention is no longer there
            painter.shade(layout.painted, 150)
        else:
            _windows(painter, layout.drawn, session, seen)
    _progress(painter, layout.painted, session, extras)
    for rect in (layout.drawn, layout.painted):
        pygame.draw.rect(painter.surface, theme.LINE, rect.inflate(2, 2), 1)
    if layout.canvas_titles:
        what = "Reconstruction" if last is None or not (last.sampled or last.edited) else (
            "Reconstruction of changed z_what" if last.edited else "Reconstruction, sampled"
        )  # fmt: skip
        for rect, title in ((layout.drawn, "Your drawing"), (layout.painted, what)):
            y = rect.top - painter.px(15)
            painter.text(title, "title", theme.TEXT, rect.width, bold=True, midleft=(rect.left, y))


def _windows(painter: Painter, rect: pygame.Rect, session: Session, seen: Seen) -> None:
    if not session.windows_visible:
        return
    height, width = session.config.canvas_size
    zoom = rect.width / width, rect.height / height
    for step in range(int(seen.scene.count)):
        painter.window(rect, zoom, seen.scene.attention_boxes[step], theme.step_colour(session.palette, step), str(step + 1))


def _invitation(painter: Painter, rect: pygame.Rect, canvas_size: tuple[int, int]) -> None:
    """Tells how large digits are to be, as AIR knows those of MNIST only: 20 pixels high."""
    digit = pygame.Rect(0, 0, round(16 * rect.width / canvas_size[1]), round(20 * rect.height / canvas_size[0]))
    y = rect.centery
    if digit.height < 0.6 * rect.height and digit.width < rect.width:
        digit.center = rect.center
        colour = theme.mix(theme.INK, theme.FAINT, 0.7)
        arm = max(2, digit.width // 5)
        for x, inward in ((digit.left, arm), (digit.right, -arm)):
            for corner, down in ((digit.top, arm), (digit.bottom, -arm)):
                points = [(x + inward, corner), (x, corner), (x, corner + down)]
                pygame.draw.lines(painter.surface, colour, False, points, painter.px(2))
        y = digit.bottom + painter.px(22)
        painter.text("about this large", "small", theme.FAINT, rect.width, center=(rect.centerx, y + painter.px(18)))
    painter.text("Draw digits here", "body", theme.MUTED, rect.width - painter.px(8), center=(rect.centerx, y))


def _progress(painter: Painter, rect: pygame.Rect, session: Session, extras: Extras) -> None:
    """What there is to say on the reconstruction's canvas when there is no reconstruction to come at once."""
    lost, engine = session.lost, session.engine
    if lost:
        painter.shade(rect, 215)
        lines = _wrapped(f"The model was lost: {lost}.", 38)
        lines = [(line, "body", theme.ERROR if i == 0 else theme.TEXT) for i, line in enumerate(lines[:6])]
        lines.append(("L loads it again", "small", theme.MUTED))
    elif engine.status.state == "loading":
        lines = [
            (f"{engine.status.text} … {extras.loading_seconds:.0f} s", "title", theme.TEXT),
            ("You can draw already", "body", theme.MUTED),
        ]
    else:
        return
    spacing = painter.px(24)
    y = rect.centery - spacing * (len(lines) - 1) / 2
    for text, size, colour in lines:
        painter.text(text, size, colour, rect.width - painter.px(12), center=(rect.centerx, y))
        y += spacing


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width) or [""]


def _count(painter: Painter, layout: Layout, session: Session, seen: Seen | None) -> None:
    rect = layout.count
    painter.panel(rect)
    last = session.last_seen
    text = "-" if last is None else str(int(last.scene.count))
    colour = theme.TEXT if seen is not None else theme.FAINT
    size = min(84 * layout.unit, 0.62 * rect.height, 0.8 * rect.width)
    painter.text(text, size, colour, bold=True, center=(rect.centerx, rect.centery - 0.1 * rect.height))
    noun = "object" if text == "1" else "objects"
    painter.text(noun, "body", theme.MUTED, rect.width, midbottom=(rect.centerx, rect.bottom - painter.px(8)))


def _objects(painter: Painter, layout: Layout, session: Session, seen: Seen | None) -> None:
    cards, equaliser = objects_area(layout, session)
    last = session.last_seen
    for step, rect in cards.items():
        draw_card(painter, rect, session, last, step)
    if equaliser is not None:
        equaliser.draw(painter, theme.step_colour(session.palette, session.editor.selected))
    if last is not None and seen is None:
        painter.shade(layout.objects, 150)


def _status(painter: Painter, layout: Layout, session: Session, extras: Extras) -> None:
    rect = layout.status
    pygame.draw.rect(painter.surface, theme.PANEL, rect)
    seen, margin = session.last_seen, painter.px(16)
    parts = [f"every {session.period} ms"]
    if seen is not None:
        parts = [f"reconstruction loss {seen.loss:.1f} nats", f"inference {seen.milliseconds:.1f} ms", *parts]
    parts.append("idle" if extras.frames_per_second is None else f"{extras.frames_per_second:.0f} fps")
    line = painter.text("    ".join(parts), "small", theme.MUTED, rect.width, midright=(rect.right - margin, rect.centery))
    room = line.left - rect.left - 2 * margin
    note = session.engine.bank_note or f"Colours: {theme.PALETTE_LABELS[session.palette]}"
    painter.text(note, "small", theme.MUTED, room, midleft=(rect.left + margin, rect.centery))


def _message(painter: Painter, layout: Layout, session: Session) -> None:
    if session.message is None:
        return
    bounds = painter.surface.get_rect()
    width = bounds.width - painter.px(60)
    colour = theme.ERROR if session.message.is_error else theme.TEXT
    y = (layout.status.top if layout.status else bounds.bottom) - painter.px(30)
    measured = painter.text(session.message.text, "body", colour, width, center=(bounds.centerx, y))
    painter.panel(measured.inflate(painter.px(32), painter.px(18)), theme.RAISED, colour)
    painter.text(session.message.text, "body", colour, width, center=(bounds.centerx, y))


def _help(painter: Painter) -> None:
    """All shortcuts, in as many columns as the window has room for."""
    bounds = painter.surface.get_rect()
    painter.shade(bounds, 238)
    groups: dict[str, list[tuple[str, str]]] = {}
    for action in ACTIONS:
        if action.name.startswith("width ") and action.name != "width 1":
            continue
        keys, label = "   ".join(action.keys), action.label
        if action.name == "width 1":
            keys, label = "1 … 5", "Line width"
        groups.setdefault(action.group, []).append((label, keys))
    lines = sum(len(rows) + 2 for rows in groups.values())
    columns = 2 if bounds.width > 1.1 * bounds.height else 1
    line = min(painter.px(26), int((bounds.height - painter.px(70)) / (lines / columns + 2)))
    size, width = 0.55 * line, min(painter.px(460), (bounds.width - painter.px(40)) // columns)
    left = bounds.centerx - columns * width // 2
    painter.text("Shortcuts", "head", theme.TEXT, bold=True, midtop=(bounds.centerx, painter.px(24)))
    top = painter.px(70)
    x, y = left, top
    for title, rows in groups.items():
        if columns == 2 and x == left and y + (len(rows) + 1) * line > bounds.bottom - line:
            x, y = left + width, top
        painter.text(title, size, theme.ACCENT, bold=True, midleft=(x + line, y + line / 2))
        y += line
        for label, keys in rows:
            end = painter.text(keys, size, theme.TEXT, midright=(x + width - line, y + line / 2)).left
            painter.text(label, size, theme.MUTED, end - x - 2 * line, midleft=(x + line, y + line / 2))
            y += line
        y += line
