"""Random input to the demo raises no exception, and its memory stays level. AIR_SOAK_MINUTES=60 makes it long."""

import multiprocessing
import os
import random
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pygame
import pytest
from events import key_event
from PIL import Image

from air.gui.actions import ACTIONS
from air.gui.app import App
from air.gui.engine import config_of

MODEL = Path(__file__).resolve().parents[2] / "model"
MINUTES = float(os.environ.get("AIR_SOAK_MINUTES", "1"))
EVERY = 0.5  # seconds between two looks at the memory
MAX_GROWTH = 40.0  # MB from the third tenth of the time to the last; reloading the model alone moves it by 20, up or down
KEYS = [key for action in ACTIONS if action.name != "quit" for key in action.keys]
CANVASES = [key for key in KEYS if key in {"Ctrl+1", "Ctrl+2", "Ctrl+3"}]
LARGEST = (1900, 1200)  # window, pixels
SLOW_KEYS = {"L", "S", "Ctrl+S", "F", "F11"}
READY = 300.0  # seconds


class Person:
    """Someone who does anything to a window."""

    def __init__(self, app, files):
        self.app, self.files, self.rng = app, files, random.Random(0)
        self.habits = {
            self.draw: 60, self.type: 40, self.click: 25, self.wheel: 5, self.stray: 5, self.resize: 2, self.drop: 2
        }  # fmt: skip

    def do_everything_once(self):
        """Fill all caches: drop every file, and on every canvas press every key, one of which reloads the model."""
        self.app.window.size = LARGEST
        for file in self.files:
            self.post(pygame.DROPFILE, file=str(file))
            self.see_until_done()
        for canvas in CANVASES:
            for key in (canvas, *(key for key in KEYS if key not in CANVASES)):
                self.press(key)
                self.see_until_done()
                if self.app.exchange.prompt is not None:  # which would take the other keys
                    self.press("Escape")

    def see_until_done(self):
        self.see()
        session = self.app.session
        assert session.engine.wait_until_settled(READY), session.engine.status
        while self.app.exchange.is_busy or session.engine.is_busy or not session.engine.offers_thorough_look:
            self.see()
            time.sleep(0.02)
        session.engine._extras.join(READY)

    def press(self, key):
        self.post(pygame.KEYDOWN, **key_event(key))

    def act(self):
        (habit,) = self.rng.choices(list(self.habits), list(self.habits.values()))
        habit()
        self.see()

    def see(self):
        self.app.pump()
        self.app.frame()

    def post(self, kind, **attributes):
        pygame.event.post(pygame.event.Event(kind, **attributes))

    def anywhere(self):
        width, height = self.app.window.size
        return self.rng.randint(-5, width + 5), self.rng.randint(-5, height + 5)

    def draw(self):
        layout = self.app.layout
        x, y = self.anywhere() if layout is None or self.rng.random() < 0.2 else layout.drawn.center
        self.post(pygame.MOUSEBUTTONDOWN, button=1, pos=(x, y))
        for _ in range(self.rng.randint(1, 30)):
            x, y = x + self.rng.randint(-25, 25), y + self.rng.randint(-25, 25)
            self.post(pygame.MOUSEMOTION, pos=(x, y), rel=(0, 0), buttons=(1, 0, 0))
            self.see()
        if self.rng.random() < 0.95:
            self.post(pygame.MOUSEBUTTONUP, button=1, pos=(x, y))

    def type(self):
        key = self.rng.choice(KEYS)
        if key not in SLOW_KEYS or self.rng.random() < 0.1:
            self.press(key)

    def click(self):
        at, button = self.anywhere(), self.rng.choice([1, 1, 1, 1, 1, 1, 2, 3])
        self.post(pygame.MOUSEBUTTONDOWN, button=button, pos=at)
        self.post(pygame.MOUSEBUTTONUP, button=button, pos=at)

    def wheel(self):
        self.post(pygame.MOUSEWHEEL, y=self.rng.choice([-1, 1]), x=0)

    def stray(self):
        kinds = [pygame.WINDOWLEAVE, pygame.WINDOWFOCUSLOST, pygame.WINDOWEXPOSED, pygame.NOEVENT, pygame.MOUSEBUTTONUP]
        self.post(self.rng.choice(kinds), button=1)

    def resize(self):
        self.app.window.size = self.rng.randint(60, LARGEST[0]), self.rng.randint(40, LARGEST[1])

    def drop(self):
        self.post(pygame.DROPFILE, file=str(self.rng.choice(self.files)))


@pytest.fixture
def files(tmp_path):
    """Pictures, and what only looks like one."""
    paths = [tmp_path / f"noise_{size}.png" for size in (50, 1000)]
    for path, size in zip(paths, (50, 1000), strict=True):
        Image.effect_noise((size, size), 120).save(path)
    (tmp_path / "broken.png").write_bytes(paths[0].read_bytes()[:200])
    return [*paths, tmp_path / "broken.png", tmp_path / "missing.png", tmp_path]


def resident_memory():
    """The memory of this process, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def soak(files, folder):
    """Operate the demo at random in a folder, where it saves pictures of the window; return its memory over time, in MB."""
    os.chdir(folder)
    app = App(MODEL, config_of(MODEL), size=(1200, 760))
    memory = []
    try:
        app.session.engine.start()
        assert app.session.engine.wait_until_settled(READY), app.session.engine.status
        person = Person(app, files)
        person.do_everything_once()
        began, due = time.monotonic(), 0.0
        while (passed := time.monotonic() - began) < 60 * MINUTES:
            person.act()
            assert app.running
            assert not app.session.lost
            if passed >= due and not app.exchange.is_busy:  # reading a photo takes memory for some seconds
                memory.append(resident_memory())
                due = passed + EVERY
    finally:
        app.close(READY)
    return memory


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells a process its memory")
def test_random_input(files, tmp_path):
    # In a process of its own: in one of gigabytes, fragmented by other tests, even a demo that keeps nothing grows.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        memory = process.submit(soak, files, tmp_path).result()
    tenths = [float(np.median(part).round(1)) for part in np.array_split(memory, 10)]
    print("MB in each tenth of the time:", *tenths)
    assert tenths[-1] - tenths[2] < MAX_GROWTH, tenths
