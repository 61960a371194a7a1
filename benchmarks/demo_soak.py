"""Draws, clicks, types, resizes and drops files at random in the demo's window, and watches its memory.

    python -m benchmarks.demo_soak --minutes 60
    python -m benchmarks.demo_soak --minutes 1 --seed 3 --model air_results

A frame follows every few events, as fast as the machine can. The memory may rise at first, while caches fill; it is a failure,
and exit status 1, if the last tenth of the time needs more than 20 MB more than the third tenth, if the model is lost, or if
an exception ends it all. What was done just before the memory rose by a step is printed too. SDL's dummy driver takes the
place of a display.
"""

import collections
import dataclasses
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from air.errors import AIRError, UsageError
from air.support import cli

Path_ = Annotated[Path, tyro.conf.arg(metavar="PATH")]
READY = 300.0  # seconds for the model to load
EVERY = 0.5  # seconds between two looks at the memory
MAX_GROWTH = 20.0  # MB
STEP = 5.0  # MB above all before that are told of
NOT_PRESSED = {"quit"}


@dataclasses.dataclass(frozen=True)
class Arguments:
    minutes: float = 60.0
    """How long."""
    model: Path_ = Path("model")
    """See demo.py."""
    seed: int = 0
    """Of the input."""


def resident() -> float:
    """The memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Person:
    """Someone who does anything to a window."""

    def __init__(self, app: object, folder: Path, rng: random.Random) -> None:
        from air.gui.actions import ACTIONS

        self.app, self.rng = app, rng
        self.keys = [key for action in ACTIONS if action.name not in NOT_PRESSED for key in action.keys]
        self.files = list(_files(folder))
        self.habits = {  # how often, in comparison
            self.draw: 60, self.type: 40, self.click: 25, self.wheel: 5, self.stray: 5, self.resize: 2, self.drop: 2
        }  # fmt: skip
        self.done: collections.Counter[str] = collections.Counter()
        self.latest: collections.deque[str] = collections.deque(maxlen=3)

    def act(self) -> None:
        """Does one thing, and lets the window show every part of it."""
        (habit,) = self.rng.choices(list(self.habits), list(self.habits.values()))
        self.done[habit.__name__] += 1
        self.latest.append(f"{habit.__name__} {habit() or ''}".strip())
        self._see()

    def _see(self) -> None:
        self.app.pump()
        self.app.frame()

    def _post(self, kind: str, **attributes: object) -> None:
        import pygame

        pygame.event.post(pygame.event.Event(getattr(pygame, kind), **attributes))

    def _anywhere(self) -> tuple[int, int]:
        width, height = self.app.window.size
        return self.rng.randint(-5, width + 5), self.rng.randint(-5, height + 5)

    def draw(self) -> None:
        layout = self.app.layout
        x, y = self._anywhere() if layout is None or self.rng.random() < 0.2 else _within(layout.drawn, self.rng)
        self._post("MOUSEBUTTONDOWN", button=1, pos=(x, y))
        for _ in range(self.rng.randint(1, 30)):
            x, y = x + self.rng.randint(-25, 25), y + self.rng.randint(-25, 25)
            self._post("MOUSEMOTION", pos=(x, y), rel=(0, 0), buttons=(1, 0, 0))
            self._see()
        if self.rng.random() < 0.95:
            self._post("MOUSEBUTTONUP", button=1, pos=(x, y))

    def type(self) -> str | None:
        from air.gui.actions import key_event

        key = self.rng.choice(self.keys)
        if key in ("L", "S", "Ctrl+S", "F", "F11") and self.rng.random() < 0.9:  # these take long
            return None
        self._post("KEYDOWN", **key_event(key))
        return key

    def click(self) -> None:
        at = self._anywhere()
        button = self.rng.choice([1, 1, 1, 1, 1, 1, 2, 3])
        self._post("MOUSEBUTTONDOWN", button=button, pos=at)
        self._post("MOUSEBUTTONUP", button=button, pos=at)

    def wheel(self) -> None:
        self._post("MOUSEWHEEL", y=self.rng.choice([-1, 1]), x=0)

    def stray(self) -> None:
        """What a window hears without anybody's intent."""
        self._post(self.rng.choice(["WINDOWLEAVE", "WINDOWFOCUSLOST", "WINDOWEXPOSED", "NOEVENT", "MOUSEBUTTONUP"]), button=1)

    def resize(self) -> str:
        self.app.window.size = self.rng.randint(60, 1900), self.rng.randint(40, 1200)
        return "x".join(map(str, self.app.window.size))

    def drop(self) -> str:
        file = self.rng.choice(self.files)
        self._post("DROPFILE", file=str(file))
        return file.name


def _within(rect: object, rng: random.Random) -> tuple[int, int]:
    return rng.randint(rect.left, rect.right), rng.randint(rect.top, rect.bottom)


def _files(folder: Path) -> Iterator[Path]:
    """Pictures, and what only looks like one."""
    from PIL import Image

    for number, size in enumerate([(50, 50), (400, 30), (1000, 1000)]):
        Image.effect_noise(size, 120).save(folder / f"noise_{number}.png")
        yield folder / f"noise_{number}.png"
    (folder / "broken.png").write_bytes((folder / "noise_0.png").read_bytes()[:200])
    yield from (folder / "broken.png", folder / "missing.png", folder)


def soak(arguments: Arguments, folder: Path) -> tuple[list[float], list[str], collections.Counter[str], int]:
    """Uses the window for so long.

    Returns:
        The memory in MB at equal intervals, its steps in words, how often each thing was done, and the number of frames.

    Raises:
        AIRError: if the model can't be loaded, or is lost.
    """
    os.environ.update(SDL_VIDEODRIVER="dummy", PYGAME_HIDE_SUPPORT_PROMPT="1")
    from air.gui.app import App
    from air.gui.engine import config_of

    app = App(arguments.model, config_of(arguments.model), size=(1200, 760))
    frames, draw = 0, app.draw

    def counted() -> None:
        nonlocal frames
        frames += 1
        draw()

    app.draw = counted
    try:
        app.session.engine.start()
        if not app.session.engine.wait_until_settled(READY):
            raise AIRError(app.session.engine.status.text or "the model takes too long to load")
        person, began = Person(app, folder, random.Random(arguments.seed)), time.monotonic()
        memory, steps, most = [], [], resident()
        while (passed := time.monotonic() - began) < 60 * arguments.minutes:
            person.act()
            if passed >= EVERY * len(memory):
                memory.append(resident())
                if memory[-1] > most + STEP:
                    steps.append(f"minute {passed / 60:.1f}, {', '.join(person.latest)}: {most:.0f} to {memory[-1]:.0f} MB")
                    most = memory[-1]
            if app.session.lost:
                raise AIRError(f"after {passed:.0f} s: {app.session.lost}")
            if not app.running:
                raise AIRError(f"after {passed:.0f} s: the window was closed")
    finally:
        app.close(READY)
    return memory, steps, person.done, frames


def tenths(memory: list[float]) -> list[float]:
    """The median of each tenth of the time."""
    return [float(np.median(part)) for part in np.array_split(memory, min(10, len(memory)))]


def growth(memory: list[float]) -> float:
    """MB more in the last tenth of the time than in the third."""
    medians = tenths(memory)
    return medians[-1] - medians[min(2, len(medians) - 1)]


def main() -> None:
    arguments = cli.parse(Arguments, __doc__)
    if not 0 < arguments.minutes <= 10_000:
        raise UsageError(f"minutes: {arguments.minutes:g} is not allowed; it must be above 0 and at most 10000")
    if not Path("/proc/self/statm").exists():
        raise UsageError("this system does not tell a process its memory, as Linux does")
    arguments = dataclasses.replace(arguments, model=arguments.model.absolute())
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)  # where pictures of the window are saved
        memory, steps, done, frames = soak(arguments, Path(temporary))
        os.chdir("/")
    grown, each = growth(memory), ", ".join(f"{name} {n:,}" for name, n in done.most_common())
    for step in steps:
        print(step)
    print(f"{sum(done.values()):,} actions in {frames:,} frames: {each}")
    print(f"memory by tenth of the time: {' '.join(f'{median:.0f}' for median in tenths(memory))} MB")
    if grown > MAX_GROWTH:
        raise AIRError(f"the memory grew by {grown:.1f} MB; at most {MAX_GROWTH:g} are allowed")
    print(f"grown by {grown:.1f} MB from the third tenth to the last")


if __name__ == "__main__":
    sys.argv[0] = "benchmarks.demo_soak"
    cli.run(main)
