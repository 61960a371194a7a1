"""The bar under the canvases that plays attention step by step, and the card of the step that is played."""

import itertools

import numpy as np
import pygame

from air.gui import theme
from air.gui.editor import Z_RANGE
from air.gui.layout import Layout, cut
from air.gui.painter import Painter
from air.gui.playback import STARTS, Playback
from air.gui.session import Session

BUTTON, MIN_STEP, MAX_STEP, STOP = 34, 26, 110, 54  # units: the widths of the button, of a step and of the last one
CAPTION, SMALL = 330, 140  # units: the width of a sentence, and that of a card below which it is small
INVITATION = "Attend, infer, repeat: watch it step by step"


def step_bar(layout: Layout, session: Session) -> "StepBar | None":
    """Return the bar; None without room, or while the sliders take its place."""
    if layout.bar is None or session.editor.selected is not None:
        return None
    return StepBar(layout.bar, layout.unit, session.playback)


class StepBar:
    """The bar in an area of the window, for a playback or, before there is one, as a button; `unit` is in pixels."""

    def __init__(self, area: pygame.Rect, unit: float, playback: Playback | None) -> None:
        self.area, self.playback, self.rest = area, playback, area.copy()
        self.button = cut(self.rest, "left", BUTTON * unit)
        cut(self.rest, "left", 8 * unit)
        self.segments: list[pygame.Rect] = []
        if playback is None:
            return
        has_stop = playback.steps > playback.count
        room = self.rest.width - (CAPTION if self.rest.width > 1.6 * CAPTION * unit else 0) * unit - STOP * unit * has_stop
        each = float(np.clip(room / max(playback.count, 1), MIN_STEP * unit, MAX_STEP * unit))
        widths = [each] * playback.count + [STOP * unit] * has_stop
        edges = np.rint(np.cumsum([0, *widths]) * min(1.0, self.rest.width / sum(widths))).astype(int).tolist()
        self.segments = [
            pygame.Rect(self.rest.left + left, self.rest.top, max(1, right - left - 2), self.rest.height)
            for left, right in itertools.pairwise(edges)
        ]
        cut(self.rest, "left", edges[-1] + 8 * unit)

    def is_button(self, at: tuple[float, float]) -> bool:
        """Return whether a pixel of the window is on the button, or on the bar while nothing is played."""
        return bool(self.button.collidepoint(at) or (self.playback is None and self.rest.collidepoint(at)))

    def position_at(self, x: float) -> float:
        """Return the position in steps at a pixel from the left of the window."""
        for step, segment in enumerate(self.segments):
            if x < segment.right:
                return step + max(0.0, (x - segment.left) / segment.width)
        return float(len(self.segments))

    def draw(self, painter: Painter, palette: str, is_enabled: bool, is_hovered: bool) -> None:
        """Draw the bar."""
        playback = self.playback
        painter.panel(self.button, theme.HOVERED if is_hovered and is_enabled else theme.RAISED, radius=6)
        colour = theme.TEXT if is_enabled else theme.FAINT
        _symbol(painter, self.button, colour, playback is not None and playback.is_playing)
        middle = self.rest.midleft
        if playback is None:
            end = painter.text(INVITATION, "body", colour, self.rest.width, midleft=middle).right + painter.px(10)
            painter.text("Space", "small", theme.MUTED, max(0, self.rest.right - end), midleft=(end, middle[1]))
            return
        for step, segment in enumerate(self.segments):
            self._segment(painter, step, segment, theme.step_colour(palette, step))
        painter.text(playback.caption, "body", theme.TEXT, self.rest.width, midleft=middle)

    def _segment(self, painter: Painter, step: int, rect: pygame.Rect, colour: theme.RGB) -> None:
        playback = self.playback
        is_stop, done = step == playback.count, float(np.clip(playback.position - step, 0, 1))
        painter.panel(rect, theme.RAISED, radius=4)
        painter.panel(
            pygame.Rect(rect.topleft, (round(rect.width * done), rect.height)), theme.FAINT if is_stop else colour, radius=4
        )
        for start in () if is_stop else STARTS.values():
            x = round(rect.left + start * rect.width)
            pygame.draw.line(painter.surface, theme.BACKGROUND, (x, rect.bottom - rect.height // 5), (x, rect.bottom))
        text = theme.INK if done > 0.5 and not is_stop else theme.TEXT
        painter.text("stop" if is_stop else str(step + 1), "small", text, rect.width, bold=True, center=rect.center)


def _symbol(painter: Painter, rect: pygame.Rect, colour: theme.RGB, is_playing: bool) -> None:
    """Draw the sign for pause if something is playing, and for play otherwise."""
    (x, y), r = rect.center, min(rect.size) * 0.24
    if is_playing:
        for side in (-1, 1):
            bar = pygame.Rect(0, 0, max(2, round(0.5 * r)), round(2 * r))
            bar.center = round(x + side * 0.55 * r), y
            pygame.draw.rect(painter.surface, colour, bar)
    else:
        pygame.draw.polygon(painter.surface, colour, [(x - 0.7 * r, y - r), (x + r, y), (x - 0.7 * r, y + r)])


def draw_card(painter: Painter, rect: pygame.Rect, playback: Playback, colour: theme.RGB) -> None:
    """Draw what the current step does in the room of a card: the glimpse, z_what as bars, and the decoded window.

    A small card has room for one of the pictures at a time.
    """
    scene, step = playback.seen.scene, playback.step
    infer, paint = playback.progress("infer"), playback.progress("paint")
    if rect.width < SMALL * painter.unit:
        if infer > 0:
            side = min(rect.size)
            picture = scene.decoded_windows[step] if paint > 0 else playback.glimpse
            painter.picture(picture, pygame.Rect(rect.left, rect.centery - side // 2, side, side))
        return
    caption = painter.px(16)
    side = min(rect.height, (rect.width - painter.px(12)) // 3)
    places = [pygame.Rect(0, 0, side, side) for _ in range(3)]
    for i, (name, place) in enumerate(zip(("glimpse", "z_what", "decoded"), places, strict=True)):
        place.midleft = rect.left + i * (rect.width - side) // 2, rect.centery
        if rect.height >= side + 2 * caption:
            painter.text(name, "small", theme.MUTED, side, midtop=(place.centerx, place.bottom + painter.px(2)))
    if infer > 0:
        painter.picture(playback.glimpse, places[0])
        _bars(painter, places[1], scene.z_what[step] * infer, colour)
    if paint > 0:
        painter.picture(scene.decoded_windows[step] * paint, places[2])
    for place in places[::2]:
        pygame.draw.rect(painter.surface, theme.LINE, place, 1)


def _bars(painter: Painter, rect: pygame.Rect, z_what: np.ndarray, colour: theme.RGB) -> None:
    """Draw a bar for each dimension of z_what, up or down from the middle; Z_RANGE fills half of the height."""
    edges = np.rint(np.linspace(rect.left, rect.right, len(z_what) + 1)).astype(int).tolist()
    for value, (left, right) in zip(np.clip(z_what / Z_RANGE, -1, 1), itertools.pairwise(edges), strict=True):
        height = round(abs(value) * rect.height / 2)
        top = rect.centery - (height if value > 0 else 0)
        pygame.draw.rect(painter.surface, colour, pygame.Rect(left, top, max(1, right - left), height))
