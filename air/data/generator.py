"""Multi-MNIST: scenes of a known number of digits that don't overlap.

config = GeneratorConfig(max_digits=3, gap=1)
digits = Digits.from_images(mnist.train_images, mnist.train_labels)
scenes = generate(config, digits, count=[0, 1, 2, 3], rng=np.random.default_rng(0))
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from PIL import Image
from pydantic import AfterValidator, Field, model_validator
from typing_extensions import Self

from air.config import Config, Count, Seed, Size
from air.data import strokes
from air.data.placement import Footprint, place
from air.data.scenes import LIMIT, SceneSet
from air.errors import DataError, UsageError
from air.support.pictures import read_picture

RESTARTS = 5000  # of a scene before its configuration counts as impossible
RESTARTS_PER_DRAW = 10  # of a scene before it draws other digits, as some combinations fit nowhere
MAX_COVERAGE = 0.6  # fraction of the canvas that the boxes of digits of random size may take


def _ordered(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise ValueError("the first value must not be above the second")
    return values


Scale = Annotated[float, Field(ge=0.1, le=10)]
ScaleRange = Annotated[tuple[Scale, Scale], AfterValidator(_ordered)]
Degrees = Annotated[float, Field(ge=-360, le=360)]
DegreesRange = Annotated[tuple[Degrees, Degrees], AfterValidator(_ordered)]
Pixels = Annotated[float, Field(ge=-1, le=1)]
PixelsRange = Annotated[tuple[Pixels, Pixels], AfterValidator(_ordered)]
PenWidth = Annotated[float, Field(ge=0.5, le=32)]
PenWidthRange = Annotated[tuple[PenWidth, PenWidth], AfterValidator(_ordered)]
Brightness = Annotated[float, Field(ge=0.05, le=4)]
BrightnessRange = Annotated[tuple[Brightness, Brightness], AfterValidator(_ordered)]
Unit = Annotated[float, Field(ge=0, le=1)]
MaxDigits = Annotated[int, Field(ge=1, le=16)]


_CHANGES = ("width_scale", "height_scale", "rotation", "scale", "thickening", "pen_fraction", "brightness")


class GeneratorConfig(Config):
    """The rules for the scenes of a data set, and their numbers."""

    canvas_size: Size = (50, 50)
    """Height and width of a scene, in pixels."""
    max_digits: MaxDigits = 2
    """Maximum number of digits in a training, validation or test scene."""
    images_per_count: Count = 50000
    """Training scenes for each number of digits, from 0 to the maximum."""
    validation_size: Count = 1000
    """Validation scenes, divided evenly among the numbers of digits."""
    test_size: Count = 10000
    """Test scenes, divided evenly among the numbers of digits."""
    per_count_files: bool = False
    """Also write one file of training scenes for each number of digits."""
    per_count_max_digits: MaxDigits = 6
    """Maximum number of digits in these files."""

    overlap: Literal["pixel", "box"] = "pixel"
    """Parts of the digits that must not overlap: their non-zero pixels, or their bounding boxes."""
    gap: Annotated[int, Field(ge=0, le=1024)] = 0
    """Minimum number of free pixels between two digits, also diagonally."""
    margin: Annotated[int, Field(ge=0, le=512)] = 0
    """Width of the border of the canvas that stays free of digits, in pixels."""
    width_scale: ScaleRange = (1.0, 1.0)
    """Minimum and maximum factor for a digit's width."""
    height_scale: ScaleRange = (1.0, 1.0)
    """Minimum and maximum factor for a digit's height, drawn independently of the width's."""
    rotation: DegreesRange = (0.0, 0.0)
    """Minimum and maximum counter-clockwise rotation of a digit after scaling, in degrees."""
    scale: ScaleRange = (1.0, 1.0)
    """Minimum and maximum factor for both width and height, besides the factors above; its logarithm is uniform."""
    thickening: PixelsRange = (0.0, 0.0)
    """Minimum and maximum number of pixels by which MNIST's strokes become wider, before scaling; negative ones thin them."""
    pen_fraction: Unit = 0.0
    """Fraction of digits drawn anew along their centre lines by a pen, whose strokes don't grow with the digit."""
    pen_width: PenWidthRange = (1.2, 4.5)
    """Minimum and maximum width of the pen, in pixels."""
    brightness: BrightnessRange = (1.0, 1.0)
    """Minimum and maximum factor for the pixels of a digit, which are clipped to white."""
    plain_fraction: Unit = 0.0
    """Fraction of scenes that show MNIST's digits unchanged, without any of the rules from width_scale to brightness."""
    background: Path | None = None
    """A picture behind the digits, converted to grey and resized to the canvas; each pixel shows the lighter of the two."""
    background_intensity: Unit = 0.5
    """Intensity of the picture's lightest pixel, where 1 is white."""
    seed: Seed = 0
    """Seed of all random draws."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        height, width = self.canvas_size
        if min(height, width) <= 2 * self.margin:
            raise ValueError(f"margin: {self.margin} is not allowed; it leaves nothing of a canvas_size of {self.canvas_size}")
        scene_bytes = height * width + 21 * self.max_digits + 1  # image, boxes, labels, indices and count
        for name, sets in {"images_per_count": self.max_digits + 1, "validation_size": 1, "test_size": 1}.items():
            scenes = sets * getattr(self, name)
            if scenes * scene_bytes > LIMIT:
                large = f"{scenes} scenes of {height}x{width} pixels take more than {LIMIT >> 30} GiB"
                raise ValueError(f"{name}: {getattr(self, name)} is not allowed; {large}")
        return self

    @property
    def changes_digits(self) -> bool:
        """Return True if digits may look unlike MNIST's."""
        fields = type(self).model_fields
        return any(getattr(self, name) != fields[name].default for name in _CHANGES)

    @property
    def total_scenes(self) -> int:
        """Number of scenes in all files of the data set."""
        extra = max(self.per_count_max_digits - self.max_digits, 0) if self.per_count_files else 0
        return self.images_per_count * (self.max_digits + 1 + extra) + self.validation_size + self.test_size


SceneName = Literal["default", "broad"]
SCENES: dict[str, GeneratorConfig] = {
    "default": GeneratorConfig(),
    "broad": GeneratorConfig(
        max_digits=4,
        images_per_count=30000,
        width_scale=(0.9, 1.1),
        height_scale=(0.9, 1.1),
        rotation=(-30, 30),
        scale=(0.6, 2.1),
        thickening=(-1, 1),
        pen_fraction=0.4,
        brightness=(0.4, 1.2),
        plain_fraction=0.4,
    ),
}
"""Named kinds of scenes: MNIST's digits unchanged, or digits of many sizes, strokes and greys, as people draw them."""


@dataclasses.dataclass(frozen=True)
class Digits:
    """D digits ready to be placed."""

    crops: list[np.ndarray]
    """D arrays [height, width] uint8 without empty outer rows and columns."""
    labels: np.ndarray
    """[D]: class of each digit."""
    indices: np.ndarray
    """[D]: position of each digit in its split of MNIST."""
    _centre_lines: dict[int, np.ndarray] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_images(cls, images: np.ndarray, labels: np.ndarray, indices: np.ndarray | None = None) -> "Digits":
        """Crop images [D, H, W] uint8 to their non-zero pixels; raise DataError if one has none, or if D is 0."""
        indices = np.arange(len(images)) if indices is None else indices
        if not len(images):
            raise DataError("there are no digits to draw from; at least 1 is needed")
        is_empty = ~images.any(axis=(1, 2))
        if is_empty.any():
            raise DataError(f"digit {indices[is_empty.argmax()]} has no pixel above 0; each digit needs some")
        return cls([crop(image) for image in images], labels, indices)

    def __len__(self) -> int:
        return len(self.crops)

    def centre_line(self, digit: int) -> np.ndarray:
        """Return the points of a digit's strokes as `strokes.centre_line` does, which runs once for each digit."""
        if digit not in self._centre_lines:
            self._centre_lines[digit] = strokes.centre_line(self.crops[digit])
        return self._centre_lines[digit]


def bounding_box(image: np.ndarray) -> tuple[int, int, int, int]:
    """Return x, y, width and height of the non-zero pixels of an image [H, W]; zeros if there are none."""
    rows, columns = image.any(axis=1).nonzero()[0], image.any(axis=0).nonzero()[0]
    if not rows.size:
        return 0, 0, 0, 0
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y


def crop(image: np.ndarray) -> np.ndarray:
    """Return the part of an image [H, W] within its bounding box."""
    x, y, width, height = bounding_box(image)
    return image[y : y + height, x : x + width]


class _Placed(NamedTuple):
    digit: int  # position in Digits
    part: np.ndarray  # [height, width] uint8
    x: int
    y: int


def generate(
    config: GeneratorConfig,
    digits: Digits,
    count: Sequence[int] | np.ndarray,
    rng: np.random.Generator,
    progress: Callable[[int], Any] | None = None,
    segments: bool = False,
) -> SceneSet:
    """Generate one scene for each count, in this order; the same arguments give the same scenes.

    Digits are drawn without replacement until all have been drawn, then again.

    Args:
        config: the rules; its sizes of data sets are ignored.
        digits: the digits to draw from.
        count: [N] number of digits in each scene; slots are made for `config.max_digits`, or for more if a count is greater.
        rng: source of all random draws.
        progress: called with 1 after each scene.
        segments: also record which digit each pixel shows.

    Raises:
        UsageError: if a scene has no room for its digits after RESTARTS starts.
        DataError: if the background isn't a readable picture.
    """
    count = np.asarray(count, np.uint8)
    slots = max(config.max_digits, int(count.max(initial=0)))
    backdrop = None if config.background is None else load_background(config)
    images = np.zeros((len(count), *config.canvas_size), np.uint8)
    boxes = np.zeros((len(count), slots, 4), np.float32)
    members = np.full((len(count), slots), -1, np.int32)
    shown = np.zeros_like(images) if segments else None
    next_digit = _endless(lambda: rng.permutation(len(digits)))
    uniform = _endless(lambda: rng.random(4096))

    for scene, number in enumerate(count.tolist()):
        for slot, (digit, part, x, y) in enumerate(_arrange(config, digits, number, next_digit, uniform)):
            height, width = part.shape
            region = np.s_[scene, y : y + height, x : x + width]
            images[region] = np.maximum(images[region], part)
            boxes[scene, slot] = x, y, width, height
            members[scene, slot] = digit
            if shown is not None:
                shown[region][part > 0] = slot + 1
        if progress is not None:
            progress(1)
    if backdrop is not None:
        np.maximum(images, backdrop, out=images)
    labels = np.where(members < 0, -1, digits.labels.astype(np.int8)[members])
    indices = np.where(members < 0, -1, digits.indices.astype(np.int32)[members])
    return SceneSet(images, count, boxes, labels, indices, shown)


def _endless(draw: Callable[[], np.ndarray]) -> Callable[[], Any]:
    """Return random numbers one by one from bulk draws, which are ten times cheaper."""
    return itertools.chain.from_iterable(draw().tolist() for _ in itertools.count()).__next__


def _arrange(
    config: GeneratorConfig, digits: Digits, count: int, next_digit: Callable[[], int], uniform: Callable[[], float]
) -> list[_Placed]:
    """Draw a scene's digits and find places for them."""
    margin, gap = config.margin, config.gap
    height, width = config.canvas_size[0] - 2 * margin, config.canvas_size[1] - 2 * margin
    is_plain = not config.changes_digits or (config.plain_fraction > 0 and uniform() < config.plain_fraction)
    for start in range(RESTARTS):
        if start % RESTARTS_PER_DRAW == 0:
            drawn = [next_digit() for _ in range(count)]
            parts = [digits.crops[digit] for digit in drawn] if is_plain else _changed(config, digits, drawn, uniform)
            fits = len(parts) == count and all(p.size and p.shape[0] <= height and p.shape[1] <= width for p in parts)
            if fits:
                masks = [part != 0 if config.overlap == "pixel" else np.ones(part.shape, bool) for part in parts]
                footprints = [Footprint.of(mask, width + 2 * gap, gap) for mask in masks]
        positions = place(footprints, (height, width), gap, uniform) if fits else None
        if positions is not None:
            placed = zip(drawn, parts, positions, strict=True)
            return [_Placed(digit, part, x + margin, y + margin) for digit, part, (x, y) in placed]
    raise UsageError(
        f"canvas_size: {config.canvas_size} has no room for {count} digits with margin {margin}, gap {gap}, overlap "
        f"{config.overlap}, width_scale {config.width_scale}, height_scale {config.height_scale} and scale {config.scale} "
        f"({RESTARTS} attempts); allow a larger canvas, or fewer or smaller digits"
    )


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

    def apply(self, digits: Digits, digit: int) -> np.ndarray:
        """Return the changed digit, [height, width] uint8, which may have lost all its pixels."""
        image = digits.crops[digit]
        if self.pen_width is None:
            image = strokes.thicken(image, self.thickening) if self.thickening else image
            image = strokes.scale_and_rotate(image, self.scale, self.angle)
        else:
            image = strokes.draw(strokes.rotate(digits.centre_line(digit) * self.scale, self.angle), self.pen_width)
        if self.brightness != 1:
            image = np.rint(np.minimum(image * self.brightness, 255)).astype(np.uint8)
        return crop(image)


def _changed(config: GeneratorConfig, digits: Digits, drawn: list[int], uniform: Callable[[], float]) -> list[np.ndarray]:
    """Change the digits of a scene; if their sizes are random, sort them and `drawn`, as the largest is placed first.

    None is returned if they would take too much of the canvas.
    """
    changes = [_Change.draw(config, uniform) for _ in drawn]
    if config.scale[0] < config.scale[1]:
        areas = [math.prod(change.scale) * digits.crops[digit].size for change, digit in zip(changes, drawn, strict=True)]
        if sum(areas) > MAX_COVERAGE * math.prod(config.canvas_size):
            return []
        order = sorted(range(len(drawn)), key=lambda slot: -areas[slot])
        drawn[:], changes = [drawn[slot] for slot in order], [changes[slot] for slot in order]
    return [change.apply(digits, digit) for change, digit in zip(changes, drawn, strict=True)]


def load_background(config: GeneratorConfig) -> np.ndarray:
    """Load the background as [H, W] uint8 with `background_intensity` at its lightest pixel; raise DataError if it fails."""
    height, width = config.canvas_size
    try:
        picture = read_picture(config.background, paper=0)
    except DataError as error:
        raise DataError(f"background: {error}") from None
    # As floats, so that pictures of 16 bits keep them all.
    grey = picture.convert("F").resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.clip(np.nan_to_num(np.asarray(grey)), 0, 2.0**32)
    return np.rint(pixels * (255 * config.background_intensity / max(pixels.max(), 1e-9))).astype(np.uint8)
