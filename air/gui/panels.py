"""The parts of the window that show what the model sees, and all of them together."""

import textwrap

import numpy as np
import pygame

from air.config import AIRConfig
from air.gui import chrome, theme
from air.gui.engine import Seen
from air.gui.layout import Layout
from air.gui.painter import Painter
from air.gui.session import Session
from air.gui.sliders import Sliders


def draw(
    surface: pygame.Surface, layout: Layout | None, session: Session, hovered: str | None, frame_rate: float | None
) -> None:
    """Draw the whole window; `layout` is None if it is too small."""
    surface.fill(theme.BACKGROUND)
    if layout is None:
        painter = Painter(surface, 1.0)
        painter.text("Window too small", 11, theme.MUTED, surface.get_width(), center=surface.get_rect().center)
        return
    painter = Painter(surface, layout.unit)
    chrome.draw_header(painter, layout, session)
    chrome.draw_tools(painter, layout, session, hovered)
    _canvases(painter, layout, session)
    if layout.count:
        _count(painter, layout.count, session)
        _objects(painter, layout, session)
    chrome.draw_status(painter, layout, session, frame_rate)
    chrome.draw_message(painter, layout, session)
    if session.help_visible:
        chrome.draw_shortcuts(painter)


def objects_area(layout: Layout, session: Session) -> tuple[dict[int, pygame.Rect], Sliders | None]:
    """Return the cards by step, and the sliders: with an object selected, they take the place of the other cards."""
    selected = session.editor.selected
    if layout.objects is None or selected is None:
        count = 0 if session.last_seen is None else int(session.last_seen.scene.count)
        return dict(enumerate(layout.cards(count))), None
    return {selected: layout.selected}, Sliders(layout.sliders, layout.unit, session.editor)


def _canvases(painter: Painter, layout: Layout, session: Session) -> None:
    seen, last = session.seen, session.last_seen
    for rect in (layout.drawn, layout.reconstructed):
        pygame.draw.rect(painter.surface, theme.INK, rect)
    painter.picture(session.image, layout.drawn)
    if session.drawing.is_empty and not session.image.any():
        _invitation(painter, layout.drawn, session.config)
    if last is not None:
        painter.picture(last.scene.reconstruction, layout.reconstructed)
        _attention_boxes(painter, layout.reconstructed, session, last)
        if seen is None:  # its picture is no longer shown
            painter.shade(layout.reconstructed, 150)
        else:
            _attention_boxes(painter, layout.drawn, session, seen)
    _progress(painter, layout.reconstructed, session)
    for rect in (layout.drawn, layout.reconstructed):
        pygame.draw.rect(painter.surface, theme.LINE, rect.inflate(2, 2), 1)
    if layout.has_titles:
        kind = "" if last is None else ", edited z_what" if last.edited else ", sampled" if last.sampled else ""
        for rect, title in ((layout.drawn, "Your drawing"), (layout.reconstructed, f"Reconstruction{kind}")):
            place = (rect.left, rect.top - painter.px(15))
            painter.text(title, "title", theme.TEXT, rect.width, bold=True, midleft=place)


def _attention_boxes(painter: Painter, canvas: pygame.Rect, session: Session, seen: Seen) -> None:
    """Outline the attention windows on a canvas, each with its number at the corner."""
    if not session.windows_visible:
        return
    view = Painter(painter.surface.subsurface(canvas), painter.unit)
    zoom, size = np.tile(np.divide(canvas.size, session.canvas_size[::-1]), 2), view.px(16)
    for step, box in enumerate(seen.scene.attention_boxes[: int(seen.scene.count)]):
        rect, colour = pygame.Rect(np.rint(box * zoom).tolist()), theme.step_colour(session.palette, step)
        pygame.draw.rect(view.surface, colour, rect, view.px(2))
        visible = rect.clip(view.surface.get_rect())
        if min(visible.size) > 2 * size:
            view.tag(pygame.Rect(visible.topleft, (size, size)), step, theme.INK, colour)


def _invitation(painter: Painter, rect: pygame.Rect, config: AIRConfig) -> None:
    """Invite to draw; unless digits may have any size, show that of MNIST's, which are 20 pixels high."""
    height, width = config.canvas_size
    digit = pygame.Rect(0, 0, round(16 * rect.width / width), round(20 * rect.height / height))
    y = rect.centery
    if not config.takes_any_canvas and digit.height < 0.6 * rect.height and digit.width < rect.width:
        digit.center = rect.center
        colour = theme.mix(theme.INK, theme.FAINT, 0.7)
        arm = max(2, digit.width // 5)
        for x, inward in ((digit.left, arm), (digit.right, -arm)):
            for corner, down in ((digit.top, arm), (digit.bottom, -arm)):
                points = [(x + inward, corner), (x, corner), (x, corner + down)]
                pygame.draw.lines(painter.surface, colour, False, points, painter.px(2))
        y = digit.bottom + painter.px(22)
        painter.text("about this size", "small", theme.FAINT, rect.width, center=(rect.centerx, y + painter.px(18)))
    painter.text("Draw digits here", "body", theme.MUTED, rect.width - painter.px(8), center=(rect.centerx, y))


def _progress(painter: Painter, rect: pygame.Rect, session: Session) -> None:
    """Write on the reconstruction's canvas why there is no reconstruction yet."""
    if session.lost:
        first, *others = textwrap.wrap(f"The model stopped: {session.lost}", 38)[:6]
        lines = [(first, "body", theme.ERROR), *((line, "body", theme.TEXT) for line in others)]
        lines.append(("Press L to reload it", "small", theme.MUTED))
    elif session.loading:
        lines = [(session.loading, "title", theme.TEXT), ("You can already draw", "body", theme.MUTED)]
    else:
        return
    painter.shade(rect, 215)
    spacing = painter.px(24)
    y = rect.centery - spacing * (len(lines) - 1) / 2
    for i, (text, size, colour) in enumerate(lines):
        painter.text(text, size, colour, rect.width - painter.px(12), center=(rect.centerx, y + i * spacing))


def _count(painter: Painter, rect: pygame.Rect, session: Session) -> None:
    painter.panel(rect)
    last = session.last_seen
    text = "-" if last is None else str(int(last.scene.count))
    colour = theme.FAINT if session.seen is None else theme.TEXT
    size = min(84 * painter.unit, 0.62 * rect.height, 0.8 * rect.width)
    painter.text(text, size, colour, bold=True, center=(rect.centerx, rect.centery - 0.1 * rect.height))
    noun = "object" if text == "1" else "objects"
    painter.text(noun, "body", theme.MUTED, rect.width, midbottom=(rect.centerx, rect.bottom - painter.px(8)))


def _objects(painter: Painter, layout: Layout, session: Session) -> None:
    cards, sliders = objects_area(layout, session)
    for step, rect in cards.items():
        _card(painter, rect, session, step)
    if sliders is not None:
        sliders.draw(painter, theme.step_colour(session.palette, session.editor.selected))
    if session.last_seen is not None and session.seen is None:
        painter.shade(layout.objects, 150)


def _card(painter: Painter, rect: pygame.Rect, session: Session, step: int) -> None:
    """Draw the card of a step: its presence, its decoded window and render, and the recognised digit."""
    seen = session.last_seen
    is_present = seen is not None and step < int(seen.scene.count)
    colour = theme.step_colour(session.palette, step)
    painter.panel(rect, theme.PANEL, colour if session.editor.selected == step else None)
    pad = painter.px(10 if rect.height > 90 * painter.unit else 6)
    inner = rect.inflate(-2 * pad, -2 * pad)
    if min(inner.size) < 8:
        return
    presence = None if seen is None or step >= len(seen.scene.presence) else float(seen.scene.presence[step])
    body = _presence(painter, inner, colour if is_present else None, presence, step)
    if is_present:
        room = _card_pictures(painter, body, seen, step)
        _digit(painter, room, seen, step)
    elif seen is not None:
        painter.text("no object", "small", theme.FAINT, body.width, center=body.center)


def _presence(painter: Painter, inner: pygame.Rect, colour: theme.RGB | None, presence: float | None, step: int) -> pygame.Rect:
    """Draw the title and the bar of a card, grey where `colour` is None; return the area between them."""
    title, bar, space = painter.px(20), painter.px(5), painter.px(6)
    tag = pygame.Rect(inner.left, inner.top, painter.px(16), painter.px(16))
    painter.tag(tag, step, theme.INK if colour else theme.MUTED, colour or theme.RAISED, radius=3)
    start, end = tag.right + painter.px(7), inner.right
    track = pygame.Rect(inner.left, inner.bottom - bar, inner.width, bar)
    painter.panel(track, theme.RAISED)
    if presence is not None:
        place = (inner.right, tag.centery)
        end = painter.text(f"{presence:.1%}", "small", theme.MUTED, inner.width, midright=place).left - space
        painter.panel(pygame.Rect(track.topleft, (round(track.width * presence), bar)), colour or theme.FAINT)
    if inner.width > 140 * painter.unit:
        painter.text("Presence", "small", theme.MUTED, end - start, midleft=(start, tag.centery))
    top = inner.top + title + space // 2
    return pygame.Rect(inner.left, top, inner.width, max(1, track.top - space - top))


def _card_pictures(painter: Painter, body: pygame.Rect, seen: Seen, step: int) -> pygame.Rect:
    """Draw the decoded window and the object's render, if there is room for both; return the room for the digit."""
    gap, caption = painter.px(8), painter.px(14)
    is_wide = body.width > 1.4 * body.height
    width = body.width - painter.px(62) - 2 * gap if is_wide else body.width - gap
    height = body.height if is_wide else 0.6 * body.height
    both = min(height - caption, width / 2) >= 26 * painter.unit
    captions = both and height - caption >= 44 * painter.unit
    free = height - (caption if captions else 0)
    each = width / 2 if both else (body.width - painter.px(34) if is_wide else body.width)
    pictures = [("window", seen.scene.decoded_windows[step]), ("render", seen.objects[step])][: 2 if both else 1]
    x, bottom = body.left, body.top
    for name, image in pictures:
        zoom = min(free / image.shape[0], each / image.shape[1])
        rect = pygame.Rect(0, 0, max(1, int(image.shape[1] * zoom)), max(1, int(image.shape[0] * zoom)))
        used = rect.height + (caption if captions else 0)
        rect.topleft = (x, round(body.top + (max(0, body.height - used) / 2 if is_wide else 0)))
        painter.picture(image, rect)
        pygame.draw.rect(painter.surface, theme.LINE, rect, 1)
        if captions:
            painter.text(name, "tiny", theme.FAINT, rect.width, midtop=(rect.centerx, rect.bottom + painter.px(2)))
        x, bottom = rect.right + gap, max(bottom, body.top + used)
    if is_wide:
        return pygame.Rect(x, body.top, max(1, body.right - x), body.height)
    return pygame.Rect(body.left, bottom, body.width, max(1, body.bottom - bottom))


def _digit(painter: Painter, room: pygame.Rect, seen: Seen, step: int) -> None:
    """Write the recognised class, and the confidence in it."""
    unit = painter.unit
    if not seen.labels:
        painter.text("?", min(34 * unit, 0.7 * room.height), theme.FAINT, center=room.center)
        return
    label, confidence = str(seen.labels[step]), f"{seen.confidences[step]:.0%}"
    if room.height < 44 * unit:  # one line
        text = f"{label}  {confidence}" if room.width > 60 * unit else label
        painter.text(text, min(16 * unit, 0.9 * room.height), theme.TEXT, room.width, bold=True, center=room.center)
        return
    size = min(40 * unit, 0.6 * room.height, 0.9 * room.width)
    painter.text(label, size, theme.TEXT, bold=True, center=(room.centerx, room.centery - 0.22 * size))
    painter.text(confidence, "small", theme.MUTED, room.width, center=(room.centerx, room.centery + 0.55 * size))
