"""Multi-MNIST: scenes of a known number of digits, or other objects.

config = GeneratorConfig(max_digits=3, gap=1)
digits = Digits.from_images(mnist.train_images, mnist.train_labels)
scenes = generate(config, digits, count=[0, 1, 2, 3], rng=np.random.default_rng(0))
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from air.data import published, strokes
from air.data.backgrounds import Backgrounds
from air.data.objects import Digits, bounding_box, reduce
from air.data.painting import Painter, Part, Placed, visible_fractions
from air.data.placement import Footprint, place
from air.data.rules import GeneratorConfig
from air.data.scenes import SceneSet
from air.errors import UsageError

RESTARTS = 5000  # of a scene before its configuration counts as impossible
RESTARTS_PER_DRAW = 10  # of a scene before it draws other digits, as some combinations fit nowhere
MAX_COVERAGE = 0.6  # fraction of the canvas that the boxes of digits of random size may take


def generate(
    config: GeneratorConfig,
    digits: Digits,
    count: Sequence[int] | np.ndarray,
    rng: np.random.Generator,
    progress: Callable[[int], Any] | None = None,
    segments: bool = False,
    backgrounds: Backgrounds | None = None,
) -> SceneSet:
    """Generate one scene for each count, in this order; the same arguments give the same scenes.

    Digits are drawn without replacement until all have been drawn, then again; by other rules, see `air.data.published`.

    Args:
        config: the rules; its sizes of data sets are ignored.
        digits: the digits to draw from.
        count: [N] number of digits in each scene; slots are made for `config.max_digits`, or for more if a count is greater.
        rng: source of all random draws.
        progress: called with 1 after each scene.
        segments: also record which digit each pixel shows.
        backgrounds: those to draw from, by the same rules; of all pictures by default.

    Raises:
        UsageError: if a scene has no room for its digits after RESTARTS starts.
        DataError: if a background isn't a readable picture.
    """
    if config.rules != "own":
        return published.generate(config.rules, digits, count, rng, config.canvas_size, progress)
    count = np.asarray(count, np.uint8)
    slots = max(config.max_digits, int(count.max(initial=0)))
    channels = () if config.channels == 1 else (config.channels,)
    images = np.zeros((len(count), *config.canvas_size, *channels), np.uint8)
    boxes = np.zeros((len(count), slots, 4), np.float32)
    members = np.full((len(count), slots), -1, np.int32)
    shown = np.zeros((len(count), *config.canvas_size), np.uint8) if segments else None
    painter = None
    if config.is_painted or digits.colours is not None:
        painter = Painter(config, backgrounds or Backgrounds(config), rng.spawn(1)[0])
    next_digit = _endless(lambda: rng.permutation(len(digits)))
    uniform = _endless(lambda: rng.random(4096))

    for scene, number in enumerate(count.tolist()):
        arranged = _arrange(config, digits, number, next_digit, uniform)
        for slot, placed in enumerate(arranged):
            height, width = placed.part.opacity.shape
            boxes[scene, slot] = placed.x, placed.y, width, height
            members[scene, slot] = placed.digit
        if painter is not None:
            image, visible = painter.paint(arranged)
            images[scene] = image.reshape(images.shape[1:])
            if shown is not None:
                shown[scene] = visible
        else:
            _add(arranged, images[scene], None if shown is None else shown[scene])
        if progress is not None:
            progress(1)
    labels = np.where(members < 0, -1, digits.labels.astype(np.int8)[members])
    indices = np.where(members < 0, -1, digits.indices.astype(np.int32)[members])
    return SceneSet(images, count, boxes, labels, indices, shown)


def _add(arranged: Sequence[Placed], image: np.ndarray, shown: np.ndarray | None) -> None:
    """Add digits that don't overlap to a black image [H, W], and their numbers to `shown`, ten times faster than a Painter."""
    for slot, placed in enumerate(arranged):
        image[placed.region] = np.maximum(image[placed.region], placed.part.opacity)
        if shown is not None:
            shown[placed.region][placed.part.opacity > 0] = slot + 1


def _endless(draw: Callable[[], np.ndarray]) -> Callable[[], Any]:
    """Return random numbers one by one from bulk draws, which are ten times cheaper."""
    return itertools.chain.from_iterable(draw().tolist() for _ in itertools.count()).__next__


def _arrange(
    config: GeneratorConfig, digits: Digits, count: int, next_digit: Callable[[], int], uniform: Callable[[], float]
) -> list[Placed]:
    """Draw a scene's digits and find places for them."""
    margin, gap = config.margin, config.gap
    height, width = config.canvas_size[0] - 2 * margin, config.canvas_size[1] - 2 * margin
    is_plain = not config.changes_digits or (config.plain_fraction > 0 and uniform() < config.plain_fraction)
    for start in range(RESTARTS):
        if start % RESTARTS_PER_DRAW == 0:
            drawn = [next_digit() for _ in range(count)]
            parts = [_part(digits, digit) for digit in drawn] if is_plain else _changed(config, digits, drawn, uniform)
            shapes = [part.opacity.shape for part in parts]
            fits = len(parts) == count and all(0 < h <= height and 0 < w <= width for h, w in shapes)
            if fits and config.overlap != "any":
                masks = [part.opacity > 0 if config.overlap == "pixel" else np.full(part.opacity.shape, True) for part in parts]
                footprints = [Footprint.of(mask, width + 2 * gap, gap) for mask in masks]
        if not fits:
            continue
        if config.overlap == "any":
            positions = [(int(uniform() * (width - w + 1)), int(uniform() * (height - h + 1))) for h, w in shapes]
        else:
            positions = place(footprints, (height, width), gap, uniform)
        if positions is not None:
            found = zip(drawn, parts, positions, strict=True)
            placed = [Placed(digit, part, x + margin, y + margin) for digit, part, (x, y) in found]
            if config.overlap != "any" or min(visible_fractions(placed, config.canvas_size), default=1) >= config.min_visible:
                return placed
    raise UsageError(
        f"canvas_size: {config.canvas_size} has no room for {count} digits with margin {margin}, gap {gap}, overlap "
        f"{config.overlap}, width_scale {config.width_scale}, height_scale {config.height_scale} and scale {config.scale} "
        f"({RESTARTS} attempts); allow a larger canvas, or fewer or smaller digits"
    )


def _part(digits: Digits, digit: int) -> Part:
    return Part(digits.crops[digit], None if digits.colours is None else digits.colours[digit])


class _Change(NamedTuple):
    """Difference of a digit from MNIST's."""

    scale: tuple[float, float]  # factors for width and height
    angle: float  # degrees, counter-clockwise
    pen_width: float | None  # pixels; None keeps MNIST's strokes
    thickening: float  # pixels of these, before scaling
    brightness: float

    @classmethod
    def draw(cls, config: GeneratorConfig, uniform: Callable[[], float]) -> "_Change":
        """Draw a change at random; a rule without a choice takes no random number, except the three that always did."""

        def draw(least: float, greatest: float) -> float:
            return least + (greatest - least) * uniform()

        def choose(bounds: tuple[float, float]) -> float:
            return bounds[0] if bounds[0] == bounds[1] else draw(*bounds)

        both = math.exp(choose((math.log(config.scale[0]), math.log(config.scale[1]))))
        scale = both * draw(*config.width_scale), both * draw(*config.height_scale)
        angle = draw(*config.rotation)
        has_pen = config.pen_fraction > 0 and uniform() < config.pen_fraction
        pen_width = choose(config.pen_width) if has_pen else None
        thickening = 0.0 if has_pen else choose(config.thickening)
        return cls(scale, angle, pen_width, thickening, choose(config.brightness))

    def apply(self, digits: Digits, digit: int) -> Part:
        """Return the changed digit, which may have lost all its pixels."""
        if self.pen_width is not None:
            line = strokes.rotate(digits.centre_line(digit) * self.scale, self.angle)
            part = Part(strokes.draw(line, self.pen_width))
        elif digits.fine is not None and not self.thickening:
            part = Part(reduce(strokes.scale_and_rotate(digits.fine[digit], self.scale, self.angle)))
        else:
            part = _part(digits, digit).map(self._redraw)
        if self.brightness != 1:
            part = part.map(lambda image: np.rint(np.minimum(image * self.brightness, 255)).astype(np.uint8))
        x, y, width, height = bounding_box(part.opacity)
        return part.map(lambda image: image[y : y + height, x : x + width])

    def _redraw(self, image: np.ndarray) -> np.ndarray:
        """Change a digit's strokes, size and angle, [height, width] uint8."""
        image = strokes.thicken(image, self.thickening) if self.thickening else image
        return strokes.scale_and_rotate(image, self.scale, self.angle)


def _changed(config: GeneratorConfig, digits: Digits, drawn: list[int], uniform: Callable[[], float]) -> list[Part]:
    """Change the digits of a scene; if their sizes are random, sort them and `drawn`, as the largest is placed first.

    Nothing is returned if they would take too much of the canvas. Digits that may overlap stay in their order.
    """
    changes = [_Change.draw(config, uniform) for _ in drawn]
    if config.scale[0] < config.scale[1] and config.overlap != "any":
        areas = [math.prod(change.scale) * digits.crops[digit].size for change, digit in zip(changes, drawn, strict=True)]
        if sum(areas) > MAX_COVERAGE * math.prod(config.canvas_size):
            return []
        order = sorted(range(len(drawn)), key=lambda slot: -areas[slot])
        drawn[:], changes = [drawn[slot] for slot in order], [changes[slot] for slot in order]
    return [change.apply(digits, digit) for change, digit in zip(changes, drawn, strict=True)]
