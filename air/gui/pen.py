"""The pen: strokes as wide and as soft as MNIST's, drawn on a finer surface that is then reduced by area.

    drawing = Drawing((50, 50))
    drawing.begin((10.0, 8.0), LINE_WIDTHS[DEFAULT_WIDTH])
    drawing.extend((12.5, 30.0))
    drawing.end()
    drawing.image                     # what the model sees

Points are (x, y) in canvas pixels, (0, 0) at the outer corner of the first pixel.
"""

import zlib

import numpy as np

LINE_WIDTHS = (1.2, 1.8, 2.4, 3.2, 4.2)
"""Selectable widths of a stroke, in canvas pixels."""
DEFAULT_WIDTH = 2
"""Index of the width whose thickness and grey values are MNIST's, which were reduced by area too."""
FINEST = 8
"""Most subpixels along a canvas pixel."""
SURFACE_SIZE = 512
"""A surface has at most about this many subpixels along a side, so that drawing on a large canvas stays quick."""
HISTORY_BYTES = 4 << 20
MIN_HISTORY = 8


class Drawing:
    """A picture that is made of strokes, each of which can be undone.

    Args:
        canvas_size: height and width, in pixels.
    """

    def __init__(self, canvas_size: tuple[int, int]) -> None:
        self.height, self.width = canvas_size
        self.fineness = max(1, min(FINEST, SURFACE_SIZE // max(canvas_size)))
        self._surface = np.zeros((self.height * self.fineness, self.width * self.fineness), np.uint8)
        # Surfaces, compressed: a drawing is nearly all black, and a hundredth of its size then.
        self._undone: list[bytes] = []
        self._done: list[bytes] = []
        self._stroke: tuple[float, bool] | None = None  # width and whether it erases
        self._last = (0.0, 0.0)
        self.version = 0  # changes with every change of the image
        self.image = np.zeros(canvas_size, np.uint8)  # [H, W], a new array after every change

    @property
    def is_drawing(self) -> bool:
        return self._stroke is not None

    @property
    def is_empty(self) -> bool:
        return not self.image.any()

    @property
    def can_undo(self) -> bool:
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        return bool(self._undone)

    def begin(self, point: tuple[float, float], width: float, erase: bool = False) -> None:
        """Puts the pen down, which leaves a dot; `width` in canvas pixels."""
        self.end()
        self._remember()
        self._stroke, self._last = (width, erase), point
        self._segment(point, point)

    def extend(self, point: tuple[float, float]) -> None:
        """Moves the pen in a straight line; does nothing while the pen is up."""
        if self._stroke is not None and point != self._last:
            self._segment(self._last, point)
            self._last = point

    def end(self) -> None:
        """Lifts the pen."""
        self._stroke = None

    def replace(self, image: np.ndarray) -> None:
        """Puts a picture, [H, W] uint8, in place of what is drawn; can be undone like a stroke."""
        self.end()
        if np.array_equal(image, self.image):
            return
        self._remember()
        self._surface = np.kron(image, np.ones((self.fineness, self.fineness), np.uint8))
        self._show()

    def clear(self) -> None:
        self.replace(np.zeros_like(self.image))

    def undo(self) -> bool:
        """Takes back the last stroke or picture; False if there is none."""
        return self._travel(self._done, self._undone)

    def redo(self) -> bool:
        """Puts back what was undone last; False if there is nothing."""
        return self._travel(self._undone, self._done)

    def _travel(self, source: list[bytes], target: list[bytes]) -> bool:
        self.end()
        if not source:
            return False
        target.append(self._packed())
        self._surface = np.frombuffer(bytearray(zlib.decompress(source.pop())), np.uint8).reshape(self._surface.shape)
        self._show()
        return True

    def _remember(self) -> None:
        self._done.append(self._packed())
        while len(self._done) > MIN_HISTORY and sum(map(len, self._done)) > HISTORY_BYTES:
            del self._done[0]
        self._undone.clear()

    def _packed(self) -> bytes:
        return zlib.compress(self._surface, level=1)

    def _segment(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        width, erase = self._stroke
        s = self.fineness
        reach = (width + 1 / s) / 2
        left, right = _span(start[0], end[0], reach, self.width)
        top, bottom = _span(start[1], end[1], reach, self.height)
        if left >= right or top >= bottom:
            return
        x = (np.arange(left * s, right * s) + 0.5) / s
        y = (np.arange(top * s, bottom * s) + 0.5)[:, None] / s
        distance = _distance(x, y, start, end)
        ink = np.clip(0.5 + (width / 2 - distance) * s, 0.0, 1.0)  # fades over one subpixel
        coverage = np.rint(255.0 * ink).astype(np.uint8)
        part = self._surface[top * s : bottom * s, left * s : right * s]
        # The greatest coverage rather than the sum: where a stroke crosses or slows down, it gets no darker.
        np.minimum(part, 255 - coverage, out=part) if erase else np.maximum(part, coverage, out=part)
        self._show(slice(top, bottom), slice(left, right))

    def _show(self, rows: slice = slice(None), columns: slice = slice(None)) -> None:
        """Reduces the surface by area in the rows and columns of the image that have changed."""
        s = self.fineness
        blocks = self._surface.reshape(self.height, s, self.width, s)[rows, :, columns]
        self.image = self.image.copy()
        self.image[rows, columns] = np.rint(blocks.mean(axis=(1, 3)))
        self.version += 1


def _span(a: float, b: float, reach: float, size: int) -> tuple[int, int]:
    """The pixels from the first to behind the last that a line between a and b can reach."""
    low, high = min(a, b) - reach, max(a, b) + reach
    return max(0, int(np.floor(low))), min(size, int(np.ceil(high)))


def _distance(x: np.ndarray, y: np.ndarray, start: tuple[float, float], end: tuple[float, float]) -> np.ndarray:
    """Distances of the points of a grid from a line segment."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = dx * dx + dy * dy
    along = ((x - start[0]) * dx + (y - start[1]) * dy) / length if length else 0.0
    along = np.clip(along, 0.0, 1.0)
    return np.hypot(x - start[0] - along * dx, y - start[1] - along * dy)
