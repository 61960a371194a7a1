"""Replays a script of strokes, keys and clicks without a display, and writes what the window shows.

A script has one JSON object a line, which is done before the next one is begun:

| line | |
|---|---|
| `{"stroke": [[0.3, 0.2], [0.3, 0.5]]}` | draws with the chosen pen; (x, y) from (0, 0), upper left on the canvas, to (1, 1) |
| `{"key": "Ctrl+Z"}` | presses a key, as the window's `?` writes it |
| `{"action": "test scene"}` | does what a button or key does, by its name in `air.gui.actions` |
| `{"click": "clear"}` | clicks a button, by the name of its action |
| `{"select": 1}` | clicks the card of an object, counted from 1 |
| `{"drop": "picture.png"}` | drops a file; a path relative to the script's folder |
| `{"size": [1200, 760]}` | resizes the window |
| `{"pause": 0.5}` | lets seconds pass |
| `{"frame": "name"}` | writes name.png, and a line about the scene to scenes.jsonl |

A stroke has 60 points a second. Time is the script's own: whatever the machine, each frame has the attention to its picture.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pygame

from air.config import AIRConfig
from air.errors import AIRError, DataError
from air.gui import pictures
from air.gui.actions import BY_NAME, key_event
from air.gui.app import LEFT, App
from air.gui.layout import DESIGN_SIZE
from air.gui.pictures import MAX_PIXELS
from air.support.files import check_file, parse_json, write_atomically

RATE = 60  # points of a stroke in a second
READY_SECONDS = 300.0  # for the model to load
GIF_WIDTH = 800  # most pixels
MAX_NAME = 100  # characters of a picture's
MAX_BYTES = 1 << 26  # of a script


class Clock:
    """The script's time, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def read(path: Path) -> list[dict[str, Any]]:
    """Reads and checks a script.

    Raises:
        DataError: for a file that can't be read or a line that says nothing; it names the line.
    """
    check_file(path)
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path}: has {path.stat().st_size} bytes; at most {MAX_BYTES} are allowed")
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't be read ({getattr(error, 'strerror', None) or 'not text'})") from None
    lines = []
    for number, text in enumerate(texts, start=1):
        if text.strip():
            try:
                line = parse_json(text)
                _check(line)
            except (ValueError, TypeError, KeyError) as error:
                raise DataError(f"{path}: line {number}: {error}") from None
            lines.append(line)
    return lines


def _check(line: Any) -> None:
    if not isinstance(line, dict) or len(line) != 1:
        raise ValueError("must be an object with one field")
    ((name, value),) = line.items()
    if name not in _CHECKS:
        raise ValueError(f"{name!r:.40} is not allowed; it must be one of {', '.join(_CHECKS)}")
    if not _CHECKS[name](value):
        raise ValueError(f"{name}: {value!r:.80} is not allowed")


def _is_number(value: Any, least: float, most: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


def _is_pair(value: Any, least: float, most: float) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_is_number(x, least, most) for x in value)


def _is_key(value: Any) -> bool:
    key_event(value)  # raises ValueError itself
    return True


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "stroke": lambda value: isinstance(value, list) and value and all(_is_pair(point, -10, 10) for point in value),
    "key": lambda value: isinstance(value, str) and _is_key(value),
    "action": lambda value: value in BY_NAME,
    "click": lambda value: value in BY_NAME,
    "select": lambda value: isinstance(value, int) and _is_number(value, 1, 16),
    "drop": lambda value: isinstance(value, str),
    "size": lambda value: _is_pair(value, 1, MAX_PIXELS**0.5) and all(isinstance(x, int) for x in value),
    "pause": lambda value: _is_number(value, 0, 600),
    "frame": lambda value: isinstance(value, str) and value.isidentifier() and len(value) <= MAX_NAME,
}


def replay(
    model: Path,
    config: AIRConfig,
    script: Path,
    out: Path,
    frame_rate: float = 0.0,
    gif: Path | None = None,
    size: tuple[int, int] | None = None,
    **options: Any,
) -> None:
    """Plays a script with SDL's dummy driver.

    Args:
        model: path of the model, see `air.load`.
        config: of that model.
        script: file to play.
        out: folder for pictures; made if it doesn't exist.
        frame_rate: numbered pictures a second, 0 for none.
        gif: animation of these to write.
        size: width and height of the window.
        **options: of `Session`.

    Raises:
        AIRError: if the script or the model can't be used.
    """
    lines = read(script)
    os.environ["SDL_VIDEODRIVER"] = "dummy"
    clock = Clock()
    app = App(model, config, size=size or DESIGN_SIZE, clock=clock, patience=READY_SECONDS, **options)
    try:
        player = Replay(app, clock, out, frame_rate, animate=gif is not None)
        player.play(lines, script.parent)
        if gif is not None:
            player.save_animation(gif)
    finally:
        app.close()


class Replay:
    """Plays scripts in a window of SDL's dummy driver.

    Args:
        app: made with a `Clock` and patience.
        clock: the same.
        out: folder for pictures; made if it doesn't exist.
        frame_rate: numbered pictures a second, 0 for none.
        animate: whether to keep them for `save_animation`.
    """

    def __init__(self, app: App, clock: Clock, out: Path, frame_rate: float = 0.0, animate: bool = False) -> None:
        self.app, self.clock, self.out, self.frame_rate, self.animate = app, clock, out, frame_rate, animate
        self._written, self._next = 0, 0.0
        self._animation: list[Any] = []

    def play(self, lines: list[dict[str, Any]], folder: Path = Path()) -> None:
        """Plays a script; `folder` is where its files lie.

        Raises:
            AIRError: if the model can't be loaded or is lost, or a line can't be done.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        engine = self.app.session.engine
        if not engine.is_alive:
            engine.start()
        if not engine.wait_until_settled(READY_SECONDS):
            raise AIRError(engine.status.text if engine.status.state == "failed" else "the model takes too long to load")
        self._pass(0.0)
        for line in lines:
            ((name, value),) = line.items()
            if name == "drop":
                value = str(folder / value)
            getattr(self, f"_{name}")(value)
            self._pass(0.0)
            if self.app.session.lost:
                raise AIRError(self.app.session.lost)

    def save_animation(self, path: Path) -> None:
        """Writes an animated GIF of all numbered pictures so far."""
        if not self._animation:
            raise AIRError(f"{path}: there is nothing to animate; use a frame rate above 0")
        duration = round(1000 / self.frame_rate)
        first, *others = self._animation
        options = {"append_images": others, "duration": duration, "loop": 0, "optimize": True}
        write_atomically(path, lambda temporary: first.save(temporary, save_all=True, **options))

    def _post(self, kind: int, **attributes: Any) -> None:
        pygame.event.post(pygame.event.Event(kind, **attributes))

    def _pass(self, seconds: float) -> None:
        """Lets time pass in frames, each with everything asked of the model answered."""
        frames = max(1, round(seconds * RATE))
        for _ in range(frames):
            self.clock.now += 1 / RATE
            self.app.pump()
            self.app.update()
            self.app.session.engine.wait_until_idle(self.app.patience)
            self.app.update()
            if self.frame_rate and self.clock.now >= self._next:
                self._next = max(self._next + 1 / self.frame_rate, self.clock.now)
                self.app.draw()
                self._number()

    def _number(self) -> None:
        pictures.save(self.app.surface, self.out / f"frame_{self._written:05d}.png")
        self._written += 1
        if self.animate:
            from PIL import Image

            surface = self.app.surface
            picture = Image.frombytes("RGB", surface.get_size(), pygame.image.tobytes(surface, "RGB"))
            picture.thumbnail((GIF_WIDTH, GIF_WIDTH), Image.Resampling.BOX)
            self._animation.append(picture.quantize(128, dither=Image.Dither.NONE))

    def _stroke(self, points: list[list[float]]) -> None:
        positions = [self._position(point) for point in points]
        self._post(pygame.MOUSEBUTTONDOWN, button=LEFT, pos=positions[0])
        self._pass(1 / RATE)
        for position in positions[1:]:
            self._post(pygame.MOUSEMOTION, pos=position, rel=(0, 0), buttons=(1, 0, 0))
            self._pass(1 / RATE)
        self._post(pygame.MOUSEBUTTONUP, button=LEFT, pos=positions[-1])

    def _position(self, point: list[float]) -> tuple[int, int]:
        if self.app.layout is None:
            raise AIRError("the window is too small to draw in")
        rect = self.app.layout.drawn
        return round(rect.left + point[0] * rect.width), round(rect.top + point[1] * rect.height)

    def _press_at(self, rect: pygame.Rect | None, name: object) -> None:
        if rect is None:
            raise AIRError(f"{name!r} has no place in a window of this size")
        for kind in (pygame.MOUSEBUTTONDOWN, pygame.MOUSEBUTTONUP):
            self._post(kind, button=LEFT, pos=rect.center)

    def _key(self, key: str) -> None:
        self._post(pygame.KEYDOWN, **key_event(key))

    def _action(self, name: str) -> None:
        self.app.perform(name)
        self._settle()

    def _click(self, name: str) -> None:
        self._press_at(self.app.layout and self.app.layout.tools.get(name), name)
        self._settle()

    def _settle(self) -> None:
        """Waits, in real time, for what comes from other threads than the model's."""
        deadline = time.monotonic() + READY_SECONDS
        self._pass(0.0)
        while self.app.session.is_waiting and time.monotonic() < deadline:
            time.sleep(0.005)
            self._pass(0.0)

    def _select(self, which: int) -> None:
        cards = self.app.layout.cards if self.app.layout else ()
        self._press_at(cards[which - 1] if which <= len(cards) else None, f"object {which}")

    def _drop(self, path: str) -> None:
        self._post(pygame.DROPFILE, file=path)

    def _size(self, size: list[int]) -> None:
        self.app.window.size = tuple(size)

    def _pause(self, seconds: float) -> None:
        self._pass(seconds)

    def _frame(self, name: str) -> None:
        self.app.draw()
        pictures.save(self.app.surface, self.out / f"{name}.png")
        seen = self.app.session.seen
        if seen is not None:
            scene = seen.scene
            record = {
                "frame": name,
                "count": int(scene.count),
                "digits": list(seen.labels),
                "confidences": _rounded(seen.confidences, 3),
                "presence": _rounded(scene.presence, 4),
                "boxes": _rounded(scene.attention_boxes, 2),
                "loss": round(seen.loss, 2),
            }
            with open(self.out / "scenes.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")


def _rounded(values: Any, digits: int) -> list[Any]:
    return np.round(np.asarray(values, np.float64), digits).tolist()
