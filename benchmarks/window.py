"""The demo's window: until it is there, until it is ready, frames while a person draws, load while nobody does.

Without a display, SDL's dummy driver takes its place.
"""

import os
import sys
import threading
import time

import numpy as np

from benchmarks.process import since_start
from benchmarks.results import Sample

PAUSE = 3.0  # seconds before the person draws
SETTLING = 0.5, 2.0  # seconds at the beginning of drawing and of idleness that don't count


def measure(model: str, drawing: float, idle: float) -> Sample:
    """Runs demo.py in this process, draws in its window, lets it alone, and closes it; load is in percent of one core."""
    os.environ["PYGAME_HIDE_SUPPORT_PROMPT"] = "1"
    if sys.platform == "linux" and not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        os.environ["SDL_VIDEODRIVER"] = "dummy"
    import pygame

    import air.gui.app
    import demo

    times: dict[str, float] = {}
    frames: list[float] = []  # seconds since the start
    loads: list[float] = []

    class Watched(air.gui.app.App):
        def frame(self) -> None:
            super().frame()
            frames.append(since_start())
            if self.session.engine.is_ready and "ready" not in times:
                times["ready"] = frames[-1]
                threading.Thread(target=person, args=(self,), daemon=True).start()

    def person(app: Watched) -> None:
        try:
            time.sleep(PAUSE)
            times["begin"] = since_start()
            draw(app, drawing)
            time.sleep(SETTLING[1])
            processor = time.process_time()
            time.sleep(idle)
            loads.append(100 * (time.process_time() - processor) / idle)
        finally:
            pygame.event.post(pygame.event.Event(pygame.QUIT))

    air.gui.app.App = Watched
    sys.argv = ["demo.py", "--model", model]
    try:
        demo.main()
    except SystemExit as stop:
        if stop.code:
            raise
    drawn = np.array([frame for frame in frames if SETTLING[0] < frame - times["begin"] < drawing])
    loading = np.diff([frame for frame in frames if frame < times["ready"]])
    return {
        "shown": (frames[0], "s"),
        "ready": (times["ready"], "s"),
        "loading_longest_pause": (float(loading.max()), "s"),
        "drawing_frames": (len(drawn) / (drawing - SETTLING[0]), "frames/s"),
        "drawing_frame_p99": (float(1000 * np.percentile(np.diff(drawn), 99)), "ms"),
        "idle_load": (loads[0], "%"),
    }


def draw(app: object, seconds: float) -> None:
    """Moves the pressed mouse around the canvas."""
    import pygame

    rect = app.layout.drawn
    began = time.time()
    pygame.event.post(pygame.event.Event(pygame.MOUSEBUTTONDOWN, button=1, pos=rect.center))
    while (t := time.time() - began) < seconds:
        position = (rect.centerx + 90 * np.cos(5 * t) + 40 * np.cos(t), rect.centery + 120 * np.sin(5 * t))
        pygame.event.post(pygame.event.Event(pygame.MOUSEMOTION, pos=position, rel=(0, 0), buttons=(1, 0, 0)))
        time.sleep(1 / 125)
    pygame.event.post(pygame.event.Event(pygame.MOUSEBUTTONUP, button=1, pos=rect.center))
