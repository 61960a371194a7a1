"""The parts of the window that show what the model sees, and all of them together."""

import textwrap

import numpy as np
import pygame

from air.config import AIRConfig
from air.gui import chrome, steps, theme
from air.gui.chrome import Hand
from air.gui.engine import Seen
from air.gui.layout import Layout, cut
from air.gui.painter import Painter
from air.gui.playback import View
from air.gui.session import Session
from air.gui.sliders import Sliders

INVITATION = ("Draw digits here", "or drop a picture")


def draw(surface: pygame.Surface, layout: Layout | None, session: Session, hand: Hand, frame_rate: float | None) -> None:
    """Draw the whole window; `layout` is None if it is too small."""
    surface.fill(theme.BACKGROUND)
    if layout is None:
        painter = Painter(surface, 1.0)
        painter.text("Window too small", 11, theme.MUTED, surface.get_width(), center=surface.get_rect().center)
        return
    painter = Painter(surface, layout.unit)
    chrome.draw_header(painter, layout, session, frame_rate)
    chrome.draw_tools(painter, layout, session, hand)
    _canvases(painter, layout, session)
    bar = steps.step_bar(layout, session)
    if bar is not None:
        bar.draw(painter, session.palette, session.seen is not None, hand.over == "play")
    if layout.count:
        _count(painter, layout.count, session)
        _objects(painter, layout, session, hand)
    focused = targets(layout, session).get(hand.focus)
    if focused is not None:
        chrome.draw_focus(painter, focused)
    if hand.over == "drawn":
        _brush(painter, layout, session, hand)
    chrome.draw_message(painter, layout, session)
    if session.help_visible:
        chrome.draw_shortcuts(painter)
    else:
        chrome.draw_tip(painter, hand)


def objects_area(layout: Layout, session: Session) -> tuple[dict[int, pygame.Rect], Sliders | None]:
    """Return the cards by step, and the sliders: with an object selected, they take the place of the other cards."""
    selected = session.editor.selected
    if layout.objects is None or selected is None:
        count = _number(session.last_seen)
        return dict(enumerate(layout.cards(count))), None
    return {selected: layout.selected}, Sliders(layout.sliders, layout.unit, session.editor)


def targets(layout: Layout, session: Session) -> dict[str, pygame.Rect]:
    """Return what can be pressed, in the order in which the Tab key goes through it: buttons, then "card 1", "card 2" ..."""
    cards, sliders = objects_area(layout, session)
    count = _number(session.last_seen)
    found = {f"card {step + 1}": rect for step, rect in cards.items() if step < count}
    bar = steps.step_bar(layout, session)
    return layout.tools | ({} if bar is None else {"play": bar.button}) | found | (layout.object_tools if sliders else {})


def _number(seen: Seen | None) -> int:
    """Return the number of objects in an answer; 0 without one."""
    return 0 if seen is None else int(seen.scene.count)


def _canvases(painter: Painter, layout: Layout, session: Session) -> None:
    view, smooth = session.view, not session.pixels_visible
    for rect in (layout.drawn, layout.reconstructed):
        pygame.draw.rect(painter.surface, theme.INK, rect)
    is_drawing = view.picture is session.image
    painter.picture(session.ink if is_drawing and smooth else view.picture, layout.drawn, smooth)
    if session.unexplained is not None:
        painter.tint(session.unexplained, layout.drawn, theme.WARNING)
    if session.drawing.is_empty and not view.picture.any():
        _invitation(painter, layout.drawn, session.config)
    if view.reconstruction is not None:
        painter.picture(view.reconstruction, layout.reconstructed, smooth)
        if session.seen is None:  # its picture is no longer shown
            painter.shade(layout.reconstructed, 150)
    if not view.is_edited:
        _attention_boxes(painter, layout.drawn, session, view)
    _attention_boxes(painter, layout.reconstructed, session, view, handles=True)
    _progress(painter, layout.reconstructed, session)
    for rect in (layout.drawn, layout.reconstructed):
        pygame.draw.rect(painter.surface, theme.LINE, rect.inflate(2, 2), 1)
    if layout.has_titles:
        _titles(painter, layout, session)


def _titles(painter: Painter, layout: Layout, session: Session) -> None:
    last, left = session.last_seen, session.unexplained
    hint = "draw here at any time" if session.attract is not None else ""
    kind = "" if last is None else "changed by you" if last.edited else "a sample" if last.sampled else ""
    note = "" if left is None or left.max() < 0.5 else "in orange: not explained by any object"
    for rect, title, more in ((layout.drawn, session.title, note or hint), (layout.reconstructed, "Reconstruction", kind)):
        middle = rect.top - painter.px(15)
        end = painter.text(title, "title", theme.TEXT, rect.width, bold=True, midleft=(rect.left, middle)).right
        colour = theme.WARNING if more is note else theme.MUTED
        painter.text(more, "small", colour, rect.right - end - painter.px(12), midright=(rect.right, middle))


def _attention_boxes(painter: Painter, canvas: pygame.Rect, session: Session, view: View, handles: bool = False) -> None:
    """Outline the attention windows on a canvas with their numbers, and that of the selected object with handles."""
    frame = Painter(painter.surface.subsurface(canvas), painter.unit)
    zoom = np.tile(np.divide(canvas.size, session.canvas_size[::-1]), 2)
    for step, box in enumerate(view.boxes):
        rect, colour = pygame.Rect(np.rint(box * zoom).tolist()), theme.step_colour(session.palette, step)
        frame.outline(rect, colour, 2)
        visible = rect.clip(frame.surface.get_rect())
        if min(visible.size) > frame.px(32):
            frame.tag(visible.topleft, step, colour)
        if handles and step == session.editor.selected:
            for corner in (rect.topleft, rect.topright, rect.bottomleft, rect.bottomright):
                handle = pygame.Rect(0, 0, frame.px(9), frame.px(9))
                handle.center = corner
                pygame.draw.rect(frame.surface, colour, handle)
                pygame.draw.rect(frame.surface, theme.TEXT, handle, frame.px(1))


def _brush(painter: Painter, layout: Layout, session: Session, hand: Hand) -> None:
    """Draw the outline of the pen in place of the cursor."""
    frame = painter.surface.subsurface(layout.drawn)
    radius = 0.5 * session.line_width * layout.drawn.width / session.canvas_size[1]
    at = hand.at[0] - layout.drawn.left, hand.at[1] - layout.drawn.top
    pygame.draw.aacircle(frame, theme.INK, at, radius + 2, 3)
    pygame.draw.aacircle(frame, theme.ACCENT if not session.erasing else theme.WARNING, at, radius + 1, 1)


def _invitation(painter: Painter, rect: pygame.Rect, config: AIRConfig) -> None:
    """Invite to draw; unless digits may have any size, show that of MNIST's, which are 20 pixels high."""
    height, width = config.canvas_size
    digit = pygame.Rect(0, 0, round(16 * rect.width / width), round(20 * rect.height / height))
    y = rect.centery - painter.px(10)
    if not config.takes_any_canvas and digit.height < 0.6 * rect.height and digit.width < rect.width:
        digit.center = rect.center
        arm = max(2, digit.width // 5)
        for x, inward in ((digit.left, arm), (digit.right, -arm)):
            for corner, down in ((digit.top, arm), (digit.bottom, -arm)):
                points = [(x + inward, corner), (x, corner), (x, corner + down)]
                pygame.draw.lines(painter.surface, theme.FAINT, False, points, painter.px(1.5))
        painter.text("about this size", "small", theme.FAINT, digit.width, center=digit.center)
        y = digit.bottom + painter.px(22)
    for i, (text, size) in enumerate(zip(INVITATION, ("title", "small"), strict=True)):
        painter.text(text, size, theme.MUTED, rect.width - painter.px(8), center=(rect.centerx, y + i * painter.px(22)))


def _progress(painter: Painter, rect: pygame.Rect, session: Session) -> None:
    """Write on the reconstruction's canvas why there is no reconstruction yet."""
    if session.lost:
        first, *others = textwrap.wrap(f"The model stopped: {session.lost}", 38)[:6]
        lines = [(first, "body", theme.ERROR), *((line, "body", theme.TEXT) for line in others)]
        lines.append(("Press L to reload it", "small", theme.MUTED))
    elif session.loading and session.attract is None:
        lines = [(session.loading, "body", theme.TEXT), ("You can already draw", "small", theme.MUTED)]
    else:
        return
    painter.shade(rect, 215)
    spacing = painter.px(24)
    y = rect.centery - spacing * (len(lines) - 1) / 2
    for i, (text, size, colour) in enumerate(lines):
        painter.text(text, size, colour, rect.width - painter.px(12), center=(rect.centerx, y + i * spacing))
    if session.loading:
        track = pygame.Rect(0, 0, min(rect.width - painter.px(16), painter.px(260)), painter.px(6))
        track.midtop = (rect.centerx, round(y + spacing * (len(lines) - 0.3)))
        painter.panel(track, theme.RAISED)
        painter.panel(pygame.Rect(track.topleft, (round(track.width * session.engine.progress), track.height)), theme.ACCENT)


def _count(painter: Painter, rect: pygame.Rect, session: Session) -> None:
    painter.panel(rect)
    last = session.last_seen
    count = -1 if last is None else int(last.scene.count)
    count = count if session.playback is None else session.playback.last_painted + 1
    text = "-" if count < 0 else str(count)
    colour = theme.FAINT if session.seen is None else theme.TEXT
    size = min(72 * painter.unit, 0.62 * rect.height, 0.8 * rect.width)
    painter.text(text, size, colour, bold=True, center=(rect.centerx, rect.centery - 0.1 * rect.height))
    noun = "object" if text == "1" else "objects"
    painter.text(noun, "body", theme.MUTED, rect.width, midbottom=(rect.centerx, rect.bottom - painter.px(8)))


def _objects(painter: Painter, layout: Layout, session: Session, hand: Hand) -> None:
    cards, sliders = objects_area(layout, session)
    for step, rect in cards.items():
        _card(painter, rect, session, step)
    if sliders is not None:
        room = layout.object_tools[next(iter(layout.object_tools))].left - sliders.area.left if layout.object_tools else 0
        sliders.draw(painter, theme.step_colour(session.palette, session.editor.selected), room)
        chrome.draw_object_tools(painter, layout, hand)
    if session.last_seen is not None and session.seen is None:
        painter.shade(layout.objects, 150)


def _card(painter: Painter, rect: pygame.Rect, session: Session, step: int) -> None:
    """Draw the card of a step: the object as decoded, the digit that it resembles, and how sure both are."""
    seen, playback = session.last_seen, session.playback
    count = _number(seen)
    if step >= count:
        is_reached = step == count and (playback is None or playback.step == count)
        if seen is not None and is_reached and step < len(seen.scene.presence):
            _stop(painter, rect, "No further object" if count else "No object", float(seen.scene.presence[step]))
        return
    colour, is_small = theme.step_colour(session.palette, step), rect.height < 80 * painter.unit
    if playback is not None and step > playback.last_painted and step != playback.step:
        return
    painter.panel(rect, theme.PANEL, colour if session.editor.selected == step else None)
    inner = rect.inflate(*(-2 * painter.px(4 if is_small else 9),) * 2)
    if playback is not None and step > playback.last_painted:
        return steps.draw_card(painter, inner, playback, colour)
    side = min(inner.height, round(inner.width * (0.55 if is_small else 0.47)))
    if not is_small:  # leave room for the text
        side = min(side, inner.width - painter.px(13) - painter.measure("object 100%", "small")[0])
    if side < 8:
        return
    height, width = seen.scene.decoded_windows.shape[1:3]
    picture = pygame.Rect(inner.topleft, (round(side * width / max(height, width)), round(side * height / max(height, width))))
    picture.centery = inner.centery
    painter.picture(seen.scene.decoded_windows[step], picture, not session.pixels_visible)
    painter.outline(picture, colour, 1 if is_small else 2)
    painter.tag(picture.topleft, step, colour)
    text = pygame.Rect(picture.right + painter.px(9), picture.top, 0, picture.height)
    text.width = max(1, inner.right - text.left)
    _digit(painter, text, seen, step, is_small)


def _stop(painter: Painter, rect: pygame.Rect, title: str, presence: float) -> None:
    """Say on the card after the last object that the model stopped, and how probable another object is."""
    painter.panel(rect, theme.BACKGROUND, theme.LINE)
    for text, down in ((title, -0.5), (f"probability {presence:.1%}", 0.5)):
        place = (rect.centerx, rect.centery + down * painter.px(19))
        painter.text(text, "small", theme.FAINT, rect.width - painter.px(12), center=place)


def _digit(painter: Painter, room: pygame.Rect, seen: Seen, step: int, is_small: bool) -> None:
    """Write the recognised digit, the confidence in it, and the probability that there is an object."""
    label = seen.labels[step] if seen.labels else None
    text = "?" if label is None else str(label)
    colour = theme.FAINT if label is None else theme.TEXT
    rows = [("object", f"{float(seen.scene.presence[step]):.0%}")]
    if label is not None:
        rows.insert(0, (f"is a {label}", f"{seen.confidences[step]:.0%}"))
    elif seen.labels:
        rows = [("not a digit", ""), ("I know", ""), *rows]
    line, is_wide = painter.px(18), room.width > 118 * painter.unit
    if is_small and not is_wide:
        painter.text(text, min(22 * painter.unit, 0.6 * room.height), colour, room.width, bold=True, center=room.center)
        return
    free = room.copy()
    if is_small:  # the digit beside the rows, rather than above them
        cut(room, "left", 34 * painter.unit)
        rows, line = rows[:2], room.height // 2
    else:
        free.height -= line * len(rows)
    size = min(40 * painter.unit, 0.85 * free.height, 0.9 * free.width)
    painter.text(text, size, colour, bold=True, midleft=free.midleft)
    for i, (name, value) in enumerate(rows):
        y = room.bottom - line * (len(rows) - i - 0.5)
        end = painter.text(value, "small", theme.TEXT, room.width, midright=(room.right, y)).left if value else room.right
        painter.text(name, "small", theme.MUTED, end - room.left - painter.px(2), midleft=(room.left, y))
