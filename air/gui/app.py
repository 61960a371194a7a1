"""The window and its events.

    app = App(Session(...))
    app.run()

Nothing is drawn while nothing changes: the loop sleeps until an event, news from the model or the session's next due time.
"""

import collections
import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pygame

from air.config import AIRConfig
from air.errors import AIRError
from air.gui import panels, pictures
from air.gui.actions import BY_KEY, REPEATING, key_text
from air.gui.layout import DESIGN_SIZE, MIN_SIZE, Layout, arrange
from air.gui.session import Session

FRAME = 1 / 60  # seconds
PATIENCE = 0.008  # seconds that a frame waits for the attention to its picture
WATCH = 1.0  # seconds between two looks after the model's thread while nothing happens
QUIET = 1.0  # seconds without a frame after which there is no frame rate
SWITCH = 0.0005  # seconds after which Python code in the model's thread, such as an import, lets the window go on
NO_WINDOW = "no window can be opened ({}); --headless works without a display"
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # of glibc's malloc.h
LARGE = 1 << 20  # bytes of a block that goes back to the system as soon as it is free
LEFT, RIGHT = 1, 3  # buttons of the mouse


class App:
    """The demo's window.

    Args:
        model: path of the model, see `air.load`.
        config: of that model.
        size: width and height of the window; None for one that suits the display.
        clock: seconds, from any start.
        patience: seconds that a frame waits for the attention to its picture.
        **options: of `Session`.

    Raises:
        AIRError: if there is no display.
    """

    def __init__(
        self,
        model: Path,
        config: AIRConfig,
        *,
        size: tuple[int, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
        patience: float = PATIENCE,
        **options: object,
    ) -> None:
        os.environ.setdefault("SDL_WINDOWS_DPI_AWARENESS", "permonitorv2")
        # SDL would show the window through OpenGL, and where that is Mesa's, importing TensorFlow crashes: both bring LLVM.
        os.environ["SDL_FRAMEBUFFER_ACCELERATION"] = "0"
        _choose_driver()
        _return_memory()
        try:
            pygame.display.init()  # not pygame.init(): a fresh machine has no sound card
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
        self._last_frame = -1e9
        self._frames: collections.deque[float] = collections.deque(maxlen=60)
        self._changed = True  # whether there may be something new to draw
        self._hovered: str | None = None
        self._drag: str | None = None  # what the pressed mouse does: "pen" or "slider"
        self._own: dict[str, Callable[[], None]] = {
            "save picture": self.save_picture,
            "fullscreen": self._toggle_fullscreen,
            "quit": self._quit,
        }

    # The loop

    def run(self) -> None:
        """Shows the window until it is closed."""
        sys.setswitchinterval(SWITCH)
        self.frame()
        self.session.engine.start()  # after the first frame, which is on screen before TensorFlow takes the processor
        while self.running:
            event = pygame.event.wait(max(1, int(1000 * self._due())))
            self.handle(event)
            self.pump()
            if self.clock() - self._last_frame >= FRAME - 0.001 and self._is_due():
                self.frame()

    def close(self, seconds: float = 0.5) -> bool:
        """Closes the window and ends the model's thread; False if that is in the middle of something and lives on."""
        engine = self.session.engine
        engine.close()
        self.window.destroy()
        return engine.join(seconds)

    def pump(self) -> None:
        """Handles all events that are waiting."""
        for event in pygame.event.get():
            self.handle(event)

    def frame(self) -> None:
        """Brings everything up to date and draws it."""
        self.update()
        self.draw()
        self.window.flip()

    def update(self) -> None:
        """Lets the session collect and ask; waits a moment for the attention to a picture that has just changed."""
        if self.session.tick(self.clock()) and self.session.engine.wait(self.session.drawing.version, self.patience):
            self.session.tick(self.clock())

    def draw(self) -> None:
        """Draws the window's surface, without showing it yet."""
        now = self.clock()
        self.surface = self.window.get_surface()
        self._frames.append(now)
        # In step with the frame before, so that being a little late does not add up.
        self._last_frame = self._last_frame + FRAME if now - self._last_frame < 1.5 * FRAME else now
        self._changed = False
        extras = panels.Extras(self._hovered, self._frame_rate(), now - self.session.loading_since)
        panels.draw(self.surface, self.layout, self.session, extras)

    @property
    def layout(self) -> Layout | None:
        config = self.session.config
        return arrange(self.surface.get_size(), config.canvas_size, config.max_steps)

    def notify(self) -> None:
        """Wakes the loop up; may be called from any thread."""
        try:
            pygame.event.post(pygame.event.Event(self._news))
        except pygame.error:  # the window has just been closed, or a full queue wakes it up anyway
            return

    def _frame_rate(self) -> float | None:
        """Frames a second of late; None when the window has been still."""
        while self._frames and self._frames[-1] - self._frames[0] > QUIET:
            self._frames.popleft()
        seconds = self._frames[-1] - self._frames[0]
        return (len(self._frames) - 1) / seconds if len(self._frames) > 5 and seconds > 0 else None

    def _due(self) -> float:
        """Seconds for which the loop may sleep."""
        now = self.clock()
        next_frame = self._last_frame + FRAME - now
        if self._changed:
            return next_frame
        due = self.session.due()
        if len(self._frames) > 1:
            due = min(QUIET if due is None else due, self._last_frame + QUIET - now)
        return max(next_frame, WATCH if due is None else min(due, WATCH))

    def _is_due(self) -> bool:
        if self._changed:
            return True
        due = self.session.due()
        still = self.clock() - self._last_frame >= QUIET and len(self._frames) > 1
        if still:
            self._frames.clear()
        return still or self.session.lost is not None or (due is not None and due <= self.clock() - self.session.now)

    # Events

    def handle(self, event: pygame.event.Event) -> None:
        """Handles one event."""
        self.session.now = self.clock()  # the last frame may be minutes old
        if event.type == pygame.NOEVENT:
            return
        if event.type != pygame.MOUSEMOTION:
            self._changed = True
        if event.type in (pygame.QUIT, pygame.WINDOWCLOSE):
            self.running = False
        elif event.type == pygame.KEYDOWN:
            self._key(event)
        elif event.type == pygame.MOUSEBUTTONDOWN:
            self._press(event.button, self._pixel(event.pos))
        elif event.type == pygame.MOUSEMOTION:
            self._move(self._pixel(event.pos), bool(event.buttons[0]))
        elif event.type == pygame.MOUSEBUTTONUP and event.button == LEFT:
            self._release()
        elif event.type == pygame.MOUSEWHEEL and self.session.editor.selected is not None:
            self.perform("increase" if event.y > 0 else "decrease")
        elif event.type == pygame.DROPFILE:
            self.session.open(event.file)
        elif event.type in (pygame.WINDOWFOCUSLOST, pygame.WINDOWLEAVE):
            self._hovered = None

    def perform(self, name: str) -> None:
        """Does what an action of `air.gui.actions` says."""
        self._changed = True
        if name in self._own:
            self._own[name]()
        else:
            self.session.perform(name)

    def save_picture(self, path: Path | None = None) -> None:
        """Saves a picture of the window, by default in the current folder."""
        path = path or Path(time.strftime("air_demo_%Y%m%d_%H%M%S.png"))
        self.session.message = None  # which would be in the picture
        self.draw()
        try:
            pictures.save(self.surface, path)
        except OSError as error:
            self.session.say(f"{path}: can't be written ({error.strerror or error})", is_error=True)
        else:
            self.session.say(f"Saved {path.absolute()}")
        self._changed = True

    def _quit(self) -> None:
        self.running = False

    def _toggle_fullscreen(self) -> None:
        if self._is_fullscreen:
            self.window.set_windowed()
        else:
            self.window.set_fullscreen(desktop=True)
        self._is_fullscreen = not self._is_fullscreen

    _is_fullscreen = False

    def _key(self, event: pygame.event.Event) -> None:
        name = BY_KEY.get(key_text(event))
        if name is not None and (name in REPEATING or not self._is_held(event)):
            self.perform(name)

    def _is_held(self, event: pygame.event.Event) -> bool:
        """Whether a KEYDOWN is one of those that a key repeats while it is held down."""
        return getattr(event, "repeat", False)

    def _pixel(self, position: tuple[int, int]) -> tuple[float, float]:
        """An event's position in pixels of the surface, of which there may be several to a unit of the window."""
        width, height = self.window.size
        return position[0] * self.surface.get_width() / width, position[1] * self.surface.get_height() / height

    def _press(self, button: int, at: tuple[float, float]) -> None:
        places = self.layout
        if button == RIGHT:
            self.perform("clear")
        if button != LEFT or places is None:
            return
        if self.session.help_visible:
            self.perform("help")
            return
        name = self._button_at(at)
        if name is not None:
            self.perform(name)
        elif places.drawn.inflate(2, 2).collidepoint(at):
            self._drag = "pen"
            self.session.pen_down(self._canvas_point(at))
        elif places.painted.collidepoint(at):
            self._select_window(at, places)
        else:
            self._press_objects(at, places)

    def _press_objects(self, at: tuple[float, float], places: Layout) -> None:
        cards, equaliser = panels.objects_area(places, self.session)
        for step, card in cards.items():
            if card.collidepoint(at):
                self.session.editor.select(step)
        if equaliser is not None and equaliser.tracks.collidepoint(at):
            dimension = equaliser.dimension_at(at[0])
            if dimension is not None:
                self._drag = "slider"
                self.session.set_z_what(dimension, equaliser.value_at(at[1]))

    def _select_window(self, at: tuple[float, float], places: Layout) -> None:
        """Selects the object whose attention window on the reconstruction was clicked, the smallest of several."""
        seen = self.session.last_seen
        if seen is None:
            return
        height, width = self.session.config.canvas_size
        x = (at[0] - places.painted.left) * width / places.painted.width
        y = (at[1] - places.painted.top) * height / places.painted.height
        boxes = seen.scene.attention_boxes[: int(seen.scene.count)]
        hit = [i for i, (left, top, w, h) in enumerate(boxes) if left <= x <= left + w and top <= y <= top + h]
        self.session.editor.select(min(hit, key=lambda i: boxes[i][2], default=None))

    def _move(self, at: tuple[float, float], pressed: bool) -> None:
        if self._drag is not None and not pressed:
            self._release()  # outside of the window
        if self._drag == "pen":
            self._changed = True
            if self.layout is not None:
                self.session.pen_to(self._canvas_point(at))
        elif self._drag == "slider":
            self._changed = True
            _, equaliser = panels.objects_area(self.layout, self.session) if self.layout else ({}, None)
            if equaliser is not None:
                self.session.set_z_what(self.session.editor.dimension, equaliser.value_at(at[1]))
        else:
            hovered = self._button_at(at)
            self._changed |= hovered != self._hovered
            self._hovered = hovered

    def _release(self) -> None:
        self._drag = None
        self.session.pen_up()

    def _button_at(self, at: tuple[float, float]) -> str | None:
        places = self.layout
        return next((name for name, rect in places.tools.items() if rect.collidepoint(at)), None) if places else None

    def _canvas_point(self, at: tuple[float, float]) -> tuple[float, float]:
        """A pixel of the window as (x, y) in canvas pixels."""
        rect = self.layout.drawn
        height, width = self.session.config.canvas_size
        return (at[0] - rect.left) * width / rect.width, (at[1] - rect.top) * height / rect.height


def _return_memory() -> None:
    """Keeps glibc from holding on to memory that was freed.

    It would give each new thread an arena of its own, so that loading a model again cost 10 MB each time, up to 16 times; and
    it would put blocks of up to 32 MB, the surfaces of a large window among them, into arenas that then stay as large.
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # another C library
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(M_ARENA_MAX, 2)
            mallopt(M_MMAP_THRESHOLD, LARGE)


def _choose_driver() -> None:
    """Keeps SDL from trying whatever it knows where there is no display, and from finding a driver that shows nothing."""
    if not sys.platform.startswith("linux") or "SDL_VIDEODRIVER" in os.environ:
        return
    drivers = [driver for name, driver in (("DISPLAY", "x11"), ("WAYLAND_DISPLAY", "wayland")) if os.environ.get(name)]
    if not drivers:
        raise AIRError(NO_WINDOW.format("there is no display"))
    os.environ["SDL_VIDEODRIVER"] = ",".join(drivers)


def _suitable_size(desktop: tuple[int, int]) -> tuple[int, int]:
    """A window of the design's proportions that leaves some of the desktop free."""
    width, height = DESIGN_SIZE
    factor = min(0.8 * desktop[0] / width, 0.8 * desktop[1] / height)
    factor = max(1.0, factor) if desktop[0] >= width and desktop[1] >= height + 80 else factor
    return max(MIN_SIZE[0], round(width * factor)), max(MIN_SIZE[1], round(height * factor))
