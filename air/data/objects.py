"""Objects to place in scenes: digits, shapes, letters, and pictures of one's own.

digits = Digits.from_images(mnist.train_images, mnist.train_labels)
digits = load(SCENES["letters"])["test"]
"""

import dataclasses
import os
import string
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar, get_args

import numpy as np
from PIL import Image, ImageFont

from air.data import mnist, strokes
from air.data.rules import GeneratorConfig, ObjectKind
from air.errors import DataError
from air.support.pictures import list_pictures, read_cutout

SHAPES = ("square", "ellipse", "heart")
SHAPE_SIDE = 28  # pixels of the square in which a shape is drawn at a scale of 1
LETTER_HEIGHT = 20  # pixels of an upright capital at a scale of 1, as of MNIST's digits
MIN_OBJECTS = 600  # of which scenes are drawn without replacement, so that two equal ones may meet in a scene
FINENESS = 2  # subpixels along a pixel of shapes and letters, which keeps their edges sharp
HELD_OUT = 5  # every fifth font, or picture of a background, is held out
SPLITS = ("train", "validation", "test")

Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True)
class Digits:
    """D digits, or other objects, ready to be placed."""

    crops: list[np.ndarray]
    """D arrays [height, width] uint8, the opacity of each pixel, without empty outer rows and columns."""
    labels: np.ndarray
    """[D]: class of each digit."""
    indices: np.ndarray
    """[D]: position of each digit in its split of MNIST, of each other object in its list."""
    colours: list[np.ndarray] | None = None
    """D arrays [height, width, 3] uint8, colours times opacity; None if any colour will do."""
    fine: list[np.ndarray] | None = None
    """D arrays like `crops`, FINENESS times as large, to be scaled and rotated."""
    _centre_lines: dict[int, np.ndarray] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_images(
        cls, images: np.ndarray, labels: np.ndarray, indices: np.ndarray | None = None, whole: bool = False
    ) -> "Digits":
        """Crop images [D, H, W] uint8, unless `whole`; raise DataError if one has no pixel above 0, or if D is 0."""
        indices = np.arange(len(images)) if indices is None else indices
        if not len(images):
            raise DataError("there are no digits to draw from; at least 1 is needed")
        is_empty = ~images.any(axis=(1, 2))
        if is_empty.any():
            raise DataError(f"digit {indices[is_empty.argmax()]} has no pixel above 0; each digit needs some")
        return cls(list(images) if whole else [crop(image) for image in images], labels, indices)

    @classmethod
    def from_fine(cls, fine: list[np.ndarray], labels: np.ndarray) -> "Digits":
        """Make at least MIN_OBJECTS objects, by repetition, of images FINENESS times too large."""
        fine = [crop(image) for image in fine]
        digits = cls([reduce(image) for image in fine], labels, np.arange(len(fine)), fine=fine)
        return digits.repeated()

    def __len__(self) -> int:
        return len(self.crops)

    def repeated(self) -> "Digits":
        """Return at least MIN_OBJECTS objects."""
        times = -(-MIN_OBJECTS // len(self))
        colours, fine = (None if field is None else times * field for field in (self.colours, self.fine))
        return Digits(times * self.crops, np.tile(self.labels, times), np.tile(self.indices, times), colours, fine)

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


def reduce(image: np.ndarray) -> np.ndarray:
    """Shrink an image [height, width] uint8 FINENESS times by averages, after it is padded to multiples."""
    height, width = image.shape
    return np.asarray(Image.fromarray(np.pad(image, ((0, -height % FINENESS), (0, -width % FINENESS)))).reduce(FINENESS))


def hold_out(items: Sequence[Item]) -> tuple[list[Item], Sequence[Item]]:
    """Divide items into those to train on and every fifth, which is held out."""
    return [item for position, item in enumerate(items, 1) if position % HELD_OUT], items[HELD_OUT - 1 :: HELD_OUT]


def split(items: Sequence[Item]) -> dict[str, Sequence[Item]]:
    """Divide items: every fifth is held out, the first of these for validation; fewer than ten are shared by all sets."""
    if len(items) < 2 * HELD_OUT:
        return dict.fromkeys(SPLITS, items)
    training, held_out = hold_out(items)
    first = -(-len(held_out) // HELD_OUT)
    return {"train": training, "validation": held_out[:first], "test": held_out[first:]}


def load(config: GeneratorConfig, mnist_path: str | os.PathLike[str] | None = None) -> dict[str, Digits]:
    """Load the objects of the training, validation and test scenes.

    Digits of the MNIST test set appear in validation and test scenes only, and so do every fifth font's letters; shapes and
    pictures are the same in all.

    Raises:
        DataError: if MNIST, the fonts or the pictures can't be read.
    """
    if config.objects == "digits":
        return _mnist_digits(mnist_path, whole=config.rules != "own")
    if config.objects == "letters":
        return {name: letters(fonts) for name, fonts in split(find_fonts(config.fonts)).items()}
    return dict.fromkeys(SPLITS, shapes() if config.objects == "shapes" else cutouts(Path(config.objects)))


def held_out_indices(digits: mnist.MNIST) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the MNIST test digits for validation scenes, and of those for test scenes.

    Every fifth is for validation, rather than the first 2,000, as the first half of the test set is easier than the second.
    """
    indices = np.arange(len(digits.test_images))
    return indices[indices % 5 == 0], indices[indices % 5 != 0]


def _mnist_digits(path: str | os.PathLike[str] | None, whole: bool) -> dict[str, Digits]:
    source = mnist.load(path)
    validation, test = held_out_indices(source)
    try:
        return {
            "train": Digits.from_images(source.train_images, source.train_labels, whole=whole),
            "validation": Digits.from_images(source.test_images[validation], source.test_labels[validation], validation, whole),
            "test": Digits.from_images(source.test_images[test], source.test_labels[test], test, whole),
        }
    except DataError as error:
        raise DataError(f"{path or mnist.BUNDLED}: {error}") from None


def shapes() -> Digits:
    """Draw a square, an ellipse and a heart, as in dSprites; their classes are positions in SHAPES."""
    side = SHAPE_SIDE * FINENESS
    line = (np.arange(side) + 0.5) / side * 2 - 1
    x, y = line, -line[:, None]
    square = np.maximum(abs(x), abs(y)) < 0.75
    ellipse = x**2 + (y / 0.55) ** 2 < 1
    a, b = 1.2 * x, 1.2 * y + 0.1
    heart = (a**2 + b**2 - 1) ** 3 < a**2 * b**3
    return Digits.from_fine([255 * shape.astype(np.uint8) for shape in (square, ellipse, heart)], np.arange(3))


def find_fonts(folder: Path | None = None) -> list[Path]:
    """List the fonts that have 26 different capitals, sorted by name: of a folder, or else those of installed packages.

    Raises:
        DataError: if the folder has none.
    """
    if folder is None:
        roots = [Path(find_spec(package).origin).parent for package in ("matplotlib", "pygame")]  # importing them takes longer
        found = [*(roots[0] / "mpl-data" / "fonts" / "ttf").glob("*.ttf"), *roots[1].glob("*.ttf")]
        found = [path for path in found if path.name != "cmex10.ttf"]  # large brackets in the place of letters
    else:
        found = [path for path in Path(folder).rglob("*") if path.suffix.lower() in (".ttf", ".otf")]
    fonts = [path for path in sorted(found, key=lambda path: (path.name, path)) if _has_capitals(path)]
    if not fonts:
        raise DataError(f"fonts: {folder} has no TrueType or OpenType font with the letters A to Z")
    return fonts


def _has_capitals(path: Path) -> bool:
    try:
        font = ImageFont.truetype(str(path), 32)
        glyphs = {bytes(font.getmask(letter)) for letter in string.ascii_uppercase}
        return len(glyphs - {b"", bytes(font.getmask("\uffff"))}) == 26  # a font draws one sign for all letters that it lacks
    except OSError:
        return False


def letters(fonts: Sequence[Path]) -> Digits:
    """Draw the 26 capitals in each font, LETTER_HEIGHT pixels high; classes count from A, 0."""
    images = []
    for path in fonts:
        _, top, _, bottom = ImageFont.truetype(str(path), 1000).getbbox("H")
        font = ImageFont.truetype(str(path), round(1000 * LETTER_HEIGHT * FINENESS / (bottom - top)))
        masks = map(font.getmask, string.ascii_uppercase)
        images += [np.array(mask, np.uint8).reshape(mask.size[::-1]) for mask in masks]
    return Digits.from_fine(images, np.tile(np.arange(26), len(fonts)))


def cutouts(folder: Path) -> Digits:
    """Read the pictures of a folder, whose transparent pixels are not part of the object; classes are positions in it.

    Classes are all 0 if there are more than 128 pictures. DataError is raised if there is none, or one can't be read.
    """
    files = list_pictures(folder) if folder.is_dir() else []
    if not files:
        kinds = ", ".join(get_args(ObjectKind))
        raise DataError(f"objects: {folder} is not allowed; it must be {kinds} or a folder of pictures (PNG, JPEG, WebP)")
    crops, colours = [], []
    for path in files:
        pixels = read_cutout(path)
        x, y, width, height = bounding_box(pixels[..., 3])
        if not width:
            raise DataError(f"objects: {path} is transparent everywhere")
        pixels = pixels[y : y + height, x : x + width]
        crops.append(pixels[..., 3])
        colours.append(np.rint(pixels[..., :3] * (pixels[..., 3:] / 255)).astype(np.uint8))
    indices = np.arange(len(files))
    return Digits(crops, indices if len(files) <= 128 else 0 * indices, indices, colours).repeated()
