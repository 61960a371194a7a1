"""The strokes of a digit: thinner, thicker, larger, rotated, or drawn anew along their centre lines by a pen.

points = centre_line(digit)  # [n, 2]
image = draw(2 * points, pen_width=1.8)  # twice as large, but no thicker than a pen's strokes
"""

import math

import numpy as np
from PIL import Image

FINENESS = 3  # subpixels along a pixel, in which centre lines are found
INK = 100  # minimum value of a pixel inside a stroke, of 255
SMOOTHING = 1.25  # pixels around a point of a centre line over which it is averaged
SPECK = 2  # subpixels of a skeleton that are no stroke, which a pen would make a dot


def centre_line(digit: np.ndarray) -> np.ndarray:
    """Find the skeleton of a digit's strokes.

    Args:
        digit: [height, width] uint8, bright on black.

    Returns:
        [n, 2] float32: (x, y) of points along it in pixels, in no order; none if no pixel reaches INK.
    """
    from skimage.morphology import skeletonize  # takes half a second

    image = Image.fromarray(np.pad(digit, 1))
    image = image.resize((image.width * FINENESS, image.height * FINENESS), Image.Resampling.BICUBIC)
    y, x = skeletonize(np.asarray(image) >= INK).nonzero()
    points = (np.stack([x, y], axis=1) + 0.5).astype(np.float32) / FINENESS - 1
    squares = np.square(points).sum(axis=1)
    squares = squares[:, None] + squares - 2 * points @ points.T
    near = (squares <= SMOOTHING**2).astype(np.float32)
    # A skeleton is a staircase of subpixels, which an average smooths, with gaps as soon as the digit is enlarged, and specks.
    smooth = near @ points / near.sum(axis=1, keepdims=True)
    is_line = near.sum(axis=1) > SPECK
    smooth, squares = smooth[is_line], squares[is_line][:, is_line]
    first, second = (np.triu(squares, 1) * (squares < 2.5 / FINENESS**2)).nonzero()
    return np.concatenate([smooth, (smooth[first] + smooth[second]) / 2])


def draw(points: np.ndarray, pen_width: float) -> np.ndarray:
    """Draw a line through points [n, 2], which must be close together, with a round pen of `pen_width` pixels.

    Returns:
        [height, width] uint8: the line, with a border that may be empty.
    """
    if not len(points):
        return np.zeros((0, 0), np.uint8)
    reach = math.ceil(pen_width / 2 + 0.5)
    points = points - np.floor(points.min(axis=0)) + reach
    nearest = np.floor(points).astype(int)  # pixels
    width, height = nearest.max(axis=0) + reach + 1
    # The distance transform, computed only at the centres of the pixels around each point.
    around = nearest[:, :, None] + np.arange(-reach, reach + 1)  # [n, 2, side]
    x, y = np.moveaxis(np.square(around + 0.5 - points[:, :, None]), 1, 0)
    pixels = around[:, 1, :, None] * width + around[:, 0, None, :]
    squares = np.full(height * width, np.inf)
    np.minimum.at(squares, pixels.ravel(), (y[:, :, None] + x[:, None, :]).ravel())
    ink = np.clip(pen_width / 2 + 0.5 - np.sqrt(squares), 0, 1)  # a pixel's coverage by a straight edge
    return np.rint(255 * ink).astype(np.uint8).reshape(height, width)


def thicken(image: np.ndarray, pixels: float) -> np.ndarray:
    """Add `pixels`, from -1 to 1, to the width of each stroke in an image [height, width] uint8, which grows at its edges.

    A pixel is added by grey dilation with a square of 2 by 2, and removed by grey erosion, except from strokes that this
    would delete; less than a pixel is interpolated.
    """
    image = _bordered(image)
    if pixels > 0:
        changed = _of_squares(np.maximum, image)
    else:
        thin = _of_squares(np.minimum, image)
        deleted = image - _of_squares(np.maximum, _bordered(thin))
        changed = np.maximum(thin, deleted[:-1, :-1])
    image = image[:-1, :-1]
    return np.rint(image + abs(pixels) * (changed.astype(np.float32) - image)).astype(np.uint8)


def _bordered(image: np.ndarray) -> np.ndarray:
    bordered = np.zeros((image.shape[0] + 2, image.shape[1] + 2), np.uint8)
    bordered[1:-1, 1:-1] = image
    return bordered


def _of_squares(choose: np.ufunc, image: np.ndarray) -> np.ndarray:
    """Choose the greatest or the least pixel of each square of 2 by 2; [H, W] becomes [H - 1, W - 1]."""
    rows = choose(image[:-1], image[1:])
    return choose(rows[:, :-1], rows[:, 1:])


def scale_and_rotate(image: np.ndarray, scale: tuple[float, float], angle: float) -> np.ndarray:
    """Scale an image [height, width] uint8 by factors for its width and height, and rotate it by degrees counter-clockwise.

    The result has a border that may be empty.
    """
    picture = Image.fromarray(np.pad(image, 2))  # a border for the strokes to fade into
    size = (round(picture.width * scale[0]), round(picture.height * scale[1]))
    # Pillow widens its filter when it shrinks an image, which prevents aliasing.
    picture = picture.resize((max(size[0], 1), max(size[1], 1)), Image.Resampling.BILINEAR)
    if angle:
        picture = picture.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    return np.asarray(picture)


def rotate(points: np.ndarray, angle: float) -> np.ndarray:
    """Rotate points (x, y), [n, 2], by degrees counter-clockwise around (0, 0), with y pointing down."""
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    return points @ np.array([[cosine, -sine], [sine, cosine]])
