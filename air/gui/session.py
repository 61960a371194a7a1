"""What the person has chosen, and which picture is shown with which attention.

The rule of the display: a picture and the attention to it are one `Seen` and only ever shown together. While a newer picture is
being looked at, the older pair stays for a moment (`HOLD`); after that the newer picture is shown alone, without any attention.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from air.config import AIRConfig
from air.errors import AIRError
from air.gui import pictures, theme
from air.gui.editor import Editor
from air.gui.engine import DREAMS, Engine, Seen
from air.gui.pen import DEFAULT_WIDTH, LINE_WIDTHS, Drawing

PERIODS = (10, 20, 50, 100, 200, 500, 1000)
"""Selectable milliseconds between two looks at a picture that changes."""
DEFAULT_PERIOD = 10  # shorter than a frame: every frame has its attention
HOLD = 0.1  # seconds
SAMPLE_PERIOD = 0.15  # least seconds between two samples of the same picture
TOAST = 4.0  # seconds that a message stays
STUCK = 5.0  # seconds after which a model that doesn't answer is called lost
ERASER = 2.0  # times the width of the pen
Z_STEP = 0.25  # of a key


class Message(NamedTuple):
    text: str
    until: float  # seconds of the session's clock
    is_error: bool


class Session:
    """The state of the demo, without a window.

    Args:
        model: path of the model, see `air.load`.
        config: of that model.
        notify: called, from any thread, when there is something new to show.
        palette: name of the steps' colours.
        period: milliseconds between two looks, one of `PERIODS`.
        sampling: whether to show samples rather than means.
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
        self.model, self.config, self.notify = model, config, notify
        self.drawing = Drawing(config.canvas_size)
        self.engine = Engine(model, notify)
        self.palette, self.period, self.sampling = palette, period, sampling
        self.erasing, self.width, self.windows_visible, self.help_visible = False, DEFAULT_WIDTH, True, False
        self.editor = Editor(config)
        self.message: Message | None = None
        self.now = 0.0  # seconds, set by `tick`, and by the window before it passes on what a person does
        self.loading_since = 0.0  # seconds of the same clock, set by the window at first
        self._shown: Seen | None = None  # the newest answer
        self._asked_version, self._asked_at = -1, -1e9
        self._current, self._current_at = False, -1e9  # whether the drawing is what is shown, and when it last was
        self._bank = self.engine.bank
        self._seed = 0
        self._test_scenes = pictures.TestScenes(model, config.canvas_size, config.max_steps, notify)

    # What is shown

    @property
    def seen(self) -> Seen | None:
        """The pair of picture and attention that belongs together, if it is up to date or held; otherwise None."""
        seen = self._shown
        if seen is None or seen.version == self.drawing.version:
            return seen
        return seen if self.period / 1000 <= HOLD and self._hold_left() > 0 else None

    @property
    def image(self) -> np.ndarray:
        """The picture to show, [H, W] uint8: that of `seen` where there is one."""
        seen = self.seen
        return self.drawing.image if seen is None else seen.image

    @property
    def last_seen(self) -> Seen | None:
        """The newest pair, also when its picture is no longer shown."""
        return self._shown

    @property
    def is_waiting(self) -> bool:
        """Whether something that was asked for has not come yet."""
        return self._test_scenes.is_loading or self.engine.is_busy

    @property
    def lost(self) -> str | None:
        """Why there is no attention any more; None while all is well."""
        if self.engine.status.state == "failed":
            return self.engine.status.text
        if self.engine.status.state == "ready" and not self.engine.is_alive:
            return "its thread has ended"
        busy = self.engine.busy_since
        if busy is not None and time.monotonic() - busy > STUCK:
            return f"it has not answered for {STUCK:.0f} seconds"
        return None

    def _hold_left(self) -> float:
        """Seconds for which the older pair is still shown."""
        return 0.0 if self._current else self._current_at + HOLD + self.period / 1000 - self.now

    # Time

    def tick(self, now: float) -> bool:
        """Collects what has become ready and asks for what is due; `now` in seconds of any clock.

        Returns:
            Whether the model has been asked to look at the current picture.
        """
        self.now = now
        if self.message and now > self.message.until:
            self.message = None
        self._take_pictures()
        self._take_seen()
        was_current, self._current = self._current, self._shown is not None and self._shown.version == self.drawing.version
        if self._current or was_current:
            self._current_at = now
        return self._ask()

    def due(self) -> float | None:
        """Seconds until `tick` has something to do again even if nothing happens; None for never."""
        times = []
        if self.message:
            times.append(self.message.until - self.now)
        if self._wants_look():
            times.append(self._asked_at + self._interval() - self.now)
        if self._hold_left() > 0:
            times.append(self._hold_left())
        if self.engine.status.state == "loading":
            times.append(0.25)
        elif self.engine.is_busy:
            times.append(1.0)
        return max(0.0, min(times)) if times else None

    def _take_pictures(self) -> None:
        try:
            scene = self._test_scenes.take()
        except AIRError as error:
            return self.say(str(error), is_error=True)
        for picture in (scene, self.engine.take_dreamed()):
            if picture is not None:
                self.put(picture)

    def _take_seen(self) -> None:
        seen = self.engine.take_seen()
        if seen is not None and self.editor.accepts(seen):
            self._shown = seen
            self._current_at = max(self._current_at, self._asked_at)  # when it was asked, its picture was the drawing
        if self.engine.bank is not self._bank:  # digits can be recognised from now on, also in the present picture
            self._bank = self.engine.bank
            self.editor.order(self._bank)
            self._asked_version = -1

    def _wants_look(self) -> bool:
        """Whether the model should look at the picture, again or for the first time."""
        if not self.engine.is_ready or self.engine.is_busy:
            return False
        return self._asked_version != self.drawing.version or (self.sampling and not self.editor.is_edited)

    def _interval(self) -> float:
        again = self._asked_version == self.drawing.version
        return max(self.period / 1000, SAMPLE_PERIOD if again else 0.0)

    def _ask(self) -> bool:
        if not self._wants_look() or self.now - self._asked_at < self._interval():
            return False
        self._seed += 1
        self.engine.look(self.drawing.version, self.drawing.image, self._seed if self.sampling else None)
        self._asked_version, self._asked_at = self.drawing.version, self.now
        return True

    # What a person does

    def say(self, text: str, is_error: bool = False) -> None:
        self.message = Message(text, self.now + TOAST, is_error)

    def pen_down(self, point: tuple[float, float]) -> None:
        """Starts a stroke at (x, y) in canvas pixels."""
        self.drawing.begin(point, LINE_WIDTHS[self.width] * (ERASER if self.erasing else 1.0), self.erasing)

    def pen_to(self, point: tuple[float, float]) -> None:
        self.drawing.extend(point)

    def pen_up(self) -> None:
        self.drawing.end()

    def put(self, image: np.ndarray) -> None:
        """Puts a picture on the canvas, [H, W] uint8."""
        self.drawing.replace(image)

    def open(self, path: str | Path) -> None:
        """Puts a picture file on the canvas; says so if it can't be read."""
        try:
            self.put(pictures.open_picture(path, self.config.canvas_size))
        except AIRError as error:
            self.say(str(error), is_error=True)

    def perform(self, name: str) -> None:
        """Does what an action of `air.gui.actions` says, but for those of the window."""
        if name.startswith("width "):
            self.width = int(name.removeprefix("width ")) - 1
        else:
            getattr(self, "_do_" + name.replace(" ", "_"))()

    def _do_draw(self) -> None:
        self.erasing = False

    def _do_erase(self) -> None:
        self.erasing = True

    def _do_undo(self) -> None:
        self.drawing.undo()

    def _do_redo(self) -> None:
        self.drawing.redo()

    def _do_clear(self) -> None:
        self.drawing.clear()

    def _do_test_scene(self) -> None:
        self._test_scenes.want()

    def _do_dream(self) -> None:
        if self.engine.is_ready:
            self._seed += DREAMS
            self.engine.dream(self._seed)
        else:
            self.say("The model can dream as soon as it is loaded")

    def _do_mean(self) -> None:
        self.sampling, self._asked_version = False, -1
        self.editor.forget()

    def _do_sample(self) -> None:
        self.sampling, self._asked_version = True, -1
        self.editor.forget()

    def _do_faster(self) -> None:
        self._change_period(-1)

    def _do_slower(self) -> None:
        self._change_period(1)

    def _change_period(self, by: int) -> None:
        place = PERIODS.index(self.period) + by
        self.period = PERIODS[min(max(place, 0), len(PERIODS) - 1)]

    def _do_reload(self) -> None:
        """Loads the model again, which brings back one that was lost."""
        if self.engine.status.state == "loading":
            return self.say("The model is still being loaded")
        self.engine.close()
        self.engine = Engine(self.model, self.notify, predecessor=self.engine)
        self._bank, self._asked_version, self.loading_since = None, -1, self.now
        self.engine.start()

    def _do_windows(self) -> None:
        self.windows_visible = not self.windows_visible

    def _do_palette(self) -> None:
        names = list(theme.PALETTES)
        self.palette = names[(names.index(self.palette) + 1) % len(names)]

    def _do_help(self) -> None:
        self.help_visible = not self.help_visible

    def _do_close(self) -> None:
        if self.help_visible:
            self.help_visible = False
        else:
            self.editor.select(None)

    # z_what by hand

    def set_z_what(self, dimension: int, value: float) -> None:
        """Changes one dimension of the selected object's z_what, while its picture is the one on the canvas."""
        seen = self.editor.inferred
        if self.editor.z_what is not None and seen.version == self.drawing.version:
            self.engine.paint(seen, self.editor.change(dimension, value))

    def _do_next_object(self) -> None:
        self.editor.step_object(1)

    def _do_previous_object(self) -> None:
        self.editor.step_object(-1)

    def _do_next_dimension(self) -> None:
        self.editor.step_dimension(1)

    def _do_previous_dimension(self) -> None:
        self.editor.step_dimension(-1)

    def _do_increase(self) -> None:
        self._step_value(Z_STEP)

    def _do_decrease(self) -> None:
        self._step_value(-Z_STEP)

    def _step_value(self, by: float) -> None:
        if self.editor.z_what is not None:
            self.set_z_what(self.editor.dimension, float(self.editor.z_what[self.editor.dimension]) + by)

    def _do_reset(self) -> None:
        if self.editor.is_edited:
            self.editor.forget()
            self._shown = self.editor.inferred
