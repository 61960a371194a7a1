"""Multi-MNIST: scenes of a known number of digits that don't overlap.

    config = GeneratorConfig(max_digits=3, gap=1)
    digits = Digits.from_images(mnist.train_images, mnist.train_labels)
    scenes = generate(config, digits, count=[0, 1, 2, 3], rng=np.random.default_rng(0))

Placement (`Footprint`, `place`) knows nothing of images or of MNIST, so that scenes of other rules can be built on it.
"""

import dataclasses
import itertools
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import AfterValidator, Field, model_validator
from typing_extensions import Self

from air.config import Config, Count, Size
from air.data.scenes import LIMIT, SceneSet
from air.errors import DataError, UsageError
from air.support.files import check_file, picture_formats

TRIES = 100
"""Random positions that a digit gets before its scene starts again."""
RESTARTS = 5000
"""Starts that a scene gets before its configuration counts as impossible."""
RESTARTS_PER_DRAW = 10
"""Starts after which a scene puts its digits aside and gets the next ones: some combinations fit nowhere."""


def _ordered(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise ValueError("the first value must not be above the second")
    return values


Scale = Annotated[float, Field(ge=0.1, le=10)]
ScaleRange = Annotated[tuple[Scale, Scale], AfterValidator(_ordered)]
Degrees = Annotated[float, Field(ge=-360, le=360)]
DegreesRange = Annotated[tuple[Degrees, Degrees], AfterValidator(_ordered)]
Digit = Annotated[int, Field(ge=1, le=16)]


class GeneratorConfig(Config):
    """What the scenes of a data set look like, and how many there are."""

    canvas_size: Size = (50, 50)
    """Height and width of a scene, in pixels."""
    max_digits: Digit = 2
    """Most digits in a scene of the training, validation and test files."""
    images_per_count: Count = 50000
    """Training scenes of each number of digits, from 0 to the most."""
    validation_size: Count = 1000
    """Validation scenes, evenly divided among the numbers of digits."""
    test_size: Count = 10000
    """Test scenes, evenly divided among the numbers of digits."""
    per_count_files: bool = False
    """Also write one file of training scenes for each number of digits."""
    per_count_max_digits: Digit = 6
    """Most digits in a scene of these files."""

    overlap: Literal["pixel", "box"] = "pixel"
    """What of two digits must not overlap: their non-zero pixels, or their bounding boxes."""
    gap: Annotated[int, Field(ge=0, le=1024)] = 0
    """Least number of free pixels between two digits, diagonally too."""
    margin: Annotated[int, Field(ge=0, le=512)] = 0
    """Pixels along each edge of the canvas that stay free of digits."""
    width_scale: ScaleRange = (1.0, 1.0)
    """Least and greatest factor of a digit's width."""
    height_scale: ScaleRange = (1.0, 1.0)
    """Least and greatest factor of a digit's height, drawn independently of the width's."""
    rotation: DegreesRange = (0.0, 0.0)
    """Least and greatest counter-clockwise rotation of a digit after scaling, in degrees."""
    background: Path | None = None
    """A picture behind the digits, made grey and resized to the canvas; the lighter of the two shows at each pixel."""
    background_intensity: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Intensity of the picture's lightest pixel, where 1 is white."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Fixes all random draws."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if min(self.canvas_size) <= 2 * self.margin:
            raise ValueError(f"margin: {self.margin} is not allowed; it leaves nothing of a canvas_size of {self.canvas_size}")
        height, width = self.canvas_size
        scene_bytes = height * width + 21 * self.max_digits + 1  # an image, its boxes, labels, indices and count
        for name, scenes in (
            ("images_per_count", self.images_per_count * (self.max_digits + 1)),
            ("validation_size", self.validation_size),
            ("test_size", self.test_size),
        ):
            if scenes * scene_bytes > LIMIT:
                raise ValueError(
                    f"{name}: {getattr(self, name)} is not allowed; {scenes} scenes of {height}x{width} pixels are "
                    f"more than {LIMIT >> 30} GiB"
                )
        return self

    @property
    def total_scenes(self) -> int:
        """Scenes of all files of the data set together."""
        extra = max(self.per_count_max_digits - self.max_digits, 0) if self.per_count_files else 0
        return self.images_per_count * (self.max_digits + 1 + extra) + self.validation_size + self.test_size

    @property
    def transforms(self) -> bool:
        """Whether digits are scaled or rotated at all."""
        return (self.width_scale, self.height_scale, self.rotation) != ((1, 1), (1, 1), (0, 0))


@dataclasses.dataclass(frozen=True)
class Digits:
    """Digits ready to be placed, D of them."""

    crops: list[np.ndarray]
    """D arrays [height, width] uint8 without empty outer rows and columns."""
    labels: np.ndarray
    """[D]: what each digit is."""
    indices: np.ndarray
    """[D]: its position in its split of MNIST."""

    @classmethod
    def from_images(cls, images: np.ndarray, labels: np.ndarray, indices: np.ndarray | None = None) -> "Digits":
        """Crops images [D, H, W] uint8 to their non-zero pixels.

        Raises:
            DataError: when an image is empty, or when there are none.
        """
        indices = np.arange(len(images)) if indices is None else indices
        if not len(images):
            raise DataError("there are no digits to draw from; at least 1 is needed")
        rows, columns = images.any(axis=2), images.any(axis=1)
        if not rows.any(axis=1).all():
            raise DataError(f"digit {indices[rows.any(axis=1).argmin()]} has no pixel above 0; each digit needs some")
        top, left = rows.argmax(axis=1), columns.argmax(axis=1)
        bottom = rows.shape[1] - rows[:, ::-1].argmax(axis=1)
        right = columns.shape[1] - columns[:, ::-1].argmax(axis=1)
        edges = np.stack([top, bottom, left, right], axis=1).tolist()
        return cls([image[t:b, l:r] for image, (t, b, l, r) in zip(images, edges, strict=True)], labels, indices)  # noqa: E741

    def __len__(self) -> int:
        return len(self.crops)


class Footprint(NamedTuple):
    """The pixels that something takes, as the bits of an integer: bit y * stride + x is pixel (x, y).

    Shifting and intersecting two such integers tests a position some ten times faster than slices of arrays do.
    """

    height: int  # pixels
    width: int  # pixels
    pixels: int  # bits
    halo: int  # bits of all pixels within `gap` of these, moved right and down by `gap` so that none is negative

    @classmethod
    def of(cls, mask: np.ndarray, stride: int, gap: int) -> "Footprint":
        """The footprint of a mask [height, width] bool in rows of `stride` pixels: the space's width and 2 gaps."""
        height, width = mask.shape
        rows = np.zeros((height, stride), bool)
        rows[:, :width] = mask
        pixels = halo = int.from_bytes(np.packbits(rows, bitorder="little").tobytes(), "little")
        for step in (1, stride):
            for _ in range(2 * gap):
                halo |= halo << step
        return cls(height, width, pixels, halo)


def place(
    footprints: Sequence[Footprint], size: tuple[int, int], gap: int, uniform: Callable[[], float]
) -> list[tuple[int, int]] | None:
    """Positions at which footprints keep their distance, each tried at random up to TRIES times in the order given.

    Args:
        footprints: of things no larger than `size`, all made with `gap` and a stride of width + 2 * gap.
        size: height and width of the space to place them in, in pixels.
        gap: free pixels between any two.
        uniform: draws a random number in [0, 1).

    Returns:
        (x, y) of the upper left corner of each; None when one found no room.
    """
    stride = size[1] + 2 * gap
    inset = gap * (stride + 1)
    taken = 0
    positions = []
    for footprint in footprints:
        rows, columns = size[0] - footprint.height + 1, size[1] - footprint.width + 1
        for _ in range(TRIES):
            x, y = int(uniform() * columns), int(uniform() * rows)
            corner = y * stride + x
            if not taken & (footprint.pixels << (corner + inset)):
                break
        else:
            return None
        taken |= footprint.halo << corner
        positions.append((x, y))
    return positions


class _Placed(NamedTuple):
    digit: int  # position in Digits
    crop: np.ndarray  # [height, width] uint8
    x: int
    y: int


def generate(
    config: GeneratorConfig,
    digits: Digits,
    counts: Sequence[int] | np.ndarray,
    rng: np.random.Generator,
    progress: Callable[[int], Any] | None = None,
    segments: bool = False,
) -> SceneSet:
    """Composes one scene for each count, in this order.

    Digits are drawn without repetition until all were drawn, then again. The same arguments give the same scenes.

    Args:
        config: the rules; sizes of data sets play no part here.
        digits: what to draw from.
        counts: [N] number of digits in each scene.
        rng: source of all random draws.
        progress: called now and then with the number of scenes composed since the last call.
        segments: also tell for each pixel which digit it shows.

    Returns:
        The scenes, with boxes, labels and indices of room for the larger of `config.max_digits` and the greatest count.

    Raises:
        UsageError: when a scene found no room for its digits in RESTARTS starts.
        DataError: for a background that isn't a readable picture.
    """
    counts = np.asarray(counts, np.uint8)
    slots = max(config.max_digits, int(counts.max(initial=0)))
    backdrop = None if config.background is None else load_background(config)
    images = np.zeros((len(counts), *config.canvas_size), np.uint8)
    boxes = np.zeros((len(counts), slots, 4), np.float32)
    members = np.full((len(counts), slots), -1, np.int32)
    shown = np.zeros_like(images) if segments else None
    next_digit = _endless(lambda: rng.permutation(len(digits)))
    uniform = _endless(lambda: rng.random(4096))

    for scene, count in enumerate(counts.tolist()):
        image = images[scene]
        for slot, (digit, crop, x, y) in enumerate(_arrange(config, digits, count, next_digit, uniform)):
            height, width = crop.shape
            region = image[y : y + height, x : x + width]
            np.maximum(region, crop, out=region)
            boxes[scene, slot] = x, y, width, height
            members[scene, slot] = digit
            if shown is not None:
                shown[scene, y : y + height, x : x + width][crop > 0] = slot + 1
        if progress is not None and scene % 500 == 499:
            progress(500)
    if progress is not None:
        progress(len(counts) % 500)
    if backdrop is not None:
        np.maximum(images, backdrop, out=images)
    labels = np.where(members < 0, -1, digits.labels.astype(np.int8)[members])
    indices = np.where(members < 0, -1, digits.indices.astype(np.int32)[members])
    return SceneSet(images, counts, boxes, labels, indices, shown)


def _endless(draw: Callable[[], np.ndarray]) -> Callable[[], Any]:
    """Random numbers one by one from draws in bulk, which cost a tenth."""
    return itertools.chain.from_iterable(draw().tolist() for _ in itertools.count()).__next__


def _arrange(
    config: GeneratorConfig, digits: Digits, count: int, next_digit: Callable[[], int], uniform: Callable[[], float]
) -> list[_Placed]:
    """Draws a scene's digits and finds places for them."""
    margin, gap = config.margin, config.gap
    height, width = config.canvas_size[0] - 2 * margin, config.canvas_size[1] - 2 * margin
    drawn: list[int] = []
    crops: list[np.ndarray] = []
    footprints: list[Footprint] = []
    fits = False
    for start in range(RESTARTS):
        if start % RESTARTS_PER_DRAW == 0:
            drawn = [next_digit() for _ in range(count)]
            crops = [digits.crops[digit] for digit in drawn]
            if config.transforms:
                crops = [_transform(crop, config, uniform) for crop in crops]
            fits = all(crop.size and crop.shape[0] <= height and crop.shape[1] <= width for crop in crops)
            if fits:
                masks = [crop != 0 if config.overlap == "pixel" else np.ones(crop.shape, bool) for crop in crops]
                footprints = [Footprint.of(mask, width + 2 * gap, gap) for mask in masks]
        positions = place(footprints, (height, width), gap, uniform) if fits else None
        if positions is not None:
            placed = zip(drawn, crops, positions, strict=True)
            return [_Placed(digit, crop, x + margin, y + margin) for digit, crop, (x, y) in placed]
    raise UsageError(
        f"canvas_size: {config.canvas_size} has no room for {count} digits with margin {margin}, gap {gap}, "
        f"overlap {config.overlap}, width_scale {config.width_scale} and height_scale {config.height_scale} "
        f"({RESTARTS} attempts); allow a larger canvas, or fewer or smaller digits"
    )


def _transform(crop: np.ndarray, config: GeneratorConfig, uniform: Callable[[], float]) -> np.ndarray:
    """A digit scaled and then rotated at random, cropped again; it may come out empty."""
    from PIL import Image

    def draw(least: float, greatest: float) -> float:
        return least + (greatest - least) * uniform()

    border = 2  # pixels for the strokes to fade into
    image = Image.fromarray(np.pad(crop, border))
    size = (round(image.width * draw(*config.width_scale)), round(image.height * draw(*config.height_scale)))
    angle = draw(*config.rotation)
    # Pillow's resize widens its filter when it shrinks an image, which is what prevents aliasing.
    image = image.resize((max(size[0], 1), max(size[1], 1)), Image.Resampling.BILINEAR)
    if angle:
        image = image.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    pixels = np.asarray(image)
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not rows.size:
        return pixels[:0]
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def load_background(config: GeneratorConfig) -> np.ndarray:
    """The background picture, [H, W] uint8, with `background_intensity` at its lightest pixel.

    Raises:
        DataError: for a file that is missing or that Pillow can't read.
    """
    from PIL import Image, ImageOps

    height, width = config.canvas_size
    try:
        if config.background.exists():
            check_file(config.background)
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(config.background, formats=picture_formats()) as file:
                image = ImageOps.exif_transpose(file)
                if image.has_transparency_data:
                    black = Image.new("RGBA", image.size, "black")
                    image = Image.alpha_composite(black, image.convert("RGBA"))
                if image.mode in ("P", "PA", "RGBA"):  # which have no direct way to float
                    image = image.convert("RGB")
                # Float pixels keep pictures of 16 bits whole.
                grey = image.convert("F").resize((width, height), Image.Resampling.BILINEAR)
    except Image.UnidentifiedImageError:
        raise DataError(f"background: {config.background} is not a picture in a format that can be read") from None
    except Exception as error:  # Pillow's readers have a dozen types for damaged files
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"background: {config.background} can't be read ({reason})") from None
    pixels = np.clip(np.nan_to_num(grey), 0, 2.0**32)
    return np.rint(pixels * (255 * config.background_intensity / max(pixels.max(), 1e-9))).astype(np.uint8)
