"""The rules for generated scenes, the kinds of them that have names, and the rules for scenes made of pictures.

config = GeneratorConfig(max_digits=3, gap=1)
config = SCENES["shapes"].replace(images_per_count=1000)
"""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator
from typing_extensions import Self

from air.config import Config, Count, Seed, Size
from air.errors import UsageError
from air.support.files import SCENES_LIMIT


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
Blur = Annotated[float, Field(ge=0, le=100)]
BlurRange = Annotated[tuple[Blur, Blur], AfterValidator(_ordered)]
Unit = Annotated[float, Field(ge=0, le=1)]
UnitRange = Annotated[tuple[Unit, Unit], AfterValidator(_ordered)]
MaxDigits = Annotated[int, Field(ge=1, le=16)]
MinDigits = Annotated[int, Field(ge=0, le=16)]
ObjectKind = Literal["digits", "shapes", "letters"]
BackgroundKind = Literal["plain", "noise", "grid", "gradient", "paper", "photos"]
RulesName = Literal["own", "pyro", "kosiorek", "borea17", "numpy"]

_SIZES = ("canvas_size", "min_digits", "max_digits", "images_per_count", "shards", "validation_size", "test_size")
_CHANGES = ("width_scale", "height_scale", "rotation", "scale", "thickening", "pen_fraction", "brightness")


class GeneratorConfig(Config):
    """The rules for the scenes of a data set, and their numbers."""

    canvas_size: Size = (50, 50)
    """Height and width of a scene, in pixels."""
    objects: ObjectKind | Path = "digits"
    """Objects of the scenes: MNIST's digits, the squares, ellipses and hearts of dSprites, capital letters, or the pictures of
    a folder, whose transparent pixels show what is behind. All flags about digits apply to other objects too."""
    fonts: Path | None = None
    """Folder of TrueType and OpenType fonts for letters, searched with its subfolders; those of the installed packages
    Matplotlib and pygame by default."""
    min_digits: MinDigits = 0
    """Minimum number of digits in a scene."""
    max_digits: MaxDigits = 2
    """Maximum number of digits in a training, validation or test scene."""
    images_per_count: Count = 50000
    """Training scenes for each number of digits, from the minimum to the maximum."""
    shards: Annotated[int, Field(ge=1, le=10**6)] = 1
    """Number of files for the training scenes, train_0.npz, train_1.npz ..., of which training reads a few at a time."""
    validation_size: Count = 1000
    """Validation scenes, divided evenly among the numbers of digits."""
    test_size: Count = 10000
    """Test scenes, divided evenly among the numbers of digits."""
    per_count_files: bool = False
    """Also write one file of training scenes for each number of digits."""
    per_count_max_digits: MaxDigits = 6
    """Maximum number of digits in these files."""

    rules: RulesName = "own"
    """Rules for placing digits: those below, or those of another system, which replace all but sizes, counts and the seed."""
    overlap: Literal["pixel", "box", "any"] = "pixel"
    """Parts of the digits that must not overlap: their non-zero pixels, or their bounding boxes. With any, a digit may cover
    those before it."""
    min_visible: Unit = 0.25
    """Minimum fraction of a digit's pixels that no other digit covers, where they may overlap."""
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
    """Minimum and maximum factor for the pixels of a digit, which are clipped to white; over a background, for its opacity."""
    plain_fraction: Unit = 0.0
    """Fraction of scenes that show MNIST's digits unchanged, without any of the rules from width_scale to brightness."""

    channels: Literal[1, 3] = 1
    """1 for white digits on grey, 3 for digits and backgrounds of random colours."""
    contrast: Unit = 0.25
    """Minimum difference between the colours of a digit and of all that it could be confused with, in one of red, green and
    blue; pictures of a folder keep their colours."""
    background: tuple[BackgroundKind | Path, ...] = ()
    """Put this behind the digits; every scene has one of those that are named. A picture fills the canvas, of a folder of
    pictures random parts do, and photos are those of the package scikit-image. Black by default."""
    background_intensity: UnitRange = (0.5, 0.5)
    """Minimum and maximum intensity of the background's lightest pixel, where 1 is white."""
    background_blur: BlurRange = (0.0, 0.0)
    """Minimum and maximum standard deviation, in pixels, of the filter that blurs pictures and photos."""
    dark_fraction: Unit = 0.0
    """Fraction of scenes with black and white swapped: dark digits on a light background."""
    seed: Seed = 0
    """Seed of all random draws."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        height, width = self.canvas_size
        if min(height, width) <= 2 * self.margin:
            raise ValueError(f"margin: {self.margin} is not allowed; it leaves nothing of a canvas_size of {self.canvas_size}")
        if self.rules != "own":
            for name, field in type(self).model_fields.items():
                value = getattr(self, name)
                if value != field.default and name not in ("rules", "per_count_files", "per_count_max_digits", "seed", *_SIZES):
                    raise ValueError(f"{name}: {value} is not allowed; the rules {self.rules} replace it")
        if self.min_digits > self.max_digits:
            raise ValueError(f"min_digits: {self.min_digits} is not allowed; it must be at most max_digits, {self.max_digits}")
        if isinstance(self.objects, Path) and (self.pen_fraction or any(self.thickening)):
            raise ValueError("pen_fraction and thickening are not allowed with a folder of objects; pictures have no strokes")
        return self

    def check_sizes(self) -> None:
        """Raise UsageError if a file of the data set would be too large, or a shard empty."""
        height, width = self.canvas_size
        scene_bytes = self.channels * height * width + 21 * self.max_digits + 1  # image, boxes, labels, indices and count
        sets = {"images_per_count": len(self.counts) / self.shards, "validation_size": 1, "test_size": 1}
        for name, scenes in ((name, math.ceil(number * getattr(self, name))) for name, number in sets.items()):
            segments = 0 if name == "images_per_count" else height * width  # in held-out files only
            if scenes * (scene_bytes + segments) > SCENES_LIMIT:
                large = f"{scenes} scenes of {height}x{width} pixels take more than {SCENES_LIMIT >> 30} GiB"
                divide = "; divide them with --shards" if name == "images_per_count" else ""
                raise UsageError(f"{name}: {getattr(self, name)} is not allowed; {large}{divide}")
        if self.shards > 1 and self.per_count_files:
            raise UsageError("per_count_files is not allowed with shards; it takes all training scenes into memory")
        if self.shards > self.images_per_count * len(self.counts):
            raise UsageError(f"shards: {self.shards} is not allowed; there must be a scene for each")

    @property
    def counts(self) -> range:
        """Numbers of digits in a training, validation or test scene."""
        return range(self.min_digits, self.max_digits + 1)

    @property
    def changes_digits(self) -> bool:
        """Return True if digits may look unlike MNIST's."""
        fields = type(self).model_fields
        return any(getattr(self, name) != fields[name].default for name in _CHANGES)

    @property
    def is_painted(self) -> bool:
        """Return True if scenes have colours or a background, or digits that cover others."""
        return self.channels > 1 or bool(self.background) or self.dark_fraction > 0 or self.overlap == "any"

    @property
    def total_scenes(self) -> int:
        """Number of scenes in all files of the data set."""
        extra = len(set(range(self.per_count_max_digits + 1)) - set(self.counts)) if self.per_count_files else 0
        return self.images_per_count * (len(self.counts) + extra) + self.validation_size + self.test_size


SceneName = Literal[
    "default", "broad", "noise", "grid", "gradients", "paper", "shapes", "letters",
    "original", "pyro", "kosiorek", "borea17", "numpy"
]  # fmt: skip
_OVER_BACKGROUNDS: dict[str, Any] = {"images_per_count": 20000, "test_size": 3000}
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
    "noise": GeneratorConfig(**_OVER_BACKGROUNDS, background=("noise",), background_intensity=(0.1, 0.5)),
    "grid": GeneratorConfig(**_OVER_BACKGROUNDS, background=("grid",), background_intensity=(0.1, 0.5)),
    "gradients": GeneratorConfig(
        **_OVER_BACKGROUNDS, background=("gradient", "photos"), background_intensity=(0.2, 0.6), background_blur=(1.5, 4)
    ),
    "paper": GeneratorConfig(**_OVER_BACKGROUNDS, background=("paper",), background_intensity=(0, 0.5), dark_fraction=0.5),
    "shapes": GeneratorConfig(
        objects="shapes",
        canvas_size=(64, 64),
        min_digits=1,
        max_digits=4,
        images_per_count=12000,
        test_size=3000,
        overlap="any",
        scale=(0.5, 1),
        rotation=(0, 360),
        channels=3,
        background=("plain",),
        background_intensity=(1, 1),
    ),
    "letters": GeneratorConfig(
        objects="letters",
        canvas_size=(64, 64),
        max_digits=3,
        images_per_count=20000,
        test_size=3000,
        scale=(0.8, 1.2),
        rotation=(-15, 15),
    ),
    "original": GeneratorConfig(images_per_count=20000),
    "pyro": GeneratorConfig(rules="pyro", images_per_count=20000),
    "kosiorek": GeneratorConfig(rules="kosiorek", images_per_count=20000),
    "borea17": GeneratorConfig(rules="borea17", images_per_count=3334),
    "numpy": GeneratorConfig(rules="numpy", canvas_size=(32, 32), images_per_count=500, validation_size=300, test_size=3000),
}
"""Named kinds of scenes: MNIST's digits unchanged; digits of many sizes, strokes and greys, as people draw them; digits over
noise, grids, gradients and blurred photos, or paper; coloured shapes that cover each other; letters of many fonts; and
those on which the preset of the same name was trained."""


class PictureConfig(Config):
    """The rules by which a folder's pictures become scenes, see `air.data.folders`."""

    crop: bool = False
    """Cut pictures into patches of the canvas' size. Otherwise each is a scene: scaled to --canvas-size if that is given."""
    resize: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Factor for the size of pictures before they are cut or become scenes."""

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of a picture after it is resized."""
        return max(round(height * self.resize), 1), max(round(width * self.resize), 1)

    def describe(self, height: int, width: int) -> str:
        """Say how large a picture is after it is resized, and by how much it was."""
        return f"{height}x{width} pixels" + ("" if self.resize == 1 else f" after --resize {self.resize:g}")
