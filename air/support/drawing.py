"""Pictures of scenes, attention windows and reconstructions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:  # so that who only wants the colours does not wait for TensorFlow
    from air.model.air_model import Scenes

COLOURS = ((235, 64, 52), (52, 199, 89), (64, 128, 255), (255, 204, 0), (191, 90, 242), (90, 200, 250))
"""Red, green, blue for the first three steps, as RGB; then yellow, violet, cyan, and again from the start."""

BACKGROUND = (24, 24, 28)


def colour(step: int) -> tuple[int, int, int]:
    """RGB of a step, counted from 0."""
    return COLOURS[step % len(COLOURS)]


def canvas(image: np.ndarray, boxes: Sequence[Sequence[float]] = (), zoom: int = 4) -> Image.Image:
    """A scene in grey with the outlines of attention windows.

    Args:
        image: [height, width], uint8 or float in [0, 1].
        boxes: (x, y, width, height) of each step's window in the scene's pixels.
        zoom: pixels of the picture for a pixel of the scene.

    Returns:
        An RGB picture of zoom * width x zoom * height pixels.
    """
    picture = _grey(image, zoom)
    draw = ImageDraw.Draw(picture)
    for step, (x, y, width, height) in enumerate(boxes):
        left, top = zoom * x, zoom * y
        right, bottom = left + max(zoom * width - 1, 0), top + max(zoom * height - 1, 0)
        draw.rectangle([left, top, right, bottom], outline=colour(step), width=_line(zoom))
    return picture


def strip(images: np.ndarray, scenes: "Scenes", zoom: int = 4) -> np.ndarray:
    """Scenes side by side: input and reconstruction with the attention windows, and below them each step's window.

    Args:
        images: [batch, height, width], uint8 or float in [0, 1].
        scenes: what the model made of them.
        zoom: pixels of the picture for a pixel of a scene.

    Returns:
        [picture_height, picture_width, 3] uint8.
    """
    height, width = images.shape[1:]
    steps = scenes.decoded_windows.shape[1]
    gap = 2 * zoom
    cell = (width * zoom - (steps - 1) * gap) // steps  # the windows of all steps are as wide as a canvas
    rows = [0, height * zoom + gap, 2 * (height * zoom + gap)]
    picture = Image.new("RGB", ((width * zoom + gap) * len(images) + gap, rows[2] + cell + 2 * gap), BACKGROUND)
    for i, image in enumerate(images):
        left, count = gap + i * (width * zoom + gap), int(scenes.count[i])
        boxes = scenes.attention_boxes[i, :count]
        picture.paste(canvas(image, boxes, zoom), (left, gap + rows[0]))
        picture.paste(canvas(scenes.reconstruction[i], boxes, zoom), (left, gap + rows[1]))
        for step in range(count):
            window = _grey(scenes.decoded_windows[i, step], 1).resize((cell, cell), Image.Resampling.BILINEAR)
            ImageDraw.Draw(window).rectangle([0, 0, cell - 1, cell - 1], outline=colour(step), width=_line(zoom))
            picture.paste(window, (left + step * (cell + gap), gap + rows[2]))
    return np.asarray(picture)


def _line(zoom: int) -> int:
    """Width of an outline, thick enough to survive a viewer's thumbnail."""
    return max(3 * zoom // 4, 1)


def _grey(image: np.ndarray, zoom: int) -> Image.Image:
    if image.dtype != np.uint8:
        image = np.round(np.clip(image, 0.0, 1.0) * 255).astype(np.uint8)
    picture = Image.fromarray(image)
    return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST).convert("RGB")
