"""Strokes as wide and as soft as MNIST's: drawn on a finer surface, which is then reduced by area.

    drawing = Drawing((50, 50))
    drawing.begin((10.0, 8.0), LINE_WIDTHS[DEFAULT_WIDTH])
    drawing.extend((12.5, 30.0))
    drawing.end()
    drawing.image                     # what the model sees

Points are (x, y) in canvas pixels; (0, 0) is the outer corner of the top left pixel.
"""

import zlib
from typing import NamedTuple

import numpy as np

from air.config import AIRConfig

Point = tuple[float, float]

LINE_WIDTHS = (1.2, 1.8, 2.4, 3.2, 4.2)  # canvas pixels
DEFAULT_WIDTH = 2  # index of the width that matches MNIST's thickness and grey values
MAX_FINENESS = 8  # subpixels along a canvas pixel
SURFACE_SIZE = 800  # subpixels along a side, approximately at most, so that drawing on a large canvas stays fast
HISTORY_BYTES = 4 << 20
MIN_HISTORY = 8  # steps that can be undone, however many bytes they take
CANVASES = (1.0, 1.5, 2.0)  # sides that can be chosen, as multiples of those in training
OWN = "Your drawing"


class _State(NamedTuple):
    """An earlier or undone drawing; the surface of strokes is compressed a hundredfold, as it is nearly all black."""

    surface: bytes
    image: np.ndarray
    title: str

    def size(self) -> int:
        return len(self.surface) + self.image.nbytes


class Drawing:
    """A picture made of strokes, each of which can be undone, as can other pictures and canvases.

    Args:
        canvas_size: height and width, in pixels.
        channels: 1, or 3 for pictures in colour; pens stay white.
    """

    def __init__(self, canvas_size: tuple[int, int], channels: int = 1) -> None:
        self.channels, colours = channels, (channels,) if channels > 1 else ()
        self.image = np.zeros((*canvas_size, *colours), np.uint8)  # a new array after every change
        self.version = 0  # increases with every change of the image
        self.title = OWN  # of the picture that the strokes are drawn on, if there is one
        self._surface = np.zeros((self.height * self.fineness, self.width * self.fineness, *colours), np.uint8)
        self._done: list[_State] = []
        self._undone: list[_State] = []
        self._stroke: tuple[float, bool] | None = None  # width, and whether it erases
        self._is_new = False  # whether the stroke has not touched the canvas yet
        self._last: Point = (0.0, 0.0)

    @property
    def height(self) -> int:
        return self.image.shape[0]

    @property
    def width(self) -> int:
        return self.image.shape[1]

    @property
    def fineness(self) -> int:
        """Return the subpixels along a canvas pixel."""
        return max(1, min(MAX_FINENESS, SURFACE_SIZE // max(self.height, self.width)))

    @property
    def is_empty(self) -> bool:
        return not self.image.any()

    @property
    def ink(self) -> np.ndarray:
        """Copy the drawing with smooth lines, `fineness` times as many pixels along a side."""
        return self._surface.copy()

    @property
    def is_drawn(self) -> bool:
        """Return whether the pen is down."""
        return self._stroke is not None

    @property
    def can_undo(self) -> bool:
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        return bool(self._undone)

    def begin(self, point: Point, width: float, erase: bool = False) -> None:
        """Put the pen down, which leaves a dot; `width` is in canvas pixels."""
        self.end()
        self._stroke, self._last, self._is_new = (width, erase), point, True
        self._draw_segment(point, point)

    def extend(self, point: Point) -> None:
        """Draw a straight line from the last point; do nothing while the pen is up."""
        if self._stroke is not None and point != self._last:
            self._draw_segment(self._last, point)
            self._last = point

    def end(self) -> None:
        """Lift the pen."""
        self._stroke = None

    def replace(self, image: np.ndarray, title: str = OWN) -> None:
        """Replace the drawing by a picture, [H, W] or [H, W, 3] uint8, and its canvas; it can be undone like a stroke."""
        self.end()
        if image.ndim < self.image.ndim:
            image = np.repeat(image[..., None], self.channels, axis=2)
        if np.array_equal(image, self.image):
            return
        self._remember()
        self.image, self.title = image.copy(), title
        self._surface = enlarge(image, self.fineness)
        self.version += 1

    def clear(self) -> None:
        self.replace(np.zeros_like(self.image))

    def resize(self, canvas_size: tuple[int, int]) -> None:
        """Put the picture on a canvas of another size: in its middle, or cut to what fits around the middle of the ink."""
        image = self.image
        axes = range(image.ndim)
        for axis, size in enumerate(canvas_size):
            ink = np.flatnonzero(image.any(axis=tuple(a for a in axes if a != axis)))
            spare = image.shape[axis] - size
            if spare > 0:
                middle = (ink[0] + ink[-1] + 1) // 2 if len(ink) else 0
                start = min(max(0, middle - size // 2), spare)
                image = image.take(range(start, start + size), axis)
            else:
                before = -spare // 2
                image = np.pad(image, [(before, -spare - before) if a == axis else (0, 0) for a in axes])
        self.replace(image, self.title)

    def undo(self) -> bool:
        """Undo the last stroke or picture; return False if there is none."""
        return self._travel(self._done, self._undone)

    def redo(self) -> bool:
        """Redo what was undone last; return False if there is nothing."""
        return self._travel(self._undone, self._done)

    def _travel(self, source: list[_State], target: list[_State]) -> bool:
        self.end()
        if not source:
            return False
        target.append(self._state())
        surface, self.image, self.title = source.pop()
        shape = self.height * self.fineness, self.width * self.fineness, *self.image.shape[2:]
        self._surface = np.frombuffer(bytearray(zlib.decompress(surface)), np.uint8).reshape(shape)
        self.version += 1
        return True

    def _state(self) -> _State:
        return _State(zlib.compress(self._surface.data, level=1), self.image, self.title)

    def _remember(self) -> None:
        self._done.append(self._state())
        while len(self._done) > MIN_HISTORY and sum(map(_State.size, self._done)) > HISTORY_BYTES:
            del self._done[0]
        self._undone.clear()

    def _draw_segment(self, start: Point, end: Point) -> None:
        width, erase = self._stroke
        s = self.fineness
        reach = (width + 1 / s) / 2
        left, right = _span(start[0], end[0], reach, self.width)
        top, bottom = _span(start[1], end[1], reach, self.height)
        if left >= right or top >= bottom:
            return
        if self._is_new:
            self._remember()
            self._is_new, self.title = False, OWN if self.is_empty else self.title
        x = (np.arange(left * s, right * s) + 0.5) / s
        y = (np.arange(top * s, bottom * s) + 0.5)[:, None] / s
        ink = np.clip(0.5 + (width / 2 - _distance(x, y, start, end)) * s, 0.0, 1.0)  # fades over one subpixel
        coverage = np.rint(255.0 * ink).astype(np.uint8).reshape(*ink.shape, *[1] * (self._surface.ndim - 2))
        part = self._surface[top * s : bottom * s, left * s : right * s]
        # The maximum rather than the sum, so that a stroke gets no darker where it crosses itself or slows down.
        np.minimum(part, 255 - coverage, out=part) if erase else np.maximum(part, coverage, out=part)
        self._reduce(slice(top, bottom), slice(left, right))

    def _reduce(self, rows: slice, columns: slice) -> None:
        """Reduce the surface by area in the given rows and columns of the image."""
        s = self.fineness
        blocks = self._surface.reshape(self.height, s, self.width, s, *self._surface.shape[2:])[rows, :, columns]
        self.image = self.image.copy()
        self.image[rows, columns] = np.rint(blocks.mean(axis=(1, 3)))
        self.version += 1


def offered_sizes(config: AIRConfig) -> list[tuple[int, int]]:
    """Return the sizes of canvases, (height, width) in pixels, to choose from: that of training, and larger ones."""
    height, width = config.canvas_size
    sizes = CANVASES if config.takes_any_canvas else CANVASES[:1]
    return [(round(height * size), round(width * size)) for size in sizes]


def enlarge(image: np.ndarray, times: int) -> np.ndarray:
    """Enlarge a picture [H, W] or [H, W, 3] uint8 by bilinear interpolation."""
    for axis, size in enumerate(image.shape[:2]):
        at = np.clip((np.arange(size * times) + 0.5) / times - 0.5, 0, size - 1)
        low = np.minimum(at.astype(int), max(size - 2, 0))
        high, weight = np.minimum(low + 1, size - 1), (at - low).reshape([-1 if a == axis else 1 for a in range(image.ndim)])
        image = image.take(low, axis) * (1 - weight) + image.take(high, axis) * weight
    return np.rint(image).astype(np.uint8)


def _span(a: float, b: float, reach: float, size: int) -> tuple[int, int]:
    """Return the half-open range of pixels that a line from a to b can touch."""
    return max(0, int(np.floor(min(a, b) - reach))), min(size, int(np.ceil(max(a, b) + reach)))


def _distance(x: np.ndarray, y: np.ndarray, start: Point, end: Point) -> np.ndarray:
    """Compute the distance of each point of a grid from a line segment."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = dx * dx + dy * dy
    along = ((x - start[0]) * dx + (y - start[1]) * dy) / length if length else 0.0
    along = np.clip(along, 0.0, 1.0)
    return np.hypot(x - start[0] - along * dx, y - start[1] - along * dy)
