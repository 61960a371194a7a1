"""Scenes that follow the rules of other systems, whose published figures are of such scenes.

Whole 28x28 images of digits, including their empty border, are resized to a square and added at uniform positions on the
canvas. A scene that breaks a rule is drawn again:

- "pyro": a side of 28 / s pixels with s ~ Normal(1.3, 0.1); digits may touch and overlap, but no pixel exceeds 255
  (`pyro/contrib/examples/multi_mnist.py`).
- "kosiorek": digits of MNIST's size that share no pixel (Kosiorek's `attend_infer_repeat`).
- "borea17": a side of 24 pixels, centres at least 12 pixels apart in both x and y (borea17's summary of the paper).
- "numpy": a side of 12 to 18 pixels; digits may overlap (a NumPy implementation).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from air.data.objects import Digits, bounding_box
from air.data.rules import RulesName
from air.data.scenes import SceneSet
from air.errors import UsageError

ATTEMPTS = 5000  # at a scene before its rules count as impossible


def generate(
    rules: RulesName,
    digits: Digits,
    count: Sequence[int] | np.ndarray,
    rng: np.random.Generator,
    canvas_size: tuple[int, int] = (50, 50),
    progress: Callable[[int], Any] | None = None,
) -> SceneSet:
    """Generate one scene for each count, in this order; digits are drawn with replacement.

    Args:
        rules: those of which system.
        digits: whole images of S x S pixels, not their crops.
        count: [N] number of digits in each scene.
        rng: source of all random draws.
        canvas_size: height and width in pixels, larger than S.
        progress: called with 1 after each scene.

    Returns:
        The scenes with all fields; where digits overlap, the segment is that of the brighter one.

    Raises:
        UsageError: if the canvas is too small, or a scene has no room for its digits after ATTEMPTS starts.
    """
    least = len(digits.crops[0])
    if min(canvas_size) <= least:
        raise UsageError(f"canvas_size: {canvas_size} is not allowed; it must be more than {least} pixels a side")
    count = np.asarray(count, np.uint8)
    slots = max(int(count.max(initial=0)), 1)
    canvases = np.zeros((len(count), *canvas_size), np.uint8)
    segments = np.zeros_like(canvases)
    boxes = np.zeros((len(count), slots, 4), np.float32)
    members = np.full((len(count), slots), -1)
    for scene, number in enumerate(count.tolist()):
        layers, members[scene, :number] = _draw(rules, digits, number, rng, canvas_size)
        canvases[scene] = np.minimum(layers.sum(axis=0), 255)
        for slot in range(number):
            boxes[scene, slot] = bounding_box(layers[slot])
        if number:
            segments[scene] = np.where(layers.any(axis=0), layers.argmax(axis=0) + 1, 0)
        if progress is not None:
            progress(1)
    labels, indices = (np.where(members < 0, -1, field[members]) for field in (digits.labels.astype(int), digits.indices))
    return SceneSet(canvases, count, boxes, labels, indices, segments)


def _draw(
    rules: RulesName, digits: Digits, count: int, rng: np.random.Generator, canvas_size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw digits on canvases of their own; return them, int [count, H, W], and their positions in `digits`, [count]."""
    for _ in range(ATTEMPTS):
        layers = np.zeros((count, *canvas_size), int)
        corners = np.zeros((count, 2), int)
        drawn = rng.integers(len(digits), size=count)
        for slot, digit in enumerate(drawn):
            side = min(_side(rules, len(digits.crops[digit]), rng), *(size - 1 for size in canvas_size))
            x, y = corners[slot] = [int(rng.integers(size - side)) for size in canvas_size[::-1]]
            resized = Image.fromarray(digits.crops[digit]).resize((side, side), Image.Resampling.BILINEAR)
            layers[slot, y : y + side, x : x + side] = np.asarray(resized)
        if _are_allowed(rules, layers, corners) and layers.any(axis=(1, 2)).all():
            return layers, drawn
    raise UsageError(f"canvas_size: {canvas_size} has no room for {count} digits by the rules {rules} ({ATTEMPTS} attempts)")


def _side(rules: RulesName, side: int, rng: np.random.Generator) -> int:
    if rules == "pyro":
        return int(side / max(rng.normal(1.3, 0.1), 0.5))
    if rules == "numpy":
        return int(rng.integers(12, 19))
    return side * 24 // 28 if rules == "borea17" else side


def _are_allowed(rules: RulesName, layers: np.ndarray, corners: np.ndarray) -> bool:
    if rules == "pyro":
        return layers.sum(axis=0).max(initial=0) <= 255
    if rules == "kosiorek":
        return (layers > 0).sum(axis=0).max(initial=0) <= 1
    if rules == "numpy":
        return True
    first, second = np.triu_indices(len(corners), 1)
    return np.abs(corners[first] - corners[second]).min(initial=12) >= 12
