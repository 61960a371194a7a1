"""Scenes by the rules of Pyro's multi-MNIST, on which bounds of AIR were published.

Whole 28x28 images of digits, with their empty border, are shrunk to a side of 28 / s pixels with s ~ Normal(1.3, 0.1) and added
up at uniform positions on the canvas. Digits may touch and overlap; a scene is drawn again when any of its pixels exceeds 255.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from air.data.scenes import SceneSet
from air.errors import UsageError

SCALE = (1.3, 0.1)  # mean and standard deviation of what divides a digit's side


def generate(
    images: np.ndarray,
    labels: np.ndarray,
    counts: Sequence[int] | np.ndarray,
    rng: np.random.Generator,
    canvas_size: tuple[int, int] = (50, 50),
    progress: Callable[[int], Any] | None = None,
) -> SceneSet:
    """Composes one scene for each count, in this order; digits are drawn with replacement.

    Args:
        images: [D, S, S] uint8, the digits.
        labels: [D] what they are.
        counts: [N] number of digits in each scene.
        rng: source of all random draws.
        canvas_size: height and width, larger than S.
        progress: called now and then with the number of scenes composed since the last call.

    Returns:
        The scenes with all fields but `indices`; where digits overlap, the segment is the brighter one's.

    Raises:
        UsageError: for a canvas that is not larger than a digit.
    """
    if min(canvas_size) <= images.shape[1]:
        raise UsageError(f"canvas_size: {canvas_size} is not allowed; it must be more than {images.shape[1]} pixels a side")
    counts = np.asarray(counts, np.uint8)
    slots = max(int(counts.max(initial=0)), 1)
    canvases = np.zeros((len(counts), *canvas_size), np.uint8)
    segments = np.zeros_like(canvases)
    boxes = np.zeros((len(counts), slots, 4), np.float32)
    classes = np.full((len(counts), slots), -1, np.int8)
    for scene, count in enumerate(counts.tolist()):
        layers, drawn = _draw(images, count, rng, canvas_size)
        canvases[scene] = layers.sum(axis=0)
        classes[scene, :count] = labels[drawn]
        for slot in range(count):
            rows, columns = np.flatnonzero(layers[slot].any(axis=1)), np.flatnonzero(layers[slot].any(axis=0))
            boxes[scene, slot] = columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]
        if count:
            segments[scene] = np.where(layers.any(axis=0), layers.argmax(axis=0) + 1, 0)
        if progress is not None and (scene % 500 == 499 or scene == len(counts) - 1):
            progress(scene % 500 + 1)
    return SceneSet(canvases, counts, boxes, classes, segments=segments)


def _draw(
    images: np.ndarray, count: int, rng: np.random.Generator, canvas_size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Digits on canvases of their own, int [count, H, W], and which they are, [count]."""
    while True:
        layers = np.zeros((count, *canvas_size), int)
        drawn = rng.integers(len(images), size=count)
        for layer, digit in zip(layers, drawn, strict=True):
            side = min(int(images.shape[1] / max(rng.normal(*SCALE), 0.5)), *(size - 1 for size in canvas_size))
            x, y = (int(rng.integers(size - side)) for size in canvas_size[::-1])
            resized = Image.fromarray(images[digit]).resize((side, side), Image.Resampling.BILINEAR)
            layer[y : y + side, x : x + side] = np.asarray(resized)
        if layers.sum(axis=0).max(initial=0) <= 255 and layers.any(axis=(1, 2)).all():
            return layers, drawn
