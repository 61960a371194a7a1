"""Photos, scans, screenshots and drawings as scenes: the ink without the paper, at the size of digits that AIR is trained on.

Paper is what remains when everything narrower than a stroke is filled: a morphological closing, which follows uneven light and
keeps the edges of shadows and sheets. What stands out from it by far more than its noise is ink, unless it is a printed line.
"""

import os
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from air.errors import DataError
from air.support.pictures import read_picture

SIDES = (420, 800)  # pixels: a picture is enlarged until its shorter side has 420, and shrunk until its longer side has 800
MIN_SIDE = 40  # pixels of what is looked at
STROKES = (0.025, 0.05, 0.1, 0.2)  # of the shorter side: widths of strokes to try, and of the ground for `_is_light_on_dark`
MIN_CONTRAST = 0.05  # of the paper's brightness
NOISE = 6.0  # standard deviations of paper from which on something may be ink
BLOCKS = 10  # along a side, in each of which noise is measured
WEAK, STRONG = 0.4, 0.6  # of the ink's contrast: a stroke has a strong pixel, and goes as far as there are weak ones
MAX_TURN = 8.0  # degrees between printed lines and the picture's sides
MAX_MARKS = 30
MAX_UNLIKE = (0.2, 0.5, 0.4, 0.3)  # what `_check` measures; in nearly all photos of digits at most 0.02, 0.4, 0.15 and 0.1
DIGIT = 22.0  # pixels: a bit more than MNIST's 20, as two digits that touch are measured as one
MAX_ASPECT = 1.6  # width of a digit by its height; a wider one is measured by its width
MIN_DIGIT = 10.0  # pixels
PENS = (0.11, 0.2)  # width of a stroke, as a fraction of a digit's height, that MNIST's digits have
MARGIN = 2  # pixels of the canvas around the ink
GAP = 0.3  # of a digit's height: empty rows and columns that are left where space is short
MIN_CANVAS = 50  # pixels

NO_INK = "no ink can be told from the paper"


class Ink(NamedTuple):
    """Strokes found in a picture."""

    mask: np.ndarray  # [H, W] bool
    contrast: np.ndarray  # [H, W] float: 0 paper, about 1 ink
    pen_width: float  # pixels
    height: float  # pixels, of a digit


def open_picture(path: str | os.PathLike[str], canvas_size: tuple[int, int] | None = None) -> np.ndarray:
    """Open a photo, scan, screenshot or drawing of digits as a scene: bright ink on black, without the paper.

    A picture of exactly `canvas_size` stays in its place: it is returned unchanged if it is light on black, inverted if it is
    dark on white, and freed from its paper otherwise. Any other is cut to its ink and scaled so that a digit is about 22 pixels
    high, or lower if the canvas is too small for all of them; empty rows and columns between them are narrowed first. Strokes
    much thinner or thicker than MNIST's get their width.

    Args:
        path: a picture file in any format that Pillow decodes by itself, see `air.support.pictures.read_picture`.
        canvas_size: height and width of the scene in pixels; by default as large as the ink needs, at least 50 by 50.

    Returns:
        [H, W] float32 in [0, 1].

    Raises:
        DataError: if the file can't be read, or if its ink can't be told from the paper, or doesn't fit on the canvas.
    """
    picture = read_picture(path)
    grey = _in_unit(np.asarray(picture if picture.mode == "F" else picture.convert("L")))
    is_in_place = canvas_size is not None and grey.shape == tuple(canvas_size)
    if is_in_place:
        for scene in (grey, 1 - grey):
            if np.percentile(scene, 10) < 0.03 and np.median(scene) < 0.25:
                return scene
    colours = np.dstack([grey] * 3) if picture.mode == "F" else _in_unit(np.asarray(picture.convert("RGB")))
    try:
        ink = find_ink(_resized(colours))
        return _in_place(ink, grey.shape) if is_in_place else _on_canvas(ink, canvas_size)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def find_ink(pixels: np.ndarray) -> Ink:
    """Find the strokes in a picture [H, W, 3] in [0, 1]; raise DataError if there is none, or if much else stands out."""
    from skimage.filters import apply_hysteresis_threshold  # takes half a second

    if min(pixels.shape[:2]) < MIN_SIDE:
        raise DataError(NO_INK)
    contrast, noise, paper = _contrast(ndimage.gaussian_filter(pixels, (1, 1, 0)))
    stands_out = contrast > np.maximum(NOISE * noise, MIN_CONTRAST)
    candidates = _without_lines(_without_lines(stands_out, contrast).T, contrast.T).T
    if not candidates.any():
        raise DataError(NO_INK)
    bright = candidates & (paper >= np.median(paper))  # not the table
    contrast = contrast / max(np.percentile(contrast[where], 90) for where in (candidates, bright) if where.any())
    mask = apply_hysteresis_threshold(np.where(candidates, contrast, 0), WEAK, STRONG)
    if not mask.any():
        raise DataError(NO_INK)
    mask, height = _marks(mask)
    ink = Ink(mask, contrast, _pen_width(mask), height)
    lines = ndimage.binary_dilation(stands_out & ~candidates, iterations=3)
    _check(ink, ~lines)
    return ink


def _check(ink: Ink, where: np.ndarray) -> None:
    """Raise DataError if ink isn't what pens leave on paper, judged by the pixels `where` [H, W] there are no printed lines."""
    where = where & ~ndimage.binary_dilation(ink.mask, iterations=max(2, int(ink.pen_width)))
    measured = (
        np.mean(ink.contrast[where] > 0.5) / ink.mask.mean() if where.any() else np.inf,  # as strong as ink, but isn't
        np.mean(ink.contrast[ink.mask] < 0.7),  # strokes without edges
        ink.pen_width / ink.height,  # blobs
        ink.mask.mean(),
    )
    if (np.array(measured) > MAX_UNLIKE).any():
        raise DataError("the ink can't be told from the rest of the picture; cut it to the digits")


def _in_unit(values: np.ndarray) -> np.ndarray:
    """Scale brightness to [0, 1]; that of a file in unknown units from its own range."""
    if values.dtype == np.uint8:
        return values / np.float32(255)
    values = np.nan_to_num(values).astype(np.float64)
    low, high = values.min(), values.max()
    low, high = next(((0.0, top) for top in (1.0, 255.0, 65535.0) if low >= 0 and high <= top), (low, high))
    return ((values - low) / max(high - low, 1e-12)).astype(np.float32)


def _resized(pixels: np.ndarray) -> np.ndarray:
    """Resize a picture [H, W, 3] to sides within SIDES, if it is not too long for that."""
    height, width = pixels.shape[:2]
    zoom = min(SIDES[1] / max(height, width), max(1.0, SIDES[0] / min(height, width)))
    size = max(round(zoom * width), 1), max(round(zoom * height), 1)
    resampling = Image.Resampling.BOX if zoom < 1 else Image.Resampling.BICUBIC
    channels = (Image.fromarray(np.ascontiguousarray(x)).resize(size, resampling) for x in np.moveaxis(pixels, 2, 0))
    return np.dstack([np.asarray(channel) for channel in channels])


def _contrast(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute how much each pixel of [H, W, 3] stands out from paper, as a fraction of its brightness.

    Returns:
        [H, W] each: the contrast, its noise, and the brightness of the paper.
    """
    grey = pixels.mean(axis=2)
    sign = -1 if _is_light_on_dark(grey) else 1
    sides = [int(width * min(grey.shape)) | 1 for width in STROKES]
    energy = np.array([np.mean((_closing(sign * grey, side) - sign * grey) ** 3) for side in sides])
    side = sides[np.argmax(energy >= 0.97 * energy[-1])]  # the least that fills the strokes follows the light best
    paper = np.dstack([sign * _closing(sign * channel, side) for channel in np.moveaxis(pixels, 2, 0)])
    fraction = (paper - pixels) / np.maximum(
        paper, max(0.4 * np.percentile(paper, 90), 0.02)
    )  # of what is dark, there is only noise
    contrast = np.sqrt(np.mean(fraction**2, axis=2))
    middle, noise = _noise(contrast)
    return contrast - middle, noise, paper.mean(axis=2)


def _closing(grey: np.ndarray, side: int) -> np.ndarray:
    """Close an image [H, W] by a square as if the world around it were dark, so that a dark edge is not a stroke."""
    padded = np.pad(grey, side, constant_values=grey.min())
    return ndimage.grey_closing(padded, (side, side))[side:-side, side:-side]


def _is_light_on_dark(grey: np.ndarray) -> bool:
    """Return whether most of what lies between and around the strokes is darker than they are."""
    grey = grey[::2, ::2]
    votes = []
    for width in STROKES[1:]:
        side = int(width * min(grey.shape)) | 1
        light, dark = _closing(grey, side), -_closing(-grey, side)
        is_near = light - dark >= 0.5 * np.percentile(light - dark, 99.9)
        distance, nearest = ndimage.distance_transform_edt(~is_near, return_indices=True)
        middle = ((light + dark) / 2)[tuple(nearest)]
        votes.append(np.mean((grey > middle)[distance < side]))
    return bool(np.mean(votes) < 0.5)


def _noise(contrast: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Estimate the mean and the standard deviation of paper around each pixel, [H, W] each."""
    height, width = (side // BLOCKS for side in contrast.shape)
    blocks = contrast[: BLOCKS * height, : BLOCKS * width].reshape(BLOCKS, height, BLOCKS, width)
    # Ink and lines are in the upper part of a block's values. Of a normal distribution, these two are at -1.64 and -0.52.
    lowest, low = np.percentile(blocks, (5, 30), axis=(1, 3))
    std = (low - lowest) / 1.12
    zoom = [side / BLOCKS for side in contrast.shape]
    smooth = (ndimage.median_filter(x, 3, mode="nearest") for x in (low + 0.52 * std, std))
    mean, std = (ndimage.zoom(x, zoom, order=1, mode="nearest", grid_mode=True) for x in smooth)
    return mean, std


def _without_lines(mask: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """Remove printed lines that run from left to right, but not the strokes that cross them."""
    from skimage.transform import hough_line, hough_line_peaks

    height, width = mask.shape
    thickness = max(6, round(0.016 * min(mask.shape)))
    thin = mask & ~ndimage.binary_opening(mask, np.ones((thickness + 1, 1)))
    angles = np.radians(np.arange(90 - MAX_TURN, 90 + MAX_TURN + 0.1, 0.25))
    votes, angles, distances = hough_line(thin, angles)
    lines = hough_line_peaks(votes, angles, distances, thickness, len(angles) // 8, 0.45 * width, num_peaks=200)
    if len(lines[0]) < 3:  # two may be strokes, unless they are longer
        lines = tuple(field[lines[0] >= 0.85 * width] for field in lines)
    y, x = np.mgrid[:height, :width]
    mask = mask.copy()
    for _, angle, distance in zip(*lines, strict=True):
        is_line = thin & (np.abs(x * np.cos(angle) + y * np.sin(angle) - distance) <= thickness)
        if is_line.any():
            mask &= ~(is_line & (contrast < 2 * np.median(contrast[is_line])))
    return mask


def _marks(mask: np.ndarray) -> tuple[np.ndarray, float]:
    """Keep the marks that can be digits; return them and the height of one, in pixels."""
    side = min(mask.shape)
    joined = ndimage.binary_dilation(mask, iterations=max(1, round(0.4 * _pen_width(mask))))
    labels, _ = ndimage.label(joined, np.ones((3, 3)))
    boxes = np.array(
        [[(rows.start, columns.start), (rows.stop, columns.stop)] for rows, columns in ndimage.find_objects(labels)]
    )
    area = np.bincount(labels[mask], minlength=len(boxes) + 1)[1:]
    size = (boxes[:, 1] - boxes[:, 0]).max(axis=1)
    band = 0.02 * side
    is_edge = (boxes[:, 1] <= band).any(axis=1) | (boxes[:, 0] >= np.array(mask.shape) - band).any(axis=1)
    is_line = (size > 0.85 * side) & (area < 0.08 * size**2)
    keep = ~is_edge & ~is_line
    if not keep.any():
        raise DataError(NO_INK)
    keep &= size > 0.25 * size[keep][np.argmax(area[keep])]  # others are specks
    if keep.sum() > MAX_MARKS:
        raise DataError(f"{keep.sum()} marks are too many to be digits; cut the picture to the digits")
    sides = (boxes[:, 1] - boxes[:, 0])[keep]
    heights = np.maximum(sides[:, 0], sides[:, 1] / MAX_ASPECT)
    order = np.argsort(heights)
    ink = np.cumsum(area[keep][order])
    height = max(heights[order][np.searchsorted(ink, ink[-1] / 2)], 0.8 * heights.max())
    return mask & np.isin(labels, 1 + np.flatnonzero(keep)), float(height)


def _pen_width(mask: np.ndarray) -> float:
    """Return the width of most strokes, in pixels."""
    from skimage.morphology import skeletonize

    padded = np.pad(mask, 1)
    return float(2 * np.median(ndimage.distance_transform_edt(padded)[skeletonize(padded)]))


def _in_place(ink: Ink, canvas_size: tuple[int, int]) -> np.ndarray:
    """Make a scene of a picture of its size."""
    near = ndimage.binary_dilation(ink.mask, iterations=round(0.5 * ink.pen_width))
    values = np.where(near, ink.contrast, 0).clip(0, 1).astype(np.float32)
    return np.asarray(Image.fromarray(values).resize(canvas_size[::-1], Image.Resampling.BOX))


def _on_canvas(ink: Ink, canvas_size: tuple[int, int] | None) -> np.ndarray:
    """Scale strokes to MNIST's size, and put them in the middle of a canvas."""
    mask, scale = ink.mask[ndimage.find_objects(ink.mask.astype(int))[0]], DIGIT / ink.height
    if canvas_size is None:
        canvas_size = tuple(max(MIN_CANVAS, round(scale * side) + 2 * MARGIN) for side in mask.shape)
    room = np.maximum(np.array(canvas_size) - 2 * MARGIN, 1)
    if (scale * np.array(mask.shape) > room).any():
        mask = _closer(_closer(mask, GAP * ink.height).T, GAP * ink.height).T
        scale = min(scale, *(room / mask.shape))
    height = scale * ink.height
    if height < min(MIN_DIGIT, 0.5 * min(canvas_size)):
        canvas = "x".join(map(str, canvas_size))
        raise DataError(
            f"the digits would be {height:.0f} pixels high on a canvas of {canvas}; take a larger one, or fewer digits"
        )
    pen_width = scale * ink.pen_width
    growth = np.clip(pen_width, PENS[0] * height, PENS[1] * height) - pen_width
    mask = np.pad(mask, round(MARGIN / scale))
    # Half a pixel inside its edge, a pixel is at a distance of 1 from what is outside.
    depth = np.where(mask, ndimage.distance_transform_edt(mask) - 0.5, 0.5 - ndimage.distance_transform_edt(~mask))
    values = np.clip(depth + growth / 2 / scale + 0.5, 0, 1).astype(np.float32)
    size = [min(max(round(scale * a), 1), b) for a, b in zip(mask.shape, canvas_size, strict=True)]
    scene = np.zeros(canvas_size, np.float32)
    top, left = ((b - a) // 2 for a, b in zip(size, canvas_size, strict=True))
    scene[top : top + size[0], left : left + size[1]] = np.asarray(
        Image.fromarray(values).resize(size[::-1], Image.Resampling.BOX)
    )
    return scene


def _closer(mask: np.ndarray, gap: float) -> np.ndarray:
    """Narrow each gap of empty rows in [H, W] to `gap` rows."""
    rows = np.arange(len(mask))
    return mask[rows - np.maximum.accumulate(np.where(mask.any(axis=1), rows, -1)) <= gap]
