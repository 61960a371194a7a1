"""The window and its events.

Nothing is drawn while nothing changes: the loop sleeps until an event, news from the model or the session's next due time.
"""

import collections
import contextlib
import ctypes
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pygame

from air.config import AIRConfig
from air.errors import AIRError
from air.gui import panels, steps, theme
from air.gui.actions import BY_KEY, BY_NAME, REPEATING, key_text
from air.gui.chrome import Hand, tip
from air.gui.exchange import Exchange
from air.gui.layout import DESIGN_SIZE, MIN_SIZE, Layout, arrange
from air.gui.painter import Painter
from air.gui.pen import Point
from air.gui.session import Session

FRAME = 1 / 60  # seconds
PATIENCE = 0.008  # seconds that a frame waits for the attention to its picture
LOADING = 300.0  # seconds that `count` waits for the model
QUIET = 1.0  # seconds without a frame after which there is no frame rate
TIP_DELAY = 0.7  # seconds that the mouse rests on something before it is explained
MAX_SLEEP = 1.0  # seconds; Ctrl-C is noticed between two sleeps
GLANCE = 0.006  # seconds between two looks for events while nothing moves
SWITCH_INTERVAL = 0.0005  # seconds of Python code in the model's thread, such as an import, before the window's turn
NO_WINDOW = "no window can be opened ({}); --headless works without a display"
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # from glibc's malloc.h
REACH = 9  # units around a corner of an attention window in which it can be grabbed
BARS = 80  # pixels of a desktop that its bars and the title of the window take, about
LEFT, RIGHT = 1, 3  # mouse buttons


class App:
    """The demo's window.

    It shows the model at a path that `air.load` accepts. `size` is None for one that suits the display, `clock` returns seconds
    from any start, `patience` is the seconds that a frame waits for the attention to its picture, and `options` are those of
    `Session`. Raises AIRError if there is no display.
    """

    def __init__(
        self,
        model: Path,
        config: AIRConfig,
        *,
        size: tuple[int, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
        patience: float = PATIENCE,
        **options: Any,
    ) -> None:
        os.environ.setdefault("SDL_WINDOWS_DPI_AWARENESS", "permonitorv2")
        # SDL would show the window through OpenGL; with Mesa, importing TensorFlow then crashes, because both contain LLVM.
        os.environ["SDL_FRAMEBUFFER_ACCELERATION"] = "0"
        _choose_driver()
        _return_memory()
        try:
            pygame.display.init()  # not pygame.init(), which needs a sound card
            pygame.font.init()
            pygame.key.set_repeat(350, 45)
            size = size or _suitable_size(pygame.display.get_desktop_sizes()[0])
            self.window = pygame.Window(f"Attend, Infer, Repeat: {model}", size, resizable=True, allow_high_dpi=True)
            self.window.set_icon(theme.icon())
            self.surface = self.window.get_surface()
        except (pygame.error, IndexError) as error:
            raise AIRError(NO_WINDOW.format(error)) from None
        self._news = pygame.event.custom_type()
        self.session = Session(model, config, self.notify, **options)
        self.exchange = Exchange(self.session, self.notify)
        self.clock, self.patience, self.running = clock, patience, True
        self.session.loading_since = clock()
        self._last_frame = -math.inf
        self._frames: collections.deque[float] = collections.deque(maxlen=60)
        self._changed = True  # whether there may be something new to draw
        self.hand, self._over_since = Hand(), math.inf
        self._dragged: str | None = None  # what the pressed mouse moves: "pen", "object", "slider" or "steps"
        self._is_fullscreen = False

    # The loop

    def run(self) -> None:
        """Show the window until it is closed."""
        sys.setswitchinterval(SWITCH_INTERVAL)
        self.frame()
        self.session.engine.start()  # after the first frame, because importing TensorFlow keeps the processor busy
        while self.running:
            sleep = min(max(self._next_frame() - self.clock(), 0.001), MAX_SLEEP)
            self.handle(self._wait(sleep))
            self.pump()
            if self.clock() >= self._next_frame() - 0.001:
                self.frame()

    def count(self) -> int:
        """Load the model and count the objects in the picture on the canvas; raise AIRError if the model fails."""
        self.session.end_attract()
        self.session.engine.start()
        self.session.engine.wait_until_settled(LOADING)
        self.patience = LOADING
        self.frame()
        seen = self.session.seen
        if seen is None:
            raise AIRError(self.session.lost or f"the model has not answered within {LOADING:.0f} seconds")
        return int(seen.scene.count)

    def close(self, seconds: float = 0.5) -> bool:
        """Close the window and end the model's threads; return False if one of them is still busy after that time."""
        self.window.destroy()
        self.exchange.close()
        return self.session.engine.close(seconds)

    def pump(self) -> None:
        """Handle all waiting events."""
        for event in pygame.event.get():
            self.handle(event)

    def frame(self) -> None:
        """Bring everything up to date, and show it."""
        # A picture that has just changed waits a moment for its attention.
        if self.session.tick(self.clock()) and self.session.engine.wait(self.session.drawing.version, self.patience):
            self.session.tick(self.clock())
        self.exchange.tick()
        self.draw()
        self.window.flip()

    def draw(self) -> None:
        """Draw the window's surface without showing it yet."""
        now = self.clock()
        if now - self._last_frame >= QUIET:
            self._frames.clear()
        self._frames.append(now)
        # In step with the previous frame, so that small delays don't add up.
        self._last_frame = self._last_frame + FRAME if now - self._last_frame < 1.5 * FRAME else now
        self._changed = False
        self.surface = self.window.get_surface()
        self.hand = self.hand._replace(rests=now >= self._over_since + TIP_DELAY)
        panels.draw(self.surface, self.layout, self.session, self.hand, self._frame_rate())
        if self.exchange.prompt is not None and self.layout is not None:
            self.exchange.prompt.draw(Painter(self.surface, self.layout.unit))

    @property
    def layout(self) -> Layout | None:
        without = frozenset() if len(self.session.canvas_sizes) > 1 else frozenset({"Canvas"})
        return arrange(self.surface.get_size(), self.session.canvas_size, without)

    def notify(self) -> None:
        """Wake up the loop; may be called from any thread."""
        with contextlib.suppress(pygame.error):  # the window has just been closed, or the full queue wakes it up anyway
            pygame.event.post(pygame.event.Event(self._news))

    def _frame_rate(self) -> float | None:
        """Return the recent frames per second; None after a pause."""
        while self._frames[-1] - self._frames[0] > QUIET:
            self._frames.popleft()
        seconds = self._frames[-1] - self._frames[0]
        return (len(self._frames) - 1) / seconds if len(self._frames) > 5 and seconds > 0 else None

    def _next_frame(self) -> float:
        """Return the time of the next frame, in seconds of the clock."""
        due = self.session.now if self._changed else self.session.due()
        if not self.hand.rests:
            due = min(due, self._over_since + TIP_DELAY)
        if self.session.numbers_visible and len(self._frames) > 1:
            due = min(due, self._last_frame + QUIET)  # to show that the frame rate has ended
        return max(due, self._last_frame + FRAME)

    def _wait(self, seconds: float) -> pygame.event.Event:
        """Return the next event; NOEVENT if there is none for so long."""
        if self.clock() - self._last_frame < QUIET:
            return pygame.event.wait(int(1000 * seconds))
        # pygame looks for events a thousand times a second, which takes a few percent of a core.
        end = self.clock() + seconds
        while (event := pygame.event.poll()).type == pygame.NOEVENT and self.clock() < end:
            time.sleep(GLANCE)
        return event

    # Events

    def handle(self, event: pygame.event.Event) -> None:
        """Handle one event."""
        if event.type == pygame.NOEVENT:
            return
        self.session.now = self.clock()  # the last frame may be minutes old
        if event.type != pygame.MOUSEMOTION:
            self._changed = True
        if event.type in (pygame.QUIT, pygame.WINDOWCLOSE):
            self.running = False
        elif event.type == pygame.KEYDOWN and not self.exchange.take(event):
            name = BY_KEY.get(key_text(event))
            if name is not None and (name in REPEATING or not getattr(event, "repeat", False)):
                self.perform(name)
        elif event.type == pygame.MOUSEBUTTONDOWN:
            self._press(event.button, self._pixel(event.pos))
        elif event.type == pygame.MOUSEMOTION:
            self._move(self._pixel(event.pos), bool(event.buttons[0]))
        elif event.type == pygame.MOUSEBUTTONUP and event.button == LEFT:
            self._release()
        elif event.type == pygame.MOUSEWHEEL and self.session.editor.selected is not None:
            self.perform("forward" if event.y > 0 else "back")
        elif event.type == pygame.DROPFILE:
            self.open(event.file)
        elif event.type in (pygame.WINDOWFOCUSLOST, pygame.WINDOWLEAVE):
            self._point(None)

    def open(self, path: str | Path) -> None:
        """Put a picture file on the canvas, or show why it can't be read."""
        self.exchange.open(path)

    def perform(self, name: str) -> None:
        """Perform an action of `air.gui.actions`."""
        self._changed = True
        if name == "fullscreen":
            self.window.set_windowed() if self._is_fullscreen else self.window.set_fullscreen(desktop=True)
            self._is_fullscreen = not self._is_fullscreen
        elif name == "quit":
            self.running = False
        elif name in ("focus next", "focus previous") and self.layout is not None:
            self._move_focus(1 if name == "focus next" else -1)
        elif name == "press":
            self._press_target(self.hand.focus)
        elif not self.exchange.perform(name):
            self.session.perform(name)

    def _pixel(self, position: tuple[int, int]) -> Point:
        """Convert a position in the window to pixels of its surface, which a high-density display has more of."""
        width, height = self.window.size
        return position[0] * self.surface.get_width() / width, position[1] * self.surface.get_height() / height

    def _on_canvas(self, at: Point, rect: pygame.Rect) -> Point:
        """Convert a pixel of the window to (x, y) in pixels of a canvas shown in `rect`."""
        height, width = self.session.canvas_size
        return (at[0] - rect.left) * width / rect.width, (at[1] - rect.top) * height / rect.height

    def _canvas_zoom(self, layout: Layout) -> float:
        """Return the canvas pixels in a pixel of the window."""
        return self.session.canvas_size[1] / layout.reconstructed.width

    def _target_at(self, at: Point) -> str | None:
        """Return what is at a pixel: one of `panels.targets` or of the other things with a tip."""
        layout = self.layout
        if layout is None or self.session.help_visible:
            return None
        others = {"drawn": layout.drawn, "reconstructed": layout.reconstructed, "count": layout.count}
        targets = panels.targets(layout, self.session) | {name: rect for name, rect in others.items() if rect is not None}
        return next((name for name, rect in targets.items() if rect.collidepoint(at)), None)

    def _press_target(self, name: str | None) -> None:
        """Press a button, or select the object of a card."""
        if name in BY_NAME:
            self.perform(name)
        elif name is not None:
            self.session.select(int(name.removeprefix("card ")) - 1)

    def _move_focus(self, by: int) -> None:
        names = [None, *panels.targets(self.layout, self.session)]
        place = names.index(self.hand.focus) if self.hand.focus in names else 0
        self.hand = self.hand._replace(focus=names[(place + by) % len(names)])

    def _point(self, at: Point | None) -> None:
        """Take the mouse to a pixel; None if it has left the window."""
        over = None if at is None else self._target_at(at)
        if over != self.hand.over:
            pygame.mouse.set_visible(over != "drawn")  # where the outline of the pen takes its place
            self._over_since = self.clock() if tip(over) else math.inf
        self._changed |= over != self.hand.over or over == "drawn"
        self.hand = self.hand._replace(at=at, over=over)

    def _press(self, button: int, at: Point) -> None:
        self._point(at)
        self._over_since, self.hand = math.inf, self.hand._replace(focus=None)
        self.exchange.prompt = None
        layout, name = self.layout, self.hand.over
        if button == RIGHT:
            self.perform("clear")
        elif button != LEFT or layout is None:
            return
        elif self.session.help_visible:
            self.perform("help")
        elif name in BY_NAME:
            self.perform(name)
        elif name == "drawn":
            self._dragged = "pen"
            self.session.pen_down(self._on_canvas(at, layout.drawn))
        elif layout.reconstructed.collidepoint(at):
            self._dragged, self.session.playback = "object", None
            self.session.editor.hold(True)
            self.session.editor.grab(self._on_canvas(at, layout.reconstructed), REACH * layout.unit * self._canvas_zoom(layout))
        else:
            self._press_below(layout, at)

    def _press_below(self, layout: Layout, at: Point) -> None:
        """Handle a press on the cards, the sliders or the bar of steps."""
        session, (cards, sliders) = self.session, panels.objects_area(layout, self.session)
        step = next((step for step, card in cards.items() if card.collidepoint(at)), None)
        bar = steps.step_bar(layout, session)
        if step is not None:
            session.select(step)
        elif sliders is not None:
            dimension = sliders.dimension_at(at)
            if dimension is not None:
                self._dragged, session.editor.dimension = "slider", dimension
                session.editor.hold(True)
                self._drag(layout, at)
        elif bar is not None and bar.is_button(at):
            self.perform("play")
        elif bar is not None and bar.playback is not None and bar.area.collidepoint(at):
            self._dragged = "steps"
            self._drag(layout, at)
        elif self.hand.over is None:  # a stroke may begin beside the canvas
            self._dragged = "pen"
            session.pen_down(self._on_canvas(at, layout.drawn))

    def _drag(self, layout: Layout, at: Point) -> None:
        """Move what the pressed mouse holds."""
        session, bar = self.session, steps.step_bar(layout, self.session)
        _, sliders = panels.objects_area(layout, session)
        if self._dragged == "pen":
            session.drawing.extend(self._on_canvas(at, layout.drawn))
        elif self._dragged == "object":
            session.edit(session.editor.drag, self._on_canvas(at, layout.reconstructed))
        elif self._dragged == "steps" and bar is not None and bar.playback is not None:
            bar.playback.seek(bar.position_at(at[0]))
        elif self._dragged == "slider" and sliders is not None and session.editor.selected is not None:
            dimension = session.editor.dimension
            session.edit(session.editor.set_z_what, dimension, sliders.value_at(dimension, at[0]))

    def _move(self, at: Point, pressed: bool) -> None:
        if self._dragged is not None and not pressed:
            self._release()  # it was released outside the window
        layout = self.layout
        self._point(at)
        if self._dragged is not None and layout is not None:
            self._changed = True
            self._drag(layout, at)

    def _release(self) -> None:
        self._dragged = None
        self.session.drawing.end()
        self.session.editor.hold(False)


def _return_memory() -> None:
    """Make glibc return freed memory: limit its arenas, which grow with every thread, and map blocks of a megabyte directly."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # another C library
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(M_ARENA_MAX, 2)
            mallopt(M_MMAP_THRESHOLD, 1 << 20)


def _choose_driver() -> None:
    """Restrict SDL on Linux to the displays that exist; otherwise it may pick a driver that shows nothing."""
    if not sys.platform.startswith("linux") or "SDL_VIDEODRIVER" in os.environ:
        return
    drivers = [driver for name, driver in (("DISPLAY", "x11"), ("WAYLAND_DISPLAY", "wayland")) if os.environ.get(name)]
    if not drivers:
        raise AIRError(NO_WINDOW.format("there is no display"))
    os.environ["SDL_VIDEODRIVER"] = ",".join(drivers)


def _suitable_size(desktop: tuple[int, int]) -> tuple[int, int]:
    """Return a window size with the proportions of the design that fits between the bars of the desktop."""
    width, height = DESIGN_SIZE
    fitting = min(0.98 * desktop[0] / width, (desktop[1] - BARS) / height)
    factor = max(min(fitting, 1.0), min(0.85 * desktop[0] / width, 0.85 * desktop[1] / height, fitting))
    return max(MIN_SIZE[0], round(width * factor)), max(MIN_SIZE[1], round(height * factor))
