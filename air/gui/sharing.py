"""Pictures and GIFs of what the two canvases show, without the window around them."""

import collections
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    canvases = [(view.picture, () if view.is_edited else view.boxes)]
    if view.reconstruction is not None:
        canvases.append((view.reconstruction, view.boxes))
    pictures = [drawing.canvas(canvas, boxes, zoom, colours, Image.Resampling.BICUBIC) for canvas, boxes in canvases]
    return drawing.sheet(pictures, len(pictures), 2 * zoom)


def save_picture(path: Path, view: View, colours: Sequence[RGB]) -> None:
    """Save a .png file atomically; raise OSError if it can't be written."""
    write_atomically(path, draw(view, colours).save)


class Recorder:
    """The last seconds of what was shown. It keeps the views themselves, a few kilobytes each, which are drawn when saved."""

    def __init__(self) -> None:
        self._shown: collections.deque[tuple[float, View]] = collections.deque(maxlen=round(SECONDS / INTERVAL))  # since when

    def add(self, now: float, view: View) -> None:
        """Remember a view that is shown from `now` on, in seconds of any clock."""
        if self._shown and self._shown[-1][1].same_as(view):
            return
        if len(self._shown) > 1 and self._shown[-1][0] - self._shown[-2][0] < INTERVAL:
            self._shown.pop()  # rather than leave out this one, which may be the last for a long time
        self._shown.append((now, view))

    @property
    def views(self) -> list[tuple[View, int]]:
        """The last SECONDS with their milliseconds; pauses are shortened to PAUSE."""
        times = [time for time, _ in self._shown]
        seconds = np.minimum(np.diff(times, append=math.inf), PAUSE)
        is_kept = np.cumsum(seconds[::-1])[::-1] <= SECONDS
        return [(view, round(1000 * s)) for (_, view), s, kept in zip(self._shown, seconds, is_kept, strict=True) if kept]


def save_recording(path: Path, views: Sequence[tuple[View, int]], colours: Sequence[RGB]) -> None:
    """Save views, each with its milliseconds, as a .gif file that repeats; raise OSError if it can't be written."""
    frames = drawing.in_palette((draw(view, colours, RECORDING_SIDE) for view, _ in views), colours, GREYS)
    width, height = (max(sides) for sides in zip(*(frame.size for frame in frames), strict=True))
    frames = [frame.crop((0, 0, width, height)) for frame in frames]  # what lies outside becomes background
    options: dict[str, Any] = {
        "save_all": True,
        "append_images": frames[1:],
        "duration": [ms for _, ms in views],
        "loop": 0,
        "optimize": True,
    }
    write_atomically(path, lambda temporary: frames[0].save(temporary, **options))
