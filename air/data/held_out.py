"""Scenes for evaluation: held-out ones like the training scenes, and others.

Scenes made here show MNIST *test* digits that no validation scene shows, or digits drawn with the pens of the window.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from air.data import multi_mnist, published
from air.data.generator import generate
from air.data.mnist import MNIST
from air.data.objects import Digits, crop, held_out_indices
from air.data.rules import GeneratorConfig
from air.data.scenes import SceneSet
from air.support.files import shipped

DRAWINGS = shipped("data", "drawings.npz")
DRAWN_CANVAS = (50, 50)  # height and width of the drawings, pixels
DRAWN_SCENES = 60  # in each set of drawings; those of one digit come first
DRAWN_HEIGHTS = (12, 16, 20, 24, 30, 36, 40)  # of the digit in each set of one, pixels
DRAWN_COUNTS = (2, 3, 4)  # digits in each of the other sets

MAX_DIGITS_BY_SIDE = {28: 1, 100: 8, 200: 30}
"""Sides of square canvases, in pixels, and the maximum number of digits on each."""
CHANGES: dict[str, tuple[int, str, dict[str, Any]]] = {
    **{
        f"size_{round(100 * size)}": (1 if size == 2 else 2, f"{size:g} times as large", {"scale": (size, size)})
        for size in (0.6, 0.8, 1.25, 1.5, 2.0)
    },
    "scaled": (2, "0.7 to 1.3 times as wide and high", {"width_scale": (0.7, 1.3), "height_scale": (0.7, 1.3)}),
    "thin": (2, "strokes thinner by a pixel", {"thickening": (-1, -1)}),
    "thick": (2, "strokes thicker by a pixel", {"thickening": (1, 1)}),
    "turned": (2, "rotated by up to 30 degrees", {"rotation": (-30, 30)}),
    "rotated": (2, "rotated by up to 45 degrees", {"rotation": (-45, 45)}),
    "faint": (2, "half as bright", {"brightness": (0.5, 0.5)}),
}
"""Names of changes to the digits: the maximum number of digits, a title, and the rules of the generator."""


class HeldOut(NamedTuple):
    """The scenes of a data folder that an evaluation needs."""

    test: SceneSet
    reference: SceneSet | None  # training scenes, whose objects train the classifiers of z_what


def load(
    path: str | Path,
    canvas_size: tuple[int, int],
    scenes: int,
    reference_scenes: int,
    digits: MNIST | None,
    channels: int = 1,
) -> HeldOut:
    """Load the first scenes of a folder's test.npz and train.npz, or of other data, which has no reference scenes.

    Test scenes without segments get those that follow from `digits`, if given. DataError is raised if there are no scenes,
    or if their canvas has another size or other channels.
    """
    train = multi_mnist.find_scenes(path, "train")
    test = multi_mnist.read(multi_mnist.find_scenes(path, "test"), canvas_size, channels).select(slice(scenes))
    reference = None
    if reference_scenes and train != Path(path) and train.exists():
        reference = multi_mnist.read(train, canvas_size, channels).select(slice(reference_scenes))
    return HeldOut(with_segments(test, digits) if digits else test, reference)


def with_segments(scenes: SceneSet, digits: MNIST) -> SceneSet:
    """Return scenes with the segments that follow from their boxes and indices, or unchanged if these don't fit the images."""
    fields = (scenes.count, scenes.boxes, scenes.indices)
    if scenes.segments is not None or scenes.channels > 1 or any(field is None for field in fields):
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneKind:
    """The recipe of a set of test scenes unlike the training scenes."""

    name: str
    """For file names and keys."""
    title: str
    """For readers."""
    more_steps: int = 0
    """Inference steps beyond those of training."""

    def make(self) -> SceneSet:
        """Make the scenes; raise UsageError if the canvas is too small for them."""
        raise NotImplementedError

    def make_for(self, channels: int) -> SceneSet:
        """Make the scenes for a model of 1 or 3 channels, see `make`."""
        return self.make() if channels == 1 else self.make().in_colour()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generated(SceneKind):
    """Scenes of the multi-MNIST generator, with segments."""

    digits: MNIST
    count: np.ndarray
    """[N]: digits in each scene."""
    canvas_size: tuple[int, int]
    """Height and width in pixels."""
    rules: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of GeneratorConfig."""

    def make(self) -> SceneSet:
        config = GeneratorConfig(canvas_size=self.canvas_size, **self.rules)
        rng = np.random.default_rng([1, *self.name.encode()])
        return generate(config, Digits.from_images(*_test_digits(self.digits)), self.count, rng, segments=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pyro(SceneKind):
    """Scenes that follow the rules of Pyro's generator, with segments."""

    digits: MNIST
    count: np.ndarray
    """[N]: digits in each scene."""
    canvas_size: tuple[int, int]
    """Height and width in pixels."""

    def make(self) -> SceneSet:
        digits = Digits.from_images(*_test_digits(self.digits), whole=True)
        return published.generate("pyro", digits, self.count, np.random.default_rng([2, 0]), self.canvas_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawn(SceneKind):
    """Scenes of data/drawings.npz, drawn with the window's pens by tests/strokes/make.py."""

    position: int
    """Position of the first scene in the file."""
    scenes: int

    def make(self) -> SceneSet:
        return SceneSet.load(DRAWINGS).select(slice(self.position, self.position + self.scenes))


def generalisation(
    scenes: int, canvas_size: tuple[int, int], digits: MNIST, max_steps: int, any_canvas: bool = False
) -> list[SceneKind]:
    """Return kinds of scenes outside of what a model was trained on: other counts, canvases, digits, rules and drawings.

    Args:
        scenes: scenes of each kind; there are fewer drawings, and fewer scenes of more pixels than in training.
        canvas_size: height and width of the training scenes, in pixels.
        digits: MNIST.
        max_steps: steps of training, to which some are added for more digits.
        any_canvas: whether the model takes canvases of any size and as many steps as it needs.
    """
    kinds = _more_digits(scenes, canvas_size, digits, None if any_canvas else max_steps)
    if any_canvas:
        for side, most in MAX_DIGITS_BY_SIDE.items():
            number = max(min(scenes, scenes * math.prod(canvas_size) // side**2), 1)
            count = np.arange(number) * (most + 1) // number
            title = f"0-{most} digits on {side}x{side} pixels"
            kinds.append(Generated(name=f"canvas_{side}", title=title, digits=digits, count=count, canvas_size=(side, side)))
    for name, (most, title, rules) in CHANGES.items():
        count, title = np.arange(scenes) % (most + 1), f"0-{most} digits, {title}"
        kinds.append(Generated(name=name, title=title, digits=digits, count=count, canvas_size=canvas_size, rules=rules))
    kinds.append(pyro_scenes(scenes, canvas_size, digits))
    return kinds + (_drawings(scenes) if any_canvas or canvas_size == DRAWN_CANVAS else [])


def _more_digits(scenes: int, canvas_size: tuple[int, int], digits: MNIST, max_steps: int | None) -> list[SceneKind]:
    """Return scenes of three to five digits; if steps are limited, with one more for each digit more than two."""
    kinds: list[SceneKind] = []
    for name, number, more_steps in (
        ("three_digits", 3, 1), ("three_digits_same_steps", 3, 0), ("four_digits", 4, 2), ("five_digits", 5, 3),
    ):  # fmt: skip
        title, count = f"{number} digits", np.full(scenes, number)
        if max_steps is not None:
            title += f", {max_steps + more_steps} steps"
        elif not more_steps:
            continue
        more_steps = 0 if max_steps is None else more_steps
        kinds.append(
            Generated(name=name, title=title, more_steps=more_steps, digits=digits, count=count, canvas_size=canvas_size)
        )
    return kinds


def _drawings(scenes: int) -> list[SceneKind]:
    """Return the sets of drawings in the order of their file."""
    names = {f"drawn_{height}": f"drawn: 1 digit, {height} pixels high" for height in DRAWN_HEIGHTS}
    names |= {f"drawn_{count}_digits": f"drawn: {count} digits" for count in DRAWN_COUNTS}
    return [
        Drawn(name=name, title=title, position=index * DRAWN_SCENES, scenes=min(scenes, DRAWN_SCENES))
        for index, (name, title) in enumerate(names.items())
    ]


def pyro_scenes(scenes: int, canvas_size: tuple[int, int], digits: MNIST) -> SceneKind:
    """Return a set of scenes of 0 to 2 digits that follow the rules of Pyro's generator."""
    return Pyro(name="pyro", title="Pyro's rules", digits=digits, count=np.arange(scenes) % 3, canvas_size=canvas_size)


def _test_digits(digits: MNIST) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the images, labels and positions of the test digits that no validation scene shows."""
    _, indices = held_out_indices(digits)
    return digits.test_images[indices], digits.test_labels[indices], indices
