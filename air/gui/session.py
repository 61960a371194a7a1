"""The user's choices, and the picture and attention on show.

A picture and the attention to it are one `Seen` and are only ever shown together. While the model looks at a newer picture, the
older pair stays for a moment (`HOLD`); after that the newer picture is shown alone, without attention.

While the pen is down, the model looks quickly, which takes a frame; once it is up, it finds objects of any size and settles
doubtful ones.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from air.config import AIRConfig
from air.errors import AIRError
from air.gui import pictures
from air.gui.attract import Attract
from air.gui.editor import Editor
from air.gui.engine import DREAM_TRIES, Engine, Seen
from air.gui.pen import DEFAULT_WIDTH, LINE_WIDTHS, Drawing, Point, offered_sizes
from air.gui.playback import Playback, View

PERIODS = (10, 20, 50, 100, 200, 500, 1000)  # milliseconds between two looks at a changing picture
DEFAULT_PERIOD = 10  # shorter than a frame, so that every frame has its attention
HOLD = 0.1  # seconds
MIN_SAMPLE_PERIOD = 0.15  # seconds between two samples of the same picture
MESSAGE_SECONDS = 4.0
TEST_SCENE = "A test scene"
LOADING_STEP = 0.1  # seconds between two pictures of the progress bar
STUCK_SECONDS = 30.0  # without an answer until the model counts as lost; on a busy machine, compiling takes a good part of that
ERASER = 2.0  # times the width of the pen
CanvasSize = tuple[int, int]  # height and width


class Message(NamedTuple):
    text: str
    until: float  # seconds of the session's clock
    is_error: bool


class Session:
    """The state of the demo, without a window.

    `notify` is called, from any thread, when there is something new to show; `period` is in milliseconds, one of `PERIODS`;
    `sampling` shows posterior samples rather than means.
    """

    def __init__(
        self,
        model: Path,
        config: AIRConfig,
        notify: Callable[[], None],
        *,
        palette: str = "rgb",
        period: int = DEFAULT_PERIOD,
        sampling: bool = False,
    ) -> None:
        self.model, self.config = model, config
        self.drawing = Drawing(config.canvas_size, config.channels)
        self.canvas_sizes = offered_sizes(config)
        self.engine = Engine(model, notify)
        self.editor = Editor(config)
        self.palette, self.period, self.sampling = palette, period, sampling
        self.erasing, self.width, self.windows_visible, self.help_visible = False, DEFAULT_WIDTH, True, False
        self.pixels_visible = self.numbers_visible = False
        self.message: Message | None = None
        self.now = 0.0  # seconds, set by `tick` and by the window before each event
        self._ticked = 0.0  # of the last `tick`
        self.attract = Attract.beside(model)  # None from the first stroke on
        self.loading_since = 0.0  # seconds of the same clock
        self.random_scenes = {size: pictures.RandomScenes(model, config, size, notify) for size in self.canvas_sizes}
        self.last_seen: Seen | None = None  # the newest answer, even if its picture is no longer shown
        self._asked_version, self._asked_at, self._asked_quickly = -1, -math.inf, False
        self._is_current, self._current_at = False, -math.inf  # whether the drawing is what is shown, and when it last was
        self._asked_ink = self._seen_ink = self.drawing.ink
        self.playback: Playback | None = None  # of the attention to the picture on show, while the user follows it
        self._reference_set, self._effects = self.engine.reference_set, self.engine.effects
        self._seed = 0

    # What is shown

    @property
    def seen(self) -> Seen | None:
        """The picture and its attention, if they are up to date or held; otherwise None."""
        seen = self.last_seen
        if seen is None or seen.version == self.drawing.version:
            return seen
        return seen if self.period / 1000 <= HOLD and self.now < self._held_until else None

    @property
    def image(self) -> np.ndarray:
        """The picture to show, [H, W] uint8: that of `seen` if there is one."""
        return self.drawing.image if self.seen is None else self.seen.image

    @property
    def ink(self) -> np.ndarray:
        """The same picture with smooth lines, on a finer grid if it was drawn: [H n, W n] uint8."""
        if self.attract is not None:
            return self.image
        return self.drawing.ink if self.seen is None or self._is_current else self._seen_ink

    @property
    def title(self) -> str:
        """Say what the picture is."""
        if self.playback is not None:
            return "What is left to explain"
        return self.drawing.title if self.attract is None else TEST_SCENE

    @property
    def line_width(self) -> float:
        """Width of the pen or of the eraser, in canvas pixels."""
        return LINE_WIDTHS[self.width] * (ERASER if self.erasing else 1.0)

    @property
    def canvas_size(self) -> CanvasSize:
        """Height and width of the canvas, in pixels."""
        height, width, *_ = self.drawing.image.shape
        return height, width

    @property
    def scenes(self) -> pictures.RandomScenes:
        """The test scenes for this canvas, or for the training canvas while a picture has its own."""
        return self.random_scenes.get(self.canvas_size, self.random_scenes[self.canvas_sizes[0]])

    @property
    def view(self) -> View:
        """Return what the two canvases show."""
        if self.playback is not None:
            return self.playback.view
        seen, last = self.seen, self.last_seen
        boxes: tuple[tuple[float, ...], ...] = ()
        if seen is not None and self.windows_visible:
            is_current = self.attract is None and seen.version == self.drawing.version
            shown = self.editor.objects.boxes if is_current else seen.scene.attention_boxes[: int(seen.scene.count)]
            boxes = tuple(map(tuple, shown.tolist()))
        return View(self.image, None if last is None else last.scene.reconstruction, boxes, self.editor.is_edited)

    @property
    def unexplained(self) -> np.ndarray | None:
        """[H, W] ink that no object explains, in [0, 1]; None while the picture or its objects are being changed."""
        seen = self.seen
        if seen is None or self.playback is not None or self.drawing.is_drawn or seen.edited:
            return None
        is_final = seen.version == self.drawing.version and (not seen.quick or self._is_quick)
        return seen.unexplained if is_final else None

    @property
    def loading(self) -> str | None:
        """Say what the engine is loading, and for how long; None if it is not loading."""
        status = self.engine.status
        return f"{status.text} … {self.now - self.loading_since:.0f} s" if status.state == "loading" else None

    @property
    def lost(self) -> str | None:
        """Say why the model no longer answers; None if it does."""
        if self.engine.status.state == "failed":
            return self.engine.status.text
        busy_since = self.engine.busy_since
        if self.engine.is_ready and busy_since is not None and time.monotonic() - busy_since > STUCK_SECONDS:
            return f"no answer for {STUCK_SECONDS:.0f} seconds"
        return None

    @property
    def _held_until(self) -> float:
        return -math.inf if self._is_current else self._current_at + HOLD + self.period / 1000

    # Time

    def tick(self, now: float) -> bool:
        """Collect what is ready at `now`, in seconds of any clock; return whether the model was asked for a new look."""
        self.now = self._ticked = now
        self.loading_since = self.loading_since if self.loading else now
        if self.message and now >= self.message.until:
            self.message = None
        self._take_pictures()
        self._take_seen()
        if self.engine.is_ready:
            self.editor.vary(self.engine)
        if self.playback is not None:
            self.playback.tick(now)
            if self.playback.seen.version != self.drawing.version:
                self.playback = None
        if self.drawing.version:
            self.end_attract()
        if self.attract is not None:
            self.last_seen = self.attract.tick(now)
        last = self.last_seen
        was_current, self._is_current = self._is_current, last is not None and last.version == self.drawing.version
        if self._is_current or was_current:
            self._current_at = now
        return self._ask()

    def due(self) -> float:
        """Return the time at which `tick` has something to do even if nothing happens; infinity for never."""
        times = [math.inf]
        if self.message:
            times.append(self.message.until)
        if self._wants_look():
            times.append(self._asked_at + self._interval())
        if self.playback is not None and self.playback.is_playing:
            times.append(self.now)
        if self.attract is not None:
            times.append(self.attract.due())
        if self._held_until > self.now:
            times.append(self._held_until)
        if self.loading:
            times.append(self._ticked + LOADING_STEP)
        elif self.engine.is_busy:
            times.append(self._ticked + 1.0)
        return min(times)

    def end_attract(self) -> None:
        """Go back from recorded scenes to the drawing."""
        if self.attract is not None:
            self.attract, self.last_seen = None, self.editor.inferred

    def _take_pictures(self) -> None:
        try:
            scene = self.scenes.take()
        except AIRError as error:
            return self.say(str(error), is_error=True)
        dream = self.engine.take_dream()
        if scene is not None:
            self.show(scene, TEST_SCENE)
        if dream is not None and dream.shape[:2] == self.canvas_size:
            self.show(dream, "A dream")

    def _take_seen(self) -> None:
        seen = self.engine.take_seen()
        if seen is not None and seen.image.shape == self.drawing.image.shape and self.editor.accept(seen):
            self.last_seen = seen
            self._seen_ink = self._asked_ink if seen.version == self._asked_version else self._seen_ink
            self._current_at = max(self._current_at, self._asked_at)  # when asked, its picture was the drawing
        if self.engine.reference_set is not self._reference_set:  # look again, to recognise the digits on show too
            self._reference_set = self.engine.reference_set
            self._asked_version = -1
        if self.engine.effects is not self._effects:
            self._effects = self.engine.effects
            if self._effects is not None:
                self.editor.choose_dimensions(self._effects)

    @property
    def _is_quick(self) -> bool:
        """Return whether to look quickly only."""
        return not self.sampling and (self.drawing.is_drawn or not self.engine.offers_thorough_look)

    def _wants_look(self) -> bool:
        if not self.engine.is_ready or self.engine.is_busy:
            return False
        is_new = self._asked_version != self.drawing.version or (self._asked_quickly and not self._is_quick)
        return is_new or (self.sampling and not self.editor.is_edited)

    def _interval(self) -> float:
        """Seconds between the last look and the next."""
        is_same = self.sampling and self._asked_version == self.drawing.version
        return max(self.period / 1000, MIN_SAMPLE_PERIOD if is_same else 0.0)

    def _ask(self) -> bool:
        if not self._wants_look() or self.now < self._asked_at + self._interval():
            return False
        self._seed += 1
        self._asked_version, self._asked_at, self._asked_quickly = self.drawing.version, self.now, self._is_quick
        seed = self._seed if self.sampling else None
        self._asked_ink = self.drawing.ink
        self.engine.look(self.drawing.version, self.drawing.image, seed, self._asked_quickly)
        return True

    # What the user does

    def say(self, text: str, is_error: bool = False) -> None:
        """Show a message for some seconds."""
        self.message = Message(text, self.now + MESSAGE_SECONDS, is_error)

    def pen_down(self, point: Point) -> None:
        """Begin a stroke at (x, y) in canvas pixels."""
        self.drawing.begin(point, self.line_width, self.erasing)

    def open_picture(self, path: Path) -> np.ndarray:
        """Open a picture file for the canvas, see `pictures.open_picture`; may be called from any thread."""
        return pictures.open_picture(path, self.model, self.config, self.canvas_size)

    def show(self, picture: np.ndarray, title: str) -> None:
        """Put a picture [H, W] or [H, W, 3] uint8 on the canvas, or on one of its own if it has another size."""
        self._draw(self.drawing.replace, picture, title)

    def select(self, index: int | None) -> None:
        """Select an object, or deselect it; either ends a playback."""
        self.playback = None
        self.editor.select(index)

    def set_canvas(self, size: CanvasSize) -> None:
        """Choose another size of the canvas, one of `canvas_sizes`; the picture moves along."""
        if size != self.canvas_size:
            self._draw(self.drawing.resize, size)

    def _draw(self, change: Callable[..., object], *arguments: Any) -> None:
        """Change the drawing; if its canvas changes too, forget what was seen, and test scenes that aren't ready."""
        before = self.canvas_size
        change(*arguments)
        if self.canvas_size != before:
            self.editor.select(None)
            self.last_seen = None
            self.editor.forget()
            for scenes in self.random_scenes.values():
                scenes.is_requested = False

    def perform(self, name: str) -> None:
        """Perform an action of `air.gui.actions`, except those of the window itself."""
        match name.split():
            case ["draw"] | ["erase"]:
                self.erasing = name == "erase"
            case ["width", number]:
                self.width = int(number) - 1
            case ["undo"] if self.editor.is_edited:
                self.edit(self.editor.undo)
            case ["undo" | "redo" | "clear"]:
                self._draw(getattr(self.drawing, name))
            case ["canvas", number] if int(number) <= len(self.canvas_sizes):
                self.set_canvas(self.canvas_sizes[int(number) - 1])
            case ["test", "scene"]:
                self.scenes.request()
            case ["dream"] if self.engine.is_ready:
                self._seed += DREAM_TRIES
                self.engine.dream(self._seed, self.editor.kept(self.last_seen, self.drawing.image.shape))
            case ["dream"]:
                self.say("The model can dream as soon as it is loaded")
            case ["mean"] | ["sample"]:
                self.sampling, self._asked_version = name == "sample", -1
                self.editor.reset()
            case ["faster"] | ["slower"]:
                choices = PERIODS if name == "slower" else PERIODS[::-1]
                self.period = choices[min(choices.index(self.period) + 1, len(PERIODS) - 1)]
            case ["reload"] if self.loading:
                self.say("The model is still loading")
            case ["reload"]:
                self._asked_version, self.loading_since = -1, self.now
                self.engine.reload()
            case ["windows"]:
                self.windows_visible = not self.windows_visible
            case ["pixels"]:
                self.pixels_visible = not self.pixels_visible
            case ["numbers"]:
                self.numbers_visible = not self.numbers_visible
            case ["palette"]:
                self.palette = "safe" if self.palette == "rgb" else "rgb"
            case ["help"]:
                self.help_visible = not self.help_visible
            case ["close"] if self.help_visible:
                self.help_visible = False
            case ["close"] if self.playback is not None:
                self.playback = None
            case ["close"]:
                self.perform("reset")
                self.editor.select(None)
            case ["play"] | ["forward" | "back"] if self.editor.selected is None or name == "play":
                self._play(name)
            case ["forward" | "back"]:
                self.edit(self.editor.perform, "increase" if name == "forward" else "decrease")
            case ["next" | "previous" as direction, "object" | "dimension" as what]:
                self.playback = None
                cycle = self.editor.cycle_object if what == "object" else self.editor.cycle_dimension
                cycle(1 if direction == "next" else -1)
            case ["delete", "object"] if self.editor.selected is None:
                self.drawing.clear()
            case ["copy" | "delete", "object"]:
                self.edit(self.editor.perform, name)
            case ["reset"]:
                self.edit(self.editor.reset)

    def _play(self, name: str) -> None:
        """Play attention step by step, pause, or go to another phase."""
        self.end_attract()
        if self.playback is None:
            seen = self.seen
            if seen is None or seen.version != self.drawing.version:
                return self.say("The model has not seen this picture yet")
            self.editor.select(None)
            self.playback = Playback(seen, self.config.looks, self.now)
            if name != "play":
                self.playback.seek(0 if name == "forward" else self.playback.steps)
        elif name == "play":
            self.playback.toggle()
        else:
            self.playback.skip(1 if name == "forward" else -1)

    def edit(self, change: Callable[..., object], *arguments: Any) -> None:
        """Call a method of the editor that may change objects, and show them, if their picture is still on the canvas."""
        seen = self.editor.inferred
        if seen is None or seen.version != self.drawing.version or not self.engine.is_ready:
            return
        before = self.editor.objects
        change(*arguments)
        if not self.editor.is_edited:
            self.last_seen = seen
        elif self.editor.objects is not before:
            self.engine.render(seen, self.editor.scene)
