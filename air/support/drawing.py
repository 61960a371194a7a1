"""Pictures of scenes with coloured frames, and the colours of the steps."""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw

RGB = tuple[int, int, int]

COLOURS: tuple[RGB, ...] = ((235, 64, 52), (52, 199, 89), (64, 128, 255), (255, 204, 0), (191, 90, 242), (90, 200, 250))
"""RGB of red, green and blue for the first three steps, then yellow, violet and cyan."""

BACKGROUND = (24, 24, 28)  # RGB


def colour(step: int) -> RGB:
    """Return the RGB colour of a step, counted from 0."""
    return COLOURS[step % len(COLOURS)]


def canvas(
    image: np.ndarray,
    frames: np.ndarray | Sequence[Sequence[float]] = (),
    zoom: int = 4,
    colours: Sequence[RGB] = COLOURS,
    resampling: Image.Resampling = Image.Resampling.NEAREST,
) -> Image.Image:
    """Draw an image `zoom` times as large, with a coloured frame for each step.

    The image is [height, width] or [height, width, 3], uint8 or float in [0, 1]; `frames` has (x, y, width, height) of each
    frame, in its pixels.
    """
    picture = _enlarged(image, zoom, resampling)
    draw = ImageDraw.Draw(picture)
    for step, (x, y, width, height) in enumerate(frames):
        left, top = zoom * x, zoom * y
        right, bottom = left + max(zoom * width - 1, 0), top + max(zoom * height - 1, 0)
        draw.rectangle([left, top, right, bottom], outline=colours[step % len(colours)], width=_line(zoom))
    return picture


def sheet(tiles: Sequence[Image.Image], columns: int, gap: int) -> Image.Image:
    """Lay pictures of one size out in rows of `columns`, with a gap around each, in pixels."""
    width, height = (side + gap for side in tiles[0].size)
    laid_out = Image.new("RGB", (columns * width + gap, -(-len(tiles) // columns) * height + gap), BACKGROUND)
    for position, tile in enumerate(tiles):
        row, column = divmod(position, columns)
        laid_out.paste(tile, (gap + column * width, gap + row * height))
    return laid_out


def in_palette(frames: Iterable[Image.Image], colours: Sequence[RGB], greys: int) -> list[Image.Image]:
    """Reduce the frames of a GIF to one palette: background, `colours`, greys and 100 others; so nothing flickers."""
    palette = Image.new("P", (1, 1))
    levels = np.linspace(0, 255, greys).astype(int).repeat(3).tolist()
    cube = itertools.product(*(np.linspace(0, 255, n).astype(int).tolist() for n in (5, 5, 4)))
    palette.putpalette([*BACKGROUND, *itertools.chain(*colours), *levels, *itertools.chain(*cube)])
    return [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]


def strip(
    images: np.ndarray,
    reconstructions: np.ndarray,
    count: np.ndarray,
    frames: np.ndarray,
    details: np.ndarray,
    zoom: int = 4,
    backgrounds: np.ndarray | None = None,
) -> np.ndarray:
    """Draw images side by side, RGB uint8: each above its reconstruction, both framed, and below them its details.

    Args:
        images: [batch, height, width] or [batch, height, width, 3], uint8 or float in [0, 1].
        reconstructions: of the same kind.
        count: [batch] number of frames and details to draw.
        frames: [batch, steps, 4] (x, y, width, height) in the images' pixels.
        details: [batch, steps, detail_height, detail_width], or with 3 channels, float in [0, 1].
        zoom: size of an image pixel in the picture's pixels.
        backgrounds: of the kind of the images, to draw between reconstructions and details; None for none.
    """
    canvases = [images, reconstructions, *([] if backgrounds is None else [backgrounds])]
    height, width = images.shape[1:3]
    steps = details.shape[1]
    gap = 2 * zoom
    cell = max((width * zoom - (steps - 1) * gap) // steps, 1)  # all details together are as wide as an image
    below = gap + len(canvases) * (height * zoom + gap)  # top of the details
    picture = Image.new("RGB", ((width * zoom + gap) * len(images) + gap, below + cell + gap), BACKGROUND)
    for i in range(len(images)):
        left, number = gap + i * (width * zoom + gap), int(count[i])
        for row, drawn in enumerate(canvases):
            framed = frames[i, :number] if row < 2 else ()
            picture.paste(canvas(drawn[i], framed, zoom), (left, gap + row * (height * zoom + gap)))
        for step in range(number):
            detail = _enlarged(details[i, step], 1).resize((cell, cell), Image.Resampling.BILINEAR)
            ImageDraw.Draw(detail).rectangle([0, 0, cell - 1, cell - 1], outline=colour(step), width=_line(zoom))
            picture.paste(detail, (left + step * (cell + gap), below))
    return np.asarray(picture)


def _line(zoom: int) -> int:
    """Return the width of a frame's outline, which must survive downscaling to a thumbnail."""
    return max(3 * zoom // 4, 1)


def _enlarged(image: np.ndarray, zoom: int, resampling: Image.Resampling = Image.Resampling.NEAREST) -> Image.Image:
    if image.dtype != np.uint8:
        image = np.round(np.clip(image, 0.0, 1.0) * 255).astype(np.uint8)
    picture = Image.fromarray(image)
    return picture.resize((picture.width * zoom, picture.height * zoom), resampling).convert("RGB")
