"""The window and its events.

Nothing is drawn while nothing changes: the loop sleeps until an event, news from the model or the session's next due time.
"""

import collections
import contextlib
import ctypes
import io
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pygame

from air.config import AIRConfig
from air.errors import AIRError
from air.gui import panels
from air.gui.actions import BY_KEY, REPEATING, key_text
from air.gui.layout import DESIGN_SIZE, MIN_SIZE, Layout, arrange
from air.gui.pen import Point
from air.gui.session import Session
from air.support.files import write_atomically

FRAME = 1 / 60  # seconds
PATIENCE = 0.008  # seconds that a frame waits for the attention to its picture
LOADING = 300.0  # seconds that `count` waits for the model
QUIET = 1.0  # seconds without a frame after which there is no frame rate
MAX_SLEEP = 1.0  # seconds; Ctrl-C is noticed between two sleeps
SWITCH_INTERVAL = 0.0005  # seconds of Python code in the model's thread, such as an import, before the window's turn
NO_WINDOW = "no window can be opened ({}); --headless works without a display"
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # from glibc's malloc.h
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
            self.surface = self.window.get_surface()
        except (pygame.error, IndexError) as error:
            raise AIRError(NO_WINDOW.format(error)) from None
        self._news = pygame.event.custom_type()
        self.session = Session(model, config, self.notify, **options)
        self.clock, self.patience, self.running = clock, patience, True
        self.session.loading_since = clock()
        self._last_frame = -math.inf
        self._frames: collections.deque[float] = collections.deque(maxlen=60)
        self._changed = True  # whether there may be something new to draw
        self._hovered: str | None = None
        self._dragged: str | None = None  # what the pressed mouse moves: "pen" or "slider"
        self._is_fullscreen = False

    # The loop

    def run(self) -> None:
        """Show the window until it is closed."""
        sys.setswitchinterval(SWITCH_INTERVAL)
        self.frame()
        self.session.engine.start()  # after the first frame, because importing TensorFlow keeps the processor busy
        while self.running:
            sleep = min(max(self._next_frame() - self.clock(), 0.001), MAX_SLEEP)
            self.handle(pygame.event.wait(int(1000 * sleep)))
            self.pump()
            if self.clock() >= self._next_frame() - 0.001:
                self.frame()

    def count(self) -> int:
        """Load the model and count the objects in the picture on the canvas; raise AIRError if the model fails."""
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
        panels.draw(self.surface, self.layout, self.session, self._hovered, self._frame_rate())

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
        if len(self._frames) > 1:
            due = min(due, self._last_frame + QUIET)  # to show that the frame rate has ended
        return max(due, self._last_frame + FRAME)

    # Events

    def handle(self, event: pygame.event.Event) -> None:
        """Handle one event."""
        self.session.now = self.clock()  # the last frame may be minutes old
        if event.type == pygame.NOEVENT:
            return
        if event.type != pygame.MOUSEMOTION:
            self._changed = True
        if event.type in (pygame.QUIT, pygame.WINDOWCLOSE):
            self.running = False
        elif event.type == pygame.KEYDOWN:
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
            self.perform("increase" if event.y > 0 else "decrease")
        elif event.type == pygame.DROPFILE:
            self.open(event.file)
        elif event.type in (pygame.WINDOWFOCUSLOST, pygame.WINDOWLEAVE):
            self._hovered = None

    def open(self, path: str | Path) -> None:
        """Put a picture file on the canvas, or show why it can't be read."""
        try:
            self.session.open(path)
        except AIRError as error:
            self.session.say(str(error), is_error=True)

    def perform(self, name: str) -> None:
        """Perform an action of `air.gui.actions`."""
        self._changed = True
        if name == "save picture":
            self.save_picture(Path(time.strftime("air_demo_%Y%m%d_%H%M%S.png")))
        elif name == "fullscreen":
            self.window.set_windowed() if self._is_fullscreen else self.window.set_fullscreen(desktop=True)
            self._is_fullscreen = not self._is_fullscreen
        elif name == "quit":
            self.running = False
        else:
            self.session.perform(name)

    def save_picture(self, path: Path) -> None:
        """Save a screenshot of the window as a .png file."""
        self.session.message = None  # which would be in the picture
        self.draw()
        encoded = io.BytesIO()
        pygame.image.save(self.surface, encoded, ".png")
        try:
            write_atomically(path, lambda temporary: temporary.write_bytes(encoded.getvalue()))
        except OSError as error:
            self.session.say(f"{path}: can't be written ({error.strerror or error})", is_error=True)
        else:
            self.session.say(f"Saved {path.absolute()}")
        self._changed = True

    def _pixel(self, position: tuple[int, int]) -> Point:
        """Convert a position in the window to pixels of its surface, which a high-density display has more of."""
        width, height = self.window.size
        return position[0] * self.surface.get_width() / width, position[1] * self.surface.get_height() / height

    def _on_canvas(self, at: Point, rect: pygame.Rect) -> Point:
        """Convert a pixel of the window to (x, y) in pixels of a canvas shown in `rect`."""
        height, width = self.session.canvas_size
        return (at[0] - rect.left) * width / rect.width, (at[1] - rect.top) * height / rect.height

    def _button_at(self, at: Point) -> str | None:
        tools = self.layout.tools.items() if self.layout else ()
        return next((name for name, rect in tools if rect.collidepoint(at)), None)

    def _press(self, button: int, at: Point) -> None:
        layout, name = self.layout, self._button_at(at)
        if button == RIGHT:
            self.perform("clear")
        elif button != LEFT or layout is None:
            return
        elif self.session.help_visible:
            self.perform("help")
        elif name is not None:
            self.perform(name)
        elif layout.drawn.inflate(2, 2).collidepoint(at):
            self._dragged = "pen"
            self.session.pen_down(self._on_canvas(at, layout.drawn))
        elif layout.reconstructed.collidepoint(at):
            self._select_at(self._on_canvas(at, layout.reconstructed))
        else:
            cards, sliders = panels.objects_area(layout, self.session)
            step = next((step for step, card in cards.items() if card.collidepoint(at)), None)
            if step is not None:
                self.session.editor.select(step)
            dimension = sliders.dimension_at(at) if sliders is not None else None
            if dimension is not None:
                self._dragged = "slider"
                self.session.set_z_what(dimension, sliders.value_at(at[1]))

    def _select_at(self, point: Point) -> None:
        """Select the object with the smallest attention window around a point of the reconstruction."""
        seen = self.session.last_seen
        if seen is None:
            return
        attention_boxes = seen.scene.attention_boxes[: int(seen.scene.count)]
        corner, size = attention_boxes[:, :2], attention_boxes[:, 2:]
        hit = np.flatnonzero(((corner <= point) & (point <= corner + size)).all(axis=1)).tolist()
        self.session.editor.select(min(hit, key=lambda step: attention_boxes[step, 2], default=None))

    def _move(self, at: Point, pressed: bool) -> None:
        if self._dragged is not None and not pressed:
            self._release()  # it was released outside the window
        layout = self.layout
        if self._dragged is None:
            hovered = self._button_at(at)
            self._changed |= hovered != self._hovered
            self._hovered = hovered
        elif layout is not None:
            self._changed = True
            _, sliders = panels.objects_area(layout, self.session)
            if self._dragged == "pen":
                self.session.drawing.extend(self._on_canvas(at, layout.drawn))
            elif sliders is not None:
                self.session.set_z_what(self.session.editor.dimension, sliders.value_at(at[1]))

    def _release(self) -> None:
        self._dragged = None
        self.session.drawing.end()


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
    """Return a window size with the design's proportions that leaves some of the desktop free."""
    width, height = DESIGN_SIZE
    factor = min(0.8 * desktop[0] / width, 0.8 * desktop[1] / height)
    factor = max(1.0, factor) if desktop[0] >= width and desktop[1] >= height + 80 else factor
    return max(MIN_SIZE[0], round(width * factor)), max(MIN_SIZE[1], round(height * factor))
