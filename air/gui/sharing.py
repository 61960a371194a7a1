"""Pictures and GIFs of what the two canvases show, without the window around them."""

import collections
import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from air.gui.playback import View
from air.support import drawing
from air.support.drawing import RGB
from air.support.files import write_atomically

SECONDS = 12.0  # of a recording
INTERVAL = 0.08  # seconds between two of its frames, at least
PAUSE = 1.5  # seconds, the longest time that a frame is shown
PICTURE_SIDE, RECORDING_SIDE = 480, 240  # pixels of the longer side of a canvas, about
GREYS = 128  # in the palette of a GIF


def draw(view: View, colours: Sequence[RGB], side: int = PICTURE_SIDE) -> Image.Image:
    """Draw the picture and its reconstruction side by side, framed in the colours of the steps."""
    zoom = max(1, side // max(view.picture.shape))
    canvases = [view.picture] if view.reconstruction is None else [view.picture, view.reconstruction]
    pictures = [drawing.canvas(canvas, view.boxes, zoom, colours) for canvas in canvases]
    gap = 2 * zoom
    width, height = pictures[0].size
    sheet = Image.new("RGB", (len(pictures) * (width + gap) + gap, height + 2 * gap), drawing.BACKGROUND)
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (gap + i * (width + gap), gap))
    return sheet


def save_picture(path: Path, view: View, colours: Sequence[RGB]) -> None:
    """Save a .png file atomically; raise OSError if it can't be written."""
    write_atomically(path, draw(view, colours).save)


class Recorder:
    """The last seconds of what was shown. It keeps the views themselves, a few kilobytes each, and draws only when it saves."""

    def __init__(self) -> None:
        self._views: collections.deque[tuple[float, View]] = collections.deque(maxlen=round(SECONDS / INTERVAL))  # since when
        self._thread = threading.Thread()

    def add(self, now: float, view: View) -> None:
        """Remember a view that is shown from `now` on, in seconds of any clock."""
        if self._views and self._views[-1][1].same_as(view):
            return
        if len(self._views) > 1 and self._views[-1][0] - self._views[-2][0] < INTERVAL:
            self._views.pop()  # rather than leave out this one, which may be the last for a long time
        self._views.append((now, view))

    def save(self, path: Path, colours: Sequence[RGB], done: Callable[[OSError | None], None]) -> bool:
        """Save a .gif file in a thread, which then calls `done`, with an error if there is one; return False if it is busy.

        Pauses are shortened to PAUSE.
        """
        if self._thread.is_alive() or not self._views:
            return False
        times, views = zip(*self._views, strict=True)
        seconds = np.minimum(np.diff(times, append=math.inf), PAUSE)
        first = int((np.cumsum(seconds[::-1]) > SECONDS)[::-1].sum())
        kept = views[first:], np.rint(1000 * seconds[first:]).astype(int).tolist()

        def run() -> None:
            try:
                write_gif(path, [draw(view, colours, RECORDING_SIDE) for view in kept[0]], kept[1], colours)
            except OSError as error:
                done(error)
            else:
                done(None)

        self._thread = threading.Thread(target=run, name="recording")
        self._thread.start()
        return True


def write_gif(path: Path, frames: Sequence[Image.Image], milliseconds: Sequence[int], colours: Sequence[RGB]) -> None:
    """Write a GIF that repeats, atomically; all frames share a palette of greys and `colours`, so that nothing flickers."""
    greys = np.linspace(0, 255, GREYS).astype(int).repeat(3).tolist()
    palette = Image.new("P", (1, 1))
    palette.putpalette([*drawing.BACKGROUND, *(value for colour in colours for value in colour), *greys])
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    options = {"save_all": True, "append_images": others, "duration": list(milliseconds), "loop": 0, "optimize": True}
    write_atomically(path, lambda temporary: first.save(temporary, **options))
