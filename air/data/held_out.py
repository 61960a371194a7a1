"""Scenes for evaluation: held-out ones like the training scenes, and others.

Scenes made here show MNIST *test* digits that no validation scene shows.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from air.data import multi_mnist, pyro
from air.data.generator import Digits, GeneratorConfig, crop, generate
from air.data.mnist import MNIST
from air.data.scenes import SceneSet


class HeldOut(NamedTuple):
    """The scenes of a data folder that an evaluation needs."""

    test: SceneSet
    reference: SceneSet | None  # training scenes, whose objects train the classifiers of z_what


def load(path: str | Path, canvas_size: tuple[int, int], scenes: int, reference_scenes: int, digits: MNIST | None) -> HeldOut:
    """Load the first scenes of a folder's test.npz and train.npz, or of other data, which has no reference scenes.

    Test scenes without segments get those that follow from `digits`, if given. DataError is raised if there are no scenes,
    or if their canvas has another size.
    """
    train = Path(path) / "train.npz"
    test = multi_mnist.read(multi_mnist.find_scenes(path, "test"), canvas_size).select(slice(scenes))
    reference = None
    if reference_scenes and train.exists():
        reference = multi_mnist.read(train, canvas_size).select(slice(reference_scenes))
    return HeldOut(with_segments(test, digits) if digits else test, reference)


def with_segments(scenes: SceneSet, digits: MNIST) -> SceneSet:
    """Return scenes with the segments that follow from their boxes and indices, or unchanged if these don't fit the images."""
    if scenes.segments is not None or scenes.count is None or scenes.boxes is None or scenes.indices is None:
        return scenes
    for images in (digits.test_images, digits.train_images):
        segments = _segments(scenes, images)
        if segments is not None:
            return dataclasses.replace(scenes, segments=segments)
    return scenes


def _segments(scenes: SceneSet, digit_images: np.ndarray) -> np.ndarray | None:
    """Return the segments of scenes [N, H, W] made of these digits [D, 28, 28]; None if they are not made of them."""
    segments = np.zeros_like(scenes.images)
    if scenes.indices.max(initial=-1) >= len(digit_images):
        return None
    for scene, slot in np.argwhere(scenes.indices >= 0):
        digit = crop(digit_images[scenes.indices[scene, slot]])
        x, y, width, height = scenes.boxes[scene, slot].astype(int)
        region = np.s_[scene, y : y + height, x : x + width]
        if digit.shape != (height, width) or (scenes.images[region] < digit).any():  # a background only brightens pixels
            return None
        segments[region][digit > 0] = slot + 1
    return segments


class SceneKind(NamedTuple):
    """The recipe of a set of test scenes unlike the training scenes."""

    name: str  # for file names and keys
    title: str  # for readers
    digits: MNIST
    count: np.ndarray  # type: ignore[assignment]  # [N] digits in each scene
    canvas_size: tuple[int, int]  # height, width in pixels
    rules: dict[str, Any] | None  # fields of GeneratorConfig; None for Pyro's rules
    more_steps: int = 0  # inference steps beyond those of training

    def make(self) -> SceneSet:
        """Generate the scenes, with segments; raise UsageError if the canvas is too small for them."""
        _, indices = multi_mnist.held_out_indices(self.digits)
        images, labels = self.digits.test_images[indices], self.digits.test_labels[indices]
        if self.rules is None:
            return pyro.generate(images, labels, self.count, np.random.default_rng([2, 0]), self.canvas_size)
        config = GeneratorConfig(canvas_size=self.canvas_size, **self.rules)
        rng = np.random.default_rng([1, *self.name.encode()])
        return generate(config, Digits.from_images(images, labels, indices), self.count, rng, segments=True)


def generalisation(scenes: int, canvas_size: tuple[int, int], digits: MNIST, max_steps: int) -> list[SceneKind]:
    """Return sets of scenes with more digits than in training, which took `max_steps`, and with scaled or rotated digits."""
    threes, mixed = np.full(scenes, 3), np.arange(scenes) % 3
    scale = {"width_scale": (0.7, 1.3), "height_scale": (0.7, 1.3)}
    rotation = {"rotation": (-45, 45)}
    return [
        SceneKind("three_digits", f"3 digits, {max_steps + 1} steps", digits, threes, canvas_size, {}, more_steps=1),
        SceneKind("three_digits_same_steps", f"3 digits, {max_steps} steps", digits, threes, canvas_size, {}),
        SceneKind("scaled", "0-2 digits, 0.7 to 1.3 times as wide and high", digits, mixed, canvas_size, scale),
        SceneKind("rotated", "0-2 digits, rotated by up to 45 degrees", digits, mixed, canvas_size, rotation),
    ]


def pyro_scenes(scenes: int, canvas_size: tuple[int, int], digits: MNIST) -> SceneKind:
    """Return a set of scenes of 0 to 2 digits that follow the rules of Pyro's generator."""
    return SceneKind("pyro", "Pyro's rules", digits, np.arange(scenes) % 3, canvas_size, rules=None)
