"""The user's choices, and the picture and attention on show.

A picture and the attention to it are one `Seen` and are only ever shown together. While the model looks at a newer picture, the
older pair stays for a moment (`HOLD`); after that the newer picture is shown alone, without attention.

While the pen is down, the model only looks for objects of the usual size, which takes a frame; once it is up, for any size.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from air.config import AIRConfig
from air.errors import AIRError
from air.gui import pictures
from air.gui.editor import Editor
from air.gui.engine import DREAM_TRIES, Engine, Seen
from air.gui.pen import DEFAULT_WIDTH, LINE_WIDTHS, Drawing, Point

PERIODS = (10, 20, 50, 100, 200, 500, 1000)  # milliseconds between two looks at a changing picture
DEFAULT_PERIOD = 10  # shorter than a frame, so that every frame has its attention
HOLD = 0.1  # seconds
MIN_SAMPLE_PERIOD = 0.15  # seconds between two samples of the same picture
MESSAGE_SECONDS = 4.0
STUCK_SECONDS = 5.0  # without an answer until the model counts as lost
ERASER = 2.0  # times the width of the pen
Z_STEP = 0.25  # of an arrow key
CANVASES = (1.0, 1.5, 2.0)  # sides that can be chosen, as multiples of those in training

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
        self.drawing = Drawing(config.canvas_size)
        self.canvas_sizes = [config.canvas_size]  # that can be chosen
        if config.takes_any_canvas:
            height, width = config.canvas_size
            self.canvas_sizes = [(round(height * size), round(width * size)) for size in CANVASES]
        self.engine = Engine(model, notify)
        self.editor = Editor(config)
        self.palette, self.period, self.sampling = palette, period, sampling
        self.erasing, self.width, self.windows_visible, self.help_visible = False, DEFAULT_WIDTH, True, False
        self.pixels_visible = self.numbers_visible = False
        self.message: Message | None = None
        self.now = 0.0  # seconds, set by `tick` and by the window before each event
        self.loading_since = 0.0  # seconds of the same clock
        self._scenes = {size: self._random_scenes(size) for size in self.canvas_sizes}
        self.last_seen: Seen | None = None  # the newest answer, even if its picture is no longer shown
        self._asked_version, self._asked_at, self._asked_quickly = -1, -math.inf, False
        self._is_current, self._current_at = False, -math.inf  # whether the drawing is what is shown, and when it last was
        self._asked_ink = self._seen_ink = self.drawing.ink
        self._reference_set = self.engine.reference_set
        self._seed = 0

    def _random_scenes(self, size: CanvasSize) -> pictures.RandomScenes:
        """Make the source of test scenes: with as many digits for their size as in the default data set."""
        digits = int(min(self.config.max_steps, 2) * math.prod(size) / math.prod(self.config.canvas_size))
        return pictures.RandomScenes(self.model, size, digits, self.engine.notify)

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
        """The same picture with smooth lines, on a finer grid: [H n, W n] uint8."""
        seen = self.seen
        return self._seen_ink if seen is not None and seen.version != self.drawing.version else self.drawing.ink

    @property
    def canvas_size(self) -> CanvasSize:
        """Height and width of the canvas, in pixels."""
        return self.drawing.height, self.drawing.width

    @property
    def scenes(self) -> pictures.RandomScenes:
        """The test scenes of this canvas."""
        return self._scenes[self.canvas_size]

    @property
    def loading(self) -> str | None:
        """What the engine is loading, and for how long; None if it is not loading."""
        status = self.engine.status
        return f"{status.text} … {self.now - self.loading_since:.0f} s" if status.state == "loading" else None

    @property
    def lost(self) -> str | None:
        """Why the model no longer answers; None if it does."""
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
        self.now = now
        if self.message and now >= self.message.until:
            self.message = None
        self._take_pictures()
        self._take_seen()
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
        if self._held_until > self.now:
            times.append(self._held_until)
        if self.loading:
            times.append(self.now + 0.25)
        elif self.engine.is_busy:
            times.append(self.now + 1.0)
        return min(times)

    def _take_pictures(self) -> None:
        try:
            scene = self.scenes.take()
        except AIRError as error:
            return self.say(str(error), is_error=True)
        for picture, title in ((scene, "A test scene"), (self.engine.take_dream(), "A dream")):
            if picture is not None and picture.shape == self.canvas_size:
                self.drawing.replace(picture, title)

    def _take_seen(self) -> None:
        seen = self.engine.take_seen()
        if seen is not None and self.editor.accept(seen):
            self.last_seen = seen
            self._seen_ink = self._asked_ink if seen.version == self._asked_version else self._seen_ink
            self._current_at = max(self._current_at, self._asked_at)  # when asked, its picture was the drawing
        if self.engine.reference_set is not self._reference_set:  # look again, to recognise the digits on show too
            self._reference_set = self.engine.reference_set
            self._asked_version = -1
            if self._reference_set is not None:
                self.editor.sort_dimensions(self._reference_set)

    @property
    def _is_quick(self) -> bool:
        """Whether to look for objects of the usual size only."""
        return not self.sampling and (self.drawing.is_drawn or not self.engine.offers_any_size(self.canvas_size))

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
        self.drawing.begin(point, LINE_WIDTHS[self.width] * (ERASER if self.erasing else 1.0), self.erasing)

    def open(self, path: str | Path) -> None:
        """Put a picture file on the canvas; raises DataError if it can't be read."""
        self.drawing.replace(pictures.open_picture(path, self.canvas_size), Path(path).name)

    def set_canvas(self, size: CanvasSize) -> None:
        """Choose another size of the canvas, one of `canvas_sizes`; the picture moves along."""
        if size != self.canvas_size:
            self.drawing = self.drawing.resized(size)
            self.editor.select(None)
            self.editor.inferred = self.last_seen = None

    def perform(self, name: str) -> None:
        """Perform an action of `air.gui.actions`, except those of the window itself."""
        match name.split():
            case ["draw"] | ["erase"]:
                self.erasing = name == "erase"
            case ["width", number]:
                self.width = int(number) - 1
            case ["undo" | "redo" | "clear"]:
                getattr(self.drawing, name)()
            case ["canvas", number] if int(number) <= len(self.canvas_sizes):
                self.set_canvas(self.canvas_sizes[int(number) - 1])
            case ["test", "scene"]:
                self.scenes.request()
            case ["dream"] if self.engine.is_ready:
                self._seed += DREAM_TRIES
                self.engine.dream(self._seed, self.canvas_size)
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
            case ["close"]:
                self.perform("reset")
                self.editor.select(None)
            case ["next" | "previous" as direction, "object" | "dimension" as what]:
                cycle = self.editor.cycle_object if what == "object" else self.editor.cycle_dimension
                cycle(1 if direction == "next" else -1)
            case ["increase"] | ["decrease"] if self.editor.z_what is not None:
                dimension, by = self.editor.dimension, Z_STEP if name == "increase" else -Z_STEP
                self.set_z_what(dimension, float(self.editor.z_what[dimension]) + by)
            case ["reset"] if self.editor.is_edited:
                self.editor.reset()
                self.last_seen = self.editor.inferred

    def set_z_what(self, dimension: int, value: float) -> None:
        """Change one dimension of the selected object's z_what, if its picture is still on the canvas."""
        seen = self.editor.inferred
        if self.editor.z_what is not None and seen.version == self.drawing.version and self.engine.is_ready:
            self.engine.render(seen, seen.scene._replace(z_what=self.editor.change(dimension, value)))
