"""A card for each step: what it reconstructs, how sure it is, and which digit that is."""

import pygame

from air.gui import theme
from air.gui.engine import Seen
from air.gui.painter import Painter
from air.gui.session import Session


def draw_card(painter: Painter, rect: pygame.Rect, session: Session, seen: Seen | None, step: int) -> None:
    """Draws the card of a step, counted from 0."""
    present = seen is not None and step < int(seen.scene.count)
    colour = theme.step_colour(session.palette, step)
    selected = session.editor.selected == step
    painter.panel(rect, theme.PANEL, colour if selected else None)
    pad = painter.px(10 if rect.height > 90 * painter.unit else 6)
    inner = rect.inflate(-2 * pad, -2 * pad)
    if min(inner.size) < 8:
        return
    body = _frame(painter, inner, colour, seen, step, present)
    if seen is None:
        return
    if not present:
        painter.text("nothing", "small", theme.FAINT, body.width, center=body.center)
        return
    answer = _pictures(painter, body, session, seen, step)
    _digit(painter, answer, seen, step)


def _frame(painter: Painter, inner: pygame.Rect, colour: theme.RGB, seen: Seen | None, step: int, present: bool) -> pygame.Rect:
    """Title and bar of presence; returns what is left between them."""
    title, bar = painter.px(20), painter.px(5)
    head = pygame.Rect(inner.left, inner.top, inner.width, title)
    tag = pygame.Rect(inner.left, 0, painter.px(16), painter.px(16))
    tag.centery = head.centery - painter.px(2)
    pygame.draw.rect(painter.surface, colour if present else theme.RAISED, tag, border_radius=painter.px(3))
    ink = theme.INK if present else theme.MUTED
    painter.text(str(step + 1), 0.75 * tag.height, ink, bold=True, center=tag.center)
    presence = 0.0 if seen is None else float(seen.scene.presence[step])
    start, end = tag.right + painter.px(7), inner.right
    if seen is not None:
        number = painter.text(f"{presence:.1%}", "small", theme.MUTED, head.width, midright=(inner.right, tag.centery))
        end = number.left - painter.px(6)
    if inner.width > 140 * painter.unit:
        painter.text("Presence", "small", theme.MUTED, end - start, midleft=(start, tag.centery))
    painter.bar(pygame.Rect(inner.left, inner.bottom - bar, inner.width, bar), presence, colour if present else theme.FAINT)
    space = painter.px(6)
    return pygame.Rect(
        inner.left, head.bottom + space // 2, inner.width, max(1, inner.height - title - bar - space - space // 2)
    )


def _pictures(painter: Painter, body: pygame.Rect, session: Session, seen: Seen, step: int) -> pygame.Rect:
    """The reconstructed window and the object's own render; returns the room for the digit."""
    gap, caption = painter.px(8), painter.px(14)
    wide = body.width > 1.4 * body.height
    room = body.width - painter.px(62) - 2 * gap if wide else body.width - gap
    height = body.height if wide else 0.6 * body.height
    both = min(height - caption, room / 2) >= 26 * painter.unit
    captions = both and height - caption >= 44 * painter.unit
    free = height - (caption if captions else 0)
    each = room / 2 if both else (body.width - painter.px(34) if wide else body.width)
    pictures = [("window", seen.scene.decoded_windows[step]), ("render", seen.scene.objects[step])][: 2 if both else 1]
    x, bottom = body.left, body.top
    for name, image in pictures:
        zoom = min(free / image.shape[0], each / image.shape[1])
        rect = pygame.Rect(0, 0, max(1, int(image.shape[1] * zoom)), max(1, int(image.shape[0] * zoom)))
        used = rect.height + (caption if captions else 0)
        rect.topleft = (round(x), round(body.top + (max(0, body.height - used) / 2 if wide else 0)))
        painter.picture(image, rect)
        pygame.draw.rect(painter.surface, theme.LINE, rect, 1)
        if captions:
            painter.text(name, "tiny", theme.FAINT, rect.width, midtop=(rect.centerx, rect.bottom + painter.px(2)))
        x, bottom = rect.right + gap, max(bottom, body.top + used)
    if wide:
        return pygame.Rect(round(x), body.top, max(1, body.right - round(x)), body.height)
    return pygame.Rect(body.left, bottom, body.width, max(1, body.bottom - bottom))


def _digit(painter: Painter, room: pygame.Rect, seen: Seen, step: int) -> None:
    """The recognised class, large, and how sure that is."""
    if not seen.labels:
        painter.text("?", min(34 * painter.unit, 0.7 * room.height), theme.FAINT, center=room.center)
        return
    label, confidence = str(seen.labels[step]), f"{seen.confidences[step]:.0%}"
    if room.height < 44 * painter.unit:  # one line
        text = f"{label}  {confidence}" if room.width > 60 * painter.unit else label
        painter.text(text, min(16 * painter.unit, 0.9 * room.height), theme.TEXT, room.width, bold=True, center=room.center)
        return
    size = min(40 * painter.unit, 0.6 * room.height, 0.9 * room.width)
    painter.text(label, size, theme.TEXT, bold=True, center=(room.centerx, room.centery - 0.22 * size))
    painter.text(confidence, "small", theme.MUTED, room.width, center=(room.centerx, room.centery + 0.55 * size))
