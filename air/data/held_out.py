"""The scenes that a model is judged on: held-out ones of the kind that it was trained on, and others.

Those made here show MNIST *test* digits, without those of the validation scenes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from air.data import mnist, multi_mnist, pyro
from air.data.generator import Digits, GeneratorConfig, generate
from air.data.scenes import SceneSet


class HeldOut(NamedTuple):
    """What a folder of data has for a judge."""

    test: SceneSet
    bank: SceneSet | None  # training scenes, whose objects teach the classifiers of z_what


def load(path: Path, canvas_size: tuple[int, int], scenes: int, bank: int, digits: mnist.MNIST | None) -> HeldOut:
    """Reads the first scenes of a folder's test.npz and train.npz, or those of one file.

    Args:
        path: a folder of `multi_mnist.py`, or one file of scenes, which then has no bank.
        canvas_size: that the scenes must have.
        scenes: most test scenes.
        bank: most training scenes.
        digits: of which the scenes may be made; with them, test scenes without segments get some where they can be told.

    Raises:
        DataError: if there are no such scenes, or they have another canvas size.
    """
    is_folder = path.is_dir()
    test = multi_mnist.read(path / "test.npz" if is_folder else path, canvas_size).select(slice(scenes))
    train = path / "train.npz"
    bank_set = multi_mnist.read(train, canvas_size).select(slice(bank)) if is_folder and bank and train.exists() else None
    return HeldOut(with_segments(test, digits) if digits else test, bank_set)


def with_segments(scenes: SceneSet, digits: mnist.MNIST) -> SceneSet:
    """Scenes with the segments that follow from their boxes and indices; as they are where these don't explain the images.

    Args:
        scenes: that may be made of the digits of either split, neither scaled nor rotated.
        digits: MNIST, or what took its place.
    """
    if scenes.segments is not None or scenes.count is None or scenes.boxes is None or scenes.indices is None:
        return scenes
    for images in (digits.test_images, digits.train_images):
        segments = _segments(scenes, images)
        if segments is not None:
            return SceneSet(scenes.images, scenes.count, scenes.boxes, scenes.labels, scenes.indices, segments)
    return scenes


def _segments(scenes: SceneSet, images: np.ndarray) -> np.ndarray | None:
    """The segments of scenes [N, H, W], if they are made of these images [D, 28, 28]; None otherwise."""
    segments = np.zeros_like(scenes.images)
    if scenes.indices.max(initial=-1) >= len(images):
        return None
    for scene, slot in np.argwhere(scenes.indices >= 0):
        image = images[scenes.indices[scene, slot]]
        rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
        x, y, width, height = scenes.boxes[scene, slot].astype(int)
        if not len(rows) or (np.ptp(rows) + 1, np.ptp(columns) + 1) != (height, width):
            return None
        crop = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        shown = scenes.images[scene, y : y + height, x : x + width]
        if (shown < crop).any():  # brighter it may be, where a background shows
            return None
        segments[scene, y : y + height, x : x + width][crop > 0] = slot + 1
    return segments


class TestSet(NamedTuple):
    """Scenes of a kind of its own."""

    name: str  # for files
    title: str  # for people
    make: Callable[[], SceneSet]  # raises UsageError where the canvas is too small
    more_steps: int  # beyond those that the model was trained with

    __test__ = False  # for pytest, which takes every Test... for a test


def generalisation(scenes: int, canvas_size: tuple[int, int], digits: mnist.MNIST, max_steps: int) -> list[TestSet]:
    """Scenes unlike the training scenes: more digits, and scaled and rotated ones; with segments.

    Args:
        scenes: of each set.
        canvas_size: height and width, pixels.
        digits: to draw from.
        max_steps: T of the model.
    """
    images, labels, indices = _test_digits(digits)
    mixed = np.arange(scenes) % 3

    def kind(name: str, title: str, counts: np.ndarray, more_steps: int = 0, **rules: object) -> TestSet:
        config = GeneratorConfig(canvas_size=canvas_size, **rules)
        stream = np.random.default_rng([1, *name.encode()])
        source = (images, labels, indices)
        return TestSet(
            name, title, lambda: generate(config, Digits.from_images(*source), counts, stream, segments=True), more_steps
        )

    return [
        kind("three_digits", f"3 digits, {max_steps + 1} steps", np.full(scenes, 3), more_steps=1),
        kind("three_digits_same_steps", f"3 digits, {max_steps} steps", np.full(scenes, 3)),
        kind("scaled", "0-2 digits, 0.7 to 1.3 times as wide and high", mixed, width_scale=(0.7, 1.3), height_scale=(0.7, 1.3)),
        kind("rotated", "0-2 digits, rotated by up to 45 degrees", mixed, rotation=(-45, 45)),
    ]


def pyro_scenes(scenes: int, canvas_size: tuple[int, int], digits: mnist.MNIST) -> TestSet:
    """Scenes of 0 to 2 digits by the rules of Pyro's generator."""
    images, labels, _ = _test_digits(digits)
    rng = np.random.default_rng([2, 0])
    counts = np.arange(scenes) % 3
    return TestSet("pyro", "Pyro's rules", lambda: pyro.generate(images, labels, counts, rng, canvas_size), more_steps=0)


def _test_digits(digits: mnist.MNIST) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, labels and indices of the test digits that no validation scene shows."""
    _, indices = multi_mnist.held_out_indices(digits)
    return digits.test_images[indices], digits.test_labels[indices], indices
