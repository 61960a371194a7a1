"""Scenes that follow the rules of Pyro's multi-MNIST, for which bounds of AIR have been published.

Whole 28x28 images of digits, including their empty border, are shrunk to a side of 28 / s pixels with s ~ Normal(1.3, 0.1)
and added at uniform positions on the canvas. Digits may touch and overlap; a scene is redrawn if a pixel exceeds 255.
Source: `pyro/contrib/examples/multi_mnist.py`.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from air.data.objects import bounding_box
from air.data.scenes import SceneSet
from air.errors import UsageError

SCALE = (1.3, 0.1)  # mean and standard deviation of the divisor of a digit's side


def generate(
    images: np.ndarray,
    labels: np.ndarray,
    count: Sequence[int] | np.ndarray,
    rng: np.random.Generator,
    canvas_size: tuple[int, int] = (50, 50),
) -> SceneSet:
    """Generate one scene for each count, in this order; digits are drawn with replacement.

    Args:
        images: [D, S, S] uint8, the digits.
        labels: [D] their classes.
        count: [N] number of digits in each scene.
        rng: source of all random draws.
        canvas_size: height and width in pixels; UsageError is raised unless they are larger than S.

    Returns:
        The scenes with all fields but `indices`; where digits overlap, the segment is that of the brighter one.
    """
    if min(canvas_size) <= images.shape[1]:
        raise UsageError(f"canvas_size: {canvas_size} is not allowed; it must be more than {images.shape[1]} pixels a side")
    count = np.asarray(count, np.uint8)
    slots = max(int(count.max(initial=0)), 1)
    canvases = np.zeros((len(count), *canvas_size), np.uint8)
    segments = np.zeros_like(canvases)
    boxes = np.zeros((len(count), slots, 4), np.float32)
    classes = np.full((len(count), slots), -1, np.int8)
    for scene, number in enumerate(count.tolist()):
        layers, drawn = _draw(images, number, rng, canvas_size)
        canvases[scene] = layers.sum(axis=0)
        classes[scene, :number] = labels[drawn]
        for slot in range(number):
            boxes[scene, slot] = bounding_box(layers[slot])
        if number:
            segments[scene] = np.where(layers.any(axis=0), layers.argmax(axis=0) + 1, 0)
    return SceneSet(canvases, count, boxes, classes, segments=segments)


def _draw(
    images: np.ndarray, count: int, rng: np.random.Generator, canvas_size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw digits on canvases of their own; return them, int [count, H, W], and their positions in `images`, [count]."""
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
